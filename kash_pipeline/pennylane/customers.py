"""The till's named customers as PennyLane's, each with an account of their own: found or made once, kept in step.

Only customers belong here; journals, accounts and fiscal years are reference.py's, which fields of a person are kept at
all is kash_pipeline/reference/personal.py's.

Messages and logs name a customer by the till's number, never by name. PennyLane has no documented deletion of customers
over the API: who is gone was deleted or merged by a person in the application, and their account may well stay.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.pennylane.client import ADDRESS, Customer, PennylaneClient, condition
from kash_pipeline.pennylane.errors import REFUSALS, Conflict, PennylaneError, ReferenceMissing
from kash_pipeline.pennylane.making import alone, replace_listing
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.forgotten import forgotten_customers
from kash_pipeline.warehouse.tables import PENNYLANE_CUSTOMERS, PENNYLANE_LISTED_CUSTOMERS

WORKERS = 8
_FILTER_VALUES = 100  # ids or references in one filter; no limit is documented, the URL stays under 4 KB

_log = logging.getLogger(__name__)

Fields = dict[str, Any]
"""What we send of a customer, by PennyLane's names of fields."""


def external_reference(shop: ShopFile, customer_id: str) -> str:
    """Our unique reference of a till's customer in PennyLane."""
    return f"kash-{shop.shop.id}-{customer_id}"


