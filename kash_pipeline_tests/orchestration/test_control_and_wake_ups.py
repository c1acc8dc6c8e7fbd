"""A daily report that differs or a missing number holds its day; events of the till become runs within a minute."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline.defs.assembly import build_definitions
from kash_pipeline.defs.jobs import BUILD_ENTRIES, EXTRACT, NIGHTLY, REFERENCE_SYNC, looked_back, range_tags
from kash_pipeline.defs.sensors import QUIET, wake_up_sensor, wakes
from kash_pipeline.pos import control
from kash_pipeline.pos.kash_api.events import CLOSE
from kash_pipeline.pos.port import DayOfSales
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.wake_ups import Waiting, WakeUps
from kash_pipeline_tests.orchestration.till import MemoryTill, make_facts, make_shop

FIRST, LAST = date(2026, 3, 2), date(2026, 3, 4)
THE_3RD = pd.Timestamp("2026-03-03")


@dataclass
class ReportingTill(MemoryTill):
    """Tells a daily report too; `off_by` cents are added to what it says of the VAT of a rate on the 3rd."""

    off_by: int = 0

    def sales(self, first: date, last: date) -> Iterator[DayOfSales]:
        facts = self.facts
        report = control.till_totals(facts.orders, facts.order_vat, facts.payments, facts.payment_methods)
        wrong = report.index[(report["business_day"] == THE_3RD) & (report["measure"] == "vat")][0]
        report.loc[wrong, "amount_cents"] += self.off_by
        for day in super().sales(first, last):
            yield replace(day, control=report[report["business_day"] == pd.Timestamp(day.day)].reset_index(drop=True))


def kash_shop(**source: Any) -> ShopFile:
    shop = make_shop()
    given = {"kind": "kash_api", "url": "http://127.0.0.1:9/workers", "path": None, **source}
    return shop.model_copy(update={"source": shop.source.model_copy(update=given)})


def read_and_build(
    run: Any, shop: ShopFile, till: MemoryTill, *, jobs: Sequence[str] = (REFERENCE_SYNC, EXTRACT, BUILD_ENTRIES)
) -> None:
    for job in jobs:
        assert run(job, shop, till, FIRST, LAST).success, job


def held_and_built(engine: sa.Engine) -> tuple[list[Any], list[Any]]:
    with engine.connect() as connection:
        held = connection.execute(
            sa.text("select business_day, register_id, reason, what from kash.held order by 1, 2, 3")
        ).all()
        days = connection.execute(
            sa.text("select distinct business_day, register_id from kash.entries order by 1, 2")
        ).all()
    return [tuple(row) for row in held], [tuple(row) for row in days]


def test_one_cent_between_orders_and_report_holds_the_day_and_no_other(run: Any, engine: sa.Engine) -> None:
    shop = kash_shop(number_gaps="ignore")
    till = ReportingTill(make_facts(FIRST, LAST), off_by=1)
    read_and_build(run, shop, till)
    held, built = held_and_built(engine)
    assert [(day, register, reason) for day, register, reason, _ in held] == [
        (date(2026, 3, 3), "K1", "control_total_differs"),
        (date(2026, 3, 3), "K2", "control_total_differs"),
    ]
    assert held[0][3] == "VAT at 5.5 %: orders 0.26, daily report 0.27"
    assert built == [(day, register) for day in (FIRST, LAST) for register in ("K1", "K2")]
    with engine.connect() as connection:  # lines are gone with their entries, and the ledger sends nothing of it
        assert (
            connection.scalar(sa.text("select count(*) from kash.entry_lines where business_day = '2026-03-03'")) == 0
        )
        states = connection.execute(
            sa.text("select distinct state from kash.publication where business_day = '2026-03-03'")
        ).scalars()
        assert set(states) <= {"held"}
    # The report corrected (or the day read again): it is built.
    read_and_build(run, shop, replace(till, off_by=0))
    held, built = held_and_built(engine)
    assert held == []
    assert len(built) == 6


def test_an_order_that_is_missing_holds_its_register_day_by_its_number_or_by_what_was_read_before(
    run: Any, engine: sa.Engine, tmp_path: Path
) -> None:
    facts = make_facts(FIRST, LAST)
    orders = facts.orders.assign(number=[f"{at:06d}" for at in range(310001, 310001 + len(facts.orders))])
    gone = orders["order_id"].iloc[4]  # the first of the 3rd, of register K1; before it the last of the 2nd, K2

    def without(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["order_id"] != gone].reset_index(drop=True)

    lacking = replace(
        facts,
        orders=without(orders),
        order_lines=without(facts.order_lines),
        order_vat=without(facts.order_vat),
        payments=without(facts.payments),
    )
    whole = replace(facts, orders=orders)
    read_and_build(run, kash_shop(), MemoryTill(whole))
    assert held_and_built(engine)[0] == []
    read_and_build(run, kash_shop(), MemoryTill(lacking), jobs=(EXTRACT, BUILD_ENTRIES))
    held, built = held_and_built(engine)
    says = "number 310005 is missing between 310004 and 310006"
    vanished = "orders read before are not in the till's answer any more: 310005 (1.00)"
    assert held == [
        (FIRST, "K2", "missing_number", says),
        (date(2026, 3, 3), "K1", "order_gone", vanished),
        (date(2026, 3, 3), "K2", "missing_number", says),
    ]
    assert len(built) == 3
    # It waits on at the next read too, where the sequence has gaps by itself ...
    shop = kash_shop(number_gaps="ignore")
    read_and_build(run, shop, MemoryTill(lacking), jobs=(EXTRACT, BUILD_ENTRIES))
    assert held_and_built(engine)[0] == [(date(2026, 3, 3), "K1", "order_gone", vanished)]
    # ... until somebody lets the order go, as the next step says,
    (noted,) = (tmp_path / "lake" / "bakery" / "facts" / "gone_orders").iterdir()
    aside = noted.rename(tmp_path / noted.name)
    read_and_build(run, shop, MemoryTill(lacking), jobs=(BUILD_ENTRIES,))
    assert held_and_built(engine)[0] == []
    # or it is found on another day.
    aside.rename(noted)
    april = date(2026, 4, 1)
    moved = orders.assign(business_day=orders["business_day"].mask(orders["order_id"] == gone, pd.Timestamp(april)))
    assert run(EXTRACT, shop, MemoryTill(replace(facts, orders=moved)), april, april).success
    read_and_build(run, shop, MemoryTill(lacking), jobs=(BUILD_ENTRIES,))
    assert held_and_built(engine)[0] == []


# --- events become runs ----------------------------------------------------------------------------------------------

AT = datetime(2026, 3, 14, 18, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def waiting(*kinds: str, closings: int = 0) -> Waiting:
    return Waiting(FIRST, len(kinds), kinds, AT, closings, AT)


@pytest.mark.parametrize(
    ("event", "registers", "whole"),
    [
        (waiting("validated"), 1, False),
        (waiting(CLOSE, closings=1), 1, True),
        (waiting(CLOSE, "terminated", closings=1), 2, False),  # the other till still sells
        (waiting(CLOSE, closings=2), 2, True),
        (waiting("terminated", closings=2), 2, False),  # a payment after closing: the nightly run corrects
        (waiting(CLOSE, closings=1), 2, None),  # nothing to read before the other one closes, or it is quiet
    ],
)
def test_a_day_is_done_whole_when_all_its_registers_closed(event: Waiting, registers: int, whole: bool | None) -> None:
    assert [wake.whole for wake in wakes([event], registers, AT)] == ([] if whole is None else [whole])


def test_a_register_that_stays_shut_does_not_keep_the_day_waiting() -> None:
    """One of two registers was used: its closing and three hours without a sign end the day; orders alone never do."""
    closed = waiting(CLOSE, closings=1)
    assert wakes([closed], 2, AT + QUIET - MINUTE) == []
    assert [wake.whole for wake in wakes([closed], 2, AT + QUIET)] == [True]
    still_selling = replace(closed, last_heard=AT + 30 * MINUTE)
    assert wakes([still_selling], 2, AT + QUIET) == []
    assert [wake.whole for wake in wakes([waiting("validated")], 2, AT + 10 * QUIET)] == [False]


def test_further_events_get_a_run_of_their_own() -> None:
    first, later = (wakes([waiting("validated")], 2, at)[0] for at in (AT, AT + timedelta(seconds=30)))
    assert first.run_key != later.run_key


@dataclass
class Ticks:
    """The sensor of a shop with two registers as the daemon asks it, on a clock of its own: every 30 s."""

    events: WakeUps
    evaluate: Callable[[], Any]
    at: datetime = datetime(2026, 3, 14, 6, 0, tzinfo=UTC)
    asked: list[tuple[datetime, bool]] = field(default_factory=list)
    heard: int = 0

    def until(self, moment: datetime) -> None:
        while self.at <= moment:
            result = self.evaluate()
            if isinstance(result, dg.SensorResult):
                self.asked += [(self.at, run.asset_selection is None) for run in result.run_requests or []]
            self.at += timedelta(seconds=30)

    def hear(self, kind: str, moment: datetime) -> None:
        self.until(moment)
        self.heard += 1
        self.events.note(f"{kind}:{self.heard}", kind, moment.date(), moment, "hash")


@pytest.fixture
def ticks(engine: sa.Engine, lake: Lake) -> Iterator[Ticks]:
    shop = kash_shop()
    lake.write_reference("registers", make_facts(FIRST, LAST).registers)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"warehouse": engine, "lake": lake})
        made = Ticks(WakeUps(engine, shop.shop.id), lambda: sensor(context))
        sensor = wake_up_sensor(shop, dg.DefaultSensorStatus.STOPPED, now=lambda: made.at)
        yield made


def test_events_of_a_day_become_runs_within_a_minute_and_one_does_all(ticks: Ticks) -> None:
    """By the events' own times: every order is read within a minute of its event, the books are made once."""
    chance = random.Random(14)
    orders = sorted(
        ticks.at + MINUTE * chance.randrange(1, 90) + timedelta(seconds=chance.randrange(60)) for _ in range(25)
    )
    for moment in orders:
        ticks.hear("validated", moment)
    ticks.hear(CLOSE, first_closed := ticks.at + MINUTE)
    ticks.hear("terminated", payment := first_closed + 20 * MINUTE)
    ticks.hear(CLOSE, last_closed := payment + 20 * MINUTE)
    ticks.until(last_closed + 30 * MINUTE)
    for moment in [*orders, payment]:
        assert any(moment <= asked <= moment + MINUTE for asked, _ in ticks.asked), moment
    (whole,) = (asked for asked, whole in ticks.asked if whole)
    assert last_closed <= whole <= last_closed + MINUTE
    assert len(ticks.asked) <= len(orders) + 2


