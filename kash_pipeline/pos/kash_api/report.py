"""The daily report of getSales.php (`Std`, an HTML page) as control totals. UNCONFIRMED, like mapping.py.

Only what its tables are believed to look like belongs here: the publisher describes total, VAT summary and payment
methods, and no heading or markup. Report templates can remove tables, so one that is missing stops instead of counting
as zero. The comparison with the orders is pos/control.py.
"""

from collections.abc import Mapping
from datetime import date
from html.parser import HTMLParser

import pandas as pd

from kash_pipeline.pos.errors import SourceChanged
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.control import CONTROL_TOTALS
from kash_pipeline.settings import bp_to_rate, rate_to_bp

CALL = "getSales.php"
GENERAL, RATES, METHODS = ("orders", "total"), ("rate", "total", "net", "VAT"), ("method", "amount")
"""Headings by which the tables are known; further columns are not looked at."""

_NEXT_STEP = (
    "look at the kept report and correct pos/kash_api/report.py (or the dialect's headings); or control_totals = false"
)


class _Tables(HTMLParser):
    """Every table of a page as rows of cell texts, tables inside tables apart."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._open: list[list[list[str]]] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # HTML lets a cell and a row end by what follows them.
        if tag in ("table", "tr"):
            self._in_cell = False
        if tag == "table":
            self._open.append([])
            self.tables.append(self._open[-1])
        elif tag == "tr" and self._open:
            self._open[-1].append([])
        elif tag in ("td", "th") and self._open and self._open[-1]:
            self._open[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self._in_cell = False
        if tag == "table" and self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self._open[-1][-1][-1] += data


def asked(day: date, form: str) -> dict[str, str]:
    """Parameters of the report of one day: all three parts of the date, for what fewer mean is contradictory."""
    return {"d": str(day.day), "m": str(day.month), "y": str(day.year), "formatExport": form}


def control_totals(
    body: bytes, day: date, *, headings: Mapping[str, str] | None = None, decimal: str = "."
) -> pd.DataFrame:
    """`schemas.control.CONTROL_TOTALS` of one day's report.

    `headings` translates the headings above, `decimal` is the decimal mark (dialects.py). Raises SourceChanged when a
    table, a heading or an amount is not as believed.
    """
    page = _Tables()
    page.feed(body.decode("utf-8", errors="replace"))
    names = headings or {}
    rows: list[tuple[str, str, int]] = []
    for record in _table(page, GENERAL, names):
        rows.append(("total", "", _cents(record["total"], decimal)))
    for record in _table(page, RATES, names):
        rate = _rate(record["rate"], decimal)
        for measure, heading in (("gross", "total"), ("net", "net"), ("vat", "VAT")):
            rows.append((measure, rate, _cents(record[heading], decimal)))
    for record in _table(page, METHODS, names):
        rows.append(("paid", record["method"], _cents(record["amount"], decimal)))
    frame = pd.DataFrame(rows, columns=["measure", "of", "amount_cents"])
    sums = frame.groupby(["measure", "of"], as_index=False)["amount_cents"].sum()
    return conform(sums.assign(business_day=pd.Timestamp(day)), CONTROL_TOTALS)


def _table(page: _Tables, wanted: tuple[str, ...], names: Mapping[str, str]) -> list[dict[str, str]]:
    written = [names.get(name, name).casefold() for name in wanted]
    for rows in page.tables:
        if not rows:
            continue
        head = [cell.strip().casefold() for cell in rows[0]]
        # A table without rows has no heading either where the server writes it from its first record.
        if all(name in head for name in written):
            places = [head.index(name) for name in written]
            try:
                return [
                    {name: row[place].strip() for name, place in zip(wanted, places, strict=True)} for row in rows[1:]
                ]
            except IndexError:
                raise SourceChanged(
                    f"{CALL}: a row of the table with {', '.join(written)} is shorter than its heading",
                    next_step=_NEXT_STEP,
                ) from None
    raise SourceChanged(f"{CALL}: the report has no table with {', '.join(written)}", next_step=_NEXT_STEP)


def _cents(text: str, decimal: str) -> int:
    plain = "".join(sign for sign in text if not sign.isspace() and sign != "€")
    if decimal != ".":
        plain = plain.replace(".", "?").replace(decimal, ".")
    whole, dot, rest = plain.removeprefix("-").partition(".")
    if not (whole.isascii() and whole.isdigit()) or (
        dot and not (rest.isascii() and rest.isdigit() and len(rest) <= 2)
    ):
        raise SourceChanged(f"{CALL}: {text[:40]!r} in the report is no amount", next_step=_NEXT_STEP)
    cents = int(whole) * 100 + int(rest.ljust(2, "0") or "0")
    return -cents if plain.startswith("-") else cents


def _rate(text: str, decimal: str) -> str:
    plain = text.replace("%", "").replace(decimal, ".").strip()
    try:
        return bp_to_rate(rate_to_bp(plain))
    except ValueError:
        raise SourceChanged(f"{CALL}: {text[:40]!r} in the report is no rate", next_step=_NEXT_STEP) from None
