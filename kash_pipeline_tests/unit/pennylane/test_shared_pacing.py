"""Several processes of one token together stay under the limit, through PostgreSQL; a dead one gives its slot back."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from kash_pipeline.pennylane.pacing import LONGEST_WAIT, SharedPacing, Slot, bucket_of
from kash_pipeline.warehouse.database import open_engine, upgrade
from kash_pipeline_tests.unit.pennylane.slots import Slots

# Holds a slot, prints a time of PostgreSQL's clock at the sending, and frees the slot: what a publisher does.
SENDER = """
import sys
from sqlalchemy import text
from kash_pipeline.pennylane.pacing import SharedPacing
from kash_pipeline.warehouse.database import open_engine
engine = open_engine(sys.argv[1])
pacing = SharedPacing(engine, "t", limit=5, hold=0.3)
for _ in range(10):
    with pacing.slot() as slot:
        with engine.connect() as connection:
            print(connection.execute(text("select extract(epoch from clock_timestamp())")).scalar_one(), flush=True)
        slot.answered({})
engine.dispose()
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()


def test_processes_share_the_slots_of_one_token(engine: Engine, database_url: str) -> None:
    senders = [
        subprocess.Popen([sys.executable, "-c", SENDER, database_url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    times = sorted(float(line) for sender in senders for line in sender.communicate(timeout=60)[0].split())
    assert len(times) == 30
    # The sixth request after any other comes at least one hold (0.3 s) later, whichever process sent it.
    assert min(later - earlier for earlier, later in zip(times, times[5:], strict=False)) >= 0.3


def test_a_slot_of_a_killed_process_comes_back_after_its_lease(engine: Engine) -> None:
    dead = SharedPacing(engine, "t", limit=1, hold=0.1, lease=0.4)
    held = dead.slot()
    held.__enter__()  # and never leaves, like a process killed while it waits for an answer
    start = time.monotonic()
    with SharedPacing(engine, "t", limit=1).slot():
        waited = time.monotonic() - start
    assert waited >= 0.39
    del held


def test_the_database_decides_as_the_model_that_was_simulated(engine: Engine) -> None:
    """Six hundred steps at random: slots taken and given back, foreign use, 429s, each at the same clock as the model.

    The clock that the statements read is replaced by one of the test's own, found first on the search path.
    """
    at = random.Random(6)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create schema stopped; create table stopped.clock as select timestamptz '2026-03-01' as now;"
            "create function stopped.clock_timestamp() returns timestamptz language sql as"
            " 'select now from stopped.clock'"
        )

    @event.listens_for(engine, "connect")
    def stopped_clock(connection: Any, _record: object) -> None:
        connection.execute("set search_path = stopped, pg_catalog")

    engine.dispose()
    start, now = datetime(2026, 3, 1, tzinfo=UTC), 0.0
    model, pacing = (
        Slots(limit=6, hold=2.0),
        SharedPacing(engine, "t", limit=6, hold=2.0, lease=FOR_EVER, sleep=hopeless),
    )
    under_way: list[tuple[int, float, ExitStack, Slot]] = []
    for _ in range(600):
        now = round(now + at.choice([0.0, 0.05, 0.4, 1.1]), 3)
        with engine.begin() as connection:
            connection.execute(text("update stopped.clock set now = :now"), {"now": start + timedelta(seconds=now)})
        if under_way and at.random() < 0.5:
            number, sent_at, stack, slot = under_way.pop(at.randrange(len(under_way)))
            remaining = at.choice([None, None, 0, 1, 3, 6])
            retry_after = at.choice([None, None, None, 3.0])
            found = {"ratelimit-remaining": remaining, "retry-after": retry_after}
            slot.answered({name: str(value) for name, value in found.items() if value is not None})
            stack.close()
            model.give_back(number, sent_at, now, remaining, retry_after)
        else:
            taken, _ = model.take(now)
            stack = ExitStack()
            if taken is None:
                with pytest.raises(Hopeless):
                    stack.enter_context(pacing.slot())
                continue
            under_way.append((taken, now, stack, stack.enter_context(pacing.slot())))
        assert free_times(engine, start) == sorted(round(free_at, 3) for free_at in model.free_at)


class Hopeless(Exception):
    """No slot is free."""


FOR_EVER = 1e8


def hopeless(_seconds: float) -> None:
    raise Hopeless


def free_times(engine: Engine, start: datetime) -> list[float]:
    """When slots become free, in seconds since `start`; one whose request is under way: never."""
    with engine.connect() as connection:
        found = connection.execute(
            text("select extract(epoch from free_at - :start) from kash.rate_slots"), {"start": start}
        )
        times = [float(seconds) for seconds in found.scalars()]
    return sorted(float("inf") if seconds >= FOR_EVER else round(seconds, 3) for seconds in times)


def test_a_retry_after_of_hours_does_not_hang_a_run_in_silence(engine: Engine) -> None:
    with SharedPacing(engine, "t", limit=1).slot() as slot:
        slot.answered({"retry-after": "80000"})
    with engine.connect() as connection:
        query = text("select extract(epoch from max(free_at) - clock_timestamp()) from kash.rate_slots")
        assert LONGEST_WAIT - 1 < connection.execute(query).scalar_one() <= LONGEST_WAIT


def test_a_429_and_foreign_use_hold_all_processes(engine: Engine) -> None:
    pacing = SharedPacing(engine, "t", limit=5, hold=0.2)
    with pacing.slot() as slot:
        slot.answered({"ratelimit-remaining": "1"})
    assert free_slots(engine) == 1
    with pacing.slot() as slot:
        slot.answered({"retry-after": "7", "ratelimit-remaining": "0"})
    assert free_slots(engine) == 0
    with engine.connect() as connection:
        earliest = connection.execute(
            text("select extract(epoch from min(free_at) - clock_timestamp()) from kash.rate_slots")
        ).scalar_one()
    assert 6.0 < earliest <= 7.0


def test_the_bucket_of_a_token_does_not_tell_the_token() -> None:
    assert "s3cret" not in bucket_of("https://app.pennylane.com", "s3cret")


def free_slots(engine: Engine) -> int:
    with engine.connect() as connection:
        query = text("select count(*) from kash.rate_slots where free_at <= clock_timestamp()")
        return int(connection.execute(query).scalar_one())
