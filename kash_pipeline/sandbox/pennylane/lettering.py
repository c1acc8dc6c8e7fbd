"""Lettering lines together and taking them out again.

Only groups of lines belong here. How a group shows in a line belongs to entries.py.
"""

from collections.abc import Sequence
from typing import Any

from kash_pipeline.sandbox.pennylane.answers import error, not_found
from kash_pipeline.sandbox.pennylane.call import Answer, Call

_SELECT = (
    "select l.id, l.account_id, l.debit_cents, l.credit_cents, l.lettering, a.number, a.letterable"
    " from lines l join accounts a on a.id = l.account_id where l.company_id = %(company)s"
)


def _named_lines(call: Call) -> list[Any]:
    wanted = [int(line["id"]) for line in call.body["ledger_entry_lines"]]
    rows = {
        row.id: row
        for row in call.connection.exec_driver_sql(
            f"{_SELECT} and l.id = any(%(ids)s::bigint[]) order by l.id for update of l",
            {"company": call.company, "ids": [identifier for identifier in wanted if identifier < 2**63]},
        )
    }
    for identifier in wanted:
        if identifier not in rows:
            raise not_found("LedgerEntryLine", identifier)
    return list(rows.values())


def _groups_of(call: Call, lines: Sequence[Any]) -> list[Any]:
    """Every line of the groups these lines belong to."""
    groups = sorted({line.lettering for line in lines if line.lettering is not None})
    if not groups:
        return []
    return list(
        call.connection.exec_driver_sql(
            f"{_SELECT} and l.lettering = any(%(groups)s::bigint[]) order by l.id for update of l",
            {"company": call.company, "groups": groups},
        )
    )


def _refuse_unbalanced(call: Call, lines: Sequence[Any]) -> None:
    unbalanced = sum(line.debit_cents - line.credit_cents for line in lines) != 0
    if unbalanced and call.body["unbalanced_lettering_strategy"] == "none":
        raise error(422, "The lettered lines are not balanced")


def _set_group(call: Call, ids: list[int], group: int | None) -> None:
    call.connection.exec_driver_sql(
        "with line as (update lines set lettering = %(group)s, updated_at = %(now)s where id = any(%(ids)s::bigint[])"
        " returning id, created_at)"
        " insert into changes (company_id, resource, record_id, operation, processed_at, record_created_at)"
        " select %(company)s, 'ledger_entry_lines', id, 'update', %(now)s, created_at from line",
        {"group": group, "now": call.now, "ids": ids, "company": call.company},
    )


def letter(call: Call) -> Answer:
    """One group of the named lines and of the groups they were in (section 7.5).

    422 for an unbalanced group under strategy `none`, and, our guess, for an account that is not letterable, for
    lines of several accounts, and for fewer than two different lines.
    """
    lines = {line.id: line for line in _named_lines(call)}
    lines |= {line.id: line for line in _groups_of(call, list(lines.values()))}
    for line in lines.values():
        if not line.letterable:
            raise error(422, f"Ledger account {line.number} is not letterable")
    if len(lines) < 2:
        raise error(422, "At least two different lines are needed")
    if len({line.account_id for line in lines.values()}) > 1:
        raise error(422, "Lettered lines must be on the same ledger account")
    _refuse_unbalanced(call, list(lines.values()))
    ids = sorted(lines)
    _set_group(call, ids, ids[0])
    return Answer(200, [{"id": identifier} for identifier in ids])


def unletter(call: Call) -> Answer:
    """Take the named lines out of their groups. A group left with one line is dissolved.

    That `none` refuses to leave an unbalanced rest is our reading of the strategy.
    """
    named = {line.id for line in _named_lines(call)}
    members = _groups_of(call, _named_lines(call))
    groups: dict[int, list[Any]] = {}
    for line in members:
        groups.setdefault(line.lettering, []).append(line)
    for group in groups.values():
        rest = [line for line in group if line.id not in named]
        if len(rest) == 1:
            rest = []
        _refuse_unbalanced(call, rest)
        _set_group(call, [line.id for line in group if line not in rest], None)
        if rest:
            _set_group(call, [line.id for line in rest], min(line.id for line in rest))
    return Answer(204)


HANDLERS = {
    "postLedgerEntryLinesLetter": letter,
    "deleteLedgerEntryLinesUnletter": unletter,
}
