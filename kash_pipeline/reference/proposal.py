"""A complete dated [[chart]] and [journals], proposed from both sides' reference data. Pure.

Only choosing accounts and writing TOML belongs here; whether a chart fits is mapping.py's. A proposal is never used
unasked: a person puts it into the shop file, and every entry says where it comes from.

PennyLane's own accounts are those found in a real company on 2026-07-08 (pennylane-api.md section 8): one VAT account
per rate, one sub-account of 411 per payment method. Cash goes to 53 all the same: floats, withdrawals and counted
differences belong to the drawer. Where the company lacks them, the numbers of french-pos-accounting.md section 2 are
proposed, which are made when an entry first needs them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from kash_pipeline.accounting.chart import (
    SUGGESTED_METHODS,
    SUGGESTED_MOVEMENTS,
    Chart,
    french_rate,
    is_usable,
    journal_codes,
    rate_digits,
    toml_key,
)
from kash_pipeline.accounting.uses import (
    METHOD_WORDS,
    MOVEMENT_WORDS,
    SINGLE,
    method_label,
    sales_label,
    vat_label,
)
from kash_pipeline.pennylane.reference import VAT_CODES
from kash_pipeline.reference.mapping import Company, CompanyAccount, trap
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ChartPeriod, ShopFile, bp_to_rate, rate_to_bp

# PennyLane's sub-accounts of 411 by kind of method; cash and what is a liability are not among them.
_BY_KIND = {
    "card": "41106001",
    "meal_voucher": "41106007",
    "transfer": "41106013",
    "cheque": "41106014",
    "loyalty": "41106015",
}

# Services with an account of their own, by a word of the method's name; the longer of two comes first.
_BY_NAME = (
    ("paypal", "41106003"),
    ("stripe", "41106005"),
    ("uber", "41106008"),
    ("deliveroo", "41106009"),
    ("just eat", "41106011"),
    ("amex", "41106012"),
    ("american express", "41106012"),
    ("carte cadeau square", "41106019"),
    ("square", "41106017"),
    ("too good", "41106018"),
)

_VAT = {
    2000: "44571009",
    1000: "44571008",
    550: "44571006",
    210: "44571005",
    850: "44571007",
    90: "44571004",
    1300: "44571011",
    105: "44571009001",
    175: "44571009002",
}

# Words in the label of an account of class 511 that say which method it is for.
_LABELS: Mapping[str, re.Pattern[str]] = {
    "card": re.compile(r"\b(carte|cartes|cb)\b", re.I),
    "cheque": re.compile(r"\bch[eè]ques?\b(?!.*(vacances|d[eé]jeuner|cadeau))", re.I),
    "meal_voucher": re.compile(r"restaurant|\bresto\b|d[eé]jeuner", re.I),
    "holiday_voucher": re.compile(r"vacances|ancv", re.I),
}

_SINGLE: Mapping[str, tuple[str, str]] = {
    "customers": ("411", "411000"),
    "takings_to_come": ("580100", "580100"),
    "takings_paid": ("580200", "580200"),
    "cash_short": ("658", "658000"),
    "cash_over": ("758", "758000"),
    "vouchers": ("4191", "419100"),
    "deposits": ("4191", "419100"),
    "tips": ("467", "467100"),
}
"""Keys that name one account: what PennyLane has for it, and what is made where it has not."""

KEPT = "kept: your shop file has it"


@dataclass(frozen=True)
class Choice:
    """An account and where it comes from; `number` None: for a person to decide, `origin` says what."""

    number: str | None
    origin: str


@dataclass(frozen=True)
class Proposal:
    """TOML of one [[chart]] and of [journals]; `undecided` is how many accounts wait for a person's decision."""

    text: str
    undecided: int


