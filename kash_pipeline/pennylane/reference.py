"""PennyLane's journals, accounts, fiscal years and customers by their ids in one company: found, or made once.

Finding, creating and remembering ids (tables `kash.pennylane_*`) belongs here; which account an entry line names is
accounting/chart.py's, when a synchronisation runs is for the caller to say.

Ids differ per company, so every table has the company's id. What must not be made twice is made under an advisory
lock of PostgreSQL and after a fresh listing: PennyLane does not say whether it refuses a second journal of one code.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.pennylane.client import (
    Customer,
    FiscalYear,
    Journal,
    LedgerAccount,
    PennylaneClient,
    condition,
)
from kash_pipeline.pennylane.comparing import Books
from kash_pipeline.pennylane.errors import Conflict, PennylaneError, ReferenceMissing, RuleBroken
from kash_pipeline.settings import ShopFile, bp_to_rate, rate_to_bp
from kash_pipeline.warehouse.tables import (
    PENNYLANE_ACCOUNTS,
    PENNYLANE_CUSTOMERS,
    PENNYLANE_FISCAL_YEARS,
    PENNYLANE_JOURNALS,
    PUBLICATION,
)

REFERENCE_LOCK = 0x6B72  # "kr": class of the advisory locks under which PennyLane objects are made
WORKERS = 8
_FILTER_VALUES = 100  # ids or references in one filter; no limit is documented, the URL stays under 4 KB

# PennyLane's codes of French VAT rates by basis points (openapi VatRateCode, list of 24 Sep 2026).
VAT_CODES = {
    90: "FR_09",
    105: "FR_1_05",
    175: "FR_1_75",
    210: "FR_21",
    550: "FR_55",
    850: "FR_85",
    1000: "FR_100",
    1300: "FR_130",
    2000: "FR_200",
}


@contextmanager
def _alone(engine: sa.Engine, company_id: int) -> Iterator[None]:
    """One process at a time makes things in this company."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("select pg_advisory_xact_lock(:class, hashtext(:company))"),
            {"class": REFERENCE_LOCK, "company": str(company_id)},
        )
        yield


# --- journals -----------------------------------------------------------------------------------------------------


def sync_journals(
    client: PennylaneClient, engine: sa.Engine, shop: ShopFile, company_id: int, *, also: Iterable[str] = ()
) -> dict[str, int]:
    """Journal ids by code, for every code of the shop file's [journals] and those in `also`; stored.

    A missing one is created when `create_journals` says so, once, whoever else tries at this moment.
    Raises ReferenceMissing, naming the codes, when it may not be created.
    """
    wanted = sorted({*shop.journals.values(), *also})
    journals = client.journals()
    if missing := _without(wanted, journals):
        if shop.pennylane is None or not shop.pennylane.create_journals:
            raise ReferenceMissing(
                f"PennyLane has no journal {', '.join(missing)}",
                next_step=f"create it in PennyLane, or write create_journals = true in {shop.path}",
            )
        with _alone(engine, company_id):
            journals = client.journals()
            for code in _without(wanted, journals):
                journals.append(_made_journal(client, shop, code))
    _store_journals(engine, shop, company_id, journals)
    return {item.code: item.id for item in reversed(journals) if item.code in wanted}


def _store_journals(engine: sa.Engine, shop: ShopFile, company_id: int, journals: Sequence[Journal]) -> None:
    rows = [{"id": item.id, "code": item.code, "label": item.label, "type": item.type} for item in journals]
    _replace(engine, PENNYLANE_JOURNALS, shop, company_id, rows)


def store_listings(client: PennylaneClient, engine: sa.Engine, shop: ShopFile, company_id: int) -> None:
    """Journals, accounts and fiscal years as the company has them now, stored; nothing is made."""
    _store_journals(engine, shop, company_id, client.journals())
    _store_accounts(engine, shop, company_id, client.ledger_accounts())
    sync_fiscal_years(client, engine, shop, company_id)


