"""When things run: the publication decision as a table of cases, nightly days across clock changes, partitions."""

import json
import socket
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._utils.schedules import schedule_execution_time_iterator

from kash_pipeline.defs.instance import OWNER_TAG
from kash_pipeline.defs.jobs import (
    BUILD_ENTRIES,
    NIGHTLY,
    PUBLISH,
    REFERENCE_SYNC,
    RUNS_IN,
    range_tags,
    runs_by_itself,
    schedules,
)
from kash_pipeline.defs.partitions import business_days, by_month, yesterday
from kash_pipeline.defs.rebuilding import rebuild_sensor
from kash_pipeline.defs.sensors import building_or_publishing, due, publication_sensor, publishing_is_under_way
from kash_pipeline.errors import SettingsError
from kash_pipeline.settings import load_shop
from kash_pipeline.warehouse.ledger import Content, ReadyDay
from kash_pipeline_tests.orchestration.till import make_shop

PARIS = ZoneInfo("Europe/Paris")


def ready(*days: str, attempts: int = 0, digest: str = "d") -> list[ReadyDay]:
    return [ReadyDay(date.fromisoformat(day), 3, attempts, digest) for day in days]


@pytest.mark.parametrize(
    ("waiting", "busy", "ranges"),
    [
        ([], False, []),
        (ready("2026-03-01"), False, [("2026-03-01", "2026-03-01")]),
        (ready("2026-03-01", "2026-03-02", "2026-03-03"), False, [("2026-03-01", "2026-03-03")]),
        (ready("2026-03-01", "2026-03-02"), True, []),
        # The day between has nothing to send: a range over it would record it as published.
        (ready("2026-03-01", "2026-03-03"), False, [("2026-03-01", "2026-03-01")]),
        # The oldest days come first, in whatever order the ledger told them.
        (ready("2026-03-05", "2026-03-01"), False, [("2026-03-01", "2026-03-01")]),
        (ready("2026-02-28", "2026-03-01"), False, [("2026-02-28", "2026-03-01")]),
        (ready("2026-03-01", attempts=3), False, []),
        (ready("2026-03-01", attempts=2), False, [("2026-03-01", "2026-03-01")]),
        # A day that was given up does not stop the others.
        (ready("2026-03-01", attempts=3) + ready("2026-03-02"), False, [("2026-03-02", "2026-03-02")]),
        (ready(*(f"2026-03-{day:02d}" for day in range(1, 11))), False, [("2026-03-01", "2026-03-05")]),
    ],
)
def test_which_days_are_due(waiting: list[ReadyDay], busy: bool, ranges: list[tuple[str, str]]) -> None:
    decision = due(waiting, busy=busy, max_days=5)
    assert [(item.first.isoformat(), item.last.isoformat()) for item in decision.due] == ranges
    assert bool(decision.reason) != bool(ranges)


def test_a_run_key_is_new_when_content_or_attempt_is() -> None:
    """A sensor's run key never runs twice, not even after a failure: the same key would publish nothing, silently."""
    keys = [
        due(waiting, busy=False).due[0].run_key
        for waiting in (
            ready("2026-03-01"),
            ready("2026-03-01", digest="e"),
            ready("2026-03-01", attempts=1),
            ready("2026-03-01", "2026-03-02"),
        )
    ]
    assert len(set(keys)) == 4
    assert due(ready("2026-03-01"), busy=False).due[0].run_key == keys[0]


def test_days_given_up_are_named() -> None:
    decision = due(ready("2026-03-01", attempts=3), busy=False)
    assert decision.given_up == [date(2026, 3, 1)]
    assert "wait for tomorrow" in decision.reason


def _ledger_row(key: str, day: str, state: str) -> str:
    return (
        "insert into kash.publication (shop_id, key, base_key, role, kind, business_day, register_id, journal, date, "
        "label, line_count, amount_cents, digest, state) values "
        f"('bakery', '{key}', '{key}', 'original', 'sale', '{day}', 'K1', 'K1', '{day}', 'x', 2, 100, 'd', '{state}')"
    )


def test_the_sensor_asks_for_what_the_ledger_has_ready(engine: sa.Engine) -> None:
    sensor = publication_sensor(make_shop(publishes=True), dg.DefaultSensorStatus.RUNNING)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"warehouse": engine})
        skipped = sensor(context)
        assert isinstance(skipped, dg.SkipReason)
        with engine.begin() as connection:
            connection.exec_driver_sql(_ledger_row("A", "2026-03-01", "ready"))
            connection.exec_driver_sql(_ledger_row("B", "2026-03-02", "ready"))
            connection.exec_driver_sql(_ledger_row("C", "2026-03-03", "verified"))
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        [request] = result.run_requests or []
        assert range_tags(date(2026, 3, 1), date(2026, 3, 2)).items() <= request.tags.items()


