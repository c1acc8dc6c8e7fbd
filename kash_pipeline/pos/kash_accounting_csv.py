"""Kash.click's accounting CSV: nine columns, semicolon, decimal point, day/month/year, no header.

Only its layout belongs here; postings.py makes facts of the lines. Source of the layout: the documentation's sample of
2020 (configChapitresCpt), which is its only description: columns 1 to 9 are journal, date, invoice number, account,
customer, label, debit, credit, quantity. A header row is accepted.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator

from kash_pipeline.pos.errors import Problem
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.pos.postings import Posting, PostingsSource, cents, decode, written_day
from kash_pipeline.settings import ShopFile

COLUMNS = (
    "journal code",
    "invoice date",
    "invoice number",
    "accounting code",
    "customer",
    "label",
    "debit",
    "credit",
    "quantity",
)


class AccountingCsvSource(PostingsSource):
    """The file, or the folder of such files, that `[source] path` names (a path or any fsspec URL)."""

    def __init__(self, shop: ShopFile, *, keep: Callable[[RawDocument], None] | None = None) -> None:
        super().__init__("kash_accounting_csv", shop, read, keep=keep)


def read(file: str, body: bytes) -> tuple[list[Posting], list[Problem]]:
    """The lines of one file, and what is wrong with others, by row."""
    postings: list[Posting] = []
    problems: list[Problem] = []
    for row, cells in _rows(file, decode(body), problems):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(COLUMNS):
            what = f"{len(cells)} columns instead of {len(COLUMNS)}"
            problems.append(Problem(file, what, "export the accounting CSV, not the plain one", row))
            continue
        journal, day_text, piece, account, customer, label, debit, credit, quantity = (cell.strip() for cell in cells)
        day = written_day(day_text)
        amounts = cents(debit), cents(credit)
        if row == 1 and day is None and None in amounts:
            continue  # a header
        if day is None:
            problems.append(Problem(file, f"{day_text!r} is no date", "write 31/12/2026", row, COLUMNS[1]))
        elif None in amounts:
            at = 6 if amounts[0] is None else 7
            problems.append(Problem(file, f"{cells[at]!r} is no amount", "write 11.37, or 11,37", row, COLUMNS[at]))
        elif not (account.isascii() and account.isdigit()):
            problems.append(Problem(file, f"{account!r} is no account", "set the chapters in Kash.click", row))
        elif not journal or not piece:
            problems.append(Problem(file, "journal or invoice number is empty", "export it again", row))
        else:
            postings.append(
                Posting(
                    journal=journal,
                    day=day,
                    piece=piece,
                    account=account,
                    account_name="",
                    customer=customer or None,
                    customer_name=customer or None,
                    label=label,
                    debit=amounts[0] or 0,
                    credit=amounts[1] or 0,
                    quantity=_thousandths(quantity),
                    file=file,
                    row=row,
                )
            )
    return postings, problems


def _rows(file: str, text: str, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """The rows and the line each begins on. A quote that is not closed would swallow rows: it ends the reading."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";", strict=True)
    row = 1
    try:
        for cells in reader:
            yield row, cells
            row = reader.line_num + 1
    except csv.Error as error:
        cure = 'export it again; a quote inside a cell is written ""'
        problems.append(Problem(file, f"a quote is not closed as it should be ({error})", cure, row))


def _thousandths(text: str) -> int:
    """`12`, `0.0`, `1.250`: number formats vary within the documented sample. One where nothing is told."""
    match = re.fullmatch(r"(-?\d{1,9})(?:[.,](\d{1,3}))?", text, re.ASCII)
    if match is None:
        return 1000
    whole = int(match[1].removeprefix("-")) * 1000 + int((match[2] or "").ljust(3, "0"))
    return -whole if text.startswith("-") else whole