def _without(wanted: Sequence[str], journals: Iterable[Journal]) -> list[str]:
    present = {journal.code for journal in journals}
    return [code for code in wanted if code not in present]


def _made_journal(client: PennylaneClient, shop: ShopFile, code: str) -> Journal:
    registers = [register for register, journal in shop.journals.items() if journal == code and register != "default"]
    label = f"Caisse {shop.shop.name}" + (f" ({', '.join(registers)})" if registers else "")
    try:
        return client.create_journal(code, label)
    except PennylaneError as error:
        # Made all the same, or by another program: the list knows.
        if error.doubtful or isinstance(error, RuleBroken | Conflict):
            for journal in client.journals():
                if journal.code == code:
                    return journal
        raise


# --- accounts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NamedAccount:
    """An account the shop file names: what to call it, and its VAT rate (basis points) when it has just one."""

    number: str
    label: str
    vat_rate_bp: int | None = None


def named_accounts(shop: ShopFile) -> dict[str, NamedAccount]:
    """Every account that the shop file's charts name, by number; the newest chart gives the label."""
    found: dict[str, NamedAccount] = {}

    def name(number: str, label: str, rate: str | None = None) -> None:
        rate_bp = None if rate in (None, "default") else rate_to_bp(str(rate))
        known = found.get(number)
        if known is None:
            found[number] = NamedAccount(number, label, rate_bp)
        elif known.vat_rate_bp != rate_bp:
            found[number] = NamedAccount(number, known.label, None)

    for period in reversed(shop.chart):
        for rate, number in period.sales.items():
            name(number, "Ventes" if rate == "default" else f"Ventes TVA {_percent(rate)}", rate)
        for department, rates in period.sales_by_department.items():
            for rate, number in rates.items():
                name(number, f"Ventes {department}", rate)
        for rate, number in period.vat.items():
            name(number, "TVA collectée" if rate == "default" else f"TVA collectée {_percent(rate)}", rate)
        for method, number in period.methods.items():
            name(number, f"Encaissements {_METHODS.get(method, method)}")
        for method, number in period.methods_by_id.items():
            name(number, f"Encaissements, moyen {method}")
        for kind, number in period.cash_movements.items():
            name(number, f"Mouvements de caisse ({_MOVEMENTS.get(kind, kind)})")
        for number, label in (
            (period.takings_to_come, "Commandes de caisse à encaisser"),
            (period.takings_paid, "Encaissements de caisse à rapprocher"),
            (period.cash_short, "Écarts de caisse négatifs"),
            (period.cash_over, "Écarts de caisse positifs"),
            (period.rounding.loss, "Écarts d'arrondi négatifs"),
            (period.rounding.gain, "Écarts d'arrondi positifs"),
            (period.vouchers, "Bons et cartes cadeaux à honorer"),
            (period.deposits, "Acomptes reçus"),
            (period.tips, "Pourboires à reverser"),
            (period.customers, "Clients"),
        ):
            name(number, label)
    return found


_METHODS = {
    "cash": "espèces",
    "card": "carte bancaire",
    "cheque": "chèques",
    "transfer": "virements",
    "meal_voucher": "titres-restaurant",
    "holiday_voucher": "chèques-vacances",
    "gift_voucher": "chèques-cadeaux",
    "credit_note": "avoirs",
    "loyalty": "fidélité",
    "on_account": "en compte",
    "other": "autres",
}
_MOVEMENTS = {"withdrawal": "retraits", "deposit": "apports", "expense": "dépenses", "float": "fonds de caisse"}


def _percent(rate: str) -> str:
    return f"{bp_to_rate(rate_to_bp(rate)).replace('.', ',')} %"


