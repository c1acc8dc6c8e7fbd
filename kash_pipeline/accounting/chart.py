"""Which account an amount goes to: the dated chart of the shop file and the accounting chapters of the till.

Only the choice of accounts, journals and labels, and what to write in the shop file where one is missing. The
amounts come from sales.py, payments.py and closings.py; the rules are docs/files-interface.md ("The shop file").
"""

import bisect
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

import pandas as pd

from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ChartPeriod, ShopFile, bp_to_rate, rate_to_bp

SUGGESTED_METHODS = {
    "cash": "530000",
    "card": "511500",
    "cheque": "511200",
    "transfer": "512000",
    "meal_voucher": "511700",
    "holiday_voucher": "511800",
    "gift_voucher": "419100",
    "credit_note": "419700",
    "loyalty": "709700",
    "other": "511900",
}
"""Accounts proposed for a method without one (french-pos-accounting.md, section 2); never used unasked."""

SUGGESTED_MOVEMENTS = {"withdrawal": "580300", "deposit": "580300", "expense": "471000", "float": "580300"}


@dataclass(frozen=True)
class Missing:
    """Why an amount has no account, as a row of `held`."""

    reason: str
    what: str
    next_step: str


Answer = str | Missing


@dataclass(frozen=True)
class Method:
    """A payment method as the till lists it."""

    method_id: str
    name: str
    kind: str
    chapter: str | None
    known: bool = True


def _inline(table: Mapping[str, str], key: str, value: str) -> str:
    """A TOML inline table of accounts with one entry more."""
    return _written({**table, key: value})


def _written(accounts: Mapping[str, str]) -> str:
    return _table({name: f'"{account}"' for name, account in accounts.items()})


def _table(values: Mapping[str, str]) -> str:
    """A TOML inline table of values that are TOML already."""
    return "{ " + ", ".join(f"{toml_key(name)} = {value}" for name, value in values.items()) + " }"


_ACCOUNT = r"[1-9][0-9]{2,19}"
_CHAPTERS: Mapping[tuple[str, str], tuple[bool, str]] = {
    # 53 has only two digits in the chart since 2025, and Kash.click's own sample books cash on it.
    ("payment_methods", "chapter"): (False, rf"53|{_ACCOUNT}"),
    ("vat_rates", "chapter"): (False, r"[0-9]+"),
    ("registers", "chapter"): (False, r"[A-Z0-9]{2,5}"),
    ("department_groups", "chapter"): (False, r"[1-9][0-9]*"),
    ("departments", "activity_code"): (True, r"[0-9]+"),
    ("departments", "group_id"): (False, r".+"),
}


def is_usable(table: str, field: str, value: object) -> bool:
    """Whether an entry can be booked by this field of the till's reference data.

    A chapter must be (part of) an account number, a register's a journal code: a till takes any text. True for fields
    that name no account.
    """
    may_be_blank, pattern = _CHAPTERS.get((table, field), (True, r"(?s).*"))
    text = _optional(value)
    return may_be_blank if text is None else re.fullmatch(pattern, text, re.ASCII) is not None


def _optional(value: object) -> str | None:
    return None if value is None or pd.isna(value) or str(value) == "" else str(value)


def french_rate(rate_bp: int) -> str:
    """550 to `5,5 %`."""
    return f"{bp_to_rate(rate_bp).replace('.', ',')} %"


def rate_digits(rate_bp: int) -> str:
    """The end of the number of an account for one rate: 550 to `055`, 105 to `0105`."""
    return f"{rate_bp // 10:03d}" if rate_bp % 10 == 0 else f"{rate_bp:04d}"


def french_day(day: date) -> str:
    return f"{day:%d/%m/%Y}"


def in_sentence(name: str) -> str:
    """`Caisse 1` to `caisse 1`; `CB` stays."""
    return name[0].lower() + name[1:] if len(name) > 1 and name[1].islower() else name


