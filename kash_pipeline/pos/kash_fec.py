"""A FEC that Kash.click wrote (`formatExport=frafec`) as a source: 18 columns, tab or bar, decimal comma.

Only its layout belongs here; postings.py makes facts of the lines. Source of the layout: article A47 A-1 of the Livre
des procédures fiscales; what Kash.click puts into it (journals, one entry per order or per day) is documented nowhere,
so facts are as fine as the file: a piece is taken for an order.
"""

import csv
from collections.abc import Callable
from datetime import date

from kash_pipeline.pos.errors import Problem
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.pos.postings import Posting, PostingsSource, cents, decode
from kash_pipeline.settings import ShopFile

NEEDED = (
    "JournalCode",
    "EcritureNum",
    "EcritureDate",
    "CompteNum",
    "CompteLib",
    "CompAuxNum",
    "CompAuxLib",
    "PieceRef",
    "EcritureLib",
    "Debit",
    "Credit",
)
"""The columns that facts are made of, of the 18 that the law names; their order is taken from the header."""


class FecSource(PostingsSource):
    """The file, or the folder of such files, that `[source] path` names (a path or any fsspec URL)."""

    def __init__(self, shop: ShopFile, *, keep: Callable[[RawDocument], None] | None = None) -> None:
        super().__init__("kash_fec", shop, read, keep=keep)


def read(file: str, body: bytes) -> tuple[list[Posting], list[Problem]]:
    """The lines of one file, and what is wrong with others, by row."""
    lines = decode(body).splitlines()
    head = lines[0] if lines else ""
    separator = "\t" if "\t" in head else "|"
    names = [name.strip().casefold() for name in head.split(separator)]
    if missing := [name for name in NEEDED if name.casefold() not in names]:
        what = f"the header lacks {', '.join(missing)}"
        return [], [Problem(file, what, "a FEC names its 18 columns, parted by tabs or bars, in its first line", 1)]
    postings, problems = [], []
    # A FEC quotes nothing: a quote in a label is a character like any other.
    for row, cells in enumerate(csv.reader(lines[1:], delimiter=separator, quoting=csv.QUOTE_NONE), start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            problems.append(Problem(file, f"{len(cells)} columns instead of {len(names)}", "export it again", row))
            continue
        cell = dict(zip(names, (text.strip() for text in cells), strict=True))
        day = _day(cell["ecrituredate"])
        debit, credit = cents(cell["debit"], ","), cents(cell["credit"], ",")
        if day is None:
            what = f"{cell['ecrituredate']!r} is no date"
            problems.append(Problem(file, what, "write 20261231", row, "EcritureDate"))
        elif debit is None or credit is None:
            wrong = "Debit" if debit is None else "Credit"
            what = f"{cell[wrong.casefold()]!r} is no amount"
            problems.append(Problem(file, what, "write 11,37", row, wrong))
        elif not cell["comptenum"][:3].isdigit():
            problems.append(Problem(file, f"{cell['comptenum']!r} is no account", "export it again", row, "CompteNum"))
        else:
            auxiliary = cell["compauxnum"] or None
            postings.append(
                Posting(
                    journal=cell["journalcode"],
                    day=day,
                    piece=cell["pieceref"] or cell["ecriturenum"],
                    account=cell["comptenum"],
                    account_name=cell["comptelib"],
                    customer=auxiliary,
                    customer_name=cell["compauxlib"] or auxiliary,
                    label=cell["ecriturelib"],
                    debit=debit,
                    credit=credit,
                    quantity=1000,
                    file=file,
                    row=row,
                )
            )
    return postings, problems


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])) if len(text) == 8 else None
    except ValueError:
        return None