def sync_accounts(
    client: PennylaneClient, engine: sa.Engine, shop: ShopFile, company_id: int, *, also: Iterable[str] = ()
) -> dict[str, int]:
    """Account ids by number, for `also` (the numbers entries really use) and what the shop file names and has; stored.

    Of several ids of one number the one with VAT rate `any` is taken, then the oldest. A number of `also` that is
    missing is created with label and rate when `create_accounts` says so; a number in 411 or 401 never is, because
    PennyLane would make a customer or supplier of it: there an account that differs only by closing zeros (411 for
    411000) is taken.
    Raises ReferenceMissing, naming every number that is missing or disabled.
    """
    names = named_accounts(shop)
    needed = sorted(set(also))
    accounts = client.ledger_accounts()
    chosen = _choose(accounts)
    missing = [number for number in needed if number not in chosen and not _is_third_party(number)]
    if missing and shop.pennylane is not None and shop.pennylane.create_accounts:
        with _alone(engine, company_id):
            accounts = client.ledger_accounts()
            chosen = _choose(accounts)
            for number in missing:
                if number not in chosen:
                    made = _made_account(client, names.get(number, NamedAccount(number, f"Caisse {number}")))
                    accounts.append(made)
                    chosen[number] = made
    ids: dict[str, int] = {}
    problems = []
    for number in sorted({*needed, *names}):
        account = chosen.get(number) or (_same_but_zeros(number, chosen) if _is_third_party(number) else None)
        if account is not None and account.enabled:
            ids[number] = account.id
        elif number in needed:
            problems.append(f"{number} is disabled" if account else f"{number} does not exist")
    _store_accounts(engine, shop, company_id, accounts)
    if problems:
        raise ReferenceMissing(
            f"accounts in PennyLane: {'; '.join(problems)}",
            next_step=f"enable or create them in PennyLane, or name others in [[chart]] of {shop.path}",
        )
    return ids


def _store_accounts(engine: sa.Engine, shop: ShopFile, company_id: int, accounts: Sequence[LedgerAccount]) -> None:
    rows = [
        {
            "id": item.id,
            "number": item.number,
            "label": item.label,
            "vat_rate": item.vat_rate,
            "type": item.type,
            "enabled": item.enabled,
            "letterable": item.letterable,
        }
        for item in accounts
    ]
    _replace(engine, PENNYLANE_ACCOUNTS, shop, company_id, rows)


def _choose(accounts: Iterable[LedgerAccount]) -> dict[str, LedgerAccount]:
    """One account per number: enabled first, then VAT rate `any`, then the oldest id."""
    best: dict[str, LedgerAccount] = {}
    for account in sorted(accounts, key=lambda item: (not item.enabled, item.vat_rate != "any", item.id)):
        best.setdefault(account.number, account)
    return best


def _is_third_party(number: str) -> bool:
    return number.startswith(("411", "401"))


def _same_but_zeros(number: str, chosen: dict[str, LedgerAccount]) -> LedgerAccount | None:
    return next((chosen[other] for other in sorted(chosen) if other.rstrip("0") == number.rstrip("0")), None)


def _made_account(client: PennylaneClient, named: NamedAccount) -> LedgerAccount:
    code = None if named.vat_rate_bp is None else VAT_CODES.get(named.vat_rate_bp)
    try:
        return client.create_ledger_account(named.number, named.label, vat_rate=code)
    except PennylaneError as error:
        if error.doubtful or isinstance(error, RuleBroken | Conflict):
            for account in client.ledger_accounts(numbers=[named.number]):
                return account
        raise


# --- fiscal years -------------------------------------------------------------------------------------------------


def sync_fiscal_years(client: PennylaneClient, engine: sa.Engine, shop: ShopFile, company_id: int) -> list[FiscalYear]:
    """The company's fiscal years, stored. A freeze date set by an accountant is not among what the API tells."""
    years = client.fiscal_years()
    _replace(
        engine,
        PENNYLANE_FISCAL_YEARS,
        shop,
        company_id,
        [{"id": year.id, "start": year.start, "finish": year.finish, "status": year.status} for year in years],
    )
    return years


def period_problem(years: Sequence[FiscalYear], day: date) -> str | None:
    """Why nothing can be posted on `day`, None when its fiscal year is open."""
    for year in years:
        if year.start <= day <= year.finish:
            return None if year.open else f"the fiscal year {year.start} to {year.finish} is {year.status}"
    return f"{day} is in no fiscal year"


