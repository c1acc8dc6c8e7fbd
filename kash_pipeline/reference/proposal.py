"""A complete dated [[chart]] and [journals], proposed from both sides' reference data. Pure.

Only choosing accounts and writing TOML belongs here; whether a chart fits is mapping.py's. A proposal is never used
unasked: a person puts it into the shop file.

PennyLane's own accounts are those found in a real company on 2026-07-08 (pennylane-api.md section 8): one VAT account
per rate, one sub-account of 411 per payment method. Where the company lacks them, the numbers of
french-pos-accounting.md section 2 are proposed, which are made when an entry first needs them.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date

from kash_pipeline.accounting.chart import SUGGESTED_METHODS, french_rate
from kash_pipeline.pennylane.reference import VAT_CODES
from kash_pipeline.reference.mapping import METHODS, Company, CompanyAccount
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import bp_to_rate

_BY_KIND = {
    "card": "41106001",
    "cash": "41106002",
    "meal_voucher": "41106007",
    "transfer": "41106013",
    "cheque": "41106014",
    "loyalty": "41106015",
    "other": "41106016",
    "holiday_voucher": "41106016",
    "gift_voucher": "4191",
    "credit_note": "4197",
}

# Services with an account of their own, by a word of the method's name.
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


def propose(facts: Facts, company: Company | None, start: date, *, direct: bool = False) -> str:
    """TOML of one [[chart]] from `start` and of [journals]: every method, rate and register of the till has its place.

    `facts` needs the till's reference data only. With `direct`, payments go straight to 530, 511 and 512 instead of
    PennyLane's sub-accounts of 411.
    """
    accounts = _Accounts(company.accounts if company else ())
    rates = sorted({int(rate) for rate in facts.vat_rates["vat_rate_bp"].tolist()})
    sales = {bp_to_rate(rate): accounts.sales(rate) for rate in rates}
    vat = {bp_to_rate(rate): accounts.first(_VAT.get(rate), made=f"445711{rate // 10:03d}") for rate in rates if rate}
    methods, by_id = _methods(facts, accounts, direct=direct)
    lines = [
        "[[chart]]",
        f'from = "{start.isoformat()}"',
        _line("sales", sales, f"ventes par taux : {', '.join(map(french_rate, rates))}"),
        _line("vat", vat, "TVA collectée, un compte par taux"),
        _line("methods", methods, ", ".join(METHODS[kind] for kind in methods)),
    ]
    if by_id:
        names = dict(zip(facts.payment_methods["method_id"], facts.payment_methods["name"], strict=True))
        lines.append(_line("methods_by_id", by_id, ", ".join(str(names[method]) for method in by_id)))
    passing = accounts.first("580", made="580300")
    for key, number, words in (
        ("customers", accounts.first("411", made="411000"), "clients, un auxiliaire chacun"),
        ("takings_to_come", accounts.first(None, made="580100"), "commandes de caisse à encaisser, soldé à la clôture"),
        ("takings_paid", accounts.first(None, made="580200"), "encaissements de caisse à rapprocher"),
        ("cash_short", accounts.first("658", made="658000"), "écarts de caisse négatifs"),
        ("cash_over", accounts.first("758", made="758000"), "écarts de caisse positifs"),
        ("vouchers", accounts.first("4191", made="419100"), "bons et cartes cadeaux à honorer"),
        ("deposits", accounts.first("4191", made="419100"), "acomptes reçus"),
        ("tips", accounts.first("467", made="467100"), "pourboires à reverser"),
    ):
        lines.append(f'{key} = "{number}"{_told(words, accounts, number)}')
    rounding = {"loss": accounts.first("658", made="658000"), "gain": accounts.first("758", made="758000")}
    lines.append(_line("rounding", rounding, "arrondis"))
    movements = {
        "withdrawal": passing,
        "deposit": passing,
        "expense": accounts.first("471", made="471000"),
        "float": passing,
    }
    lines.append(_line("cash_movements", movements, "remises en banque, apports, dépenses, fonds de caisse"))
    lines += ["", "[journals]"]
    chapters = facts.registers["chapter"].astype(object).where(facts.registers["chapter"].notna(), None)
    registers = list(zip(facts.registers["register_id"], facts.registers["name"], chapters, strict=True))
    codes = journal_codes([(str(register), chapter) for register, _, chapter in registers], company)
    lines += [f'{_key(str(register))} = "{codes[str(register)]}"   # {name}' for register, name, _ in registers]
    made = accounts.to_make()
    if company is not None and made:
        lines.insert(0, f"# To be made in PennyLane (create_accounts = true makes them): {', '.join(made)}")
    return "\n".join(lines) + "\n"


def journal_codes(registers: Iterable[tuple[str, str | None]], company: Company | None) -> dict[str, str]:
    """A journal code (`[A-Z0-9]{2,5}`) for each register (id, the till's chapter): its chapter or its id where that
    can be one, else made from it; unique, and never one of PennyLane's own journals."""
    own = {journal.code for journal in company.journals if journal.type not in (None, "custom")} if company else set()
    codes: dict[str, str] = {}
    for register, chapter in sorted(registers):
        plain = unicodedata.normalize("NFKD", chapter or register).encode("ascii", "ignore").decode().upper()
        stem = re.sub(r"[^A-Z0-9]", "", plain) or "CA"
        choices = [stem[:5], f"K{stem}"[:5], *(f"{stem[:3]}{number}" for number in range(1, 100))]
        taken = own | set(codes.values())
        codes[register] = next(code for code in choices if len(code) >= 2 and code not in taken)
    return codes


class _Accounts:
    """Chooses numbers the company has, and remembers those it lacks."""

    def __init__(self, accounts: Sequence[CompanyAccount]) -> None:
        self._there = {account.number: account for account in accounts if account.enabled}
        self._rates = {(account.number, account.vat_rate) for account in accounts if account.enabled}
        self._made: dict[str, None] = {}

    def first(self, *wanted: str | None, made: str) -> str:
        """The first of the numbers that the company has; else `made`, to be made."""
        for number in wanted:
            if number in self._there:
                return str(number)
        if made not in self._there:
            self._made[made] = None
        return made

    def sales(self, rate_bp: int) -> str:
        """707 where PennyLane has it for this very rate; else a sub-account per rate, so that the VAT return can be
        checked by account."""
        if ("707", VAT_CODES.get(rate_bp)) in self._rates:
            return "707"
        return self.first(made=f"707{rate_bp // 10:03d}")

    def label(self, number: str) -> str | None:
        account = self._there.get(number)
        return account.label if account else None

    def to_make(self) -> list[str]:
        return sorted(self._made)


def _methods(facts: Facts, accounts: _Accounts, *, direct: bool) -> tuple[dict[str, str], dict[str, str]]:
    methods: dict[str, str] = {}
    by_id: dict[str, str] = {}
    for row in facts.payment_methods.sort_values("method_id").itertuples():
        kind, name = str(row.kind), str(row.name).lower()
        if kind == "on_account":
            continue
        service = next((number for word, number in _BY_NAME if word in name), None)
        # What a method of an unknown kind is, its name alone says: it is listed by id, for a person to look at.
        if service is not None or kind == "other":
            usual = None if direct and service is None else service or _BY_KIND["other"]
            by_id[str(row.method_id)] = accounts.first(usual, made=SUGGESTED_METHODS.get(kind, "511900"))
        else:
            methods[kind] = accounts.first(None if direct else _BY_KIND.get(kind), made=SUGGESTED_METHODS[kind])
    return methods, by_id


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _line(name: str, table: dict[str, str], words: str) -> str:
    inside = ", ".join(f'{_bare(key)} = "{number}"' for key, number in table.items())
    return f"{name} = {{ {inside} }}   # {words}" if inside else f"{name} = {{ }}"


def _bare(key: str) -> str:
    return key if re.fullmatch(r"[a-z_]+", key) else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _told(words: str, accounts: _Accounts, number: str) -> str:
    label = accounts.label(number)
    return f"   # {words}" + (f" ({label})" if label else "")
