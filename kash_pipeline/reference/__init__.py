"""Reference data of both systems over time, and the mapping between them.

Pure: history.py (versions of a record), mapping.py (checks of a chart against both sides), proposal.py (a chart made
from both sides), personal.py (which fields of a person are kept). With the warehouse: store.py, release.py,
customers.py. When anything of it runs is for defs/ and the command line to say; finding and making PennyLane's
objects is pennylane/reference.py's.
"""