# --- finding and making -------------------------------------------------------------------------------------------


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
    Raises ReferenceMissing once all others are stored, for customers the till does not describe or PennyLane refuses.
    """
    wanted = set(wanted)
    ids = stored_customers(engine, shop, company_id)
    missing = sorted(wanted - ids.keys())
    if missing:
        facts = _described(customers)
        unknown = undescribed(customers, missing)
        problems: dict[str, str] = {}
        with alone(engine, company_id):
            ids |= stored_customers(engine, shop, company_id)
            to_do = [facts[key] for key in missing if key in facts and key not in ids]
            if to_do:
                made, problems = _find_or_create(client, engine, shop, company_id, to_do, progress)
                ids |= made
        problems |= unknown
        if problems:
            raise ReferenceMissing(
                "; ".join(list(problems.values())[:10])
                + (f"; and {len(problems) - 10} more" if len(problems) > 10 else ""),
                next_step="correct these customers in the till or in PennyLane, then fetch the reference data again",
                each=problems,
            )
    return {customer_id: ids[customer_id] for customer_id in wanted}


def undescribed(customers: pd.DataFrame, wanted: Iterable[str]) -> dict[str, str]:
    """Which of the customers `wanted` can neither be found nor made, because the till tells nothing of them, and so."""
    known = set(customers["customer_id"].astype(str))
    return {
        f"customer {customer_id}": f"the till sells to customer {customer_id}, whom it does not describe"
        for customer_id in sorted(set(wanted) - known)
    }


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


def _find_or_create(
    client: PennylaneClient,
    engine: sa.Engine,
    shop: ShopFile,
    company_id: int,
    facts: list[_Facts],
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, int], dict[str, str]]:
    """Account ids by customer, and what is wrong with the others, as ReferenceMissing has it."""
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

    def one(item: _Facts) -> tuple[_Facts, Customer, str] | tuple[_Facts, None, str]:
        known = references.get(external_reference(shop, item.customer_id))
        if known is not None:
            return item, known, "external_reference"
        match, by = _match(item, list(candidates.values()))
        if match is not None:
            return item, match, by
        try:
            return item, *_made_customer(client, shop, item)
        except REFUSALS as error:
            return item, None, error.message

    ids: dict[str, int] = {}
    problems = {}
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="customers") as pool:
        for done, (item, customer, by) in enumerate(pool.map(one, facts), 1):
            name = f"customer {item.customer_id}"
            if customer is None:
                problems[name] = f"{name}: {by}"
            elif customer.account_id is None:
                problems[name] = f"{name} has no account in PennyLane: give it one in 411"
            else:
                _store_customer(engine, shop, company_id, item, customer, by)
                ids[item.customer_id] = customer.account_id
            if progress is not None:
                progress(done, len(facts))
    return ids, problems


def _listed(client: PennylaneClient, name: str, values: list[str]) -> list[Customer]:
    found = []
    for start in range(0, len(values), _FILTER_VALUES):
        found += client.customers(condition(name, "in", values[start : start + _FILTER_VALUES]))
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


def _made_customer(client: PennylaneClient, shop: ShopFile, item: _Facts) -> tuple[Customer, str]:
    """The customer, and "created" when it is we who made it."""
    reference = external_reference(shop, item.customer_id)
    body = {name: value for name, value in _fields(item).items() if value or name == "emails"}
    body["external_reference"] = reference
    try:
        if item.kind == "company":
            return client.create_company_customer(body), "created"
        return client.create_individual_customer(body), "created"
    except PennylaneError as error:
        # The reference is unique there: whoever made the customer, it is this one.
        if error.doubtful or isinstance(error, Conflict):
            for customer in client.customers(condition("external_reference", "eq", reference)):
                return customer, "created" if error.doubtful else "external_reference"
        raise


def _store_customer(
    engine: sa.Engine, shop: ShopFile, company_id: int, item: _Facts, customer: Customer, by: str
) -> None:
    ours = by == "created"
    values = {
        "remote_id": customer.id,
        "kind": customer.kind or item.kind,
        "external_reference": customer.external_reference,
        "ledger_account_id": customer.account_id,
        "matched_by": by,
        "fingerprint": _fingerprint(shop, _fields(item)) if ours else None,
        "remote_fingerprint": _fingerprint(shop, _held(customer)) if ours else None,
    }
    key = {"shop_id": shop.shop.id, "company_id": company_id, "customer_id": item.customer_id}
    statement = insert(PENNYLANE_CUSTOMERS).values(**key, **values)
    with engine.begin() as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(key), set_={**values, "seen_at": sa.func.clock_timestamp()}
            )
        )


# --- what is sent, and what is held -------------------------------------------------------------------------------


def _fields(item: _Facts) -> Fields:
    """What we send of a customer. A person needs two names there; the till may have one, or none but a number."""
    fields: Fields = {
        "billing_address": dict(
            zip(ADDRESS, (item.address, item.postal_code, item.city, item.country or "FR"), strict=True)
        ),
        "emails": [item.email] if item.email else [],
    }
    if item.kind == "company":
        return fields | {"name": item.name, "vat_number": item.vat_number, "reg_no": item.registration_number}
    first, _, last = item.name.rpartition(" ")
    return fields | {
        "first_name": (item.first_name or first or "-")[:1000],
        "last_name": (item.last_name or last or item.name)[:1000],
    }


def _held(customer: Customer) -> Fields:
    """The same fields as PennyLane answers them."""
    fields: Fields = {
        "billing_address": dict(zip(ADDRESS, customer.address, strict=True)),
        "emails": list(customer.emails),
    }
    if customer.kind == "company":
        numbers = {"vat_number": customer.vat_number or "", "reg_no": customer.reg_no or ""}
        return fields | {"name": customer.name} | numbers
    return fields | {"first_name": customer.first_name, "last_name": customer.last_name}


def _fingerprint(shop: ShopFile, fields: Fields) -> str:
    """Says whether a customer's fields changed, and not what they are."""
    text = json.dumps([shop.shop.id, fields], sort_keys=True, ensure_ascii=False)
    return sha256(text.encode()).hexdigest()[:32]


# --- keeping in step ----------------------------------------------------------------------------------------------