def propose(
    shop: ShopFile, facts: Facts, company: Company | None, start: date, *, direct: bool = False, anew: bool = False
) -> Proposal:
    """A [[chart]] from `start` and [journals] in which every method, rate and register of the till has its place.

    `facts` needs the till's reference data only. What the shop file's chart of that day names stays as it is, unless
    `anew`. With `direct`, payments go to 511 and 512 instead of PennyLane's sub-accounts of 411. What nobody but a
    person can decide stands in a comment, and holds its days until it is decided.
    """
    kept = None if anew else _in_force(shop, start)
    accounts = _Accounts(company, creates=shop.pennylane is None or shop.pennylane.create_accounts)
    chapters = Chart(shop, facts) if shop.shop.accounting_chapters else None
    rates = sorted({int(rate) for rate in facts.vat_rates["vat_rate_bp"].tolist()})
    lines = [
        f"# Proposed for {_said(shop.shop.name)}: put it into the shop file, in place of its [[chart]] of this day "
        "and its [journals].",
        "[[chart]]",
        f'from = "{start.isoformat()}"',
    ]
    # First, as in accounting/uses.py: their words name an account that methods use too.
    single = {key: _single(kept, key) or accounts.first(*_SINGLE[key], label=label) for key, _, label in SINGLE}
    sales = _kept(kept, "sales") | {
        bp_to_rate(rate): accounts.sales(rate) for rate in rates if not _has(kept, "sales", rate)
    }
    vat = _kept(kept, "vat") | {
        bp_to_rate(rate): accounts.vat(rate)
        for rate in rates
        if rate and not _has(kept, "vat", rate) and not _by_chapter(facts, "vat_rates", "vat_rate_bp", rate, chapters)
    }
    if chapters is not None:
        rows = zip(facts.vat_rates["vat_rate_bp"], facts.vat_rates["chapter"], strict=True)
        vat |= {
            bp_to_rate(rate): Choice(None, f"the till's chapter {_said(code)} is no number: correct it in Kash.click")
            for rate, code in rows
            if rate and not pd.isna(code) and not is_usable("vat_rates", "chapter", code)
        }
    lines += _table("sales", sales, "net sales by VAT rate (701 own products, 706 services, 707 goods resold)")
    lines += _departments(facts, chapters, kept, sales)
    lines += _table("vat", vat, "VAT collected, one account per rate")
    methods, by_id = _methods(facts, accounts, chapters, kept, direct=direct)
    lines += _table("methods", methods, "takings by kind of payment method")
    lines += _table("methods_by_id", by_id, "payment methods that need an account of their own")
    for key, _, label in SINGLE:
        lines.append(f'{key} = "{single[key].number}"   # {_said(label)}; {_told(single[key])}')
    rounding = {
        side: _rounding(kept, side) or accounts.first(wanted, f"{wanted}000", label=label)
        for side, wanted, label in (
            ("loss", "658", "Écarts d'arrondi négatifs"),
            ("gain", "758", "Écarts d'arrondi positifs"),
        )
    }
    lines += _table("rounding", rounding, "cents of rounding")
    movements = _kept(kept, "cash_movements") | {
        kind: accounts.first(made[:3], made, label=f"Mouvements de caisse ({MOVEMENT_WORDS[kind]})")
        for kind, made in SUGGESTED_MOVEMENTS.items()
        if kept is None or kind not in kept.cash_movements
    }
    lines += _table("cash_movements", movements, "where cash comes from or goes to")
    lines += ["", "[journals]", *_journals(shop, facts, company, anew=anew)]
    undecided = sum(choice.number is None for choice in [*vat.values(), *methods.values(), *by_id.values()])
    return Proposal("\n".join(lines) + "\n", undecided)


# --- the shop file ----------------------------------------------------------------------------------------------------


def _in_force(shop: ShopFile, start: date) -> ChartPeriod:
    begun = [period for period in shop.chart if period.start <= start]
    return begun[-1] if begun else shop.chart[0]


def _kept(kept: ChartPeriod | None, name: str) -> dict[str, Choice]:
    table: Mapping[str, str] = getattr(kept, name) if kept else {}
    return {key: Choice(number, KEPT) for key, number in table.items()}


def _has(kept: ChartPeriod | None, name: str, rate_bp: int) -> bool:
    """Whether the file's table answers for a rate; its default does for every one."""
    return kept is not None and any(key == "default" or rate_to_bp(key) == rate_bp for key in getattr(kept, name))


def _single(kept: ChartPeriod | None, key: str) -> Choice | None:
    return Choice(getattr(kept, key), KEPT) if kept and key in kept.model_fields_set else None


