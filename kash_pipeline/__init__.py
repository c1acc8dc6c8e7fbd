"""From the till to the books: Kash.click point of sale to PennyLane accounting.

The packages and their one direction are described in README.md ("How it is built").
"""

__version__ = "0.1.0"
