"""The forms in which PennyLane answers: amounts, instants, error bodies.

Only rendering belongs here. When an error is raised belongs to checks.py (the request does not fit the contract)
and to the modules of the records (an accounting rule is broken).
"""

from datetime import UTC, date, datetime
from typing import Any

import orjson
from starlette.responses import Response

Json = dict[str, Any]


class Problem(Exception):
    """An answer other than success; the transaction is rolled back and nothing has happened.

    `keep` says that the transaction is committed all the same (a used code or token stays used).
    """

    def __init__(self, status: int, body: Json, *, keep: bool = False) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.keep = keep


def bad_request(message: str, code: str | None = None, *, field: str | None = None, payload: Any = None) -> Problem:
    """400 in one of the shapes of the contract: message, and with a code also field and payload when known."""
    body: Json = {"message": message}
    if code is not None:
        body |= {"code": code}
        if field is not None:
            body |= {"field": field}
        if payload is not None:
            body |= {"payload": payload if isinstance(payload, str) else orjson.dumps(payload, default=str).decode()}
    return Problem(400, body)


def error(status: int, text: str) -> Problem:
    """The `{error, status}` shape: the one of the official description and the only one ever recorded (section 6)."""
    return Problem(status, {"error": text, "status": status})


def not_found(what: str, identifier: object) -> Problem:
    """404 with the text seen in recordings since the 2026 changes (section 2.1)."""
    return error(404, f"Couldn't find {what} with 'id'={identifier}")


def amount(cents: int) -> str:
    """Cents as PennyLane writes amounts: 10000 is `"100.0"`, 1250 is `"12.5"`, 1234 is `"12.34"` (section 2)."""
    sign = "-" if cents < 0 else ""
    whole, rest = divmod(abs(cents), 100)
    return f"{sign}{whole}.{rest:02d}".removesuffix("0") if rest else f"{sign}{whole}.0"


def cents(text: str) -> int | None:
    """`"100.00"` to 10000, the empty string to 0; None when it is finer than a cent or beyond 15 digits."""
    whole, _, rest = text.removeprefix("-").partition(".")
    rest = rest.rstrip("0")
    if len(rest) > 2 or len(whole.lstrip("0")) > 13:
        return None
    value = int(whole or "0") * 100 + int(rest.ljust(2, "0"))
    return -value if text.startswith("-") else value


def instant(moment: datetime) -> str:
    """RFC 3339 with microseconds and Z, as recorded (section 2)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def day(value: date | None) -> str | None:
    return None if value is None else value.isoformat()


def read_day(text: str, field: str) -> date:
    """A date the contract's format check let through; year 0000 is one that Python has not. Raises a 400."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise bad_request(f"{text} isn't a date", "InvalidDateFormat", field=field) from None


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)
