"""The Z report of a register's day: the paper that belongs to its closing entry.

Figures from facts and books are figures.py (pure), reading both reading.py, the PDF pdf.py (the only module that loads
reportlab). Sending it with an entry is pennylane/attaching.py's.
"""
