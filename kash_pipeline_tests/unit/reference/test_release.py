"""What a build of the held days would do now: the cured ones, what still holds the others, and nothing of the rest."""

from datetime import date
from pathlib import Path

import pytest

from kash_pipeline.reference.release import held_reasons, outlook, runs_of, waiting_days
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.errors import MissingDays
from kash_pipeline_tests.orchestration.till import make_facts, make_shop, with_method
from kash_pipeline_tests.unit.reference.world import World

EARLY, LATE = date(2025, 1, 30), date(2025, 3, 2)


@pytest.fixture
def waiting(world: World) -> World:
    """Two days held by methods that the till does not list; the days between were never read."""
    world.list_reference(make_facts(EARLY, EARLY), EARLY)
    for day, register, method in ((EARLY, "K1", "tr"), (LATE, "K2", "lydia")):
        world.keep(with_method(make_facts(day, day), day, register, method), day, day)
        world.enter([day])
    return world


def mended(shop: ShopFile, **methods: str) -> ShopFile:
    [period] = shop.chart
    return shop.model_copy(update={"chart": (period.model_copy(update={"methods_by_id": methods}),)})


def test_only_held_days_are_tried_and_only_the_cured_ones_named(waiting: World) -> None:
    told: list[tuple[int, int]] = []
    found = outlook(waiting.engine, waiting.shop, waiting.lake, progress=lambda done, of: told.append((done, of)))
    assert found.cured == []
    assert told == [(1, 2), (2, 2)]
    found = outlook(waiting.engine, mended(waiting.shop, lydia="511900"), waiting.lake)
    assert found.cured == [LATE]
    assert set(found.still_held["what"]) == {"payment method 'tr' is not in the till's list of methods"}
    both = mended(waiting.shop, lydia="511900", tr="511700")
    assert outlook(waiting.engine, both, waiting.lake).cured == [EARLY, LATE]
    # Nothing was written.
    assert set(held_reasons(waiting.engine, waiting.shop)["register_id"]) == {"K1", "K2"}


def test_facts_that_are_gone_are_said_not_taken_for_a_cure(waiting: World, tmp_path: Path) -> None:
    """An empty day holds nothing: built from a lake that lost it, the day would be released with no entries."""
    (tmp_path / "lake" / "bakery" / "facts" / "orders" / f"{LATE}.parquet").unlink()
    with pytest.raises(MissingDays, match=f"{LATE}"):
        outlook(waiting.engine, waiting.shop, waiting.lake)


def test_days_wait_that_are_held_or_not_sent(world: World) -> None:
    assert waiting_days(world.engine, make_shop()) is None
    facts = make_facts(EARLY, EARLY)
    world.list_reference(facts, EARLY)
    world.keep(facts, EARLY, EARLY)
    world.enter([EARLY])
    assert waiting_days(world.engine, world.shop) == [EARLY]
    with world.engine.begin() as connection:
        connection.exec_driver_sql("update kash.publication set state = 'verified'")
    assert waiting_days(world.engine, world.shop) == []


def test_stretches_are_days_without_a_gap() -> None:
    days = [date(2025, 1, 31), date(2025, 2, 1), date(2025, 2, 3)]
    assert runs_of(days) == [days[:2], days[2:]]
    assert runs_of([]) == []