def test_one_register_of_two_closes_and_the_day_is_done_when_it_is_quiet(ticks: Ticks) -> None:
    ticks.hear("validated", ticks.at + MINUTE)
    ticks.hear(CLOSE, ticks.at + MINUTE)
    ticks.hear("terminated", last := ticks.at + 40 * MINUTE)
    ticks.until(last + QUIET + 60 * MINUTE)
    (whole,) = (asked for asked, whole in ticks.asked if whole)
    assert last + QUIET <= whole <= last + QUIET + MINUTE
    assert [whole for _, whole in ticks.asked] == [False, False, True]


def test_a_day_that_has_not_come_waits_and_one_before_the_books_is_dropped(ticks: Ticks) -> None:
    """A value date may lie in the future, and a person may mistype it: a run over such a day would only fail."""
    today = ticks.at.date()
    tomorrow, long_ago = today + timedelta(days=1), date(2024, 12, 31)  # the first chart begins in 2025
    for at, day in enumerate((tomorrow, long_ago, today)):
        ticks.events.note(f"validated:{at}", "validated", day, ticks.at, "hash")
    ticks.until(ticks.at + 5 * MINUTE)
    assert [whole for _, whole in ticks.asked] == [False]
    assert [day.business_day for day in ticks.events.waiting(CLOSE)] == [tomorrow]
    ticks.at = datetime(2026, 3, 14, 22, 55, tzinfo=UTC)  # in Paris the 15th begins at 23:00 UTC
    ticks.until(ticks.at + 10 * MINUTE)
    assert [at.hour for at, _ in ticks.asked] == [6, 23]
    assert ticks.events.waiting(CLOSE) == []