def _asked(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, engine: sa.Engine, outcome: str) -> str | None:
    """The first day asked for, under a run key that no run had before; that run ends as `outcome`."""
    result = sensor(dg.build_sensor_context(instance=instance, resources={"warehouse": engine}))
    if isinstance(result, dg.SkipReason):
        return None
    assert isinstance(result, dg.SensorResult)
    [request] = result.run_requests or []
    tags = {**request.tags, "dagster/run_key": str(request.run_key)}
    assert not instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": str(request.run_key)}))
    instance.add_run(dg.DagsterRun(job_name=PUBLISH, status=dg.DagsterRunStatus[outcome], tags=tags))
    return _first(request)


def test_days_that_were_tried_and_wait_for_an_account_do_not_keep_others_waiting(engine: sa.Engine) -> None:
    """The sensor tries them again when something of the company changed, or after a pause when the run failed."""
    clock = [datetime.now(UTC)]
    shop = make_shop(publishes=True)
    sensor = publication_sensor(shop, dg.DefaultSensorStatus.RUNNING, now=lambda: clock[0])
    with engine.begin() as connection:
        connection.exec_driver_sql(_ledger_row("A", "2026-03-01", "ready"))
        connection.exec_driver_sql(_ledger_row("B", "2026-03-05", "ready"))
    with dg.DagsterInstance.ephemeral() as instance:

        def ask() -> str | None:
            return _asked(sensor, instance, engine, "FAILURE" if fails else "SUCCESS")

        fails = True
        assert [ask(), ask(), ask()] == ["2026-03-01", "2026-03-05", None]
        clock[0] += timedelta(minutes=6)
        fails = False
        assert [ask(), ask(), ask()] == ["2026-03-01", "2026-03-05", None]
        clock[0] += timedelta(days=1)
        assert ask() is None
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "insert into kash.reference_history (shop_id, side, company_id, kind, record_id, valid_from, content) "
                "values ('bakery', 'pennylane', 1, 'accounts', '7', '2026-03-11', '{}')"
            )
        assert [ask(), ask(), ask()] == ["2026-03-01", "2026-03-05", None]
        # Nor do they keep a correction waiting.
        with engine.begin() as connection:
            connection.exec_driver_sql(_ledger_row("C", "2026-02-01", "verified"))
            connection.exec_driver_sql("update kash.publication set sent_digest = 'e', sent_at = now() where key = 'C'")
        assert [ask(), ask()] == ["2026-02-01", None]


def test_what_is_left_undone_is_asked_for_by_itself(engine: sa.Engine) -> None:
    """What a killed publisher left, what came back, and what had no clear answer for too long."""
    clock = [datetime.now(UTC)]
    sensor = publication_sensor(make_shop(publishes=True), dg.DefaultSensorStatus.RUNNING, now=lambda: clock[0])
    entry = Content("D", "sale", date(2026, 3, 5), "K1", "K1", date(2026, 3, 5), "x", ())
    left: list[tuple[str, str, str]] = [
        ("2026-03-01", "sent", "sent_digest = 'd', sent_at = now()"),  # not read back
        ("2026-03-03", "superseded", "sent_digest = 'a', sent_at = now()"),  # taken back, and in the books again
        (
            "2026-03-05",
            "sending",
            "sent_entry = cast(:entry as jsonb), owner = 'other:7:7', sending_at = now() - interval '1 h'",
        ),
        ("2026-03-07", "ready", "attempts = 4"),
    ]
    with dg.DagsterInstance.ephemeral() as instance:

        def ask() -> str | None:
            return _asked(sensor, instance, engine, "SUCCESS")

        for day, state, rest in left:
            with engine.begin() as connection:
                connection.exec_driver_sql(_ledger_row(day, day, state))
                statement = sa.text(f"update kash.publication set {rest} where key = :key")
                connection.execute(statement, {"key": day, "entry": json.dumps(entry.to_json())})
            assert [ask(), ask()] == [day, None]
        clock[0] += timedelta(days=1)
        assert [ask(), ask()] == ["2026-03-07", None]


SHOP_FILE = """
[shop]
id = "bakery"
name = "Boulangerie"
[source]
kind = "files"
path = "facts"
[[chart]]
from = "2026-01-01"
methods = { cash = "530000" }
"""


