"""Company and individual customers, each with an account of its own.

Only customers belong here. Their accounts are made by accounts.py and listed by chart.py like any other.
"""

import re
import unicodedata
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy.exc import IntegrityError

from kash_pipeline.sandbox.pennylane.accounts import insert_account
from kash_pipeline.sandbox.pennylane.answers import Json, error, instant
from kash_pipeline.sandbox.pennylane.call import Answer, Call
from kash_pipeline.sandbox.pennylane.changes import record
from kash_pipeline.sandbox.pennylane.listing import Column, Listing, listed, one

_ADDRESS = {"address": "", "postal_code": "", "city": "", "country_alpha2": ""}

# What an unset field is answered as: empty strings for addresses recorded (section 7.7), the others follow their types.
_DETAILS: Json = {
    "billing_iban": None,
    "payment_conditions": "30_days",
    "recipient": "",
    "phone": "",
    "reference": None,
    "notes": None,
    "billing_address": _ADDRESS,
    "delivery_address": _ADDRESS,
    "billing_language": "fr_FR",
}

_COLUMNS = (
    "t.id, t.customer_type, t.account_id, t.name, t.first_name, t.last_name, t.vat_number, t.reg_no, t.emails,"
    " t.external_reference, t.details, t.created_at, t.updated_at"
)
_SELECT = f"select {_COLUMNS} from customers t"
_CUSTOMERS = Listing(
    select=_SELECT,
    where="t.company_id = %(company)s",
    order={"id": ("t.id", "id", "bigint")},
    filters={
        "id": Column("t.id", "id"),
        "customer_type": Column("t.customer_type"),
        "ledger_account_id": Column("t.account_id", "id"),
        "name": Column("t.name"),
        "external_reference": Column("t.external_reference"),
        "reg_no": Column("t.reg_no"),
        "emails": Column("t.emails", "texts"),
    },
)
# An endpoint of one kind does not show the other kind: our guess (the reference says the wrong kind "damages" it).
_OF_KIND = Listing(
    select=_SELECT,
    where="t.company_id = %(company)s and t.customer_type = %(kind)s",
    order=_CUSTOMERS.order,
)


def _customer(call: Call, row: Any, *, with_type: bool) -> Json:
    body: Json = {
        "id": row.id,
        "name": row.name,
        "ledger_account": {"id": row.account_id},
        "emails": row.emails,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
        "external_reference": row.external_reference,
        "mandates": {"url": call.url(f"sepa_mandates?customer_id={row.id}")},
        "pro_account_mandates": {"url": call.url(f"pro_account/mandates?customer_id={row.id}")},
        "contacts": {"url": call.url(f"customers/{row.id}/contacts")},
        **row.details,
    }
    if row.customer_type == "company":
        body |= {"vat_number": row.vat_number, "reg_no": row.reg_no}
    else:
        body |= {"first_name": row.first_name, "last_name": row.last_name}
    if with_type:
        body["customer_type"] = row.customer_type
    return body


def list_customers(call: Call) -> Answer:
    return listed(call, _CUSTOMERS, lambda row: _customer(call, row, with_type=True))


def get_customer(call: Call) -> Answer:
    return Answer(200, _customer(call, one(call, _CUSTOMERS, "Customer"), with_type=True))


def get_company(call: Call) -> Answer:
    return Answer(200, _customer(call, one(call, _OF_KIND, "CompanyCustomer", kind="company"), with_type=False))


def get_individual(call: Call) -> Answer:
    row = one(call, _OF_KIND, "IndividualCustomer", kind="individual")
    return Answer(200, _customer(call, row, with_type=False))


def create_company(call: Call) -> Answer:
    return _create(call, "company", call.body["name"])


def create_individual(call: Call) -> Answer:
    return _create(call, "individual", f"{call.body['first_name']} {call.body['last_name']}")


def _create(call: Call, kind: str, name: str) -> Answer:
    body: Json = call.body
    wanted = (body.get("ledger_account") or {}).get("number")
    if wanted is not None and not re.fullmatch(r"411\S*", wanted):
        raise error(422, "Ledger account number must start with 411")
    reference = body.get("external_reference") or str(uuid.uuid4())
    # The reference is looked at before the account is made: a repeat must be a 409, whatever its account.
    if call.connection.exec_driver_sql(
        "select 1 from customers where company_id = %(company)s and external_reference = %(reference)s",
        {"company": call.company, "reference": reference},
    ).scalar():
        raise _taken(reference)
    account = insert_account(
        call.connection,
        call.company,
        wanted or _free_number(call, name),
        name,
        kind="customer",
        now=call.now,
    )
    row = _insert(call, kind, account.id, name, reference, body)
    return Answer(201, _customer(call, row, with_type=False))


def customer_of_account(call: Call, account: Any) -> None:
    """The company customer that creating an account 411... makes, and that nobody can unmake (section 7.2)."""
    _insert(call, "company", account.id, account.label, str(uuid.uuid4()), {})


