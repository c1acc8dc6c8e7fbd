"""The quota is used and never overdrawn, however the server counts and whoever shares the token."""

import pytest

from kash_pipeline.pennylane.pacing import HOLD_SECONDS, LIMIT
from kash_pipeline_tests.unit.pennylane.limiters import LIMITERS, Simulation
from kash_pipeline_tests.unit.pennylane.slots import Slots

TWO_MINUTES = 120.0
PERMITTED = TWO_MINUTES / 5 * LIMIT


def two_minutes(limiter: str, seed: int, *, senders: int = 8) -> tuple[int, int]:
    """(accepted, refused) of our requests in two simulated minutes of senders that always have something to send."""
    world, server, slots = Simulation(seed), LIMITERS[limiter](), Slots()
    accepted, refused = [], []

    def try_to_send() -> None:
        number, wait = slots.take(world.now)
        if number is None:
            world.after(min(wait, 0.02), try_to_send)
            return
        sent_at = world.now

        def arrive() -> None:
            fine, remaining = server.admits(world.now)
            (accepted if fine else refused).append(world.now)

            def answered() -> None:
                slots.give_back(number, sent_at, world.now, remaining, None if fine else 1.0)
                try_to_send()

            world.after(world.leg(), answered)

        world.after(world.leg(), arrive)

    for _ in range(senders):
        world.after(0, try_to_send)
    world.run(TWO_MINUTES)
    return len(accepted), len(refused)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limiter", LIMITERS)
def test_two_minutes_use_93_percent_of_the_quota_without_a_429(limiter: str, seed: int) -> None:
    accepted, refused = two_minutes(limiter, seed)
    assert refused == 0
    assert accepted >= 0.93 * PERMITTED


def test_somebody_else_on_the_token_makes_us_wait_instead_of_collecting_429s() -> None:
    """One request of ours, and the server says 2 remain of 25: 22 of the 24 idle slots are taken out of use."""
    slots = Slots()
    number, _ = slots.take(0.0)
    assert number is not None
    slots.give_back(number, 0.0, 0.1, remaining=2)
    assert [slots.take(0.2)[0] is not None for _ in range(3)] == [True, True, False]
    assert slots.take(0.1 + HOLD_SECONDS)[0] is not None


def test_a_429_holds_every_slot_for_retry_after() -> None:
    slots = Slots(limit=2, hold=1.0)
    number, _ = slots.take(0.0)
    assert number is not None
    slots.give_back(number, 0.0, 0.1, retry_after=7.0)
    assert slots.take(1.5) == (None, pytest.approx(5.6))
    assert slots.take(7.2)[0] is not None


def test_a_slot_is_free_again_5_02_seconds_after_the_answer_not_after_the_sending() -> None:
    slots = Slots(limit=1)
    number, _ = slots.take(0.0)
    assert number is not None
    assert slots.take(30.0) == (None, float("inf"))
    slots.give_back(number, 0.0, 40.0)
    assert slots.take(40.0 + HOLD_SECONDS - 0.001)[0] is None
    assert slots.take(40.0 + HOLD_SECONDS)[0] == number