def test_the_sensor_asks_once_for_each_day_with_events(engine: sa.Engine, lake: Lake, tmp_path: Any) -> None:
    shop = kash_shop()
    sensor = wake_up_sensor(shop, dg.DefaultSensorStatus.STOPPED)
    assert sensor.minimum_interval_seconds is not None
    assert sensor.minimum_interval_seconds <= 30
    facts = make_facts(FIRST, LAST)
    lake.write_reference("registers", facts.registers)
    events = WakeUps(engine, shop.shop.id)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"warehouse": engine, "lake": lake})
        assert isinstance(sensor(context), dg.SkipReason)
        events.note("validated:1", "validated", FIRST, AT, "a")
        events.note(f"{CLOSE}:1", CLOSE, LAST, AT, "b")
        events.note(f"{CLOSE}:2", CLOSE, LAST, AT, "c")
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        order, closing = result.run_requests or []
        assert order.tags == range_tags(FIRST, FIRST)
        assert [key.path[-2:] for key in order.asset_selection or []] == [
            ["pos", "sales"], ["pos", "payments"], ["pos", "closings"],
        ]  # fmt: skip
        assert closing.tags == range_tags(LAST, LAST)
        assert closing.asset_selection is None
        assert isinstance(sensor(context), dg.SkipReason)
        instance.add_run(dg.DagsterRun(job_name=NIGHTLY, status=dg.DagsterRunStatus.STARTED))
        events.note("terminated:1", "terminated", FIRST, AT, "d")
        assert isinstance(sensor(context), dg.SkipReason)
        assert len(events.waiting(CLOSE)) == 1  # it waits on for the next tick


def test_only_a_shop_on_kash_click_is_woken(tmp_path: Any) -> None:
    environment = Environment(tmp_path, str(tmp_path / "lake"), None, tmp_path / "shop.toml")
    woken = {
        kind: "wake_up" in [sensor.name for sensor in build_definitions(shop, environment=environment).sensors or []]
        for kind, shop in (("api", kash_shop()), ("files", make_shop()))
    }
    assert woken == {"api": True, "files": False}


def test_the_nightly_run_reads_the_days_before_again() -> None:
    assert looked_back(kash_shop(), date(2026, 3, 29)) == date(2026, 2, 22)
    assert looked_back(kash_shop(look_back_days=0), date(2026, 3, 29)) == date(2026, 3, 29)
    assert looked_back(make_shop(), date(2026, 3, 29)) == date(2026, 3, 29)  # files are read as they were given
    assert looked_back(kash_shop(), date(2025, 1, 10)) == date(2025, 1, 1)  # no day before the first chart