def _insert(call: Call, kind: str, account_id: int, name: str, reference: str, body: Mapping[str, Any]) -> Any:
    details = {key: body.get(key, unset) for key, unset in _DETAILS.items()}
    company = kind == "company"
    try:
        row = call.connection.exec_driver_sql(
            "insert into customers as t (company_id, customer_type, account_id, name, first_name, last_name,"
            " vat_number, reg_no, emails, external_reference, details, created_at, updated_at) values (%(company)s,"
            " %(kind)s, %(account)s, %(name)s, %(first_name)s, %(last_name)s, %(vat_number)s, %(reg_no)s, %(emails)s,"
            f" %(reference)s, %(details)s, %(now)s, %(now)s) returning {_COLUMNS}",
            {
                "company": call.company,
                "kind": kind,
                "account": account_id,
                "name": name,
                "first_name": None if company else body["first_name"],
                "last_name": None if company else body["last_name"],
                "vat_number": body.get("vat_number", "") if company else None,
                "reg_no": body.get("reg_no", "") if company else None,
                "emails": body.get("emails", []),
                "reference": reference,
                "details": orjson.dumps(details).decode(),
                "now": call.now,
            },
        ).one()
    except IntegrityError:
        raise _taken(reference) from None
    record(call.connection, call.company, "customers", "insert", [row.id], call.now, row.created_at)
    return row


def _taken(reference: str) -> Exception:
    return error(409, f"External reference {reference} has already been taken")


def _free_number(call: Call, name: str) -> str:
    """411 and the name in capitals, numbered when taken. How PennyLane forms the number is unknown."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = "411" + (re.sub(r"[^A-Z0-9]", "", plain.upper())[:12] or "CLIENT")
    # One creation at a time per stem, so that two customers of one name do not meet at the same number.
    call.connection.exec_driver_sql(
        "select pg_advisory_xact_lock(hashtext(%(key)s))", {"key": f"{call.company} {stem}"}
    )
    taken = set(
        call.connection.exec_driver_sql(
            "select number from accounts where company_id = %(company)s and starts_with(number, %(stem)s)",
            {"company": call.company, "stem": stem},
        ).scalars()
    )
    if stem not in taken:
        return stem
    return next(free for count in range(2, len(taken) + 3) if (free := f"{stem}{count}") not in taken)


def update_company(call: Call) -> Answer:
    return _update(call, "company", "CompanyCustomer")


def update_individual(call: Call) -> Answer:
    return _update(call, "individual", "IndividualCustomer")


def _update(call: Call, kind: str, what: str) -> Answer:
    """Changes the fields that are sent; of an address, the parts that are sent; `delivery_address: null` empties it."""
    call.connection.exec_driver_sql(
        "select 1 from customers where company_id = %(company)s and id = %(id)s for update",
        {"company": call.company, "id": call.parameters["id"]},
    )
    row = one(call, _OF_KIND, what, kind=kind)
    sent: Json = call.body
    details = dict(row.details)
    for key in _DETAILS.keys() & sent.keys():
        if key in ("billing_address", "delivery_address"):
            details[key] = _ADDRESS if sent[key] is None else details[key] | sent[key]
        else:
            details[key] = sent[key]
    first, last = sent.get("first_name", row.first_name), sent.get("last_name", row.last_name)
    try:
        changed = call.connection.exec_driver_sql(
            "update customers t set name = %(name)s, first_name = %(first_name)s, last_name = %(last_name)s,"
            " vat_number = %(vat_number)s, reg_no = %(reg_no)s, emails = %(emails)s,"
            " external_reference = %(reference)s, details = %(details)s, updated_at = %(now)s"
            f" where t.id = %(id)s returning {_COLUMNS}",
            {
                "name": sent.get("name", row.name) if kind == "company" else f"{first} {last}",
                "first_name": first,
                "last_name": last,
                "vat_number": sent.get("vat_number", row.vat_number),
                "reg_no": sent.get("reg_no", row.reg_no),
                "emails": sent.get("emails", row.emails),
                "reference": sent.get("external_reference", row.external_reference),
                "details": orjson.dumps(details).decode(),
                "now": call.now,
                "id": row.id,
            },
        ).one()
    except IntegrityError:
        raise _taken(sent["external_reference"]) from None
    record(call.connection, call.company, "customers", "update", [row.id], call.now, row.created_at)
    return Answer(200, _customer(call, changed, with_type=False))


HANDLERS = {
    "getCustomers": list_customers,
    "getCustomer": get_customer,
    "postCompanyCustomer": create_company,
    "getCompanyCustomer": get_company,
    "putCompanyCustomer": update_company,
    "postIndividualCustomer": create_individual,
    "getIndividualCustomer": get_individual,
    "putIndividualCustomer": update_individual,
}
