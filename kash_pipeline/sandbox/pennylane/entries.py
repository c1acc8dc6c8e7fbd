"""Ledger entries and their lines: create, change, read, list.

Only entries and lines belong here. Which day may be written belongs to chart.py (`require_open`), lettering to
lettering.py. There is no deletion: only the accountant deletes, through the admin handle.
"""

import random
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from kash_pipeline.sandbox.pennylane.answers import (
    Json,
    amount,
    bad_request,
    cents,
    day,
    error,
    instant,
    not_found,
    read_day,
)
from kash_pipeline.sandbox.pennylane.call import Answer, Call
from kash_pipeline.sandbox.pennylane.changes import record
from kash_pipeline.sandbox.pennylane.chart import require_open
from kash_pipeline.sandbox.pennylane.files import link
from kash_pipeline.sandbox.pennylane.listing import Column, Listing, empty, listed, one

MOST_LINES = 1000


@dataclass(frozen=True)
class _NewLine:
    account_id: int
    debit_cents: int
    credit_cents: int
    label: str


# Reading ------------------------------------------------------------------------------------------------------------

_ENTRY_COLUMNS = (
    "t.id, t.journal_id, t.date, t.due_date, t.label, t.piece_number, t.file_id, t.created_at, t.updated_at,"
    " (select f.filename from files f where f.id = t.file_id) as filename"
)
_ENTRIES = Listing(
    select=f"select {_ENTRY_COLUMNS} from entries t",
    where="t.company_id = %(company)s",
    order={"id": ("t.id", "id", "bigint"), "date": ("t.date", "date", "date")},
    filters={
        "id": Column("t.id", "id"),
        "journal_id": Column("t.journal_id", "id"),
        "date": Column("t.date", "day"),
    },
)

_LINE_COLUMNS = (
    "t.id, t.entry_id, t.account_id, t.debit_cents, t.credit_cents, t.label, t.lettering, t.created_at, t.updated_at"
)
_LINES_OF_ENTRY = Listing(
    select=f"select {_LINE_COLUMNS}, a.number from lines t join accounts a on a.id = t.account_id",
    where="t.company_id = %(company)s and t.entry_id = %(entry)s",
    order={"id": ("t.id", "id", "bigint")},
    filters={"ledger_account_id": Column("t.account_id", "id")},
)
_LINES = Listing(
    select=(
        f"select {_LINE_COLUMNS}, a.number, e.journal_id, e.date, case when t.lettering is null then '{{}}' else"
        " (select array_agg(g.id order by g.id) from lines g where g.lettering = t.lettering) end as lettered"
        " from lines t join accounts a on a.id = t.account_id join entries e on e.id = t.entry_id"
    ),
    where="t.company_id = %(company)s",
    order={"id": ("t.id", "id", "bigint"), "date": ("e.date", "date", "date")},
    filters={
        "id": Column("t.id", "id"),
        "journal_id": Column("e.journal_id", "id"),
        "ledger_account_id": Column("t.account_id", "id"),
        "date": Column("e.date", "day"),
    },
)
_LETTERED_LINES = Listing(
    select=_LINES.select,
    where="t.company_id = %(company)s and t.lettering = %(lettering)s",
    order=_LINES.order,
)


def _account_ref(call: Call, row: Any) -> Json:
    return {"id": row.account_id, "number": row.number, "url": call.url(f"ledger_accounts/{row.account_id}")}


def _line(call: Call, row: Any) -> Json:
    return {
        "id": row.id,
        "debit": amount(row.debit_cents),
        "credit": amount(row.credit_cents),
        "label": row.label,
        "ledger_account": _account_ref(call, row),
    }


def _written_line(call: Call, row: Any) -> Json:
    return {**_line(call, row), "ledger_account_id": row.account_id}