@dataclass
class InStep:
    """What became of the customers we have in PennyLane, each by the till's number.

    listed      customers of the company, ours or not; None: not listed this time
    updated     changed in the till, and now there
    left_alone  changed in the till, and why PennyLane's were not touched
    gone        deleted in PennyLane: looked for again, or made anew, when an entry needs them
    moved       found there under another id or account; entries sent before keep theirs
    """

    listed: int | None = None
    updated: list[str] = field(default_factory=list)
    left_alone: list[tuple[str, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    customer_id: str
    remote_id: int
    kind: str
    account_id: int | None
    matched_by: str | None
    fingerprint: str | None
    remote_fingerprint: str | None
    former: tuple[int, ...]


def keep_in_step(
    client: PennylaneClient,
    engine: sa.Engine,
    shop: ShopFile,
    company_id: int,
    customers: pd.DataFrame,
    *,
    listing: bool,
) -> InStep:
    """Bring what changed in the till to the customers we made, and with `listing` notice who is gone in PennyLane.

    Costs one request per changed customer, plus one per hundred customers of the company (`listing`) or one per hundred
    changed ones; without `listing` and without changes, none. Never touched are customers whom we matched instead of
    made, those a person changed in PennyLane since we wrote them, and forgotten ones. Nobody is made here.
    """
    facts = _described(customers)
    done = InStep()
    if not listing and not _changed(_rows(engine, shop, company_id), facts, shop):
        return done
    with alone(engine, company_id):
        rows = _rows(engine, shop, company_id)
        changed = _changed(rows, facts, shop)
        if listing:
            found = client.customers()
            _store_listing(engine, shop, company_id, found)
            done.listed = len(found)
            rows = _find_again(engine, shop, company_id, rows, found, done)
            # Rows of before there were fingerprints, and those whose last write had no clear end, are looked at too.
            changed |= {row.customer_id for row in rows if row.matched_by == "created" and row.fingerprint is None}
        else:
            found = _listed(client, "external_reference", [external_reference(shop, key) for key in sorted(changed)])
        there = {customer.id: customer for customer in found}
        forgotten = forgotten_customers(engine, shop.shop.id)
        todo = [
            (row, there[row.remote_id], facts[row.customer_id])
            for row in rows
            if row.customer_id in changed - forgotten and row.customer_id in facts and row.remote_id in there
        ]

        def one(work: tuple[_Row, Customer, _Facts]) -> tuple[str, str | None]:
            row, customer, item = work
            return row.customer_id, _bring(client, engine, shop, company_id, row, customer, item)

        with ThreadPoolExecutor(WORKERS, thread_name_prefix="customers") as pool:
            for customer_id, problem in pool.map(one, todo):
                if problem is None:
                    done.updated.append(customer_id)
                elif problem:
                    done.left_alone.append((customer_id, problem))
    for what in ("gone", "moved"):
        if numbers := getattr(done, what):
            _log.warning("customers %s in PennyLane: %s", what, ", ".join(numbers[:20]))
    return done


def _changed(rows: Sequence[_Row], facts: dict[str, _Facts], shop: ShopFile) -> set[str]:
    """Customers whose fields are not those we wrote any more; only those we made have a fingerprint."""
    return {
        row.customer_id
        for row in rows
        if row.fingerprint is not None
        and row.customer_id in facts
        and _fingerprint(shop, _fields(facts[row.customer_id])) != row.fingerprint
    }


def _bring(
    client: PennylaneClient,
    engine: sa.Engine,
    shop: ShopFile,
    company_id: int,
    row: _Row,
    customer: Customer,
    item: _Facts,
) -> str | None:
    """Write the till's fields to PennyLane; why not, in words, and "" when they are there already."""
    wanted, held = _fields(item), _held(customer)
    if item.kind != customer.kind:
        return f"a {item.kind} in the till and a {customer.kind} in PennyLane, which cannot be changed"
    differing = {name: value for name, value in wanted.items() if held[name] != value}
    if differing and row.remote_fingerprint is None:
        return f"{_words(differing)} differ between till and PennyLane, and who changed them is not known"
    if differing and _fingerprint(shop, held) != row.remote_fingerprint:
        return f"{_words(differing)} differ, and somebody changed this customer in PennyLane"
    after = customer
    if differing:
        try:
            after = client.update_customer(customer, differing)
        except REFUSALS as error:
            return error.message
    _update_row(
        engine,
        shop,
        company_id,
        row.customer_id,
        fingerprint=_fingerprint(shop, wanted),
        remote_fingerprint=_fingerprint(shop, _held(after)),
    )
    return None if differing else ""


_WORDS = {
    "billing_address": "address",
    "emails": "e-mail",
    "vat_number": "VAT number",
    "reg_no": "registration number",
    "first_name": "first name",
    "last_name": "last name",
}


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(_WORDS.get(name, name) for name in names))


def _find_again(
    engine: sa.Engine, shop: ShopFile, company_id: int, rows: list[_Row], found: list[Customer], done: InStep
) -> list[_Row]:
    """Compare our ids with the company's list: who has another id or account now, and who is gone.

    A customer who is gone keeps no account for new entries: PennyLane does not say what becomes of the account, and a
    person may have merged it. The old account is remembered, since entries stand on it.
    """
    there = {customer.id: customer for customer in found}
    by_reference = {customer.external_reference: customer for customer in found}
    kept = []
    for row in rows:
        customer = there.get(row.remote_id) or by_reference.get(external_reference(shop, row.customer_id))
        account = customer.account_id if customer is not None else None
        if customer is not None and (customer.id, account) == (row.remote_id, row.account_id):
            kept.append(row)
            continue
        if customer is None and row.account_id is None:
            continue
        (done.gone if account is None else done.moved).append(row.customer_id)
        former = sorted({*row.former, *([row.account_id] if row.account_id is not None else [])} - {account})
        values: dict[str, Any] = {"ledger_account_id": account, "former_account_ids": former}
        if customer is not None and customer.id != row.remote_id:
            # Somebody made it: from now on it is theirs.
            values |= {
                "remote_id": customer.id,
                "kind": customer.kind,
                "external_reference": customer.external_reference,
                "matched_by": "external_reference",
                "fingerprint": None,
                "remote_fingerprint": None,
            }
        elif customer is not None:
            kept.append(row)
        _update_row(engine, shop, company_id, row.customer_id, **values)
    return kept


# --- what is stored -----------------------------------------------------------------------------------------------


def _own(table: sa.Table, shop: ShopFile, company_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.shop_id == shop.shop.id, table.c.company_id == company_id)


def _rows(engine: sa.Engine, shop: ShopFile, company_id: int) -> list[_Row]:
    table = PENNYLANE_CUSTOMERS.c
    query = sa.select(
        table.customer_id,
        table.remote_id,
        table.kind,
        table.ledger_account_id,
        table.matched_by,
        table.fingerprint,
        table.remote_fingerprint,
        table.former_account_ids,
    ).where(_own(PENNYLANE_CUSTOMERS, shop, company_id))
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(table.customer_id))
        return [_Row(*row[:-1], tuple(row[-1] or ())) for row in rows]


