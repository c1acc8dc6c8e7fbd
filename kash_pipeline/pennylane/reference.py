"""PennyLane's journals, accounts and fiscal years by their ids in one company: found, or made once.

Finding, creating and remembering these ids (tables `kash.pennylane_*`) belongs here; customers are customers.py's,
which account an entry line names is accounting/chart.py's, when a synchronisation runs is for the caller to say.

Ids differ per company, so every table has the company's id. What must not be made twice is made under an advisory
lock of PostgreSQL and after a fresh listing: PennyLane does not say whether it refuses a second journal of one code.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol, TypeVar

import sqlalchemy as sa

from kash_pipeline.accounting.uses import uses
from kash_pipeline.pennylane.client import FiscalYear, Journal, LedgerAccount, PennylaneClient
from kash_pipeline.pennylane.comparing import Books
from kash_pipeline.pennylane.customers import former_accounts, stored_customers
from kash_pipeline.pennylane.errors import REFUSALS, Conflict, PennylaneError, ReferenceMissing, RuleBroken
from kash_pipeline.pennylane.making import alone, replace_listing
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.tables import PENNYLANE_ACCOUNTS, PENNYLANE_FISCAL_YEARS, PENNYLANE_JOURNALS

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

PERSONS = ("customer", "supplier")
"""Types of accounts that PennyLane makes for one customer or supplier."""


@dataclass(frozen=True)
class Found:
    """What a company has of what is wanted: ids, what we may make, and why another is not usable, as ReferenceMissing
    has it."""

    ids: dict[str, int] = field(default_factory=dict)
    to_make: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


# --- journals -----------------------------------------------------------------------------------------------------


def sync_journals(
    client: PennylaneClient, engine: sa.Engine, shop: ShopFile, company_id: int, *, also: Iterable[str] = ()
) -> dict[str, int]:
    """Journal ids by code, for every code of the shop file's [journals] and those in `also`; stored.

    A missing one is created when `create_journals` says so, once, whoever else tries at this moment.
    Raises ReferenceMissing once the others are stored, for those that may not be created or that PennyLane refuses.
    """
    wanted = sorted({*shop.journals.values(), *also})
    journals = client.journals()
    found = journals_found(journals, shop, wanted)
    refused = {}
    if found.to_make:
        with alone(engine, company_id):
            journals = client.journals()
            for code in journals_found(journals, shop, wanted).to_make:
                try:
                    journals.append(_made_journal(client, shop, code))
                except REFUSALS as error:
                    refused[journal_name(code)] = error.message
            found = journals_found(journals, shop, wanted)
    _store_journals(engine, shop, company_id, journals)
    if problems := found.missing | refused:
        raise ReferenceMissing(
            "; ".join(problems.values()),
            next_step=f"create it in PennyLane, or write create_journals = true in {shop.path}",
            each=problems,
        )
    return found.ids


def journals_found(journals: Sequence[Journal], shop: ShopFile, wanted: Sequence[str]) -> Found:
    """Which journals of these codes there are."""
    ids = {item.code: item.id for item in reversed(journals) if item.code in wanted}
    absent = [code for code in wanted if code not in ids]
    if shop.pennylane is not None and shop.pennylane.create_journals:
        return Found(ids, to_make=absent)
    return Found(ids, missing={journal_name(code): f"PennyLane has no journal {code}" for code in absent})


def journal_name(code: str) -> str:
    """What a journal is called beside accounts and customers."""
    return f"journal {code}"


def _store_journals(engine: sa.Engine, shop: ShopFile, company_id: int, journals: Sequence[Journal]) -> None:
    rows = [{"id": item.id, "code": item.code, "label": item.label, "type": item.type} for item in journals]
    replace_listing(engine, PENNYLANE_JOURNALS, shop, company_id, rows)


def store_listings(client: PennylaneClient, engine: sa.Engine, shop: ShopFile, company_id: int) -> None:
    """Journals, accounts and fiscal years as the company has them now, stored; nothing is made."""
    _store_journals(engine, shop, company_id, client.journals())
    _store_accounts(engine, shop, company_id, client.ledger_accounts())
    sync_fiscal_years(client, engine, shop, company_id)


def journal_label(shop: ShopFile, code: str) -> str:
    """What a journal is called when it is made: `Caisse Boulangerie du Port (K1)`."""
    registers = [register for register, journal in shop.journals.items() if journal == code and register != "default"]
    return f"Caisse {shop.shop.name}" + (f" ({', '.join(registers)})" if registers else "")


def _made_journal(client: PennylaneClient, shop: ShopFile, code: str) -> Journal:
    try:
        return client.create_journal(code, journal_label(shop, code))
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
    for use in (use for period in reversed(shop.chart) for use in uses(period)):
        known = found.get(use.number)
        if known is None:
            found[use.number] = NamedAccount(use.number, use.label, use.rate_bp)
        elif known.vat_rate_bp != use.rate_bp:
            found[use.number] = NamedAccount(use.number, known.label, None)
    return found


def sync_accounts(
    client: PennylaneClient, engine: sa.Engine, shop: ShopFile, company_id: int, *, also: Iterable[str] = ()
) -> dict[str, int]:
    """Account ids by number, for `also` (the numbers entries really use) and what the shop file names and has; stored.

    Of several ids of one number that of `choose` is taken. A number of `also` that is
    missing is created with label and rate when `create_accounts` says so; a number in 411 or 401 never is, because
    PennyLane would make a customer or supplier of it: there an account that differs only by closing zeros (411 for
    411000) is taken.
    Raises ReferenceMissing once the others are stored, for every number that is missing or disabled, or that PennyLane
    does not let us make.
    """
    needed = sorted(set(also))
    accounts = client.ledger_accounts()
    found = accounts_found(accounts, shop, needed)
    refused = {}
    if found.to_make:
        names = named_accounts(shop)
        with alone(engine, company_id):
            accounts = client.ledger_accounts()
            for number in accounts_found(accounts, shop, needed).to_make:
                named = names.get(number, NamedAccount(number, f"Caisse {number}"))
                try:
                    accounts.append(_made_account(client, named))
                except REFUSALS as error:
                    refused[number] = f"{number} does not exist and could not be made: {error.message}"
            found = accounts_found(accounts, shop, needed)
    _store_accounts(engine, shop, company_id, accounts, needed)
    if problems := found.missing | refused:
        raise ReferenceMissing(
            f"accounts in PennyLane: {'; '.join(problems.values())}",
            next_step=f"enable or create them in PennyLane, or name others in [[chart]] of {shop.path}",
            each=problems,
        )
    return found.ids


def accounts_found(accounts: Sequence[LedgerAccount], shop: ShopFile, needed: Collection[str]) -> Found:
    """Which accounts there are of the numbers `needed` and those that the shop file names; only the former can be
    missing."""
    names = named_accounts(shop)
    chosen = choose(accounts, shop)
    wanted = shop.pennylane.account_ids if shop.pennylane is not None else {}
    may_make = shop.pennylane is not None and shop.pennylane.create_accounts
    found = Found()
    for number in sorted({*needed, *names}):
        account = chosen.get(number) or (_same_but_zeros(number, chosen) if _is_third_party(number) else None)
        if account is not None and account.enabled:
            found.ids[number] = account.id
        elif number not in needed:
            continue
        elif account is not None:
            found.missing[number] = f"{_told(account, names)} is disabled"
        elif number in wanted:
            found.missing[number] = f"there is no {number} of id {wanted[number]}, which account_ids names"
        elif may_make and not _is_third_party(number):
            found.to_make.append(number)
        else:
            found.missing[number] = f"{number} does not exist"
    return found


def _told(account: LedgerAccount, named: Collection[str]) -> str:
    """Number and label, as a person finds it in PennyLane; the label of one customer's account is a name."""
    of_a_person = account.type in PERSONS and account.number not in named
    return account.number if of_a_person or not account.label else f"{account.number} « {account.label} »"