def _full_line(call: Call, row: Any) -> Json:
    return {
        **_line(call, row),
        "categories": [],
        "journal": {"id": row.journal_id, "url": call.url(f"journals/{row.journal_id}")},
        "date": day(row.date),
        "ledger_entry": {"id": row.entry_id},
        "lettered_ledger_entry_lines": {
            "ids": row.lettered,
            "url": call.url(f"ledger_entry_lines/{row.id}/lettered_ledger_entry_lines"),
        },
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


def _entry(call: Call, row: Any) -> Json:
    """The fields every form of an entry has. `status` is null for an entry made by the API (recorded)."""
    return {
        "id": row.id,
        "label": row.label,
        "piece_number": row.piece_number,
        "date": day(row.date),
        "due_date": day(row.due_date),
        "invoice_number": "",
        "journal": {"id": row.journal_id, "url": call.url(f"journals/{row.journal_id}")},
        "status": None,
        "categories": [],
        "attachment": None if row.file_id is None else {"filename": row.filename, "url": link(call, row.file_id)},
    }


def _summary(call: Call, row: Any) -> Json:
    return {
        **_entry(call, row),
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
        "journal_id": row.journal_id,
        "ledger_attachment_filename": row.filename,
    }


def _lines_of(call: Call, entry_id: int) -> Sequence[Any]:
    return call.connection.exec_driver_sql(
        f"{_LINES_OF_ENTRY.select} where {_LINES_OF_ENTRY.where}", {"company": call.company, "entry": entry_id}
    ).all()


def _mixed(lines: Sequence[Any], entry_id: int) -> list[Any]:
    """The lines in an order of the sandbox's choice: the same at each reading, not the one they were sent in.

    The official description promises no order (section 7.4).
    """
    rows = sorted(lines, key=attrgetter("id"))
    random.Random(entry_id).shuffle(rows)  # noqa: S311 - no secret
    return rows


def _written(call: Call, row: Any, lines: Sequence[Any]) -> Json:
    return {
        **_entry(call, row),
        "journal_id": row.journal_id,
        "ledger_attachment_filename": row.filename,
        "ledger_attachment_id": row.file_id,
        "ledger_entry_lines": [_written_line(call, line) for line in _mixed(lines, row.id)],
    }


def list_entries(call: Call) -> Answer:
    return listed(call, _ENTRIES, lambda row: _summary(call, row))


def get_entry(call: Call) -> Answer:
    row = one(call, _ENTRIES, "LedgerEntry")
    return Answer(
        200,
        {
            **_entry(call, row),
            "created_at": instant(row.created_at),
            "updated_at": instant(row.updated_at),
            "ledger_entry_lines": [_line(call, line) for line in _mixed(_lines_of(call, row.id), row.id)],
        },
    )


def list_lines_of_entry(call: Call) -> Answer:
    entry_id = call.parameters["ledger_entry_id"]
    found = call.connection.exec_driver_sql(
        "select 1 from entries where company_id = %(company)s and id = %(id)s",
        {"company": call.company, "id": entry_id},
    ).scalar()
    if not found:
        raise not_found("LedgerEntry", entry_id)
    return listed(call, _LINES_OF_ENTRY, lambda row: _written_line(call, row), entry=entry_id)


def list_lines(call: Call) -> Answer:
    return listed(call, _LINES, lambda row: _full_line(call, row))


def get_line(call: Call) -> Answer:
    return Answer(200, _full_line(call, one(call, _LINES, "LedgerEntryLine")))


def _require_line(call: Call) -> Any:
    identifier = call.parameters["ledger_entry_line_id"]
    row = call.connection.exec_driver_sql(
        "select id, label, lettering from lines where company_id = %(company)s and id = %(id)s",
        {"company": call.company, "id": identifier},
    ).one_or_none()
    if row is None:
        raise not_found("LedgerEntryLine", identifier)
    return row


def list_lettered_lines(call: Call) -> Answer:
    line = _require_line(call)
    return listed(call, _LETTERED_LINES, lambda row: _full_line(call, row), lettering=line.lettering)


def list_line_categories(call: Call) -> Answer:
    """No category exists in this sandbox, so no line has one."""
    _require_line(call)
    return empty(call)


def set_line_categories(call: Call) -> Answer:
    line = _require_line(call)
    for category in call.body:
        raise not_found("Category", category["id"])
    return Answer(200, {"ledger_entry_line": {"id": line.id, "label": line.label, "categories": []}})


# Writing ------------------------------------------------------------------------------------------------------------


def _read_amounts(debit: str, credit: str) -> tuple[int, int]:
    """Both sides in cents. Exactly one side above zero, whole cents: stricter than documented (section 7.4 does not
    know what PennyLane does with the rest), so that nothing of ours relies on the unknown."""
    debit_cents, credit_cents = cents(debit), cents(credit)
    if debit_cents is None or credit_cents is None:
        raise error(422, "Amounts must have at most two decimals")
    if debit_cents < 0 or credit_cents < 0:
        raise error(422, "Debit and credit must not be negative")
    if (debit_cents == 0) == (credit_cents == 0):
        raise error(422, "A line must have either a debit or a credit")
    return debit_cents, credit_cents


def _new_line(sent: Json) -> _NewLine:
    debit_cents, credit_cents = _read_amounts(sent["debit"], sent["credit"])
    return _NewLine(int(sent["ledger_account_id"]), debit_cents, credit_cents, sent.get("label", ""))


def _require_accounts(call: Call, ids: set[int]) -> dict[int, str]:
    """Their numbers by id. 404 for an unknown id or one of another company, 422 for a disabled account.

    Both statuses are our guess (section 11).
    """
    found = {
        row.id: row
        for row in call.connection.exec_driver_sql(
            "select id, number, enabled from accounts where company_id = %(company)s and id = any(%(ids)s::bigint[])",
            {"company": call.company, "ids": [number for number in ids if number < 2**63]},
        )
    }
    for identifier in sorted(ids):
        if identifier not in found:
            raise not_found("LedgerAccount", identifier)
        if not found[identifier].enabled:
            raise error(422, f"Ledger account {found[identifier].number} is disabled")
    return {identifier: row.number for identifier, row in found.items()}


def _require_journal(call: Call, identifier: int) -> None:
    if not call.connection.exec_driver_sql(
        "select 1 from journals where company_id = %(company)s and id = %(id)s",
        {"company": call.company, "id": identifier},
    ).scalar():
        raise not_found("Journal", identifier)


def _require_file(call: Call, identifier: int | None) -> str | None:
    """The file's name; None without an id, 404 for an unknown one."""
    if identifier is None:
        return None
    filename: str | None = call.connection.exec_driver_sql(
        "select filename from files where company_id = %(company)s and id = %(id)s",
        {"company": call.company, "id": identifier},
    ).scalar()
    if filename is None:
        raise not_found("FileAttachment", identifier)
    return filename


def _require_balance(sides: Iterable[tuple[int, int]]) -> None:
    pairs = list(sides)
    if sum(debit for debit, _ in pairs) != sum(credit for _, credit in pairs):
        raise error(422, "Entry lines are not balanced")


def _made_piece_number() -> str:
    """Ten capitals and digits, like the recorded VKHUXS4J4U."""
    return "".join(random.choices(string.ascii_uppercase + string.digits, k=10))  # noqa: S311 - no secret


# Lines get their ids in shuffled order, so that sorting by id does not bring the sender's order back either.
_INSERT_LINES = (
    "line as (insert into lines (id, company_id, entry_id, account_id, debit_cents, credit_cents, label,"
    " created_at, updated_at) select nextval('line_ids'), %(company)s, entry.id, u.*, %(now)s, %(now)s from entry,"
    " unnest(%(accounts)s::bigint[], %(debits)s::bigint[], %(credits)s::bigint[], %(labels)s::text[]) as u"
    " returning id, account_id, debit_cents, credit_cents, label, lettering),"
    " change as (insert into changes (company_id, resource, record_id, operation, processed_at, record_created_at)"
    " select %(company)s, 'ledger_entry_lines', id, 'insert', %(now)s, %(now)s from line)"
)


def _bound_lines(call: Call, lines: list[_NewLine]) -> Json:
    shuffled = random.sample(lines, len(lines))
    return {
        "company": call.company,
        "now": call.now,
        "accounts": [line.account_id for line in shuffled],
        "debits": [line.debit_cents for line in shuffled],
        "credits": [line.credit_cents for line in shuffled],
        "labels": [line.label for line in shuffled],
    }


def create_entry(call: Call) -> Answer:
    """A new entry each time: a repeat makes a duplicate, whatever its piece number (section 9)."""
    sent: Json = call.body
    when = read_day(sent["date"], "date")
    due = None if sent.get("due_date") is None else read_day(sent["due_date"], "due_date")
    lines = [_new_line(line) for line in sent["ledger_entry_lines"]]
    _require_balance((line.debit_cents, line.credit_cents) for line in lines)
    _require_journal(call, sent["journal_id"])
    numbers = _require_accounts(call, {line.account_id for line in lines})
    filename = _require_file(call, sent.get("file_attachment_id"))
    require_open(call, when)
    entry = {
        "journal_id": int(sent["journal_id"]),
        "date": when,
        "due_date": due,
        "label": sent["label"],
        "piece_number": sent.get("piece_number") or _made_piece_number(),
        "currency": sent.get("currency", "EUR"),
        "file_id": sent.get("file_attachment_id"),
    }
    # One statement for entry, lines and changelog, and no reading back: a year's bench posts through here.
    rows = call.connection.exec_driver_sql(
        "with entry as (insert into entries (id, company_id, journal_id, date, due_date, label, piece_number,"
        " currency, file_id, created_at, updated_at) values (nextval('entry_ids'), %(company)s, %(journal_id)s,"
        " %(date)s, %(due_date)s, %(label)s, %(piece_number)s, %(currency)s, %(file_id)s, %(now)s, %(now)s)"
        f" returning id), {_INSERT_LINES} select entry.id as entry_id, line.* from entry, line",
        {**entry, **_bound_lines(call, lines)},
    ).all()
    row = SimpleNamespace(id=rows[0].entry_id, filename=filename, **entry)
    written = [SimpleNamespace(**line._mapping, number=numbers[line.account_id]) for line in rows]
    return Answer(201, _written(call, row, written))


def update_entry(call: Call) -> Answer:
    """Changes an entry of an open day; still balanced at the end.

    That amounts and accounts of lettered lines cannot change, nor such lines be deleted, is our guess (section 7.4).
    """
    sent: Json = call.body
    entry = call.connection.exec_driver_sql(
        "select id, date, journal_id from entries where company_id = %(company)s and id = %(id)s for update",
        {"company": call.company, "id": call.parameters["id"]},
    ).one_or_none()
    if entry is None:
        raise not_found("LedgerEntry", call.parameters["id"])
    when = read_day(sent["date"], "date") if "date" in sent else entry.date
    if "journal_id" in sent:
        _require_journal(call, sent["journal_id"])
    _require_file(call, sent.get("file_attachment_id"))
    require_open(call, entry.date)
    if when != entry.date:
        require_open(call, when)
    moved = when != entry.date or sent.get("journal_id", entry.journal_id) != entry.journal_id
    _patch_lines(call, entry.id, sent.get("ledger_entry_lines", {}), moved=moved)
    call.connection.exec_driver_sql(
        "update entries set date = %(date)s, label = coalesce(%(label)s, label),"
        " journal_id = coalesce(%(journal)s, journal_id), piece_number = coalesce(%(piece)s, piece_number),"
        " currency = coalesce(%(currency)s, currency), file_id = coalesce(%(file)s, file_id), updated_at = %(now)s"
        " where id = %(id)s",
        {
            "date": when,
            "label": sent.get("label"),
            "journal": sent.get("journal_id"),
            "piece": sent.get("piece_number"),
            "currency": sent.get("currency"),
            "file": sent.get("file_attachment_id"),
            "now": call.now,
            "id": entry.id,
        },
    )
    changed = call.connection.exec_driver_sql(
        f"{_ENTRIES.select} where {_ENTRIES.where} and t.id = %(id)s", {"company": call.company, "id": entry.id}
    ).one()
    return Answer(200, _written(call, changed, _lines_of(call, entry.id)))


def _patch_lines(call: Call, entry_id: int, patch: Json, *, moved: bool) -> None:
    """Apply create, update and delete; a changed day or journal changes every line too, and the changelog says so."""
    created = [_new_line(line) for line in patch.get("create", ())]
    updated = {int(line["id"]): line for line in patch.get("update", ())}
    deleted = {int(line["id"]) for line in patch.get("delete", ())}
    if sum(len(patch.get(part, ())) for part in ("create", "update", "delete")) > MOST_LINES:
        raise bad_request(f"more than {MOST_LINES} lines", "MoreThanMaxItems", field="ledger_entry_lines")
    repeated = Counter([line["id"] for part in ("update", "delete") for line in patch.get(part, ())])
    if any(count > 1 for count in repeated.values()):
        raise error(422, "A line is named twice")
    present: Mapping[int, Any] = {
        row.id: row
        for row in call.connection.exec_driver_sql(
            f"select {_LINE_COLUMNS} from lines t where t.entry_id = %(entry)s order by t.id for update",
            {"entry": entry_id},
        )
    }
    for identifier in sorted(updated.keys() | deleted):
        if identifier not in present:
            raise not_found("LedgerEntryLine", identifier)
    after: dict[int, _NewLine] = {}
    for identifier, row in present.items():
        if identifier in deleted:
            continue
        change = updated.get(identifier, {})
        debit_cents, credit_cents = _read_amounts(
            change.get("debit", amount(row.debit_cents)), change.get("credit", amount(row.credit_cents))
        )
        account_id = int(change.get("ledger_account_id", row.account_id))
        after[identifier] = _NewLine(account_id, debit_cents, credit_cents, change.get("label", row.label))
    for identifier, row in present.items():
        kept = after.get(identifier)
        same = (row.account_id, row.debit_cents, row.credit_cents)
        if row.lettering is not None and (
            kept is None or (kept.account_id, kept.debit_cents, kept.credit_cents) != same
        ):
            raise error(422, f"Line {identifier} is lettered")
    if not after and not created:
        raise error(422, "An entry must have lines")
    _require_balance((line.debit_cents, line.credit_cents) for line in [*after.values(), *created])
    _require_accounts(
        call,
        {line.account_id for line in created}
        | {line.account_id for key, line in after.items() if line.account_id != present[key].account_id},
    )
    _write_patch(call, entry_id, present, after, created, touched=set(after) if moved else set(updated))


def _write_patch(
    call: Call,
    entry_id: int,
    present: Mapping[int, Any],
    after: Mapping[int, _NewLine],
    created: list[_NewLine],
    *,
    touched: set[int],
) -> None:
    for identifier in sorted(present.keys() - after.keys()):
        call.connection.exec_driver_sql("delete from lines where id = %(id)s", {"id": identifier})
        record(
            call.connection,
            call.company,
            "ledger_entry_lines",
            "delete",
            [identifier],
            call.now,
            present[identifier].created_at,
        )
    for identifier in sorted(touched):
        line = after[identifier]
        call.connection.exec_driver_sql(
            "update lines set account_id = %(account)s, debit_cents = %(debit)s, credit_cents = %(credit)s,"
            " label = %(label)s, updated_at = %(now)s where id = %(id)s",
            {
                "account": line.account_id,
                "debit": line.debit_cents,
                "credit": line.credit_cents,
                "label": line.label,
                "now": call.now,
                "id": identifier,
            },
        )
        record(
            call.connection,
            call.company,
            "ledger_entry_lines",
            "update",
            [identifier],
            call.now,
            present[identifier].created_at,
        )
    if created:
        call.connection.exec_driver_sql(
            f"with entry as (select %(entry)s::bigint as id), {_INSERT_LINES} select 1",
            {"entry": entry_id, **_bound_lines(call, created)},
        )


HANDLERS = {
    "getLedgerEntries": list_entries,
    "postLedgerEntries": create_entry,
    "getLedgerEntry": get_entry,
    "putLedgerEntries": update_entry,
    "getLedgerEntriesLedgerEntryLines": list_lines_of_entry,
    "getLedgerEntryLines": list_lines,
    "getLedgerEntryLine": get_line,
    "getLedgerEntryLinesLetteredLedgerEntryLines": list_lettered_lines,
    "getLedgerEntryLinesCategories": list_line_categories,
    "putLedgerEntryLinesCategories": set_line_categories,
}
