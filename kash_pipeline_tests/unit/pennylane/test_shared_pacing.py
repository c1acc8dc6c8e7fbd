"""Several processes of one token together stay under the limit, through PostgreSQL; a dead one gives its slot back."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from kash_pipeline.pennylane.pacing import SharedPacing, bucket_of
from kash_pipeline.warehouse.database import open_engine, upgrade

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
