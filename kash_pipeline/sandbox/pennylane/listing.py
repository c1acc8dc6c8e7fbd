"""Cursor paging, filters and sorting, the same for every list.

A cursor holds a position and nothing else, so filters and sort that are not sent again are forgotten
(pennylane-api.md section 5). Which columns a list has and how a row is written belongs to the modules of the records.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import orjson

from kash_pipeline.sandbox.pennylane.answers import Json, bad_request, not_found
from kash_pipeline.sandbox.pennylane.call import Answer, Call

_COMPARISONS = {"eq": "=", "not_eq": "is distinct from", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}


@dataclass(frozen=True)
class Column:
    """SQL expression of a filter field, and how the value of a condition is read."""

    sql: str
    kind: Literal["id", "day", "text", "flag", "texts"] = "text"


@dataclass(frozen=True)
class Listing:
    """A list: its SELECT (aliased columns only), the condition that is always true of it, and what can be asked.

    `order` maps a sort word to (SQL expression, row key, SQL type); the first is the default and breaks ties.
    """

    select: str
    where: str
    order: Mapping[str, tuple[str, str, str]]
    filters: Mapping[str, Column] = field(default_factory=dict)
    default_sort: str = "-id"


def listed(call: Call, listing: Listing, render: Callable[[Any], Json], **bound: Any) -> Answer:
    """One page as PennyLane answers it; raises a 400 for a bad cursor or condition value."""
    parameters = call.parameters
    values = {"company": call.company, **bound}
    conditions = [listing.where]
    for number, condition in enumerate(parameters.get("filter") or ()):
        conditions.append(_condition(listing.filters[condition["field"]], condition, f"f{number}", values))
    sort = str(parameters.get("sort") or listing.default_sort)
    word, descending = sort.removeprefix("-"), sort.startswith("-")
    expression, _, sql_type = listing.order[word]
    unique, _, unique_type = next(iter(listing.order.values()))
    direction = "desc" if descending else "asc"
    if parameters.get("cursor"):
        position = _position(str(parameters["cursor"]), listing)
        values |= {"at": position[word], "at_unique": position[next(iter(listing.order))]}
        side = "<" if descending else ">"
        conditions.append(f"({expression}, {unique}) {side} (%(at)s::{sql_type}, %(at_unique)s::{unique_type})")
    limit = int(parameters["limit"])
    values["limit"] = limit + 1
    rows = call.connection.exec_driver_sql(
        f"{listing.select} where {' and '.join(conditions)}"
        f" order by {expression} {direction}, {unique} {direction} limit %(limit)s",
        values,
    ).all()
    more = len(rows) > limit
    answer: Json = {
        "items": [render(row) for row in rows[:limit]],
        "has_more": more,
        "next_cursor": _cursor(rows[limit - 1], listing) if more else None,
    }
    return _paged(call, answer)


def empty(call: Call) -> Answer:
    """The page of a list that has nothing in this sandbox (bank transactions, webhooks, categories)."""
    return _paged(call, {"items": [], "has_more": False, "next_cursor": None})


def one(call: Call, listing: Listing, what: str, **bound: Any) -> Any:
    """The row of the record whose id is in the path, or a 404: also when it belongs to another company."""
    row = call.connection.exec_driver_sql(
        f"{listing.select} where {listing.where} and t.id = %(id)s",
        {"company": call.company, "id": call.parameters["id"], **bound},
    ).one_or_none()
    if row is None:
        raise not_found(what, call.parameters["id"])
    return row


def _paged(call: Call, answer: Json) -> Answer:
    if call.operation.old_paging_keys:
        # Still sent in July 2026, all null, though no longer described (section 5).
        answer |= {"total_pages": None, "current_page": None, "per_page": None, "total_items": None}
    return Answer(200, answer)


def _cursor(row: Any, listing: Listing) -> str:
    position = {word: str(getattr(row, key)) for word, (_, key, _) in listing.order.items()}
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode()


def _position(cursor: str, listing: Listing) -> dict[str, Any]:
    try:
        position = orjson.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        return {
            word: _read(position[word], "day" if sql_type == "date" else "text" if sql_type == "text" else "id")
            for word, (_, _, sql_type) in listing.order.items()
        }
    except (ValueError, TypeError, KeyError):
        raise bad_request("Invalid cursor", "ValidateError", field="cursor") from None


def _condition(column: Column, condition: Json, name: str, values: dict[str, Any]) -> str:
    operator, given = condition["operator"], condition["value"]
    try:
        value = [_read(part, column.kind) for part in given] if isinstance(given, list) else _read(given, column.kind)
        if isinstance(value, list) and column.kind == "id":
            value = [part for part in value if abs(part) < 2**63]  # a larger id is nobody's
    except (ValueError, TypeError):
        raise bad_request(
            f"invalid value for filter {condition['field']}", "ValidateError", field="filter", payload=given
        ) from None
    values[name] = value
    if operator == "start_with":
        return f"starts_with({column.sql}, %({name})s)"
    if operator in ("in", "not_in"):
        cast = {"id": "::bigint[]", "day": "::date[]"}.get(column.kind, "::text[]")
        test = (
            f"{column.sql} && %({name})s{cast}" if column.kind == "texts" else f"{column.sql} = any(%({name})s{cast})"
        )
        return test if operator == "in" else f"({test}) is not true"
    return f"{column.sql} {_COMPARISONS[operator]} %({name})s"


def _read(value: Any, kind: str) -> Any:
    if kind == "id":
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    if kind == "day":
        return date.fromisoformat(value)
    if kind == "flag":
        if str(value).lower() not in ("true", "false"):
            raise ValueError
        return str(value).lower() == "true"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