def test_days_never_sent_are_asked_for_once_per_change_of_the_shop_file(engine: sa.Engine, tmp_path: Path) -> None:
    """Whatever the daemon forgets: the cursor is in Dagster's database, and run keys never repeat."""
    path = tmp_path / "shop.toml"
    path.write_text(SHOP_FILE)
    with engine.begin() as connection:
        for day in range(1, 31, 2):
            connection.exec_driver_sql(_ledger_row(f"A{day}", f"2026-03-{day:02d}", "ready"))
            connection.exec_driver_sql(_ledger_row(f"B{day}", f"2026-05-{day:02d}", "refused"))
            connection.exec_driver_sql(_ledger_row(f"C{day}", f"2026-04-{day:02d}", "verified"))
        connection.exec_driver_sql("update kash.publication set sent_at = now() where state = 'verified'")
        # Before the shop's first chart: no day of it.
        connection.exec_driver_sql(_ledger_row("D", "2025-12-31", "ready"))
    unsent = [f"2026-{month}-{day:02d}" for month in ("03", "05") for day in range(1, 31, 2)]
    cursor: str | None = None
    clock = datetime.now(UTC)
    keys: list[str | None] = []
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = dg.DagsterRunStatus.SUCCESS

        def ask() -> list[str] | str:
            """The days asked for by a sensor of a process that just started, or why none; the runs end as `outcome`."""
            nonlocal cursor
            sensor = rebuild_sensor(shop, dg.DefaultSensorStatus.RUNNING, now=lambda: clock)
            context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"warehouse": engine})
            result = sensor(context)
            if isinstance(result, dg.SkipReason):
                return str(result.skip_message)
            assert isinstance(result, dg.SensorResult)
            cursor = result.cursor or cursor
            keys.extend(request.run_key for request in result.run_requests or [])
            for request in result.run_requests or []:
                assert request.tags["dagster/asset_partition_range_end"] == _first(request)
                run = dg.DagsterRun(job_name=BUILD_ENTRIES, status=outcome, tags=dict(request.tags))
                instance.add_run(run)
            return [_first(request) for request in result.run_requests or []]

        shop = load_shop(path)
        assert ask() == []
        assert ask() == "neither the till's reference data nor the shop file changed"
        path.write_text(SHOP_FILE + "# a word to whoever reads this\n")
        assert ask() == "neither the till's reference data nor the shop file changed"
        path.write_text(SHOP_FILE + 'card = "511500')
        assert "no valid TOML" in str(ask())

        path.write_text(SHOP_FILE.replace("530000", "531000"))
        run = dg.DagsterRun(job_name=NIGHTLY, status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
        assert ask() == "something changed; a run that builds or publishes is under way"
        instance.delete_run(run.run_id)
        assert [ask(), ask()] == [unsent[:20], unsent[20:]]
        assert ask() == "neither the till's reference data nor the shop file changed"

        path.write_text(SHOP_FILE)
        assert [ask(), ask()] == [unsent[:20], unsent[20:]]
        path.write_text(SHOP_FILE.replace("530000", "531000"))
        assert [ask(), ask()] == [unsent[:20], unsent[20:]]
        assert len(set(keys)) == len(keys) == 90

        # A failed run is asked for again, after a pause, and not for ever.
        path.write_text(SHOP_FILE)
        outcome = dg.DagsterRunStatus.FAILURE
        assert [ask(), ask()] == [unsent[:20], unsent[20:]]
        for minutes in (6, 11):
            assert ask() == "neither the till's reference data nor the shop file changed"
            clock += timedelta(minutes=minutes)
            assert [ask(), ask()] == [unsent[:20], unsent[20:]]
        clock += timedelta(days=1)
        assert ask() == "neither the till's reference data nor the shop file changed"
        assert len(set(keys)) == len(keys) == 180

        path.write_text(SHOP_FILE.replace("530000", "531000"))
        with engine.begin() as connection:
            connection.exec_driver_sql("update kash.publication set state = 'sent', sent_at = now()")
        assert ask() == []
        cursor = "emptied by hand"
        assert ask() == []


def _first(request: dg.RunRequest) -> str:
    return request.tags["dagster/asset_partition_range_start"]


@pytest.mark.parametrize(
    ("job", "owner", "publishes", "busy"),
    [
        (PUBLISH, None, True, True),
        (NIGHTLY, None, True, True),
        (BUILD_ENTRIES, None, False, True),
        (REFERENCE_SYNC, None, False, False),
        # The process of a command that was killed: its run stands as started until the next command.
        (NIGHTLY, f"{socket.gethostname()}:1:1", False, False),
    ],
)
def test_a_run_that_has_not_ended_keeps_others_away(job: str, owner: str | None, publishes: bool, busy: bool) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {OWNER_TAG: owner} if owner else {}
        instance.add_run(dg.DagsterRun(job_name=job, status=dg.DagsterRunStatus.STARTED, tags=tags))
        assert publishing_is_under_way(instance) is publishes
        assert building_or_publishing(instance) is busy


@pytest.mark.parametrize(
    ("at", "day"),
    [
        # 29 March 2026 has 23 hours, 25 October 2026 has 25: minus 24 hours would name the wrong day.
        (datetime(2026, 3, 29, 5, 30, tzinfo=PARIS), date(2026, 3, 28)),
        (datetime(2026, 3, 30, 0, 30, tzinfo=PARIS), date(2026, 3, 29)),
        (datetime(2026, 10, 25, 23, 30, tzinfo=PARIS), date(2026, 10, 24)),
        (datetime(2026, 10, 26, 0, 15, tzinfo=PARIS), date(2026, 10, 25)),
        (datetime(2026, 6, 30, 22, 30, tzinfo=UTC), date(2026, 6, 30)),
        (datetime(2026, 1, 1, 5, 30, tzinfo=PARIS), date(2025, 12, 31)),
    ],
)
def test_yesterday_is_a_calendar_day_of_the_shop(at: datetime, day: date) -> None:
    assert yesterday(at, PARIS) == day


def schedule(name: str, day_starts_at: str = "00:00") -> dg.ScheduleDefinition:
    return {item.name: item for item in schedules(make_shop(day_starts_at=day_starts_at), "production")}[name]


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
def test_each_schedule_runs_as_often_on_days_of_the_clock_change(day: date) -> None:
    nightly = schedule("nightly", day_starts_at="04:00")
    assert [f"{tick:%H:%M}" for tick in _ticks(nightly, day)] == ["05:30"]
    assert [f"{tick:%H:%M}" for tick in _ticks(schedule("nightly_reference"), day)] == ["03:50"]
    assert [tick.hour for tick in _ticks(schedule("hourly_reference"), day)] == [0, 1, *range(3, 24)]


def _ticks(schedule: dg.ScheduleDefinition, day: date) -> list[datetime]:
    """Ticks of one day, as Dagster's daemon computes them."""
    start = datetime(day.year, day.month, day.day, tzinfo=PARIS)
    after = schedule_execution_time_iterator(
        start.timestamp(), str(schedule.cron_schedule), schedule.execution_timezone, ascending=True
    )
    return list(takewhile(lambda tick: tick.date() == day, after))


def test_the_nightly_run_is_for_the_day_that_ended(engine: sa.Engine) -> None:
    nightly = schedule("nightly")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=datetime(2026, 3, 30, 4, 30, tzinfo=PARIS)
        )
        request = nightly(context)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-03-29"


