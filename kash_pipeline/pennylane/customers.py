"""The till's named customers as PennyLane's, each with an account of their own: found, or made once.

Only customers belong here; journals, accounts and fiscal years are reference.py's.
"""

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.pennylane.client import Customer, PennylaneClient, condition
from kash_pipeline.pennylane.errors import Conflict, PennylaneError, ReferenceMissing
from kash_pipeline.pennylane.making import alone
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.tables import PENNYLANE_CUSTOMERS

WORKERS = 8
_FILTER_VALUES = 100  # ids or references in one filter; no limit is documented, the URL stays under 4 KB


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
    with alone(engine, company_id):
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