def _store_accounts(
    engine: sa.Engine,
    shop: ShopFile,
    company_id: int,
    accounts: Sequence[LedgerAccount],
    used: Iterable[str] = (),
) -> None:
    """The chart without what names a person: the label of an account of one customer or supplier, and its row where
    letters in the number may come from the name, unless the chart or an entry uses it."""
    known = {*named_accounts(shop), *used}

    def names_a_person(item: LedgerAccount) -> bool:
        return item.type in PERSONS and item.number not in known

    rows = [
        {
            "id": item.id,
            "number": item.number,
            "label": "" if names_a_person(item) else item.label,
            "vat_rate": item.vat_rate,
            "type": item.type,
            "enabled": item.enabled,
            "letterable": item.letterable,
        }
        for item in accounts
        if not (names_a_person(item) and re.search(r"[^\W\d_]", item.number))
    ]
    replace_listing(engine, PENNYLANE_ACCOUNTS, shop, company_id, rows)


class _Account(Protocol):
    """What tells accounts of one number apart."""

    @property
    def id(self) -> int: ...
    @property
    def number(self) -> str: ...
    @property
    def vat_rate(self) -> str | None: ...
    @property
    def enabled(self) -> bool: ...


SomeAccount = TypeVar("SomeAccount", bound=_Account)


def choose(accounts: Iterable[SomeAccount], shop: ShopFile) -> dict[str, SomeAccount]:
    """One account per number: that of `account_ids` in the shop file, if it names one, and no other; else an enabled
    one, with VAT rate `any` before the rate that the chart uses the number for before another, then the oldest."""
    wanted = shop.pennylane.account_ids if shop.pennylane is not None else {}
    own = {
        number: VAT_CODES.get(named.vat_rate_bp)
        for number, named in named_accounts(shop).items()
        if named.vat_rate_bp is not None
    }

    def rank(item: SomeAccount) -> tuple[bool, bool, bool, int]:
        return not item.enabled, item.vat_rate != "any", item.vat_rate != own.get(item.number, "any"), item.id

    best: dict[str, SomeAccount] = {}
    for account in sorted(accounts, key=rank):
        if wanted.get(account.number, account.id) == account.id:
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
    replace_listing(
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


# --- what is stored -------------------------------------------------------------------------------------------------


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
            sa.select(table.number, table.id, table.vat_rate, table.enabled).where(
                table.shop_id == shop.shop.id, table.company_id == company_id
            )
        ).all()
    ids = {number: int(account.id) for number, account in choose(rows, shop).items() if account.enabled}
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
        former=former_accounts(engine, shop, company_id),
    )
