"""What the UI says of PennyLane without changing it: the plan, persons' hands on our entries, the idle connection."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from kash_pipeline.definitions import build_definitions
from kash_pipeline.defs.jobs import PLAN, PUBLISH, WATCH, published_key, range_tags
from kash_pipeline.defs.watching import KEEP_ALIVE, watch_schedules
from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.pennylane.planning import euros_text
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline.warehouse.tokens import TokenPair, TokenStore
from kash_pipeline_tests.orchestration.test_reference_in_step import Place, make_place
from kash_pipeline_tests.orchestration.till import MemoryTill, make_facts, make_shop, with_method

__all__ = ["make_place"]  # fixture
FIRST, LAST = date(2025, 3, 1), date(2025, 3, 2)
BUILD = ("reference", "facts", "entries")


def execute(here: Place, job: str, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(
        here.shop,
        environment=here.environment,
        warehouse=here.engine,
        lake=here.lake,
        pennylane=lambda engine: connect(here.shop, engine, here.environment, pacing=NoPacing()),
    )
    resolved = definitions.resolve_job_def(job)
    return resolved.execute_in_process(
        instance=here.instance,
        raise_on_error=False,
        tags=range_tags(FIRST, LAST) if resolved.partitions_def else {},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **(config or {})},
    )


def planned(here: Place, **days: str) -> dict[str, Any]:
    """The plan's metadata, by label."""
    result = execute(here, PLAN, {"ops": {"bakery__pennylane__publication_plan": {"config": days}}} if days else None)
    assert result.success
    [event] = result.get_asset_materialization_events()
    return {label: entry.value for label, entry in event.materialization.metadata.items()}


def posts(here: Place) -> int:
    return int(here.sandbox.requests.count("POST"))


def told(result: dg.ExecuteInProcessResult) -> str:
    """Everything Dagster keeps of a run: its events with their metadata."""
    return "\n".join(map(str, result.all_events))


def test_the_plan_in_the_ui_is_the_commands_table_and_writes_nothing(make_place: Callable[..., Place]) -> None:
    here = make_place()
    # Register K2 of the last day is paid by a method the chart does not know: that register-day waits.
    facts = with_method(make_facts(FIRST, LAST), LAST, "K2", "tr")
    here.run(MemoryTill(facts), FIRST, LAST, stages=BUILD)
    k2 = facts.orders[(facts.orders["business_day"] == pd.Timestamp(LAST)) & (facts.orders["register_id"] == "K2")]
    held = f"1 ({euros_text(int(k2['total_cents'].sum()))})"
    with here.engine.connect() as connection:
        sums = connection.exec_driver_sql(
            "select business_day, count(*), sum(debit_cents)::int from kash.entries group by 1 order by 1"
        ).all()
    shown = planned(here)
    assert posts(here) == 0
    assert shown["plan"].splitlines()[2:] == [
        f"| {day} | {count} ({euros_text(cents)}) | {held if day == LAST else ''} |" for day, count, cents in sums
    ]
    assert shown["plan"].splitlines()[0] == "| business day | added | register-days held (sales) |"
    assert shown["days"] == f"{FIRST} to {LAST}"
    assert shown["added"] == f"{sum(row[1] for row in sums)} entries, {euros_text(sum(row[2] for row in sums))}"
    assert "kash-pipeline apply" in shown["next step"]

    assert execute(here, PUBLISH).success
    written = posts(here)
    edited, typed = here.sandbox.admin.entries()[0], "pour Mme Dupont"
    here.sandbox.admin.edit_line(edited.lines[0].id, label=typed)
    shown = planned(here, first=FIRST.isoformat(), last=LAST.isoformat())
    assert shown["left to a person"].startswith("1 entries, ")
    assert edited.piece_number in shown["entries"]
    assert typed not in str(shown)
    assert shown["next step"] == "nothing to post"
    assert posts(here) == written

    # Facts changed since: the plan and the run that does it say the same, the entry a person touched apart.
    here.run(MemoryTill(make_facts(FIRST, LAST, orders_per_day=6)), FIRST, LAST, stages=("facts", "entries"))
    shown = planned(here)
    assert shown["left to a person"].startswith("1 entries, ")
    count = int(shown["corrected"].split()[0])
    published = execute(here, PUBLISH)
    assert typed not in told(published)
    events = [
        event.materialization.metadata
        for event in published.get_asset_materialization_events()
        if event.asset_key == published_key(here.shop)
    ]
    assert sum(int(str(metadata["corrected_now"].value)) for metadata in events) == count > 0
    assert sum(int(str(metadata["to_correct"].value)) for metadata in events) == 1
    table = str(events[0]["corrections"].value).splitlines()[2:]
    assert len(table) == count
    assert all(f"{row.split(' | ')[2]}-R1" in row for row in table)

    for days, said in (({"first": "March"}, "YYYY-MM-DD"), ({"first": "2025-03-02", "last": "2025-03-01"}, "order")):
        failed = execute(here, PLAN, {"ops": {"bakery__pennylane__publication_plan": {"config": days}}})
        [event] = failed.get_step_failure_events()
        assert said in str(event.step_failure_data.user_failure_data.description)