@pytest.mark.parametrize(
    ("starts", "reference", "time"),
    [
        ("00:00", "50 3 * * *", "30 4 * * *"),
        ("04:00", "50 4 * * *", "30 5 * * *"),
        ("06:30", "50 6 * * *", "30 7 * * *"),
        ("23:30", "19 23 * * *", "59 23 * * *"),
    ],
)
def test_the_nightly_run_waits_for_the_end_of_the_business_day_and_follows_the_reference_data(
    starts: str, reference: str, time: str
) -> None:
    assert schedule("nightly", day_starts_at=starts).cron_schedule == time
    assert schedule("nightly_reference", day_starts_at=starts).cron_schedule == reference


def test_what_runs_by_itself_is_said_once_and_for_every_name() -> None:
    assert runs_by_itself("publish_when_ready", "production")
    assert not runs_by_itself("publish_when_ready", "staging")
    assert not any(runs_by_itself(name, "local") for name in RUNS_IN)
    with pytest.raises(KeyError):
        runs_by_itself("new_schedule", "production")
    with pytest.raises(SettingsError, match="KASH_DEPLOYMENT"):
        runs_by_itself("nightly", "produktion")


def test_business_days_go_from_the_first_chart_to_today_and_skip_none() -> None:
    days = business_days(make_shop())
    keys = days.get_partition_keys(current_time=datetime(2026, 11, 24, 12, tzinfo=PARIS))
    assert (keys[0], keys[-1]) == ("2025-01-01", "2026-11-24")
    assert len(keys) == len(set(keys)) == (date(2026, 11, 24) - date(2025, 1, 1)).days + 1


def test_a_range_is_worked_on_month_by_month() -> None:
    months = by_month(["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02"])
    assert [(month[0].isoformat(), len(month)) for month in months] == [("2026-02-27", 2), ("2026-03-01", 2)]
