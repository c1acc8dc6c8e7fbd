"""The fault switch of the Kash.click stand-in: what goes wrong, at which script, how many times.

Only for tests and trials: the switch is passed to `create_app` by whoever starts the server; no request can turn it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.responses import HTMLResponse, Response

Fault = Literal["down", "slow", "cut", "html", "truncated", "rubbish", "error_body", "throttled"]
"""
down        503 with an HTML page
slow        the right answer, `seconds` later
cut         half of the bytes announced, then the connection ends
html        200 with an HTML page where JSON was asked for
truncated   200 with the first half of the JSON, well-formed HTTP
rubbish     200 with bytes that are no text
error_body  200 with {"success": false, "result": ...}
throttled   429 with Retry-After: 1
"""

_PAGE = "<!DOCTYPE html><html><head><title>Kash.click</title></head><body><h1>{}</h1></body></html>"


@dataclass
class Faults:
    """`set` turns one fault on for the next `times` requests (None: until `clear`) of one script, or of all.

    `reshape(script, body)` may change every decoded JSON answer before it is sent: a field renamed, retyped or added.
    `hidden` orders are nowhere (made offline, not yet synchronised); `changed` edits whole orders by id, in the list,
    in detail and in the report alike. `revoked`: the key is not accepted any more; `revoke_after` turns it so after as
    many requests. `seen` holds the scripts asked for, the last hundred thousand.
    """

    fault: Fault | None = None
    script: str | None = None
    times: int | None = None
    seconds: float = 0.0
    message: str = "Internal error 42"
    reshape: Callable[[str, Any], Any] | None = None
    hidden: set[str] = field(default_factory=set)
    changed: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    revoked: bool = False
    revoke_after: int | None = None
    seen: deque[str] = field(default_factory=lambda: deque(maxlen=100_000))

    def set(
        self,
        fault: Fault,
        *,
        script: str | None = None,
        times: int | None = None,
        seconds: float = 0.0,
        message: str = "Internal error 42",
    ) -> None:
        self.fault, self.script, self.times, self.seconds, self.message = fault, script, times, seconds, message

    def clear(self) -> None:
        """No fault, no edit, the key valid."""
        self.fault, self.reshape, self.revoked, self.revoke_after = None, None, False, None
        self.hidden.clear()
        self.changed.clear()

    def _due(self, script: str) -> Fault | None:
        self.seen.append(script)
        if self.revoke_after is not None:
            self.revoke_after -= 1
            self.revoked = self.revoked or self.revoke_after <= 0
        if self.fault is None or (self.script is not None and script != self.script) or self.times == 0:
            return None
        if self.times is not None:
            self.times -= 1
        return self.fault

    async def apply(self, script: str, answer: Response) -> Response:
        """The answer, or what the fault makes of it."""
        fault = self._due(script)
        body = bytes(answer.body)
        if fault == "slow":
            await asyncio.sleep(self.seconds)
        elif fault == "down":
            return HTMLResponse(_PAGE.format("Service temporairement indisponible"), status_code=503)
        elif fault == "throttled":
            return Response("Too many requests", status_code=429, headers={"Retry-After": "1"})
        elif fault == "html":
            return HTMLResponse(_PAGE.format("Maintenance en cours"))
        elif fault == "truncated":
            return Response(body[: len(body) // 2], media_type="application/json")
        elif fault == "cut":
            return Response(body[: len(body) // 2], headers={"Content-Length": str(len(body))})
        elif fault == "rubbish":
            return Response(bytes(range(128, 256)) * 40, media_type="application/json")
        elif fault == "error_body":
            return Response(f'{{"success": false, "result": "{self.message}"}}', media_type="application/json")
        return answer
