"""What the sandbox was asked, kept for tests to count.

Only remembering belongs here. Answering belongs to app.py.
"""

import re
import threading
from collections import deque
from dataclasses import dataclass

KEPT = 200_000
"""The newest requests that are remembered: more than a publisher's whole year at `order` granularity."""


@dataclass(frozen=True)
class Seen:
    """One request. `status` is 0 when the connection was cut instead of answered."""

    method: str
    path: str
    query: str
    status: int
    grant_type: str = ""


class Requests:
    """The requests seen since the start (or `clear`). Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: deque[Seen] = deque(maxlen=KEPT)

    def add(self, seen: Seen) -> None:
        with self._lock:
            self._seen.append(seen)

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()

    def all(self) -> list[Seen]:
        with self._lock:
            return list(self._seen)

    def count(self, method: str | None = None, path: str = "", status: int | None = None) -> int:
        """How many requests had this method, a path in which the regular expression `path` is found, this status."""
        return sum(
            (method is None or seen.method == method)
            and re.search(path, seen.path) is not None
            and (status is None or seen.status == status)
            for seen in self.all()
        )

    def refreshes(self) -> int:
        """How many times a refresh token was sent, with whatever outcome."""
        return sum(seen.grant_type == "refresh_token" for seen in self.all())