# --- customers ----------------------------------------------------------------------------------------------------


def external_reference(shop: ShopFile, customer_id: str) -> str:
    """Our unique reference of a till's customer in PennyLane."""
    return f"kash-{shop.shop.id}-{customer_id}"


def sync_customers(
    client: PennylaneClient,
    engine: sa.Engine,
    shop: ShopFile,
    company_id: int,
    customers: pd.DataFrame,
    wanted: Iterable[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Ledger account ids by the till's customer id, for all of `wanted`; found or created once, and stored.

    Looked for by our external reference, then VAT or registration number, then exact name and e-mail, and taken only
    when exactly one customer of the same kind fits; else created as company or individual, each with the account
    PennyLane makes. `customers` is a frame of schemas/facts.py CUSTOMERS. `progress(done, of)`.
    Raises ReferenceMissing, naming them, for customers the till does not describe.
    """
    ids = stored_customers(engine, shop, company_id)
    missing = sorted(set(wanted) - set(ids))
    if not missing:
        return {customer_id: ids[customer_id] for customer_id in set(wanted)}
    facts = _described(customers)
    unknown = [customer_id for customer_id in missing if customer_id not in facts]
    if unknown:
        raise ReferenceMissing(
            f"the till sells to customers it does not describe: {', '.join(unknown[:10])}",
            next_step="fetch the reference data again, or look at these customers in the till",
        )
    with _alone(engine, company_id):
        ids |= stored_customers(engine, shop, company_id)
        missing = [customer_id for customer_id in missing if customer_id not in ids]
        ids |= _find_or_create(client, engine, shop, company_id, [facts[key] for key in missing], progress)
    return {customer_id: ids[customer_id] for customer_id in set(wanted)}


@dataclass(frozen=True)
class _Facts:
    customer_id: str
    name: str
    kind: str
    first_name: str
    last_name: str
    vat_number: str
    registration_number: str
    email: str
    address: str
    postal_code: str
    city: str
    country: str


def _described(customers: pd.DataFrame) -> dict[str, _Facts]:
    names = list(_Facts.__dataclass_fields__)
    plain = customers[names].astype(object).where(customers[names].notna(), "")
    return {str(row[0]): _Facts(*(str(value).strip() for value in row)) for row in plain.itertuples(index=False)}


def stored_customers(engine: sa.Engine, shop: ShopFile, company_id: int) -> dict[str, int]:
    """Ledger account ids by the till's customer id, as found or created before."""
    table = PENNYLANE_CUSTOMERS.c
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(table.customer_id, table.ledger_account_id).where(
                table.shop_id == shop.shop.id,
                table.company_id == company_id,
                table.ledger_account_id.is_not(None),
            )
        )
        return {str(customer_id): int(account) for customer_id, account in rows}


def _find_or_create(
    client: PennylaneClient,
    engine: sa.Engine,
    shop: ShopFile,
    company_id: int,
    facts: list[_Facts],
    progress: Callable[[int, int], None] | None,
) -> dict[str, int]:
    by_reference = _listed(client, "external_reference", [external_reference(shop, item.customer_id) for item in facts])
    references = {str(customer.external_reference): customer for customer in by_reference}
    rest = [item for item in facts if external_reference(shop, item.customer_id) not in references]
    numbers = sorted({number for item in rest for number in _numbers(item)})
    candidates = {
        customer.id: customer
        for customer in [
            *_listed(client, "reg_no", numbers),
            *_listed(client, "emails", sorted({item.email for item in rest if item.email})),
        ]
    }
    ids: dict[str, int] = {}
    done = 0

    def one(item: _Facts) -> tuple[_Facts, Customer, str]:
        known = references.get(external_reference(shop, item.customer_id))
        if known is not None:
            return item, known, "external_reference"
        match, by = _match(item, list(candidates.values()))
        if match is not None:
            return item, match, by
        return item, _made_customer(client, shop, item), "created"

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="customers") as pool:
        for item, customer, by in pool.map(one, facts):
            if customer.account_id is None:
                raise ReferenceMissing(
                    f"customer {item.customer_id} has no account in PennyLane",
                    next_step="give this customer a 411 account in PennyLane, then run again",
                )
            _store_customer(engine, shop, company_id, item, customer, by)
            ids[item.customer_id] = customer.account_id
            done += 1
            if progress is not None:
                progress(done, len(facts))
    return ids


