"""What Kash.click's webhook sends: orders validated and paid, registers opened and closed. UNCONFIRMED.

Only reading an event belongs here; receiving it is web/webhook.py. Fields are those of the documentation (kash-api.md
section 6); body encoding and date format are documented nowhere, so JSON and forms, ISO dates (with or without offset)
and Unix seconds are understood. An event is a hint that something happened, never the only source of an order.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from kash_pipeline.pos import cells
from kash_pipeline.pos.errors import SourceChanged
from kash_pipeline.pos.kash_api.days import business_days
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.schemas.facts import CLOSINGS

ORDER_EVENTS = ("validated", "terminated")
CLOSE, OPEN = "cashBox_close", "cashBox_open"
KINDS = (*ORDER_EVENTS, CLOSE, OPEN)
CALL = "webhook"
"""Raw events are filed under `webhook.<kind>`."""
LONGEST_ID = 64

_NEXT_STEP = "look at the kept raw event and correct pos/kash_api/events.py"


@dataclass(frozen=True)
class Event:
    """One call of the webhook.

    key     what makes it the same event when it comes again: kind with the order's internal id, or with the closing
    kind    one of KINDS
    moment  when it happened: value date of an order, closing time of a register
    opened, total_cents   of a closing
    """

    key: str
    kind: str
    moment: datetime
    opened: datetime | None = None
    total_cents: int | None = None


def read_event(body: bytes, zone: ZoneInfo, received: datetime) -> Event:
    """The event in a body. `received` stands for a date that is missing. Raises SourceChanged for anything else."""
    fields = _fields(body)
    kind = fields.get("type")
    if kind not in KINDS:
        raise SourceChanged(f"webhook: type {str(kind)[:40]!r} is none of {', '.join(KINDS)}", next_step=_NEXT_STEP)
    if kind in ORDER_EVENTS:
        order = fields.get("orderInternalID") or fields.get("orderID")
        if not isinstance(order, str | int) or isinstance(order, bool):
            raise SourceChanged("webhook: an order event without orderInternalID", next_step=_NEXT_STEP)
        if not str(order).isprintable() or len(str(order)) > LONGEST_ID:
            raise SourceChanged(f"webhook: orderInternalID is {str(order)[:40]!r}, no id", next_step=_NEXT_STEP)
        told = fields.get("valueDate") or fields.get("validationDate")
        return Event(f"{kind}:{order}", kind, _moment(told, zone, "valueDate") or received)
    closed = _moment(fields.get("closed"), zone, "closed")
    opened = _moment(fields.get("opened"), zone, "opened")
    if kind == OPEN:
        digest = hashlib.sha256(body).hexdigest()[:16]
        return Event(f"{kind}:{digest}", kind, opened or received)
    if closed is None:
        raise SourceChanged("webhook: a closing without the field 'closed'", next_step=_NEXT_STEP)
    # No closing id and no register is sent: two registers closed in the same second with the same total are one event.
    total = _cents(fields.get("Total", fields.get("total")))
    return Event(f"{kind}:{closed.isoformat()}:{total}", kind, closed, opened, total)


def closings(bodies: Iterable[bytes], register: str, zone: ZoneInfo, starts_at: time) -> pd.DataFrame:
    """`schemas.facts.CLOSINGS` of raw closing events of a shop with one register: opened, closed and total.

    Counts, floats and the perpetual total are not sent.
    """
    found = {}
    for body in bodies:
        event = read_event(body, zone, datetime.now(UTC))
        if event.kind == CLOSE:
            found[event.key] = event
    if not found:
        return empty(CLOSINGS)
    events = sorted(found.values(), key=lambda event: event.moment)
    return conform(
        pd.DataFrame(
            {
                "closing_id": [f"W-{event.moment:%Y%m%dT%H%M%SZ}" for event in events],
                "register_id": register,
                "business_day": [pd.Timestamp(day_of(event.moment, zone, starts_at)) for event in events],
                "opened_at": [event.opened for event in events],
                "closed_at": [event.moment for event in events],
                "total_cents": pd.array([event.total_cents for event in events], dtype="Int64"),
            }
        ),
        CLOSINGS,
    )


def day_of(moment: datetime, zone: ZoneInfo, starts_at: time) -> date:
    """The business day of an instant."""
    at = np.array([np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")])
    found: date = business_days(at, zone, starts_at)[0].item()
    return found


def _fields(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8")
        fields = json.loads(text, parse_float=str)
    except UnicodeDecodeError:
        raise SourceChanged("webhook: the body is no UTF-8 text", next_step=_NEXT_STEP) from None
    except (ValueError, RecursionError):
        fields = dict(parse_qsl(text))
    if not isinstance(fields, dict) or not fields:
        raise SourceChanged("webhook: the body is neither a JSON object nor a form", next_step=_NEXT_STEP)
    return fields


def _moment(value: Any, zone: ZoneInfo, name: str) -> datetime | None:
    if value in (None, ""):
        return None
    text = str(value)
    try:
        if re.fullmatch(r"\d{9,10}", text, re.ASCII):
            return datetime.fromtimestamp(int(text), UTC)
        moment = datetime.fromisoformat(text)
        if not cells.DAY_MIN <= moment.date() <= cells.DAY_MAX:
            raise ValueError
    except ValueError:
        raise SourceChanged(f"webhook: field {name!r} is {text[:40]!r}, no date", next_step=_NEXT_STEP) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def _cents(value: Any) -> int | None:
    if value in (None, ""):
        return None
    match = re.fullmatch(r"(-?)(\d{1,10})(?:[.,](\d{1,2}))?", str(value), re.ASCII)
    if match is None:
        raise SourceChanged(f"webhook: Total is {str(value)[:40]!r}, no amount", next_step=_NEXT_STEP)
    cents = int(match[2]) * 100 + int((match[3] or "").ljust(2, "0"))
    return -cents if match[1] else cents
