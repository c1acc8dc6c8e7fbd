"""The fault switch: what shall go wrong, for which requests, how often.

Only the description and the matching belong here. app.py does the damage, because only it stands between the
connection and the handlers.
"""

import re
import threading
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from kash_pipeline.sandbox.errors import SandboxError

Kind = Literal[
    "refuse",  # answer `status` instead of doing anything
    "delay",  # wait `seconds`, then go on as usual
    "delay_answer",  # do it at once, keep the answer back for `seconds`
    "cut_before",  # cut the connection, nothing has happened
    "cut_after",  # do it, then cut the connection without an answer
    "error_after",  # do it, then answer `status` (500 unless told): "500 after commit"
    "rate_limit",  # a plain-text 429 with `retry-after: seconds` (at least 1)
    "expire_token",  # the access token of this request is expired from now on
    "drop_database",  # the database connection dies before the commit: 500, nothing has happened
]


@dataclass
class Fault:
    """One thing that goes wrong, `count` times (None: until cleared), after `skip` matching requests passed unharmed.

    `method` (None: any) and `path` (a regular expression searched in the path) choose the requests.
    """

    kind: Kind
    method: str | None = None
    path: str = ""
    count: int | None = 1
    skip: int = 0
    status: int = 500
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise SandboxError(
                f"{self.kind!r} is no kind of fault", next_step=f"choose one of {', '.join(get_args(Kind))}"
            )
        try:
            re.compile(self.path)
        except re.error as reason:
            raise SandboxError(
                f"path {self.path!r} of a fault is no regular expression: {reason}", next_step="correct the pattern"
            ) from None

    def matches(self, method: str, path: str) -> bool:
        return (self.method is None or self.method.upper() == method) and re.search(self.path, path) is not None


class Faults:
    """The faults that are switched on, oldest first. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self._hits: list[tuple[Kind, str, str]] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[dict[str, Any]]:
        """The faults that can still strike, as plain values."""
        with self._lock:
            return [asdict(fault) for fault in self._waiting]

    def hits(self) -> list[tuple[Kind, str, str]]:
        """What struck so far: (kind, method, path), oldest first."""
        with self._lock:
            return list(self._hits)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request, if any; it is used up by that."""
        with self._lock:
            for fault in self._waiting:
                if not fault.matches(method, path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count <= 0:
                        self._waiting.remove(fault)
                self._hits.append((fault.kind, method, path))
                return fault
        return None
