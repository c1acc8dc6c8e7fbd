"""The decision of pacing.py's SQL in a few lines of Python, with any clock: what simulations of a server drive.

Only this model belongs here; test_shared_pacing.py holds the SQL against it, test_pacing.py what it decides against
three ways a server may count.
"""

from kash_pipeline.pennylane.pacing import HOLD_SECONDS, LIMIT


class Slots:
    """`limit` slots, each with the time it becomes free (seconds; infinite while its request is under way)."""

    def __init__(self, limit: int = LIMIT, hold: float = HOLD_SECONDS) -> None:
        self._hold = hold
        self.free_at = [float("-inf")] * limit

    def take(self, now: float) -> tuple[int | None, float]:
        """(slot, 0) when a request may leave, else (None, seconds until a slot may be free; infinite when only an
        answer can set one free)."""
        number = min(range(len(self.free_at)), key=self.free_at.__getitem__)
        wait = self.free_at[number] - now
        if wait > 0:
            return None, wait
        self.free_at[number] = float("inf")
        return number, 0.0

    def give_back(
        self, number: int, sent_at: float, now: float, remaining: int | None = None, retry_after: float | None = None
    ) -> None:
        """The request of slot `number`, sent at `sent_at`, ended now; `remaining`, `retry_after` as its answer says."""
        self.free_at[number] = now + self._hold
        if remaining is not None:
            # Slots idle since before this request was sent cannot have been counted by the server.
            idle = [i for i, free_at in enumerate(self.free_at) if free_at <= sent_at]
            for foreign in idle[: max(0, len(idle) - remaining)]:
                self.free_at[foreign] = now + self._hold
        if retry_after is not None:
            until = now + retry_after
            self.free_at = [max(free_at, until) for free_at in self.free_at]
