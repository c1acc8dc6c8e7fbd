"""Sent entries that the shop file, as it is now, would book on another account or in another journal.

Only comparing what stands in the ledger with the chart belongs here: nothing is built and nothing written. Sent entries
whose days were built again since are no news: publishing corrects them or `plan` lists them (warehouse/ledger.py).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from kash_pipeline.accounting.chart import Answer, Chart, french_rate
from kash_pipeline.accounting.uses import SINGLE
from kash_pipeline.reference.store import Dated
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ShopFile


@dataclass(frozen=True)
class Rebooked:
    """Sent entries of one item that would be booked otherwise if their days were built again.

    kind   the till's table the item is of: payment_methods (the chart's other accounts too), vat_rates, registers
    what   the item, the account or journal in the books → that of the shop file (`payment method 2 « CB »: 511 → 512`)
    """

    kind: str
    what: str
    entries: int
    first: date
    last: date
    registers: tuple[str, ...]

    @property
    def said(self) -> str:
        """`12 entries of 2026-01-02 to 2026-01-09, registers K1, K2`."""
        word = "register" if len(self.registers) == 1 else "registers"
        number = f"{self.entries:,} entr{'y' if self.entries == 1 else 'ies'}"
        return f"{number} of {self.first} to {self.last}, {word} {', '.join(self.registers)}"


# An entry whose day was built anew with another content has digest <> sent_digest.
_STANDS = "p.shop_id = :shop and p.state in ('sent', 'verified') and p.role <> 'reversal' and p.digest = p.sent_digest"
_JOURNALS = (
    "select p.business_day, p.register_id, p.journal, count(*) from kash.publication p"
    f" where {_STANDS} group by 1, 2, 3 order by 1, 2, 3"
)
_ACCOUNTS = (
    "select p.business_day, p.register_id, l.method_id, l.vat_rate_bp, l.customer_id is not null, l.account,"
    " count(distinct p.key) from kash.publication p join kash.entry_lines l on l.shop_id = p.shop_id"
    " and l.entry_key = p.base_key and l.business_day = p.business_day"
    f" where {_STANDS} group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6"
)


def booked_otherwise(engine: sa.Engine, shop: ShopFile) -> list[Rebooked]:
    """Sent entries that name an account or a journal which the chart of their day no longer gives, by item.

    The chart is asked with the till's reference data of the entry's day, as a build does. Two queries, whatever the
    number of entries. Not seen: a sales account moved to one that the same rate has elsewhere in the chart, the till's
    own accounts of customers, and settings that change every entry (granularity, prices).
    """
    with engine.connect() as connection:
        journals = connection.execute(sa.text(_JOURNALS), {"shop": shop.shop.id}).all()
        accounts = connection.execute(sa.text(_ACCOUNTS), {"shop": shop.shop.id}).all()
    days = sorted({row[0] for row in journals})
    charts = _charts(engine, shop, days)
    found = _Found()
    for day, register, journal, entries in journals:
        if day not in charts:
            continue
        chart, *_ = own = charts[day]
        if not chart.register_names:
            continue  # no listing of the till was noted yet
        now = _given(each.journal(register) for each in own)
        if journal not in now:
            what = f"register {register} « {chart.register_name(register)} »: journal {journal} → {_told(now)}"
            found.add("registers", what, day, register, entries)
    asked: dict[tuple[object, ...], tuple[str, str] | None] = {}
    for day, register, method, rate, named, account, entries in accounts:
        if day not in charts:
            continue
        own = charts[day]
        # One answer for all days that share a listing and a chart.
        question = (id(own), own[0].period_of(day), method, rate, named, account)
        if question not in asked:
            asked[question] = _otherwise(own, own[0].period_of(day), method, rate, named, account)
        if (other := asked[question]) is not None:
            found.add(*other, day, register, entries)
    return found.all()


def _charts(engine: sa.Engine, shop: ShopFile, days: Sequence[date]) -> dict[date, list[Chart]]:
    """The chart of each day that has one; with it, where a chapter of the till was of no use on that day, the chart by
    the chapter that mended it."""
    dated = Dated(engine, shop)
    found: dict[date, list[Chart]] = {}
    for window in dated.windows([day for day in days if day >= shop.chart[0].start]):
        facts = dated.on(Facts(), window[0])
        mended = dated.mended(facts, window[0]) if shop.shop.accounting_chapters else None
        charts = [Chart(shop, each) for each in (facts, mended) if each is not None]
        found |= dict.fromkeys(window, charts)
    return found


def _otherwise(
    charts: Sequence[Chart], period: int, method: str | None, rate: int | None, named: bool, account: str
) -> tuple[str, str] | None:
    """Kind and words of what a line is of, when the chart gives it no account such as this one."""
    chart = charts[0]
    own = chart.periods[period]

    def now(ask: Callable[[Chart], tuple[Answer, ...]]) -> set[str]:
        return _given(ask(each)[period] for each in charts)

    if method is not None:
        answers = now(lambda each: each.method_account(method))
        if account in answers or not chart.methods:
            return None
        return (
            "payment_methods",
            f"payment method {method} « {chart.method(method).name} »: {account} → {_told(answers)}",
        )
    if rate is not None:
        departments = {*own.sales_by_department, *map(str, chart.facts.departments["department_id"]), None}
        vat = now(lambda each: each.vat(rate))
        sales = _given(each.sales(rate, department)[period] for each in charts for department in departments)
        if account in vat | sales | {own.vouchers, own.deposits}:
            return None
        told = _told(vat if account.startswith("4457") else sales)
        return "vat_rates", f"VAT rate {french_rate(rate)}: {account} → {told}"
    if named:
        if chart.shop.shop.accounting_chapters or account == own.customers:
            return None
        return "payment_methods", f"customers: {account} → {own.customers}"
    others = {getattr(own, key) for key, _, _ in SINGLE} | {own.rounding.loss, own.rounding.gain}
    others |= {*own.cash_movements.values(), *now(lambda each: each.cash())}
    if account in others:
        return None
    return "payment_methods", f"account {account}: the chart of {own.start} no longer names it"


def _given(answers: Iterable[Answer]) -> set[str]:
    return {answer for answer in answers if isinstance(answer, str)}


def _told(answers: set[str]) -> str:
    return " or ".join(sorted(answers)) or "nothing, the day would be held"


class _Found:
    """Adds up entries by item. An entry is of one day and register, so that none is counted twice for an item."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], int] = {}
        self._days: dict[tuple[str, str], set[date]] = {}
        self._registers: dict[tuple[str, str], set[str]] = {}

    def add(self, kind: str, what: str, day: date, register: str, entries: int) -> None:
        item = kind, what
        self._entries[item] = self._entries.get(item, 0) + int(entries)
        self._days.setdefault(item, set()).add(day)
        self._registers.setdefault(item, set()).add(register)

    def all(self) -> list[Rebooked]:
        return [
            Rebooked(*item, entries, min(self._days[item]), max(self._days[item]), tuple(sorted(self._registers[item])))
            for item, entries in sorted(self._entries.items())
        ]