def _rounding(kept: ChartPeriod | None, side: str) -> Choice | None:
    if kept is None or side not in kept.rounding.model_fields_set:
        return None
    return Choice(getattr(kept.rounding, side), KEPT)


# --- the till's chapters ----------------------------------------------------------------------------------------------


def _by_chapter(facts: Facts, table: str, key: str, record: object, chapters: Chart | None) -> str | None:
    """The till's chapter of a record, where the shop uses chapters and this one names an account."""
    if chapters is None:
        return None
    frame = getattr(facts, table)
    found = [chapter for own, chapter in zip(frame[key], frame["chapter"], strict=True) if own == record]
    return str(found[0]) if found and is_usable(table, "chapter", found[0]) else None


def _departments(
    facts: Facts, chapters: Chart | None, kept: ChartPeriod | None, sales: Mapping[str, Choice]
) -> list[str]:
    """`sales_by_department` as the file has it, and for departments whose chapter names no account."""
    table: dict[str, dict[str, str]] = {
        name: dict(accounts) for name, accounts in (kept.sales_by_department if kept else {}).items()
    }
    comments = [f"#   {_said(name)}: {KEPT}" for name in table]
    if chapters is not None:
        plain = {rate: choice.number for rate, choice in sales.items() if choice.number}
        for row in facts.departments.itertuples():
            own = str(row.department_id)
            answers = chapters.sales(0, own)
            if own in table or not all(getattr(answer, "reason", "") for answer in answers):
                continue
            table[own] = plain
            comments.append(f"#   {_said(own)} « {_said(row.name)} »: the till's chapter names no account")
    if not table:
        return []
    written = ", ".join(f"{toml_key(name)} = {_inline(accounts)}" for name, accounts in table.items())
    return ["# sales_by_department", *comments, f"sales_by_department = {{ {written} }}"]


# --- accounts of the company ------------------------------------------------------------------------------------------


class _Accounts:
    """Chooses numbers that the company has and may be used; what it lacks is to be made."""

    def __init__(self, company: Company | None, *, creates: bool) -> None:
        accounts = company.accounts if company else ()
        self._knows = company is not None
        self._creates = creates
        self.enabled: dict[str, CompanyAccount] = {}
        for account in sorted(accounts, key=lambda item: (item.number, item.vat_rate != "any", item.id)):
            if account.enabled:
                self.enabled.setdefault(account.number, account)
        self._disabled = {item.number: item.label for item in accounts if item.number not in self.enabled}
        self._labels: dict[str, str] = {}
        self._rates: dict[str, set[str | None]] = {}
        for account in accounts:
            if account.enabled:
                self._rates.setdefault(account.number, set()).add(account.vat_rate)

    def there(self, number: str) -> Choice | None:
        """The company's account of this number, closing zeros apart."""
        for same in (number, *sorted(self.enabled)):
            if same in self.enabled and same.rstrip("0") == number.rstrip("0"):
                return Choice(same, f"PennyLane « {_said(self.enabled[same].label)} »")
        return None

    def made(self, number: str, label: str) -> Choice:
        """An account that the company lacks."""
        label = self._labels.setdefault(number, label)
        same = next((own for own in sorted(self._disabled) if own.rstrip("0") == number.rstrip("0")), None)
        if same == number:
            return Choice(number, f"disabled in PennyLane « {_said(self._disabled[same])} »: enable it there")
        aside = f"; {same} « {_said(self._disabled[same])} » is disabled" if same else ""
        if not self._knows:
            return Choice(number, f"proposed « {_said(label)} »")
        how = "made when first needed" if self._creates else "create it in PennyLane first"
        return Choice(number, f"{how}: « {_said(label)} »{aside}")

    def first(self, *wanted: str, label: str) -> Choice:
        """The first of the numbers that the company has; else the last, to be made."""
        return next(filter(None, map(self.there, wanted)), None) or self.made(wanted[-1], label)

    def sales(self, rate_bp: int) -> Choice:
        """An account of 70 that PennyLane has for this rate alone; else a sub-account of 707 per rate, so that the VAT
        return can be checked by account."""
        if rate_bp == 0:
            return self.first("707", "707000", label=sales_label(rate_bp))
        # PennyLane fills numbers up with zeros: 707100 would be a second 7071, which is for other goods.
        made = next(
            number for zeros in range(8) if self.there(number := f"707{'0' * zeros}{rate_digits(rate_bp)}") is None
        )
        return self._of_rate(rate_bp, ("707", "701", "706", "70")) or self.made(made, sales_label(rate_bp))

    def vat(self, rate_bp: int) -> Choice:
        """PennyLane's own account of the rate. Not 44574: that is VAT of services until they are paid."""
        usual = self.there(_VAT[rate_bp]) if rate_bp in _VAT else None
        own = usual or self._of_rate(rate_bp, ("44571",))
        return own or self.made(f"445711{rate_digits(rate_bp)}", vat_label(rate_bp))

    def _of_rate(self, rate_bp: int, beginnings: Sequence[str]) -> Choice | None:
        code = VAT_CODES.get(rate_bp)
        # "5 %" is not what "5,5 %" says.
        told = re.compile(rf"(?<![\d,.]){re.escape(french_rate(rate_bp).removesuffix(' %'))} ?%")
        fitting = [
            number
            for number, rates in self._rates.items()
            if not trap(number) and ((code and rates == {code}) or told.search(self.enabled[number].label))
        ]
        for beginning in beginnings:
            found = sorted(number for number in fitting if number.startswith(beginning))
            if found:
                return self.there(found[0])
        return None

    def of_label(self, kind: str) -> Choice | None:
        """The account of 511 whose label names this kind of method, when just one does."""
        pattern = _LABELS.get(kind)
        found = [
            number
            for number, account in self.enabled.items()
            if pattern and number.startswith("511") and pattern.search(account.label)
        ]
        return self.there(found[0]) if len(found) == 1 else None


