"""Checks of the shop file's charts against the till's reference data and the company's real chart. Pure.

Only finding what is missing or odd, in words an accountant uses, belongs here. What a day is held for is decided by
accounting/chart.py, which is asked here too; making what is missing is pennylane/reference.py.

Rules of accounts: the official chart in its 2026 edition, as read in french-pos-accounting.md section 2.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from kash_pipeline.accounting.chart import Answer, Chart, Missing, french_rate
from kash_pipeline.accounting.uses import SINGLE, Role, Use, method_label, method_role, sales_label, uses, vat_label
from kash_pipeline.pennylane.reference import VAT_CODES, NamedAccount, choose, journal_label, named_accounts
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ChartPeriod, ShopFile


@dataclass(frozen=True)
class CompanyAccount:
    """A ledger account of the company; one number may have several, one per VAT rate."""

    id: int
    number: str
    label: str
    vat_rate: str | None
    enabled: bool


@dataclass(frozen=True)
class CompanyJournal:
    """A journal of the company."""

    code: str
    label: str
    type: str | None


@dataclass(frozen=True)
class Company:
    """PennyLane's side: what a company has."""

    accounts: Sequence[CompanyAccount]
    journals: Sequence[CompanyJournal]
    years: Sequence[tuple[date, date, str]]
    """First day, last day, status."""


Level = Literal["missing", "odd", "note"]
LEVELS: Sequence[Level] = ("missing", "odd", "note")


@dataclass(frozen=True)
class Finding:
    """Something to know about the mapping: `missing` holds days, `odd` wants an accountant's look, `note` is for
    information."""

    level: Level
    what: str
    next_step: str


# Beginnings of the numbers that fit a use, and what is said of others.
_FITTING: Mapping[Role, tuple[tuple[str, ...], str]] = {
    "sales": (("70",), "ventes : comptes 701 à 708"),
    "vat": (("4457",), "TVA collectée : 4457..."),
    "cash": (("53", "411"), "espèces : 53, ou 411 à la manière de PennyLane"),
    "card": (("511", "512", "58", "411", "467"), "carte : 511, 512, 58 ou 411"),
    "method": (
        ("511", "512", "58", "411", "419", "467", "468", "709"),
        "moyens de paiement : 511, 512, 58 ou 411",
    ),
    "customers": (("411",), "clients : 411"),
    "clearing": (("58", "467", "471", "511"), "comptes de passage : 58"),
    "loss": (("65", "67"), "écarts négatifs : 658"),
    "gain": (("75", "77"), "écarts positifs : 758"),
    "liability": (("419", "467", "468", "487"), "bons et acomptes : 4191"),
    "tips": (("467", "468", "421", "426"), "pourboires à reverser : 467 ou 468"),
    "movement": (("5", "4", "1", "6"), "mouvements de caisse : 58, 512, 471..."),
}

# Numbers that older tables still give (french-pos-accounting.md sections 1 and 2).
_TRAPS: Sequence[tuple[str, str]] = (
    ("711", "711 is no sales account: class 71 is change in stocks, sales are 701 to 708"),
    ("6588", "6588 is for trusts (fiducies) since the 2025 chart, not for till differences"),
    ("7588", "7588 is for trusts (fiducies) since the 2025 chart, not for till differences"),
    ("4282", "4282 is holiday pay owed (congés à payer), not tips"),
    ("671", "671 is gone since the 2025 chart"),
    ("771", "771 is gone since the 2025 chart"),
)


# Keys of a [[chart]] that any day of sales may need; vouchers, deposits, tips, rounding may never come.
_ALWAYS = ("takings_to_come", "takings_paid", "cash_short", "cash_over")


def trap(number: str) -> str | None:
    """What is wrong with a number that older tables still give; None for any other."""
    return next((text for beginning, text in _TRAPS if number.startswith(beginning)), None)