def _listed(client: PennylaneClient, field: str, values: list[str]) -> list[Customer]:
    found = []
    for start in range(0, len(values), _FILTER_VALUES):
        found += client.customers(condition(field, "in", values[start : start + _FILTER_VALUES]))
    return found


def _digits(text: str | None) -> str:
    return re.sub(r"\D", "", text or "")


def _vat(text: str | None) -> str:
    return re.sub(r"[^A-Z0-9]", "", (text or "").upper())


def _numbers(item: _Facts) -> set[str]:
    """Registration numbers to look for: as given, its SIREN, and the SIREN inside a French VAT number."""
    numbers = {item.registration_number, _digits(item.registration_number), _digits(item.registration_number)[:9]}
    if re.fullmatch(r"FR[0-9A-Z]{2}\d{9}", _vat(item.vat_number)):
        numbers.add(_vat(item.vat_number)[4:])
    return {number for number in numbers if number}


def _match(item: _Facts, candidates: list[Customer]) -> tuple[Customer | None, str]:
    """The one customer in PennyLane who is this one; (None, "") when none or several are."""
    same_kind = [customer for customer in candidates if customer.kind == item.kind]
    vat, registration = _vat(item.vat_number), _digits(item.registration_number)
    for by, fits in (
        ("vat_number", [one for one in same_kind if vat and _vat(one.vat_number) == vat]),
        ("registration_number", [one for one in same_kind if registration and _digits(one.reg_no) == registration]),
        (
            "name_email",
            [one for one in same_kind if item.email and item.email in one.emails and one.name == item.name],
        ),
    ):
        if len(fits) == 1:
            return fits[0], by
    return None, ""


def _made_customer(client: PennylaneClient, shop: ShopFile, item: _Facts) -> Customer:
    reference = external_reference(shop, item.customer_id)
    body: dict[str, Any] = {
        "external_reference": reference,
        "billing_address": {
            "address": item.address,
            "postal_code": item.postal_code,
            "city": item.city,
            "country_alpha2": item.country or "FR",
        },
        "emails": [item.email] if item.email else [],
    }
    try:
        if item.kind == "company":
            body |= {"name": item.name}
            body |= {"vat_number": item.vat_number} if item.vat_number else {}
            body |= {"reg_no": item.registration_number} if item.registration_number else {}
            return client.create_company_customer(body)
        first, _, last = item.name.rpartition(" ")
        body |= {"first_name": (item.first_name or first or "-")[:1000]}
        body |= {"last_name": (item.last_name or last or item.name)[:1000]}
        return client.create_individual_customer(body)
    except PennylaneError as error:
        # The reference is unique there: whoever made the customer, it is this one.
        if error.doubtful or isinstance(error, Conflict):
            for customer in client.customers(condition("external_reference", "eq", reference)):
                return customer
        raise


def _store_customer(
    engine: sa.Engine, shop: ShopFile, company_id: int, item: _Facts, customer: Customer, by: str
) -> None:
    values = {
        "remote_id": customer.id,
        "kind": item.kind,
        "external_reference": customer.external_reference,
        "ledger_account_id": customer.account_id,
        "matched_by": by,
    }
    key = {"shop_id": shop.shop.id, "company_id": company_id, "customer_id": item.customer_id}
    statement = insert(PENNYLANE_CUSTOMERS).values(**key, **values)
    with engine.begin() as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(key), set_={**values, "seen_at": sa.func.clock_timestamp()}
            )
        )


# --- what is stored -------------------------------------------------------------------------------------------------


