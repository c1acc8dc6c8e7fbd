"""Journals, ledger accounts, fiscal years, trial balance.

Only these records belong here. Entries and their lines belong to entries.py, customers (and the account each of them
gets) to customers.py.
"""

from datetime import date
from typing import Any

from sqlalchemy.exc import IntegrityError

from kash_pipeline.sandbox.pennylane.accounts import ACCOUNT_COLUMNS, insert_account
from kash_pipeline.sandbox.pennylane.answers import Json, amount, bad_request, day, error, instant, not_found, read_day
from kash_pipeline.sandbox.pennylane.call import Answer, Call
from kash_pipeline.sandbox.pennylane.customers import customer_of_account
from kash_pipeline.sandbox.pennylane.listing import Column, Listing, listed, one

OPEN = ("open", "reopen")

_BY_ID = {"id": ("t.id", "id", "bigint")}


def _journal(row: Any) -> Json:
    return {"id": row.id, "code": row.code, "label": row.label, "type": row.type}


_JOURNALS = Listing(
    select="select t.id, t.code, t.label, t.type from journals t",
    where="t.company_id = %(company)s",
    order=_BY_ID,
    filters={"type": Column("t.type")},
)


def list_journals(call: Call) -> Answer:
    return listed(call, _JOURNALS, _journal)


def get_journal(call: Call) -> Answer:
    return Answer(200, _journal(one(call, _JOURNALS, "Journal")))


def create_journal(call: Call) -> Answer:
    """A created journal is of type `custom` (recorded). Refusing a code that exists with 422 is our guess."""
    try:
        row = call.connection.exec_driver_sql(
            "insert into journals (company_id, code, label, type)"
            " values (%(company)s, %(code)s, %(label)s, 'custom') returning id, code, label, type",
            {"company": call.company, "code": call.body["code"], "label": call.body["label"]},
        ).one()
    except IntegrityError:
        raise error(422, f"Code {call.body['code']} has already been taken") from None
    return Answer(201, _journal(row))


def _account(row: Any) -> Json:
    return {
        "id": row.id,
        "number": row.number,
        "label": row.label,
        "vat_rate": row.vat_rate,
        "country_alpha2": row.country_alpha2,
        "enabled": row.enabled,
        "type": row.type,
        "letterable": row.letterable,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


_ACCOUNTS = Listing(
    select=f"select {ACCOUNT_COLUMNS} from accounts t",
    where="t.company_id = %(company)s",
    order=_BY_ID,
    filters={
        "id": Column("t.id", "id"),
        "number": Column("t.number"),
        "enabled": Column("t.enabled", "flag"),
    },
)


def list_accounts(call: Call) -> Answer:
    return listed(call, _ACCOUNTS, _account)


def get_account(call: Call) -> Answer:
    return Answer(200, _account(one(call, _ACCOUNTS, "LedgerAccount")))


def create_account(call: Call) -> Answer:
    """401... also makes a supplier and 411... a company customer (section 7.2)."""
    number = call.body["number"]
    kind = "customer" if number.startswith("411") else "supplier" if number.startswith("401") else "custom"
    row = insert_account(
        call.connection,
        call.company,
        number,
        call.body["label"],
        vat_rate=call.body.get("vat_rate", "any"),
        country=call.body.get("country_alpha2", "any"),
        kind=kind,
        now=call.now,
    )
    if kind == "customer":
        customer_of_account(call, row)
    return Answer(201, _account(row))


def update_account(call: Call) -> Answer:
    row = call.connection.exec_driver_sql(
        "update accounts t set label = coalesce(%(label)s, label), letterable = coalesce(%(letterable)s, letterable),"
        f" updated_at = %(now)s where company_id = %(company)s and id = %(id)s returning {ACCOUNT_COLUMNS}",
        {
            "label": call.body.get("label"),
            "letterable": call.body.get("letterable"),
            "now": call.now,
            "company": call.company,
            "id": call.parameters["id"],
        },
    ).one_or_none()
    if row is None:
        raise not_found("LedgerAccount", call.parameters["id"])
    return Answer(200, _account(row))


def _fiscal_year(row: Any) -> Json:
    return {
        "id": row.id,
        "start": day(row.start),
        "finish": day(row.finish),
        "status": row.status,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


_FISCAL_YEARS = Listing(
    select="select t.id, t.start, t.finish, t.status, t.created_at, t.updated_at from fiscal_years t",
    where="t.company_id = %(company)s",
    order={**_BY_ID, "start": ("t.start", "start", "date")},
)


def list_fiscal_years(call: Call) -> Answer:
    return listed(call, _FISCAL_YEARS, _fiscal_year)


def require_open(call: Call, when: date) -> None:
    """422 unless `when` is in an open fiscal year and not before the accountant's freeze date.

    The status is the likely one, the texts are ours (section 7.8: the answer is unknown).
    """
    row = call.connection.exec_driver_sql(
        "select f.status, c.frozen_before from companies c left join fiscal_years f"
        " on f.company_id = c.id and %(when)s between f.start and f.finish where c.id = %(company)s"
        " order by f.start desc limit 1",
        {"when": when, "company": call.company},
    ).one()
    if row.status is None:
        raise error(422, f"Date {when} is not in any fiscal year")
    if row.status not in OPEN:
        raise error(422, f"Date {when} is in a {row.status} fiscal year")
    if row.frozen_before is not None and when < row.frozen_before:
        raise error(422, f"Date {when} is in a frozen period (entries before {row.frozen_before} are frozen)")


def _total(row: Any) -> Json:
    return {
        "number": row.number,
        "formatted_number": row.number.ljust(9, "0"),
        "label": row.label,
        "debits": amount(int(row.debit_cents)),
        "credits": amount(int(row.credit_cents)),
    }


def trial_balance(call: Call) -> Answer:
    """Gross totals per account number, ids of one number together.

    Without `is_auxiliary` the accounts of customers and suppliers are summed under 411 and 401: our reading of the
    parameter's description, as is the padding to nine digits.
    """
    first = read_day(call.parameters["period_start"], "period_start")
    last = read_day(call.parameters["period_end"], "period_end")
    if first > last:
        raise bad_request("period_start is after period_end", "ValidateError", field="period_start")
    collective = "case when a.type in ('customer', 'supplier') then left(a.number, 3) else a.number end"
    number = "a.number" if call.parameters.get("is_auxiliary") else collective
    listing = Listing(
        select=(
            f"select t.number, t.label, t.debit_cents, t.credit_cents from (select {number} as number,"
            " (array_agg(a.label order by length(a.number), a.id))[1] as label, sum(l.debit_cents) as debit_cents,"
            " sum(l.credit_cents) as credit_cents from lines l join entries e on e.id = l.entry_id"
            " join accounts a on a.id = l.account_id where l.company_id = %(company)s"
            " and e.date between %(first)s and %(last)s group by 1) t"
        ),
        where="true",
        order={"number": ('t.number collate "C"', "number", "text")},
        default_sort="number",
    )
    return listed(call, listing, _total, first=first, last=last)


HANDLERS = {
    "getJournals": list_journals,
    "postJournals": create_journal,
    "getJournal": get_journal,
    "getLedgerAccounts": list_accounts,
    "postLedgerAccounts": create_account,
    "getLedgerAccount": get_account,
    "updateLedgerAccount": update_account,
    "company-fiscal-years": list_fiscal_years,
    "getTrialBalance": trial_balance,
}
