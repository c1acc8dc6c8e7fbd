"""Facts from accounting entries a till has written itself: what kash_accounting_csv.py and kash_fec.py have in common.

Only the way from posted lines back to orders, VAT and payments belongs here; the layout of each file is the adapter's.
Such files know invoices, rates, methods and journals; no closings, no times, no drawer. What a line is follows from its
account by the French chart: 7 a sale, 4457 VAT, 5 a payment, 41 the customer; any other account is refused by name.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

import pandas as pd

from kash_pipeline.pos.errors import FilesError, Problem, SourceRefused
from kash_pipeline.pos.port import Capabilities, DayOfClosings, DayOfSales, RawDocument
from kash_pipeline.pos.remote import fetch
from kash_pipeline.schemas.columns import business_day_of, conform, empty
from kash_pipeline.schemas.facts import FACTS, REFERENCE, Facts
from kash_pipeline.settings import ShopFile, bp_to_rate, rate_to_bp


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of an entry. Amounts in cents, `quantity` in thousandths, `file` and `row` for messages."""

    journal: str
    day: date
    piece: str
    account: str
    account_name: str
    customer: str | None
    customer_name: str | None
    label: str
    debit: int
    credit: int
    quantity: int
    file: str
    row: int

    @property
    def net(self) -> int:
        return self.credit - self.debit


Reader = Callable[[str, bytes], tuple[list[Posting], list[Problem]]]

_KINDS = (
    ("cash", ("ESPECE", "LIQUIDE", "CASH")),
    ("meal_voucher", ("RESTO", "TITRE RESTAURANT", "REPAS")),
    ("holiday_voucher", ("VACANCES", "ANCV")),
    ("card", ("CARTE", "CB", "CREDIT CARD")),
    ("cheque", ("CHEQUE", "CHECK")),
    ("transfer", ("VIREMENT", "TRANSFER")),
)
"""Kind of a payment method by words of its label; none of them: `other`, which no chart maps by accident."""

_PERCENT = re.compile(r"(\d{1,3}(?:[.,]\d{1,2})?)\s*%")