def _replace(engine: sa.Engine, table: sa.Table, shop: ShopFile, company_id: int, rows: list[dict[str, Any]]) -> None:
    """The stored copy of a list is replaced whole, so that what is gone in PennyLane is gone here."""
    own = {"shop_id": shop.shop.id, "company_id": company_id}
    with engine.begin() as connection:
        connection.execute(sa.delete(table).where(table.c.shop_id == shop.shop.id, table.c.company_id == company_id))
        if rows:
            connection.execute(insert(table).on_conflict_do_nothing(), [{**own, **row} for row in rows])


def stored_journals(engine: sa.Engine, shop: ShopFile, company_id: int) -> dict[str, int]:
    """Journal ids by code as last synchronised."""
    table = PENNYLANE_JOURNALS.c
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(table.code, table.id)
            .where(table.shop_id == shop.shop.id, table.company_id == company_id)
            .order_by(table.id.desc())
        )
        return {str(code): int(journal) for code, journal in rows}


def stored_accounts(engine: sa.Engine, shop: ShopFile, company_id: int) -> dict[str, int]:
    """Account ids by number as last synchronised: of several ids the same one that `sync_accounts` takes."""
    table = PENNYLANE_ACCOUNTS.c
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(table.number, table.id)
            .where(table.shop_id == shop.shop.id, table.company_id == company_id, table.enabled)
            .order_by((table.vat_rate != "any").desc(), table.id.desc())
        )
        ids = {str(number): int(account) for number, account in rows}
    for number in {period.customers for period in shop.chart} - ids.keys():
        same = [other for other in sorted(ids) if other.rstrip("0") == number.rstrip("0")]
        if same:
            ids[number] = ids[same[0]]
    return ids


def stored_books(engine: sa.Engine, shop: ShopFile, company_id: int) -> Books:
    """Accounts and customers as last synchronised, for comparing entries."""
    return Books(
        own_accounts=shop.shop.named_customers == "own_account",
        accounts=stored_accounts(engine, shop, company_id),
        customers=stored_customers(engine, shop, company_id),
    )


def stored_fiscal_years(engine: sa.Engine, shop: ShopFile, company_id: int) -> list[FiscalYear]:
    """Fiscal years as last synchronised."""
    table = PENNYLANE_FISCAL_YEARS.c
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(table.id, table.start, table.finish, table.status)
            .where(table.shop_id == shop.shop.id, table.company_id == company_id)
            .order_by(table.start)
        )
        return [FiscalYear(*row) for row in rows]


def waiting_customers(engine: sa.Engine, shop: ShopFile) -> list[str]:
    """The till's customers that entries ready to be sent need."""
    query = sa.text(
        "select distinct l.customer_id from kash.entry_lines l join kash.publication p"
        " on p.shop_id = l.shop_id and p.base_key = l.entry_key"
        " where l.shop_id = :shop and p.state = 'ready' and l.customer_id is not null order by 1"
    )
    with engine.connect() as connection:
        return [str(customer) for customer in connection.execute(query, {"shop": shop.shop.id}).scalars()]


def waiting_accounts(engine: sa.Engine, shop: ShopFile) -> list[str]:
    """The account numbers that entries ready to be sent need, named customers' own accounts apart."""
    query = sa.text(
        "select distinct l.account from kash.entry_lines l join kash.publication p"
        " on p.shop_id = l.shop_id and p.base_key = l.entry_key"
        " where l.shop_id = :shop and p.state = 'ready' and l.customer_id is null order by 1"
    )
    with engine.connect() as connection:
        return [str(account) for account in connection.execute(query, {"shop": shop.shop.id}).scalars()]


def waiting_journals(engine: sa.Engine, shop: ShopFile) -> list[str]:
    """The journal codes that entries ready to be sent need."""
    column = PUBLICATION.c
    with engine.connect() as connection:
        query = sa.select(column.journal).distinct().where(column.shop_id == shop.shop.id, column.state == "ready")
        return sorted(str(journal) for journal in connection.execute(query).scalars())
