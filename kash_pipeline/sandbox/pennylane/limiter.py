"""Count requests per token as PennyLane may do it: 25 in 5 seconds, by token bucket, sliding or fixed window.

Only counting belongs here; the headers and the 429 made of it are app.py's. PennyLane does not say how it counts
(pennylane-api.md section 4), so a client has to live with all three. Counts are kept in memory: a restarted sandbox
starts counting anew.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

Mode = Literal["token", "sliding", "fixed"]

LIMIT = 25
WINDOW_SECONDS = 5.0


@dataclass(frozen=True)
class Verdict:
    """Whether the request may pass; how many may still, when the window ends (Unix s), seconds to wait if refused."""

    allowed: bool
    remaining: int
    reset: int
    retry_after: int


class _Counter(Protocol):
    def take(self, now: float) -> Verdict: ...


@dataclass
class _TokenBucket:
    """Refills at 5 a second up to 25: a burst after a pause may be followed by 25 more within 5 s."""

    level: float = LIMIT
    seen: float = 0.0

    def take(self, now: float) -> Verdict:
        rate = LIMIT / WINDOW_SECONDS
        self.level = min(float(LIMIT), self.level + max(0.0, now - self.seen) * rate)
        self.seen = now
        allowed = self.level >= 1
        if allowed:
            self.level -= 1
        full_at = now + (LIMIT - self.level) / rate
        return Verdict(allowed, int(self.level), math.ceil(full_at), max(1, math.ceil((1 - self.level) / rate)))


@dataclass
class _SlidingWindow:
    """No more than 25 accepted in any 5 s; refused requests do not count."""

    accepted: deque[float] = field(default_factory=deque)

    def take(self, now: float) -> Verdict:
        while self.accepted and self.accepted[0] <= now - WINDOW_SECONDS:
            self.accepted.popleft()
        allowed = len(self.accepted) < LIMIT
        if allowed:
            self.accepted.append(now)
        free_at = self.accepted[0] + WINDOW_SECONDS
        return Verdict(allowed, LIMIT - len(self.accepted), math.ceil(free_at), max(1, math.ceil(free_at - now)))


@dataclass
class _FixedWindow:
    """25 per window of the clock, windows starting at multiples of 5 s."""

    window: int = -1
    count: int = 0

    def take(self, now: float) -> Verdict:
        window = int(now // WINDOW_SECONDS)
        if window != self.window:
            self.window, self.count = window, 0
        allowed = self.count < LIMIT
        if allowed:
            self.count += 1
        ends = (window + 1) * WINDOW_SECONDS
        return Verdict(allowed, LIMIT - self.count, math.ceil(ends), max(1, math.ceil(ends - now)))


_MODES: dict[Mode, Callable[[], _Counter]] = {
    "token": _TokenBucket,
    "sliding": _SlidingWindow,
    "fixed": _FixedWindow,
}


class Limiter:
    """One counter per token. Used from the server's event loop only, so without a lock."""

    def __init__(self, mode: Mode) -> None:
        self._make = _MODES[mode]
        self._counters: dict[str, _Counter] = {}

    def take(self, token: str, now: float) -> Verdict:
        """Count one request of `token` at Unix time `now` (seconds)."""
        return self._counters.setdefault(token, self._make()).take(now)