def _methods(
    facts: Facts, accounts: _Accounts, chapters: Chart | None, kept: ChartPeriod | None, *, direct: bool
) -> tuple[dict[str, Choice], dict[str, Choice]]:
    methods, by_id = _kept(kept, "methods"), _kept(kept, "methods_by_id")
    new: dict[str, list[str]] = {}
    for row in facts.payment_methods.sort_values("method_id").itertuples():
        method, kind, name = str(row.method_id), str(row.kind), str(row.name)
        if method in by_id or _by_chapter(facts, "payment_methods", "method_id", method, chapters):
            continue
        if kind == "on_account":
            continue  # nothing is posted until the customer pays
        spoilt = chapters is not None and chapters.methods[method].chapter
        if spoilt:
            # A chapter wins over the kind, so what is no account number gives way to nothing but the id.
            choice = _of_kind(accounts, kind, direct=direct) or accounts.made(
                SUGGESTED_METHODS[kind], method_label(kind)
            )
            why = f"{_said(name)}: the till's chapter {_said(spoilt)} is no account number; {choice.origin}"
            by_id[method] = Choice(choice.number, why)
            continue
        service = next((number for word, number in _BY_NAME if word in name.lower()), None)
        service_account = accounts.there(service) if service else None
        if kind in methods:
            continue
        if service_account is not None:
            by_id[method] = Choice(service_account.number, f"{_said(name)}, by its name; {service_account.origin}")
        elif kind == "other":
            if chapters is not None:
                continue  # without a chapter it is 511, as Kash.click documents
            by_id[method] = Choice(
                None,
                f"{_said(name)} is of no kind that the till tells: find out what it is, then add "
                f'{toml_key(method)} = "..." to methods_by_id (cards 511..., vouchers 419..., {_other(accounts)})',
            )
        else:
            new.setdefault(kind, []).append(name)
    chosen = {kind: _of_kind(accounts, kind, direct=direct) for kind in new}
    in_511 = [kind for kind in new if chosen[kind] is None and SUGGESTED_METHODS[kind].startswith("511")]
    for kind, names in new.items():
        # One method alone may have 511 itself; of several each has a sub-account, so that each remittance is checked.
        general = accounts.there("511") if in_511 == [kind] else None
        choice = chosen[kind] or general or accounts.made(SUGGESTED_METHODS[kind], method_label(kind))
        methods[kind] = Choice(choice.number, f"{', '.join(map(_said, names))}; {choice.origin}")
    return methods, by_id


