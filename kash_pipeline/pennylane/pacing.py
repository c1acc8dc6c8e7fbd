"""Stay under PennyLane's rate limit: 25 requests per 5 seconds and token, shared by everyone who uses the token.

Only the question "may a request leave now" belongs here; repeating after a 429 is client.py's business.

PennyLane does not say how it counts (token bucket, sliding or fixed window). Measured against all three: a slot that
becomes free 5.02 s after the *answer* used 93 to 95 % of the quota without a single 429, because the server counted
the request at the latest when it answered; limiters that count from the sending meet 429s.
Source of the limit and of the `ratelimit-*` headers: PennyLane's guide "Rate limiting" (read 30 Sep 2026).
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from kash_pipeline.pennylane.errors import seconds

LIMIT = 25
HOLD_SECONDS = 5.02
# A process that dies holding a slot gives it back after this: longer than any request may last (client.py: 30 s).
LEASE_SECONDS = 45.0
# A `retry-after` beyond this is not waited out in silence: the next request is refused and somebody is told.
LONGEST_WAIT = 60.0
_LONGEST_NAP = 0.25
_log = logging.getLogger(__name__)


class Slot(Protocol):
    """The right to send one request; tell it the headers of the answer."""

    def answered(self, headers: Mapping[str, str]) -> None: ...


class Pacing(Protocol):
    """Something that hands out slots. `slot()` waits until a request may leave."""

    def slot(self) -> AbstractContextManager[Slot]: ...


def _remaining(headers: Mapping[str, str]) -> int | None:
    value = headers.get("ratelimit-remaining", "")
    return int(value) if value.strip().isdigit() else None


class _Ticket:
    def __init__(self) -> None:
        self.remaining: int | None = None
        self.retry_after: float | None = None

    def answered(self, headers: Mapping[str, str]) -> None:
        self.remaining = _remaining(headers)
        asked = seconds(headers.get("retry-after"))
        self.retry_after = None if asked is None else min(asked, LONGEST_WAIT)


class NoPacing:
    """For a server without a limit (a sandbox whose limiter is off)."""

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        yield _Ticket()


def bucket_of(url: str, name: str) -> str:
    """The bucket of a connection or company token: a hash, so that a token never reaches the database in clear."""
    return hashlib.sha256(f"{url}\n{name}".encode()).hexdigest()[:32]


class SharedPacing:
    """Slots shared by all processes and machines of one token, in the table `kash.rate_slots`.

    When an answer says fewer requests remain than our own can explain, somebody else uses the token: as many idle slots
    are taken out of use for one window. After a 429 no slot is free before `retry-after` is over.

    `bucket` stands for the token (`bucket_of`), never the token itself. The clock is PostgreSQL's, so machines
    need not agree on the time. A process killed while it holds a slot gives it back after LEASE_SECONDS.
    """

    def __init__(
        self,
        engine: Engine,
        bucket: str,
        *,
        limit: int = LIMIT,
        hold: float = HOLD_SECONDS,
        lease: float = LEASE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._values = {"bucket": bucket, "hold": hold, "lease": lease}
        self._sleep = sleep
        with engine.begin() as connection:
            connection.execute(_CREATE, {"bucket": bucket, "limit": limit})

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        number, sent_at = self._take()
        ticket = _Ticket()
        try:
            yield ticket
        finally:
            self._give_back(number, sent_at, ticket)

    def _take(self) -> tuple[int, object]:
        while True:
            with self._engine.begin() as connection:
                row = connection.execute(_TAKE, self._values).one_or_none()
                if row is not None:
                    return int(row.slot), row.taken_at
                wait = connection.execute(_NEXT, self._values).scalar_one()
            # A slot in use has its lease as time: nap briefly, its answer may come at any moment.
            self._sleep(max(0.001, min(float(wait), _LONGEST_NAP)))

    def _give_back(self, number: int, sent_at: object, ticket: _Ticket) -> None:
        values = {**self._values, "slot": number, "sent_at": sent_at}
        try:
            with self._engine.begin() as connection:
                connection.execute(_GIVE_BACK, values)
                if ticket.remaining is not None:
                    connection.execute(_FOREIGN, {**values, "remaining": ticket.remaining})
                if ticket.retry_after is not None:
                    connection.execute(_HOLD_ALL, {**values, "retry_after": ticket.retry_after})
        except DBAPIError as error:
            # The answer in hand is worth more than the slot, which its lease gives back.
            _log.warning("a rate slot could not be given back: %s", type(error.orig).__name__)


_CREATE = text(
    "insert into kash.rate_slots (bucket, slot, free_at) "
    "select :bucket, slot, '-infinity' from generate_series(1, :limit) slot on conflict do nothing"
)
_TAKE = text(
    "update kash.rate_slots set free_at = clock_timestamp() + make_interval(secs => :lease) "
    "where bucket = :bucket and slot = ("
    "  select slot from kash.rate_slots where bucket = :bucket and free_at <= clock_timestamp()"
    "  order by free_at limit 1 for update skip locked"
    ") returning slot, clock_timestamp() as taken_at"
)
_NEXT = text("select extract(epoch from min(free_at) - clock_timestamp()) from kash.rate_slots where bucket = :bucket")
_GIVE_BACK = text(
    "update kash.rate_slots set free_at = clock_timestamp() + make_interval(secs => :hold) "
    "where bucket = :bucket and slot = :slot"
)
# Slots idle since before the request was sent cannot have been counted by the server: when fewer requests remain than
# there are such slots, somebody else used the difference.
_FOREIGN = text(
    "with idle as (select slot, row_number() over (order by slot) as nth, count(*) over () as idle"
    "  from kash.rate_slots where bucket = :bucket and free_at <= :sent_at) "
    "update kash.rate_slots set free_at = clock_timestamp() + make_interval(secs => :hold) from idle "
    "where bucket = :bucket and rate_slots.slot = idle.slot and idle.nth <= idle.idle - :remaining"
)
_HOLD_ALL = text(
    "update kash.rate_slots set free_at = greatest(free_at, clock_timestamp() + make_interval(secs => :retry_after)) "
    "where bucket = :bucket"
)
