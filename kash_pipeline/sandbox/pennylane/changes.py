"""The changelogs: who was inserted, updated, deleted, for four weeks, oldest first.

Only writing and listing changes belongs here. There is no changelog of entries, only of their lines
(pennylane-api.md section 7.11).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from kash_pipeline.sandbox.pennylane.answers import Json, bad_request, error, instant
from kash_pipeline.sandbox.pennylane.call import Answer, Call
from kash_pipeline.sandbox.pennylane.listing import Listing, empty, listed

KEPT = timedelta(weeks=4)


def record(
    connection: Connection, company: int, resource: str, operation: str, ids: list[int], now: datetime, born: datetime
) -> None:
    """Note that the records `ids`, created at `born`, were changed by `operation` (insert, update, delete)."""
    connection.exec_driver_sql(
        "insert into changes (company_id, resource, record_id, operation, processed_at, record_created_at)"
        " select %(company)s, %(resource)s, u, %(operation)s, %(now)s, %(born)s from unnest(%(ids)s::bigint[]) as u",
        {"company": company, "resource": resource, "operation": operation, "now": now, "born": born, "ids": ids},
    )


def _change(row: Any) -> Json:
    return {
        "id": row.record_id,
        "operation": row.operation,
        "processed_at": instant(row.processed_at),
        "updated_at": instant(row.processed_at),
        "created_at": instant(row.record_created_at),
    }


_CHANGES = Listing(
    select="select t.seq, t.record_id, t.operation, t.processed_at, t.record_created_at from changes t",
    where="t.company_id = %(company)s and t.resource = %(resource)s and t.processed_at >= %(since)s",
    order={"seq": ("t.seq", "seq", "bigint")},
    default_sort="seq",
)


def _since(call: Call) -> datetime:
    oldest = call.now - KEPT
    given = call.parameters.get("start_date")
    if given is None:
        return oldest
    if call.parameters.get("cursor"):
        raise bad_request("start_date cannot be sent with cursor", "ValidateError", field="start_date")
    try:
        since = datetime.fromisoformat(given).astimezone(UTC)
    except (ValueError, OverflowError):  # a leap second or year 0000 is RFC 3339, Python has neither
        raise bad_request(f"{given} isn't a date-time", "InvalidDateTimeFormat", field="start_date") from None
    if since < oldest:
        raise error(422, "start_date is older than 4 weeks")
    return since


def list_customer_changes(call: Call) -> Answer:
    return listed(call, _CHANGES, _change, resource="customers", since=_since(call))


def list_line_changes(call: Call) -> Answer:
    return listed(call, _CHANGES, _change, resource="ledger_entry_lines", since=_since(call))


def list_no_changes(call: Call) -> Answer:
    """The changelogs of records this sandbox never has; their parameters are checked all the same."""
    _since(call)
    return empty(call)


HANDLERS = {
    "getCustomerChanges": list_customer_changes,
    "getLedgerEntryLineChanges": list_line_changes,
    "getTransactionChanges": list_no_changes,
    "getCustomerInvoicesChanges": list_no_changes,
    "getSupplierInvoicesChanges": list_no_changes,
    "getSupplierChanges": list_no_changes,
    "getProductChanges": list_no_changes,
    "getQuoteChanges": list_no_changes,
    "getLedgerEntriesCategoryChanges": list_no_changes,
    "getLedgerEntryLinesCategoryChanges": list_no_changes,
}