def check(
    shop: ShopFile,
    listings: Sequence[Facts],
    company: Company | None,
    first: date,
    last: date,
    *,
    waiting: Collection[date] | None = None,
) -> list[Finding]:
    """What is missing or odd in the charts that apply between `first` and `last`, worst first, each once.

    `listings`: the till's reference data as they were in the period, one `Facts` for each change. Without `company`
    only the till's side is checked. `waiting`: business days of which something is not in PennyLane yet; a closed
    fiscal year matters to them alone. None: nothing was built so far, so any day may come.
    """
    found: list[Finding] = []
    if first < shop.chart[0].start:
        found.append(
            Finding(
                "missing",
                f"no chart applies before {shop.chart[0].start}, and the period begins on {first}",
                f"write a [[chart]] with from = {first.isoformat()!r} or earlier",
            )
        )
    named: list[Use] = []
    needed: set[str] = set()
    for number, period in applying(shop, first, last):
        own: dict[Use, None] = {}
        for facts in listings:
            for use, answer in _asked(Chart(shop, facts), facts, number):
                if isinstance(answer, Missing):
                    found.append(Finding("missing", answer.what, answer.next_step))
                else:
                    own[replace(use, number=answer)] = None
        needed |= {use.number for use in own}
        # The chart's own word for an account comes first: it is what the account is called when it is made.
        every: dict[tuple[Role, str, int | None], Use] = {}
        for use in (*uses(period), *own):
            every.setdefault((use.role, use.number, use.rate_bp), use)
        found += _unfitting(list(every.values()), period)
        named += every.values()
    found += _journals([(Chart(shop, facts), facts) for facts in listings], shop, company)
    found += _unlisted(shop, listings, first, last)
    if company is not None:
        found += _against(company, shop, named, needed)
        found += _years(company, first, last, waiting)
    return sorted(dict.fromkeys(found), key=lambda item: LEVELS.index(item.level))


def applying(shop: ShopFile, first: date, last: date) -> list[tuple[int, ChartPeriod]]:
    """The charts that apply on some day of `first..last`, with their numbers."""
    ends = [period.start for period in shop.chart[1:]] + [date.max]
    return [
        (number, period)
        for number, (period, end) in enumerate(zip(shop.chart, ends, strict=True))
        if period.start <= last and end > first
    ]


def _asked(chart: Chart, facts: Facts, period: int) -> Iterator[tuple[Use, Answer]]:
    """What the till can send and a chart's answer to it: the very answers that days are built with or held for."""
    own = chart.periods[period]
    for key, role, label in SINGLE:
        if key in _ALWAYS:
            yield Use(role, "", label), getattr(own, key)
    for row in facts.payment_methods.itertuples():
        method, kind = str(row.method_id), str(row.kind)
        if chart.takes_money(method):
            label = f"{method_label(kind)} ({row.name})"
            yield Use(method_role(kind), "", label), chart.method_account(method)[period]
    by_department = chart.shop.shop.accounting_chapters or bool(own.sales_by_department)
    departments = [None, *facts.departments["department_id"].tolist()] if by_department else [None]
    for rate in facts.vat_rates["vat_rate_bp"].tolist():
        for department in departments:
            # A line without department may never come: with chapters on, each article has one.
            answer = chart.sales(int(rate), department)[period]
            if department is None and len(departments) > 1 and isinstance(answer, Missing):
                continue
            yield Use("sales", "", sales_label(int(rate)), int(rate)), answer
        if rate:  # a sale at 0 % has no VAT line
            yield Use("vat", "", vat_label(int(rate)), int(rate)), chart.vat(int(rate))[period]


def _unfitting(found: Sequence[Use], period: ChartPeriod) -> Iterator[Finding]:
    where = f"in the [[chart]] of {period.start}"
    told: set[tuple[str, str]] = set()
    for use in found:
        beginnings, expected = _FITTING[use.role]
        bad = trap(use.number)
        what = (use.number, bad or expected)
        if what in told:
            continue
        if bad:
            yield Finding("odd", f"{use.number} for « {use.label} »: {bad}", f"{expected}; name another {where}")
        elif not use.number.startswith(beginnings):
            yield Finding(
                "odd",
                f"{use.number} for « {use.label} » is of class {use.number[0]} ({use.number[:3]})",
                f"{expected}; change it {where} unless your accountant wants it so",
            )
        elif use.role != "customers" and use.number.rstrip("0") == "411":
            yield Finding(
                "odd",
                f"{use.number} for « {use.label} » is the account of all customers: what they owe would mix with it",
                f"name a sub-account such as 41106001, or 511..., {where}",
            )
        else:
            continue
        told.add(what)
    rates: dict[str, set[int]] = {}
    for use in found:
        if use.role == "vat" and use.rate_bp is not None:
            rates.setdefault(use.number, set()).add(use.rate_bp)
    for number, both in rates.items():
        if len(both) > 1:
            shown = " and ".join(french_rate(rate) for rate in sorted(both))
            yield Finding(
                "odd",
                f"{number} takes the VAT of {shown}: the VAT return cannot be checked by account",
                f"give each rate an account of its own {where}",
            )
    if period.takings_to_come == period.takings_paid:
        yield Finding(
            "odd",
            f"{period.takings_paid} is both takings_to_come and takings_paid: open orders and late payments mix",
            f"name two accounts {where}, such as 580100 and 580200",
        )