def _other(accounts: _Accounts) -> str:
    return "41106016 for others" if accounts.there("41106016") else "511900 for others"


def _of_kind(accounts: _Accounts, kind: str, *, direct: bool) -> Choice | None:
    """What the company has for a kind of method."""
    pennylanes = accounts.there(_BY_KIND[kind]) if kind in _BY_KIND and not direct else None
    return pennylanes or _own(accounts, kind) or (_bank(accounts) if kind == "transfer" else None)


def _own(accounts: _Accounts, kind: str) -> Choice | None:
    """What the company has for this kind of method, outside of 411."""
    if kind == "cash":
        drawers = sorted(number for number in accounts.enabled if number.startswith("53"))
        return accounts.there("530") or (accounts.there(drawers[0]) if drawers else None)
    if kind == "gift_voucher":
        return accounts.there("4191")
    return accounts.there(SUGGESTED_METHODS[kind]) or accounts.of_label(kind)


def _bank(accounts: _Accounts) -> Choice | None:
    banks = [number for number in sorted(accounts.enabled) if number.startswith("512")]
    if len(banks) == 1:
        return accounts.there(banks[0])
    if not banks:
        return None
    shown = ", ".join(f"{number} « {_said(accounts.enabled[number].label)} »" for number in banks)
    return Choice(None, f"decide which bank, then add transfer to methods: {shown}")


# --- journals ---------------------------------------------------------------------------------------------------------


def _journals(shop: ShopFile, facts: Facts, company: Company | None, *, anew: bool) -> list[str]:
    kept = {} if anew else dict(shop.journals)
    there = {journal.code: journal.label for journal in company.journals} if company else {}
    names = dict(zip(facts.registers["register_id"].astype("str"), facts.registers["name"].astype("str"), strict=True))
    chapters = {
        str(register): None if not is_usable("registers", "chapter", chapter) else str(chapter)
        for register, chapter in zip(facts.registers["register_id"], facts.registers["chapter"], strict=True)
    }
    wanted = [(register, chapters[register]) for register in names if register not in kept]
    # Never one of PennyLane's own journals.
    journals = company.journals if company else ()
    pennylanes = {journal.code for journal in journals if journal.type not in (None, "custom")}
    codes = kept | journal_codes(wanted, taken={*kept.values(), *pennylanes})
    creates = shop.pennylane is not None and shop.pennylane.create_journals
    to_come = "" if company is None else "made at the first sync" if creates else "create it in PennyLane first"
    lines = []
    for register, code in codes.items():
        origin = (
            KEPT if register in kept else "the till's chapter" if chapters[register] == code else "from the register"
        )
        label = f"PennyLane « {_said(there[code])} »" if code in there else to_come
        words = [word for word in (_said(names.get(register, "")), origin, label) if word]
        lines.append(f'{toml_key(register)} = "{code}"   # {"; ".join(words)}')
    return lines


# --- TOML -------------------------------------------------------------------------------------------------------------


def _said(text: object) -> str:
    """Text of either system in a comment: on one line, whatever it holds."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())


def _told(choice: Choice) -> str:
    bad = trap(choice.number) if choice.number else None
    return f"{choice.origin}; LOOK: {bad}" if bad else choice.origin


def _table(name: str, choices: Mapping[str, Choice], words: str) -> list[str]:
    """An inline table, one line as the next steps of held days write it; above it what each entry is from."""
    if not choices:
        return []
    lines = [f"# {name}: {words}"]
    for key, choice in choices.items():
        lines.append(f"#   {_shown(name, key)}: {choice.number or 'to decide'}  {_told(choice)}")
    accounts = {key: choice.number for key, choice in choices.items() if choice.number}
    return [*lines, f"{name} = {_inline(accounts)}"] if accounts else lines


def _inline(accounts: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f'{toml_key(key)} = "{number}"' for key, number in accounts.items()) + " }"


def _shown(name: str, key: str) -> str:
    if name == "methods":
        return METHOD_WORDS.get(key, key)
    if name == "cash_movements":
        return MOVEMENT_WORDS.get(key, key)
    return f"{key.replace('.', ',')} %" if name in ("sales", "vat") and key != "default" else _said(key)