def decode(body: bytes) -> str:
    """UTF-8 where it is (with or without BOM), else Windows-1252: Kash.click's exports are UTF-8 only where the shop
    chose so. The five bytes that code has no sign for become U+FFFD."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("cp1252", errors="replace")


_AMOUNT = re.compile(r"(-?)(\d{1,3}(?:[ \xa0\u202f]\d{3})+|\d{1,10})(?:[.,](\d{1,2}))?", re.ASCII)


def cents(text: str) -> int | None:
    """An amount with at most two decimals after a comma or a point, thousands apart by a space of any width; None when
    it is none (`1,234` could be either number). An empty cell is zero."""
    if not text.strip():
        return 0
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        return None
    value = int(re.sub(r"\s", "", match[2])) * 100 + int((match[3] or "").ljust(2, "0"))
    return -value if match[1] else value


def written_day(text: str) -> date | None:
    """A day written `14/03/2026` or `20260314`; None when it is none."""
    french = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", text, re.ASCII)
    legal = re.fullmatch(r"(\d{4})(\d\d)(\d\d)", text, re.ASCII)
    try:
        if french is not None:
            return date(int(french[3]), int(french[2]), int(french[1]))
        return date(int(legal[1]), int(legal[2]), int(legal[3])) if legal is not None else None
    except ValueError:
        return None


class PostingsSource:
    """`pos.port.Source` over entries in files. `keep` receives every file as it stands.

    Raises FilesError with every problem by file and line, SourceUnreachable when there is no file.
    """

    def __init__(
        self, name: str, shop: ShopFile, reader: Reader, *, keep: Callable[[RawDocument], None] | None = None
    ) -> None:
        self._name, self._shop, self._reader, self._keep = name, shop, reader, keep

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name=self._name,
            payments=True,
            closings=False,
            cash_movements=False,
            till_vat=True,
            customers=True,
            unconfirmed=("the layout of the file (one sample of 2020 is documented)", "which account is which method"),
        )

    @cached_property
    def facts(self) -> Facts:
        """All facts of the files."""
        place = self._shop.source_url() or self._shop.source_path().as_posix()
        postings: list[Posting] = []
        problems: list[Problem] = []
        for name, body in fetch(place):
            if not name.lower().endswith((".csv", ".txt")):
                continue
            if self._keep is not None:
                digest = hashlib.sha256(body).hexdigest()
                self._keep(RawDocument(self._name, None, name, datetime.now(UTC), 200, digest, body))
            found, wrong = self._reader(name, body)
            postings += found
            problems += wrong
        if not postings and not problems:
            cure = "export a period with sales as CSV or FEC, and name the file or its folder as path in [source]"
            problems.append(Problem(place, "no file whose name ends in .csv or .txt holds an entry", cure))
        if problems:
            raise FilesError(place, problems)
        return facts_of(postings, self._shop, place)

    def reference(self, tables: Collection[str] = tuple(REFERENCE)) -> dict[str, pd.DataFrame]:
        """Methods, rates, registers (journals), departments (sales accounts) and customers that the entries name."""
        return {name: frame for name, frame in self.facts.tables().items() if name in REFERENCE and name in tables}

    def sales(self, first: date, last: date) -> Iterator[DayOfSales]:
        """Orders by the date of their entry; payments come with their order, those of no order with their own day."""
        facts = self.facts
        parts = {}
        for name in ("orders", "order_lines", "order_vat", "payments"):
            frame = getattr(facts, name)
            days = business_day_of(frame["order_id"], facts.orders, "order_id")
            if name == "payments":
                days = days.fillna(frame["business_day"])
            parts[name] = dict(tuple(frame.groupby(days.dt.date))) if len(frame) else {}
        for at in range(first.toordinal(), last.toordinal() + 1):
            day = date.fromordinal(at)
            yield DayOfSales(
                day, **{name: rows[day].reset_index(drop=True) for name, rows in parts.items() if day in rows}
            )

    def closings(self, first: date, last: date) -> Iterator[DayOfClosings]:
        raise SourceRefused(
            f"{self._name}: such a file holds no closings", next_step="go without closing entries, or use kash_api"
        )


@dataclass
class _Piece:
    sales: list[Posting]
    vat: list[Posting]
    paid: list[Posting]
    customer: str | None = None


def facts_of(postings: Iterable[Posting], shop: ShopFile, place: str) -> Facts:
    """Facts from posted lines. Raises FilesError for lines nobody can tell, pieces that do not balance, and pieces that
    two files hold."""
    problems: list[Problem] = []
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    pieces: dict[tuple[str, str], _Piece] = {}
    balance: dict[tuple[str, str, date], int] = defaultdict(int)
    stood_in: dict[tuple[str, str, date], str] = {}
    twice: set[tuple[str, str, date]] = set()
    lines = list(postings)
    sold_in: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        if line.account.startswith("7"):
            sold_in[line.piece].add(line.journal)
    customers: dict[str, str] = {}
    for line in lines:
        of_day = (line.journal, line.piece, line.day)
        balance[of_day] += line.net
        if stood_in.setdefault(of_day, line.file) != line.file and of_day not in twice:
            # A month's export beside the year's: each line would count twice, and every piece would still balance.
            twice.add(of_day)
            what = f"piece {line.piece} of {line.day} stands in {stood_in[of_day]} too"
            problems.append(Problem(line.file, what, "take away one of two exports of the same days", line.row))
        journals = sold_in.get(line.piece, set())
        journal = next(iter(journals)) if len(journals) == 1 else line.journal
        piece = pieces.setdefault((journal, line.piece), _Piece([], [], []))
        if line.customer:
            piece.customer = line.customer
            customers.setdefault(line.customer, line.customer_name or line.customer)
        if line.account.startswith("7"):
            piece.sales.append(line)
        elif line.account.startswith("4457"):
            piece.vat.append(line)
        elif line.account.startswith("5"):
            piece.paid.append(line)
        elif not line.account.startswith("41"):
            what = f"account {line.account} is no sale (7), VAT (4457), payment (5) or customer (41)"
            problems.append(Problem(line.file, what, "export the sales journals only", line.row))
    odd = {key: rest for key, rest in balance.items() if rest}
    for line in lines:
        if (rest := odd.pop((line.journal, line.piece, line.day), None)) is not None:
            what = f"piece {line.piece} of {line.day} does not balance: {abs(rest)} cents"
            problems.append(Problem(line.file, what, "export it again, whole", line.row))
    methods: dict[str, str] = {}
    rates: dict[int, str] = {}
    accounts: dict[str, str] = {}
    for (journal, number), piece in sorted(pieces.items()):
        order = None
        if piece.sales or piece.vat:
            order = number if len(sold_in.get(number, ())) <= 1 else f"{journal}-{number}"
            _order(order, journal, number, piece, shop, rows, rates, accounts, problems)
        for nth, line in enumerate(piece.paid, start=1):
            methods.setdefault(line.account, line.label or line.account_name or line.account)
            rows["payments"].append(
                {
                    "payment_id": f"{journal}-{number}-{nth}",
                    "order_id": order,
                    "register_id": line.journal,
                    "business_day": pd.Timestamp(line.day),
                    "method_id": line.account,
                    "amount_cents": -line.net,
                    "customer_id": piece.customer,
                }
            )
    if problems:
        raise FilesError(place, problems)
    rows["payment_methods"] = [
        {"method_id": account, "name": name, "kind": _kind(name, account), "chapter": account}
        for account, name in sorted(methods.items())
    ]
    rows["vat_rates"] = [
        {"vat_rate_bp": bp, "name": f"TVA {bp_to_rate(bp)} %", "chapter": account.removeprefix("4457") or None}
        for bp, account in sorted(rates.items())
    ]
    rows["registers"] = [
        {"register_id": journal, "name": journal, "chapter": journal}
        for journal in sorted({line.journal for line in lines})
    ]
    rows["departments"] = [{"department_id": account, "name": name} for account, name in sorted(accounts.items())]
    rows["customers"] = [
        {"customer_id": customer, "name": name, "kind": "individual"} for customer, name in sorted(customers.items())
    ]
    return Facts(
        **{
            name: conform(pd.DataFrame(found), FACTS[name]) if found else empty(FACTS[name])
            for name, found in rows.items()
        }
    )


def _order(
    order: str,
    journal: str,
    number: str,
    piece: _Piece,
    shop: ShopFile,
    rows: dict[str, list[dict[str, Any]]],
    rates: dict[int, str],
    accounts: dict[str, str],
    problems: list[Problem],
) -> None:
    """Append the rows of one order: its lines by rate, its VAT table."""
    first = (piece.sales or piece.vat)[0]
    other = next((line for line in (*piece.sales, *piece.vat) if line.day != first.day), None)
    if other is not None:
        # One invoice has one day: these are two, and taken for one the later sale would move to the earlier day.
        what = f"piece {number} has sales on {first.day} and on {other.day}"
        cure = "where numbers begin anew each year, read one year's export at a time"
        problems.append(Problem(other.file, what, cure, other.row))
        return
    vat_of: dict[int, int] = defaultdict(int)
    for line in piece.vat:
        bp = _written_rate(line)
        if bp is None:
            bp = _rate_of_account(line.account, shop, line.day, "vat")
        if bp is None:
            cure = "its label says no rate; name the account under vat in [[chart]]"
            problems.append(Problem(line.file, f"VAT account {line.account}: which rate?", cure, line.row))
            return
        vat_of[bp] += line.net
        rates.setdefault(bp, line.account)
    by_rate: dict[int, list[Posting]] = defaultdict(list)
    for line in piece.sales:
        accounts.setdefault(line.account, line.account_name or line.account)
        bp = _sale_rate(line, shop, vat_of)
        if bp is None:
            what = f"piece {number} has {len(vat_of)} rates: which one is sales account {line.account} of?"
            cure = f'write rates_by_account = {{ "{line.account}" = "5.5" }} in [source], with its rate'
            problems.append(Problem(line.file, what, cure, line.row))
            return
        by_rate[bp].append(line)
        rates.setdefault(bp, "")
    included = shop.shop.prices == "tax_included"
    line_no, total = 0, 0
    for bp in sorted(set(by_rate) | set(vat_of)):
        of_rate = by_rate.get(bp, [])
        net, vat = sum(line.net for line in of_rate), vat_of.get(bp, 0)
        # Each line's VAT was rounded, or the order's: one cent a line, and one.
        if abs(vat * 10_000 - net * bp) > 10_000 * (len(of_rate) + 1):
            what = f"piece {number}: {vat} cents of VAT are not {bp_to_rate(bp)} % of {net} cents"
            cure = "name the rates of its sales accounts as rates_by_account in [source]"
            problems.append(Problem(first.file, what, cure, first.row))
            return
        total += net + vat
        rows["order_vat"].append({"order_id": order, "vat_rate_bp": bp, "net_cents": net, "vat_cents": vat})
        given, so_far = 0, 0
        for line in of_rate:
            so_far += line.net
            # The rate's VAT cut along the lines: what was given so far is always the rounded share of the net so far.
            share = (2 * vat * so_far + net) // (2 * net) - given if net else 0
            given += share
            line_no += 1
            rows["order_lines"].append(
                {
                    "order_id": order,
                    "line_no": line_no,
                    "label": line.label or None,
                    "quantity_milli": line.quantity,
                    "vat_rate_bp": bp,
                    "total_cents": line.net + share if included else line.net,
                    "vat_cents": share,
                    "department_id": line.account,
                    "nature": "sale",
                }
            )
    rows["orders"].append(
        {
            "order_id": order,
            "number": number,
            "register_id": journal,
            "business_day": pd.Timestamp(first.day),
            "customer_id": piece.customer,
            "total_cents": total,
        }
    )


def _written_rate(line: Posting) -> int | None:
    """The rate that the label or the account's name says: `TVA5.5%`, `TVA collectée 20 %`."""
    for text in (line.label, line.account_name):
        if match := _PERCENT.search(text):
            try:
                return rate_to_bp(match[1].replace(",", "."))
            except ValueError:
                return None
    return None


def _sale_rate(line: Posting, shop: ShopFile, vat_of: dict[int, int]) -> int | None:
    named = shop.source.rates_by_account.get(line.account)
    if named is not None:
        return rate_to_bp(named)
    if not vat_of:
        return 0
    if len(vat_of) == 1:
        return next(iter(vat_of))
    charted = _rate_of_account(line.account, shop, line.day, "sales")
    if charted is not None:
        return charted
    written = _PERCENT.search(line.account_name)
    bp = rate_to_bp(written[1].replace(",", ".")) if written else None
    return bp if bp in vat_of else None


def _rate_of_account(account: str, shop: ShopFile, day: date, table: str) -> int | None:
    """The rate for which the chart of the day names this account, if it is one rate."""
    period = next((period for period in reversed(shop.chart) if period.start <= day), None)
    if period is None:
        return None
    found = {
        rate_to_bp(rate) for rate, named in getattr(period, table).items() if rate != "default" and named == account
    }
    return found.pop() if len(found) == 1 else None


def _kind(name: str, account: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().upper()
    for kind, words in _KINDS:
        if any(re.search(rf"(^|[^A-Z]){word}", plain) or (len(word) > 3 and word in plain) for word in words):
            return kind
    return "cash" if account.startswith("53") else "other"