def _update_row(engine: sa.Engine, shop: ShopFile, company_id: int, customer_id: str, **values: Any) -> None:
    own = _own(PENNYLANE_CUSTOMERS, shop, company_id)
    with engine.begin() as connection:
        connection.execute(
            sa.update(PENNYLANE_CUSTOMERS)
            .where(own, PENNYLANE_CUSTOMERS.c.customer_id == customer_id)
            .values(**values, seen_at=sa.func.clock_timestamp())
        )


def _store_listing(engine: sa.Engine, shop: ShopFile, company_id: int, found: Iterable[Customer]) -> None:
    """The company's list without what says who they are."""
    rows = [
        {
            "id": customer.id,
            "kind": customer.kind,
            "external_reference": customer.external_reference,
            "ledger_account_id": customer.account_id,
        }
        for customer in found
    ]
    replace_listing(engine, PENNYLANE_LISTED_CUSTOMERS, shop, company_id, rows)


def listed_at(engine: sa.Engine, shop: ShopFile, company_id: int) -> datetime | None:
    """When the company's customers were last listed; None before the first time, and while there are none."""
    table = PENNYLANE_LISTED_CUSTOMERS
    with engine.connect() as connection:
        found: datetime | None = connection.execute(
            sa.select(sa.func.max(table.c.seen_at)).where(_own(table, shop, company_id))
        ).scalar()
    return found


def stored_customers(engine: sa.Engine, shop: ShopFile, company_id: int) -> dict[str, int]:
    """Ledger account ids by the till's customer id, as found or created before."""
    return {row.customer_id: row.account_id for row in _rows(engine, shop, company_id) if row.account_id is not None}


def former_accounts(engine: sa.Engine, shop: ShopFile, company_id: int) -> dict[int, str]:
    """Customers by the ids of accounts they had before: entries sent then stand on these."""
    return {account: row.customer_id for row in _rows(engine, shop, company_id) for account in row.former}
