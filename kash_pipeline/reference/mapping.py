"""Checks of the shop file's charts against the till's reference data and the company's real chart. Pure.

Only finding what is missing or odd, in words an accountant uses, belongs here. What a day is held for is decided by
accounting/chart.py, which is asked here too; making what is missing is pennylane/reference.py.

Rules of accounts: the official chart in its 2026 edition, as read in french-pos-accounting.md section 2.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from kash_pipeline.accounting.chart import Chart, Missing, french_rate
from kash_pipeline.pennylane.reference import VAT_CODES
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ChartPeriod, ShopFile, rate_to_bp


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


@dataclass(frozen=True)
class Finding:
    """Something to know about the mapping: `missing` holds days, `odd` wants an accountant's look, `note` is for
    information."""

    level: Level
    what: str
    next_step: str


@dataclass(frozen=True)
class Use:
    """An account and what a chart uses it for; `rate_bp` where that is one VAT rate."""

    role: str
    number: str
    label: str
    rate_bp: int | None = None


# Beginnings of the numbers that fit a use, and what is said of others.
_FITTING: Mapping[str, tuple[tuple[str, ...], str]] = {
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


def check(shop: ShopFile, facts: Facts, company: Company | None, first: date, last: date) -> list[Finding]:
    """What is missing or odd in the charts that apply between `first` and `last`, worst first, each once.

    `facts` needs the till's reference data only. Without `company` only the till's side is checked.
    """
    periods = applying(shop, first, last)
    found: list[Finding] = []
    if first < shop.chart[0].start:
        found.append(
            Finding(
                "missing",
                f"no chart applies before {shop.chart[0].start}, and the period begins on {first}",
                f"write a [[chart]] with from = {first.isoformat()!r} or earlier",
            )
        )
    chart = Chart(shop, facts)
    for number, period in periods:
        found += _unanswered(chart, facts, number)
        found += _unfitting(list(uses(period)), period)
    found += _journals(chart, facts, shop, company)
    if company is not None:
        wanted = [use for _, period in periods for use in uses(period)]
        found += _against(company, shop, wanted)
        found += _years(company, first, last)
    rank = {"missing": 0, "odd": 1, "note": 2}
    return sorted(dict.fromkeys(found), key=lambda item: rank[item.level])


def applying(shop: ShopFile, first: date, last: date) -> list[tuple[int, ChartPeriod]]:
    """The charts that apply on some day of `first..last`, with their numbers."""
    ends = [period.start for period in shop.chart[1:]] + [date.max]
    return [
        (number, period)
        for number, (period, end) in enumerate(zip(shop.chart, ends, strict=True))
        if period.start <= last and end > first
    ]


def uses(period: ChartPeriod) -> Iterator[Use]:
    """Every account a chart names, with what for. Labels are French: accountants read them."""
    for rate, number in period.sales.items():
        yield Use("sales", number, f"Ventes {_rate(rate)}", _bp(rate))
    for department, rates in period.sales_by_department.items():
        for rate, number in rates.items():
            yield Use("sales", number, f"Ventes {department} {_rate(rate)}", _bp(rate))
    for rate, number in period.vat.items():
        yield Use("vat", number, f"TVA collectée {_rate(rate)}", _bp(rate))
    for kind, number in period.methods.items():
        yield Use(kind if kind in ("cash", "card") else "method", number, f"Encaissements {METHODS.get(kind, kind)}")
    for method, number in period.methods_by_id.items():
        yield Use("method", number, f"Encaissements, moyen {method}")
    for kind, number in period.cash_movements.items():
        yield Use("movement", number, f"Mouvements de caisse {kind}")
    yield Use("customers", period.customers, "Clients")
    yield Use("clearing", period.takings_to_come, "Commandes à encaisser")
    yield Use("clearing", period.takings_paid, "Encaissements à rapprocher")
    yield Use("loss", period.cash_short, "Écarts de caisse négatifs")
    yield Use("gain", period.cash_over, "Écarts de caisse positifs")
    yield Use("loss", period.rounding.loss, "Arrondis négatifs")
    yield Use("gain", period.rounding.gain, "Arrondis positifs")
    yield Use("liability", period.vouchers, "Bons cadeaux")
    yield Use("liability", period.deposits, "Acomptes reçus")
    yield Use("tips", period.tips, "Pourboires à reverser")


METHODS = {
    "cash": "espèces",
    "card": "carte bancaire",
    "cheque": "chèques",
    "transfer": "virements",
    "meal_voucher": "titres-restaurant",
    "holiday_voucher": "chèques-vacances",
    "gift_voucher": "bons cadeaux",
    "credit_note": "avoirs",
    "loyalty": "fidélité",
    "on_account": "en compte",
    "other": "autres",
}


def _bp(rate: str) -> int | None:
    return None if rate == "default" else rate_to_bp(rate)


def _rate(rate: str) -> str:
    return "(autres taux)" if rate == "default" else french_rate(rate_to_bp(rate))


def _unanswered(chart: Chart, facts: Facts, period: int) -> Iterator[Finding]:
    """What the till can send and this chart has no account for: the very reasons a day would be held for."""
    answers = []
    for row in facts.payment_methods.itertuples():
        if chart.takes_money(str(row.method_id)):
            answers.append(chart.method_account(str(row.method_id))[period])
    for rate in facts.vat_rates["vat_rate_bp"].tolist():
        answers.append(chart.sales(int(rate), None)[period])
        if rate:  # a sale at 0 % has no VAT line
            answers.append(chart.vat(int(rate))[period])
    for answer in answers:
        if isinstance(answer, Missing):
            yield Finding("missing", answer.what, answer.next_step)


def _unfitting(found: Sequence[Use], period: ChartPeriod) -> Iterator[Finding]:
    where = f"in the [[chart]] of {period.start}"
    for use in found:
        trap = next((text for number, text in _TRAPS if use.number.startswith(number)), None)
        beginnings, expected = _FITTING[use.role]
        if trap:
            yield Finding("odd", f"{use.number} for « {use.label} »: {trap}", f"name another account {where}")
        elif not use.number.startswith(beginnings):
            yield Finding(
                "odd",
                f"{use.number} for « {use.label} » is of class {use.number[0]} ({use.number[:3]})",
                f"{expected}; change it {where} unless your accountant wants it so",
            )
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


def _journals(chart: Chart, facts: Facts, shop: ShopFile, company: Company | None) -> Iterator[Finding]:
    there = {journal.code: journal for journal in company.journals} if company else {}
    taken: dict[str, list[str]] = {}
    for row in facts.registers.itertuples():
        answer = chart.journal(str(row.register_id))
        if isinstance(answer, Missing):
            yield Finding("missing", answer.what, answer.next_step)
            continue
        taken.setdefault(answer, []).append(str(row.name))
    for code, registers in taken.items():
        names = ", ".join(registers)
        if len(registers) > 1:
            yield Finding("odd", f"journal {code} is that of several registers: {names}", "give each register its own")
        journal = there.get(code)
        if company is None:
            continue
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
                f'name another code for {names} under [journals], such as "CA{len(code)}"',
            )


def _against(company: Company, shop: ShopFile, wanted: Sequence[Use]) -> Iterator[Finding]:
    by_number: dict[str, list[CompanyAccount]] = {}
    for account in company.accounts:
        by_number.setdefault(account.number, []).append(account)
    creates = shop.pennylane is not None and shop.pennylane.create_accounts
    made: dict[str, str] = {}
    seen: set[str] = set()
    for use in wanted:
        same = by_number.get(use.number, [])
        enabled = [account for account in same if account.enabled]
        if enabled:
            yield from _other_rate(enabled, use)
        if use.number in seen:
            continue
        seen.add(use.number)
        if same and not enabled:
            yield Finding(
                "missing",
                f"{use.number} « {same[0].label} », for {use.label}, is disabled in PennyLane",
                "enable it there, or name another account in the [[chart]]",
            )
        elif not same:
            third_party = use.number.startswith(("411", "401"))
            near = next((number for number in sorted(by_number) if number.rstrip("0") == use.number.rstrip("0")), None)
            if third_party and near is None:
                yield Finding(
                    "missing",
                    f"{use.number}, for {use.label}, does not exist; a 411 is never created, it would make a customer",
                    "create it in PennyLane, or name 411 in the [[chart]]",
                )
            elif not third_party and creates:
                made[use.number] = use.label
            elif not third_party:
                yield Finding(
                    "missing",
                    f"{use.number}, for {use.label}, does not exist in PennyLane",
                    f"create {use.number} « {use.label} » there, or write create_accounts = true under [pennylane]",
                )
        elif len(enabled) > 1:
            chosen = min(enabled, key=lambda account: (account.vat_rate != "any", account.id))
            yield Finding(
                "note",
                f"{use.number} exists {len(enabled)} times in PennyLane ({_rates(enabled)}): "
                f"the one for {_of(chosen)} is taken",
                "",
            )
    if made:
        shown = ", ".join(f"{number} {label}" for number, label in sorted(made.items()))
        yield Finding("note", f"made in PennyLane when an entry first needs them: {shown}", "")


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


def _rates(accounts: Iterable[CompanyAccount]) -> str:
    return ", ".join(dict.fromkeys(_of(account) for account in accounts))


def _years(company: Company, first: date, last: date) -> Iterator[Finding]:
    for start, finish, status in sorted(company.years):
        if start <= last and finish >= first and status not in ("open", "reopen"):
            yield Finding(
                "odd",
                f"the fiscal year {start} to {finish} is {status}: nothing can be posted in it",
                "reopen it in PennyLane, or leave these days out",
            )
    begin = min((start for start, _, _ in company.years), default=None)
    end = max((finish for _, finish, _ in company.years), default=None)
    if begin is None or end is None or first < begin or last > end:
        yield Finding(
            "missing",
            f"PennyLane has no fiscal year for all of {first} to {last}",
            "create the fiscal year in PennyLane, or ask for fewer days",
        )