def _journals(listings: Sequence[tuple[Chart, Facts]], shop: ShopFile, company: Company | None) -> Iterator[Finding]:
    there = {journal.code: journal for journal in company.journals} if company else {}
    taken: dict[str, dict[str, str]] = {}
    for chart, facts in listings:
        for row in facts.registers.itertuples():
            answer = chart.journal(str(row.register_id))
            if isinstance(answer, Missing):
                yield Finding("missing", answer.what, answer.next_step)
            else:
                taken.setdefault(answer, {})[str(row.register_id)] = str(row.name)
    for code, registers in taken.items():
        names = ", ".join(registers.values())
        if len(registers) > 1:
            yield Finding("odd", f"journal {code} is that of several registers: {names}", "give each register its own")
        if company is None:
            continue
        journal = there.get(code)
        if journal is None:
            if shop.pennylane is not None and shop.pennylane.create_journals:
                yield Finding("note", f"journal {code} ({names}) is made in PennyLane at the first sync", "")
            else:
                yield Finding(
                    "missing",
                    f"PennyLane has no journal {code} ({names})",
                    "create it there, or write create_journals = true under [pennylane]",
                )
        elif journal.type not in (None, "custom", "sales", "misc"):
            yield Finding(
                "odd",
                f"journal {code} of PennyLane is « {journal.label} » of type {journal.type}",
                f"give {names} a code of its own under [journals]",
            )
        elif journal.label != journal_label(shop, code):
            # Whoever made it, perhaps for another shop of this company: its code alone does not say that it is meant.
            yield Finding("note", f"journal {code} ({names}) is PennyLane's « {journal.label} »", "")


def _unlisted(shop: ShopFile, listings: Sequence[Facts], first: date, last: date) -> Iterator[Finding]:
    """Names in the shop file that the till did not list in the period: a slip, or something of another time."""
    till: dict[str, set[str]] = {
        "methods_by_id": {str(item) for facts in listings for item in facts.payment_methods["method_id"]},
        "sales_by_department": {str(item) for facts in listings for item in facts.departments["department_id"]},
        "[journals]": {str(item) for facts in listings for item in facts.registers["register_id"]} | {"default"},
    }
    periods = [period for _, period in applying(shop, first, last)]
    written: dict[str, set[str]] = {
        "methods_by_id": {name for period in periods for name in period.methods_by_id},
        "sales_by_department": {name for period in periods for name in period.sales_by_department},
        "[journals]": set(shop.journals),
    }
    for where, names in written.items():
        if strange := sorted(names - till[where]):
            yield Finding("note", f"{where} names what the till does not list in this period: {', '.join(strange)}", "")


