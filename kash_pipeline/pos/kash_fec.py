"""A FEC that Kash.click wrote (`formatExport=frafec`) as a source: 18 columns, tab or bar, decimal comma.

Only its layout belongs here; postings.py makes facts of the lines. Source of the layout: article A47 A-1 of the Livre
des procédures fiscales; what Kash.click puts into it (journals, one entry per order or per day) is documented nowhere,
so facts are as fine as the file: a piece is taken for an order.
"""

import re
from collections.abc import Callable

from kash_pipeline.pos.errors import Problem
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.pos.postings import Posting, PostingsSource, cents, decode, written_day
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
)
"""The columns that facts are made of, of the 18 that the law names; their order is taken from the header."""
TWO_SIDES, ONE_SIDE = ("Debit", "Credit"), ("Montant", "Sens")
"""The law lets an amount stand on its side, or with it: `D` or `C`, `+1` (debit) or `-1`."""
_DEBIT, _CREDIT = ("d", "+1", "1"), ("c", "-1")


class FecSource(PostingsSource):
    """The file, or the folder of such files, that `[source] path` names (a path or any fsspec URL)."""

    def __init__(self, shop: ShopFile, *, keep: Callable[[RawDocument], None] | None = None) -> None:
        super().__init__("kash_fec", shop, read, keep=keep)


def read(file: str, body: bytes) -> tuple[list[Posting], list[Problem]]:
    """The lines of one file, and what is wrong with others, by row."""
    # Not splitlines(): a label may hold what Unicode counts as the end of a line.
    head, *lines = re.split(r"\r\n|\n|\r", decode(body))
    separator = "\t" if "\t" in head else "|"
    names = [name.strip().casefold() for name in head.split(separator)]
    amounts = ONE_SIDE if "montant" in names else TWO_SIDES
    if missing := [name for name in (*NEEDED, *amounts) if name.casefold() not in names]:
        what = f"the header lacks {', '.join(missing)}"
        return [], [Problem(file, what, "a FEC names its 18 columns, parted by tabs or bars, in its first line", 1)]
    postings, problems = [], []
    # A FEC quotes nothing: a quote in a label is a character like any other.
    for row, cells in enumerate((line.split(separator) for line in lines), start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            problems.append(Problem(file, f"{len(cells)} columns instead of {len(names)}", "export it again", row))
            continue
        cell = dict(zip(names, (text.strip() for text in cells), strict=True))
        day = written_day(cell["ecrituredate"])
        debit, credit = (cents(text) for text in _sides(cell))
        if day is None:
            what = f"{cell['ecrituredate']!r} is no date"
            problems.append(Problem(file, what, "write 20261231", row, "EcritureDate"))
        elif debit is None or credit is None:
            wrong = amounts[0] if debit is None else amounts[1]
            what = f"{cell[wrong.casefold()]!r} is no {'side' if wrong == 'Sens' else 'amount'}"
            problems.append(Problem(file, what, "write D or C" if wrong == "Sens" else "write 11,37", row, wrong))
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


def _sides(cell: dict[str, str]) -> tuple[str, str]:
    """Debit and credit as they are written; a side that is none stands where an amount is looked for."""
    if "montant" not in cell:
        return cell["debit"], cell["credit"]
    side = cell["sens"].casefold()
    if side in _DEBIT:
        return cell["montant"], ""
    return ("", cell["montant"]) if side in _CREDIT else ("", cell["sens"] or "?")