@dataclass
class Chart:
    """The shop's accounts by business day, with the till's chapters where the shop uses them.

    Every question takes the number of a dated chart (`period_of`); -1, no chart yet on that day, has no account.
    Precedence, finest first: `sales_by_department` and `methods_by_id` of the shop file, then the till's chapters
    when `accounting_chapters = true`, then the chart by rate or kind, then its default.
    """

    shop: ShopFile
    facts: Facts
    methods: dict[str, Method] = field(init=False)
    register_names: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.periods: tuple[ChartPeriod, ...] = self.shop.chart
        self._starts = [period.start for period in self.periods]
        self._chapters = self.shop.shop.accounting_chapters
        rows = self.facts.payment_methods
        self.methods = {
            str(row.method_id): Method(str(row.method_id), str(row.name), str(row.kind), _optional(row.chapter))
            for row in rows.itertuples(index=False)
        }
        registers = self.facts.registers
        self.register_names = dict(
            zip(registers["register_id"].astype(str), registers["name"].astype(str), strict=True)
        )
        self._register_chapter = {
            str(identity): _optional(chapter)
            for identity, chapter in zip(registers["register_id"], registers["chapter"], strict=True)
        }
        rates = self.facts.vat_rates
        self._vat_chapter = {
            int(rate): _optional(chapter) for rate, chapter in zip(rates["vat_rate_bp"], rates["chapter"], strict=True)
        }
        groups = self.facts.department_groups
        group_chapter = {
            str(group): _optional(chapter) for group, chapter in zip(groups["group_id"], groups["chapter"], strict=True)
        }
        departments = self.facts.departments
        self._department_chapter: dict[str, str] = {}
        for identity, group, activity in zip(
            departments["department_id"], departments["group_id"], departments["activity_code"], strict=True
        ):
            chapter = group_chapter.get(str(group))
            if chapter:
                self._department_chapter[str(identity)] = chapter + (_optional(activity) or "")
        customers = self.facts.customers
        self._customer_codes: dict[str, tuple[str | None, str | None]] = {}
        if self._chapters:
            self._customer_codes = {
                str(identity): (_optional(activity), _optional(account))
                for identity, activity, account in zip(
                    customers["customer_id"], customers["activity_code"], customers["account"], strict=True
                )
            }

    def period_of(self, day: date) -> int:
        """Number of the chart that applies on a business day; -1 before the first one."""
        return bisect.bisect_right(self._starts, day) - 1

    def everywhere(self, choose: Callable[[ChartPeriod], Answer]) -> tuple[Answer, ...]:
        """The answer of each dated chart."""
        return tuple(choose(period) for period in self.periods)

    # -- accounts ------------------------------------------------------------------------------------------------

    def sales(self, rate_bp: int, department_id: str | None) -> tuple[Answer, ...]:
        """Sales account of a rate and department: department line, chapter, rate, default."""
        rate = bp_to_rate(rate_bp)
        department = department_id or ""
        chapter = self._department_chapter.get(department) if self._chapters else None

        def choose(period: ChartPeriod) -> Answer:
            own = period.sales_by_department.get(department, {})
            by_department = _by_rate(own, rate_bp)
            by_rate = _by_rate(period.sales, rate_bp)
            suggested = by_rate or f"707{rate_digits(rate_bp)}"
            if chapter and not by_department and not re.fullmatch(_ACCOUNT, chapter, re.ASCII):
                written = {name: _written(accounts) for name, accounts in period.sales_by_department.items()}
                line = _table({**written, department: _inline(own, rate, suggested)})
                return Missing(
                    "unmapped_sales",
                    f"department {department!r}: the till's accounting chapter {chapter!r} is no account number",
                    f"correct it in Kash.click, or in the [[chart]] of {period.start} write: "
                    f"sales_by_department = {line}",
                )
            if by_department or chapter or by_rate:
                return by_department or chapter or by_rate or ""
            return Missing(
                "unmapped_sales",
                f"sales at {rate} % have no account in the chart of {period.start}",
                f"in the [[chart]] of {period.start} write: sales = {_inline(period.sales, rate, suggested)}",
            )

        return self.everywhere(choose)

    def vat(self, rate_bp: int) -> tuple[Answer, ...]:
        """VAT account of a rate: chapter (`4457` and the till's code), rate, default."""
        rate = bp_to_rate(rate_bp)
        code = self._vat_chapter.get(rate_bp) if self._chapters else None
        chapter = None if code is None else code if code.startswith("4457") else f"4457{code}"

        def choose(period: ChartPeriod) -> Answer:
            if code is not None and not is_usable("vat_rates", "chapter", code):
                return Missing(
                    "unmapped_vat",
                    f"VAT at {rate} %: the till's accounting chapter {code!r} is no account number after 4457",
                    f"correct it in Kash.click, or remove it there and name 4457... for {rate} in vat of the [[chart]]",
                )
            by_rate = chapter or _by_rate(period.vat, rate_bp)
            return by_rate or Missing(
                "unmapped_vat",
                f"VAT at {rate} % has no account in the chart of {period.start}",
                f"in the [[chart]] of {period.start} write: "
                f"vat = {_inline(period.vat, rate, f'445711{rate_digits(rate_bp)}')}",
            )

        return self.everywhere(choose)

    def method(self, method_id: str) -> Method:
        """The method of the till's list; one it does not list is `known=False`."""
        return self.methods.get(method_id) or Method(method_id, method_id, "other", None, known=False)

    def takes_money(self, method_id: str) -> bool:
        """False for `on_account`: the customer owes as before and nothing is posted."""
        return self.method(method_id).kind != "on_account"

    def method_account(self, method_id: str) -> tuple[Answer, ...]:
        """Account of a method: `methods_by_id`, chapter, kind; with chapters at last 511, as Kash.click does."""
        method = self.method(method_id)

        def choose(period: ChartPeriod) -> Answer:
            by_id = period.methods_by_id.get(method_id)
            if by_id:
                return by_id
            suggested = SUGGESTED_METHODS.get(method.kind, "511900")
            by_id_line = (
                f"in the [[chart]] of {period.start} write: "
                f"methods_by_id = {_inline(period.methods_by_id, method_id, suggested)}"
            )
            if not method.known:
                return Missing(
                    "unknown_method", f"payment method {method_id!r} is not in the till's list of methods", by_id_line
                )
            by_chapter = method.chapter if self._chapters else None
            if by_chapter and not is_usable("payment_methods", "chapter", by_chapter):
                return Missing(
                    "unmapped_method",
                    f"payment method {method_id!r} ({method.name}): the till's accounting chapter {by_chapter!r} "
                    "is no account number",
                    f"correct it in Kash.click, or {by_id_line}",
                )
            by_kind = period.methods.get(method.kind) or (period.vouchers if method.kind == "gift_voucher" else None)
            if by_chapter or by_kind or self._chapters:
                return by_chapter or by_kind or "511"
            by_kind_line = (
                f"in the [[chart]] of {period.start} write: methods = {_inline(period.methods, method.kind, suggested)}"
            )
            return Missing(
                "unmapped_method",
                f"payment method {method_id!r} ({method.name}, kind {method.kind}) has no account "
                f"in the chart of {period.start}",
                by_id_line if method.kind == "other" else by_kind_line,
            )

        return self.everywhere(choose)

    def cash(self) -> tuple[Answer, ...]:
        """Account of the drawer: that of the till's only cash method, else of the kind `cash`."""
        cash_methods = [method.method_id for method in self.methods.values() if method.kind == "cash"]
        if len(cash_methods) == 1:
            return self.method_account(cash_methods[0])
        return self.everywhere(
            lambda period: (
                period.methods.get("cash")
                or Missing(
                    "unmapped_method",
                    f"cash has no account in the chart of {period.start}",
                    f"in the [[chart]] of {period.start} write: methods = {_inline(period.methods, 'cash', '530000')}",
                )
            )
        )

    def movement(self, kind: str) -> tuple[Answer, ...]:
        """Counterpart of a cash movement."""
        return self.everywhere(
            lambda period: (
                period.cash_movements.get(kind)
                or Missing(
                    "unmapped_cash_movement",
                    f"cash movements of kind {kind} have no account in the chart of {period.start}",
                    f"in the [[chart]] of {period.start} write: "
                    f"cash_movements = {_inline(period.cash_movements, kind, SUGGESTED_MOVEMENTS.get(kind, '471000'))}",
                )
            )
        )

    def customer(self, customer_id: str) -> tuple[Answer, ...]:
        """Collective account; with chapters `411`, activity code and the customer's own code (its id without both)."""
        if not self._chapters or customer_id not in self._customer_codes:
            return self.everywhere(lambda period: period.customers)
        activity, account = self._customer_codes[customer_id]
        if account and account.startswith("411"):
            return self.everywhere(lambda _: account)
        return self.everywhere(lambda _: "411" + ((activity or "") + (account or "") or customer_id))

    # -- journals and names --------------------------------------------------------------------------------------

    def journal(self, register_id: str) -> Answer:
        """Journal of a register: the shop file, the till's chapter, the default; an unlisted register has none."""
        explicit = self.shop.journals.get(register_id)
        if explicit:
            return explicit
        line = f'under [journals] add: {toml_key(register_id)} = "{self._journal_to_propose(register_id)}"'
        if register_id not in self.register_names:
            return Missing("unknown_register", f"register {register_id!r} is not in the till's list of registers", line)
        chapter = self._register_chapter.get(register_id) if self._chapters else None
        if chapter and not is_usable("registers", "chapter", chapter):
            return Missing(
                "unknown_register",
                f"register {register_id!r}: the till's accounting chapter {chapter!r} is no journal code "
                "(two to five capital letters or digits)",
                f"correct it in Kash.click, or {line}",
            )
        journal = chapter or self.shop.journals.get("default")
        return journal or Missing("unknown_register", f"register {register_id!r} has no journal", line)

    def _journal_to_propose(self, register_id: str) -> str:
        """A code that no other register has, nor would be proposed."""
        taken = {*self.shop.journals.values(), *(self._register_chapter.values() if self._chapters else ())}
        listed = [(register, None) for register in self.register_names if register not in self.shop.journals]
        codes = journal_codes(listed, taken=taken)
        if register_id not in codes:
            codes |= journal_codes([(register_id, None)], taken={*taken, *codes.values()})
        return codes[register_id]

    def register_name(self, register_id: str) -> str:
        return self.register_names.get(register_id, register_id)