def _against(company: Company, shop: ShopFile, named: Sequence[Use], needed: Collection[str]) -> Iterator[Finding]:
    by_number: dict[str, list[CompanyAccount]] = {}
    for account in company.accounts:
        by_number.setdefault(account.number, []).append(account)
    creates = shop.pennylane is not None and shop.pennylane.create_accounts
    own_accounts = shop.shop.named_customers == "own_account"
    names = named_accounts(shop)
    # Accounts of two rates are told of already.
    shared = {
        one.number
        for one in named
        for other in named
        if one.role == other.role == "vat" and one.number == other.number and one.rate_bp != other.rate_bp
    }
    made: dict[str, str] = {}
    beside: dict[str, str] = {}
    idle: dict[str, str] = {}
    lacking: dict[str, str] = {}
    seen: set[str] = set()
    for use in named:
        if use.role == "customers" and own_accounts:
            continue  # each customer has an account of their own; the collective one is never posted to
        same = by_number.get(use.number, [])
        enabled = [account for account in same if account.enabled]
        if enabled and use.number not in shared:
            yield from _other_rate(enabled, use)
        if use.number in seen:
            continue
        seen.add(use.number)
        third_party = use.number.startswith(("411", "401"))
        chosen = choose(same, shop).get(use.number)
        wanted = shop.pennylane.account_ids.get(use.number) if shop.pennylane is not None else None
        near = next((number for number in sorted(by_number) if number.rstrip("0") == use.number.rstrip("0")), None)
        if wanted is not None and chosen is None:
            yield Finding(
                "missing",
                f"PennyLane has no {use.number} of id {wanted}, which account_ids names",
                "correct it under [pennylane], or take it out",
            )
        elif chosen is not None and not chosen.enabled:
            if use.number in needed:
                yield Finding(
                    "missing",
                    f"{use.number} « {chosen.label} », for {use.label}, is disabled in PennyLane",
                    "enable it there, or name another account in the [[chart]]",
                )
            else:
                idle[use.number] = f"{use.number} « {chosen.label} » is disabled"
        elif not same and third_party:
            if near is None:
                yield Finding(
                    "missing" if use.number in needed or use.role == "customers" else "odd",
                    f"{use.number}, for {use.label}, does not exist; a {use.number[:3]} is never created: "
                    f"it would make a {'customer' if use.number.startswith('411') else 'supplier'}",
                    "create it in PennyLane, or name one that exists in the [[chart]]",
                )
        elif not same and creates:
            made[use.number] = names.get(use.number, NamedAccount(use.number, f"Caisse {use.number}")).label
            if near is not None:
                beside[use.number] = f" (it has {near} « {by_number[near][0].label} »)"
        elif not same and use.number in needed:
            lacking[use.number] = use.label
        elif not same:
            idle[use.number] = f"{use.number} « {use.label} » does not exist"
        elif chosen is not None and len(enabled) > 1 and wanted is None:
            others = ", ".join(f"{item.id} for {_of(item)}" for item in sorted(enabled, key=lambda item: item.id))
            yield Finding(
                "note",
                f"{use.number} exists {len(enabled)} times in PennyLane: the one for {_of(chosen)} is taken",
                f"account_ids under [pennylane] names another: {others}",
            )
    if lacking:
        yield Finding(
            "missing",
            f"PennyLane lacks {_listed(lacking)}",
            "create them there, or write create_accounts = true under [pennylane]",
        )
    if made:
        told = {number: f"{label} »" + beside.get(number, "") for number, label in made.items()}
        yield Finding(
            "note",
            "made in PennyLane when an entry first needs them: "
            + ", ".join(f"{number} « {words}" for number, words in sorted(told.items())),
            "an account of one meaning that PennyLane has already may be named in the [[chart]] instead"
            if beside
            else "",
        )
    if idle:
        shown = ", ".join(text for _, text in sorted(idle.items()))
        yield Finding("note", f"would hold a day if an entry ever needed them: {shown}", "")


def _listed(accounts: Mapping[str, str]) -> str:
    return ", ".join(f"{number} « {label} »" for number, label in sorted(accounts.items()))


def _other_rate(enabled: Sequence[CompanyAccount], use: Use) -> Iterator[Finding]:
    """An account that PennyLane ties to another VAT rate makes its VAT return wrong."""
    if use.rate_bp is None:
        return
    own = VAT_CODES.get(use.rate_bp)
    rates = {account.vat_rate for account in enabled}
    if rates & {"any", None, own}:
        return
    bp_of = {code: rate for rate, code in VAT_CODES.items()}
    shown = ", ".join(french_rate(bp_of[code]) if code in bp_of else str(code) for code in sorted(map(str, rates)))
    yield Finding(
        "odd",
        f"{use.number} « {enabled[0].label} » is for {shown} in PennyLane and takes {use.label}",
        "name the account of that rate in the [[chart]]",
    )


def _of(account: CompanyAccount) -> str:
    bp_of = {code: rate for rate, code in VAT_CODES.items()}
    if account.vat_rate in (None, "any"):
        return "any rate"
    return french_rate(bp_of[account.vat_rate]) if account.vat_rate in bp_of else str(account.vat_rate)


def _years(company: Company, first: date, last: date, waiting: Collection[date] | None) -> Iterator[Finding]:
    inside = None if waiting is None else sorted(day for day in waiting if first <= day <= last)
    years = sorted(year for year in company.years if year[0] <= last and year[1] >= first)
    for start, finish, status in years:
        days = [] if inside is None else [day for day in inside if start <= day <= finish]
        if status in ("open", "reopen") or (inside is not None and not days):
            continue
        number = "" if inside is None else f"; {_days(days)} wait for it"
        yield Finding(
            "odd" if inside is None else "missing",
            f"the fiscal year {start} to {finish} is {status} in PennyLane: nothing can be posted in it{number}",
            "reopen it there, or leave these days out",
        )
    lacking = [
        day
        for day in (_span(first, last) if inside is None else inside)
        if not any(start <= day <= finish for start, finish, _ in years)
    ]
    if lacking:
        yield Finding(
            "missing",
            f"PennyLane has no fiscal year for {_days(lacking)}",
            "create the fiscal year in PennyLane, or ask for fewer days",
        )


def _span(first: date, last: date) -> list[date]:
    return [date.fromordinal(number) for number in range(first.toordinal(), last.toordinal() + 1)]


def _days(days: Sequence[date]) -> str:
    return f"{days[0]}" if len(days) == 1 else f"{len(days)} days, {days[0]} to {days[-1]}"
