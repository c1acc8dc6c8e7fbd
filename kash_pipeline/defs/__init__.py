"""Dagster's side of the pipeline: when something runs, and the record of what happened.

Here and in definitions.py, and nowhere else, Dagster is imported. Every asset is a shell: it finds its days, reads,
calls one function of a package below, writes and reports; what the books say is decided in accounting/.
"""