def _by_rate(accounts: Mapping[str, str], rate_bp: int) -> str | None:
    """The account of a rate, however the rate is written (`5.5`, `5.50`), else the default."""
    for rate, account in accounts.items():
        if rate != "default" and rate_to_bp(rate) == rate_bp:
            return account
    return accounts.get("default")


def toml_key(text: str) -> str:
    """A key of a TOML table: bare where it is a word, else quoted."""
    bare = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", text)
    # A basic string of TOML escapes as JSON does, and DEL too.
    return text if bare else json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def journal_codes(registers: Iterable[tuple[str, str | None]], *, taken: Collection[str | None]) -> dict[str, str]:
    """A journal code (`[A-Z0-9]{2,5}`) for each register (id, the till's chapter): its chapter or its id where that
    can be one, else made from it; unique and none of `taken`."""
    codes: dict[str, str] = {}
    natural = re.compile(r"[A-Z0-9]{2,5}")
    # Who has a code already keeps it, whatever register comes first.
    for register, chapter in sorted(registers, key=lambda item: (not natural.fullmatch(item[1] or item[0]), item)):
        plain = unicodedata.normalize("NFKD", chapter or register).encode("ascii", "ignore").decode().upper()
        stem = re.sub(r"[^A-Z0-9]", "", plain) or "CA"
        choices = [stem[:5], f"K{stem}"[:5], *(f"{stem[:2]}{number}" for number in range(1, 1000))]
        codes[register] = next(
            code for code in choices if len(code) >= 2 and code not in taken and code not in codes.values()
        )
    return codes
