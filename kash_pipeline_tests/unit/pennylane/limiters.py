"""The three ways a server may count 25 requests in 5 seconds, and simulated time to meet them in."""

import heapq
import random
from collections import deque
from collections.abc import Callable


class TokenBucket:
    """A bucket of `limit` that refills evenly."""

    def __init__(self, limit: int = 25, window: float = 5.0) -> None:
        self.limit, self.window, self.level, self.at = limit, window, float(limit), 0.0

    def admits(self, now: float) -> tuple[bool, int]:
        self.level = min(self.limit, self.level + (now - self.at) * self.limit / self.window)
        self.at = now
        if self.level < 1:
            return False, 0
        self.level -= 1
        return True, int(self.level)


class SlidingWindow:
    """At most `limit` in any `window` seconds."""

    def __init__(self, limit: int = 25, window: float = 5.0) -> None:
        self.limit, self.window, self.times = limit, window, deque[float]()

    def admits(self, now: float) -> tuple[bool, int]:
        while self.times and self.times[0] <= now - self.window:
            self.times.popleft()
        if len(self.times) >= self.limit:
            return False, 0
        self.times.append(now)
        return True, self.limit - len(self.times)


class FixedWindow:
    """At most `limit` in each window of the clock."""

    def __init__(self, limit: int = 25, window: float = 5.0, offset: float = 1.7) -> None:
        self.limit, self.window, self.offset, self.number, self.count = limit, window, offset, -1, 0

    def admits(self, now: float) -> tuple[bool, int]:
        number = int((now + self.offset) // self.window)
        if number != self.number:
            self.number, self.count = number, 0
        if self.count >= self.limit:
            return False, 0
        self.count += 1
        return True, self.limit - self.count


LIMITERS: dict[str, Callable[[], "TokenBucket | SlidingWindow | FixedWindow"]] = {
    "token": TokenBucket,
    "sliding": SlidingWindow,
    "fixed": FixedWindow,
}


class Simulation:
    """Simulated time for concurrent senders: `clock` reads it, events advance it.

    A request travels `uplink` seconds before the server counts it and `downlink` seconds back (5-60 ms each way, one in
    fifty takes 400 ms, as in the project's measurements).
    """

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def clock(self) -> float:
        return self.now

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + delay, self._number, action))

    def leg(self) -> float:
        return 0.4 if self.random.random() < 0.02 else self.random.uniform(0.005, 0.06)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