@pytest.mark.long
def test_what_persons_did_is_a_check_with_a_run_of_its_own_and_never_a_failure_of_publishing(
    make_place: Callable[..., Place],
) -> None:
    here = make_place()
    here.run(MemoryTill(make_facts(FIRST, LAST)), FIRST, LAST)
    admin = here.sandbox.admin
    # Publishing itself asks for no changelog: the watch has a clock of its own.
    assert here.sandbox.requests.count("GET", "changelogs") == 0

    def watched() -> dg.AssetCheckEvaluation:
        result = execute(here, WATCH)
        assert result.success
        assert "Dupont" not in told(result)
        [found] = result.get_asset_check_evaluations()
        assert not found.blocking
        assert found.severity == dg.AssetCheckSeverity.WARN
        return found

    assert watched().passed
    entries = {entry.piece_number: entry for entry in admin.entries()}
    sale, payment = (entries[f"BAKERY-K1-250301-{code}"] for code in "VE")
    closing = entries["BAKERY-K2-250302-C"]
    admin.letter([line.id for line in closing.lines])
    only_lettered = watched()
    assert only_lettered.passed
    assert only_lettered.metadata["entries lettered"].value == 1
    admin.edit_line(sale.lines[0].id, label="pour Mme Dupont")
    admin.delete_entry(payment.id)
    before = here.pieces()
    found = watched()
    assert not found.passed
    rows = [line for line in str(found.metadata["which"].value).splitlines() if "2025-" in line]
    assert [(row.split(" | ")[2], row.split(" | ")[3]) for row in rows] == [
        (payment.piece_number, "deleted"),
        (sale.piece_number, "edited"),
        (closing.piece_number, "lettered"),
    ]
    assert "another label: " in rows[1]
    assert found.metadata["entries that differ"].value == 2
    assert here.pieces() == before

    here.sandbox.faults.add(Fault("refuse", path="changelogs", count=None, status=503))
    unanswered = watched()
    assert not unanswered.passed
    assert unanswered.description == "PennyLane could not be asked"
    assert "503" in str(unanswered.metadata["why"].value)
    assert execute(here, PUBLISH).success


def test_an_idle_connection_is_kept_alive_and_a_dead_one_says_connect_again(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make_place()
    assert here.shop.pennylane is not None
    here.shop = here.shop.model_copy(update={"pennylane": here.shop.pennylane.model_copy(update={"auth": "oauth"})})
    monkeypatch.setenv("PENNYLANE_CLIENT_ID", here.sandbox.client_id)
    monkeypatch.setenv("PENNYLANE_CLIENT_SECRET", here.sandbox.client_secret)
    given = here.sandbox.admin.connect(here.sandbox.client_id)
    store = TokenStore.open(here.engine, here.environment.home)

    with store.locked("bakery") as row:
        # A month without a request: the access token ended long ago, the refresh token lives.
        row.save(TokenPair(given.access_token, given.refresh_token, datetime.now(UTC) - timedelta(days=29)))
    here.sandbox.admin.expire_access_tokens()
    assert execute(here, KEEP_ALIVE).success
    assert here.sandbox.requests.refreshes() == 1
    renewed = store.get("bakery").pair
    assert renewed is not None
    assert renewed.refresh_token != given.refresh_token
    # The next month's look finds the new pair good.
    assert execute(here, KEEP_ALIVE).success

    here.sandbox.admin.withdraw_consent(here.sandbox.client_id)
    failed = execute(here, KEEP_ALIVE)
    assert not failed.success
    [event] = failed.get_step_failure_events()
    assert "kash-pipeline pennylane login" in str(event.step_failure_data.user_failure_data.description)
    assert renewed.refresh_token not in told(failed)


@pytest.mark.parametrize(
    ("auth", "deployment", "running"),
    [
        ("oauth", "production", {"daily_watch": "30 6 * * *", "monthly_keep_alive": "30 5 1 * *"}),
        ("token", "staging", {"daily_watch": "30 6 * * *"}),
        ("oauth", "local", {}),
    ],
)
def test_the_watch_runs_every_morning_and_the_keep_alive_every_month_where_something_refreshes(
    auth: str, deployment: str, running: dict[str, str]
) -> None:
    shop = make_shop(publishes=True)
    assert shop.pennylane is not None
    shop = shop.model_copy(update={"pennylane": shop.pennylane.model_copy(update={"auth": auth})})
    on = {
        schedule.name: schedule.cron_schedule
        for schedule in watch_schedules(shop, deployment)
        if schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    }
    assert on == running
    assert watch_schedules(make_shop(), deployment) == []
