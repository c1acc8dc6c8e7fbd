"""Where commands print: one console with a width that fits our tables.

Only the form of output belongs here; what is printed is the business of each command.
"""

from rich.console import Console

WIDTH = 120
"""Columns when the output is no terminal (a log, CI): the widest table, that of the days, fits."""


def console() -> Console:
    """A console on standard output; a terminal keeps its own width."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)
