"""From till to ledger as `kash-pipeline run` does it, and Dagster's instance of this machine."""

import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline.defs.instance import OWNER_TAG, end_killed_runs, open_instance
from kash_pipeline.defs.runs import run_days
from kash_pipeline.defs.sensors import publication_sensor
from kash_pipeline.errors import SettingsError
from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger, this_process
from kash_pipeline_tests.orchestration.till import MemoryTill, days_between, make_facts, make_shop

FIRST, LAST = date(2025, 2, 27), date(2025, 3, 2)
DAYS = days_between(FIRST, LAST)


@pytest.fixture
def environment(tmp_path: Path, warehouse_url: str) -> Environment:
    return Environment(tmp_path, str(tmp_path / "lake"), warehouse_url, tmp_path / "shop.toml")


@pytest.fixture
def chain(engine: sa.Engine, instance: dg.DagsterInstance, environment: Environment) -> Any:
    """`chain(shop, till)`: all stages for FIRST to LAST."""

    def run(shop: ShopFile, till: MemoryTill, **options: Any) -> Any:
        lake = Lake(environment.lake_url, shop.shop.id)
        resources = {
            "warehouse": engine,
            "lake": lake,
            "till": till.opener(),
            "pennylane": lambda opened: connect(shop, opened, environment, pacing=NoPacing()),
        }
        return run_days(shop, FIRST, LAST, instance=instance, environment=environment, **{**resources, **options})

    return run


@pytest.fixture
def publishing_shop(make_pennylane_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[ShopFile, Any]:
    """A shop whose PennyLane is a sandbox over loopback HTTP, without its limiter."""
    sandbox = make_pennylane_sandbox(limiter=None)
    monkeypatch.setenv("PENNYLANE_TOKEN", sandbox.token)
    shop = make_shop(publishes=True)
    assert shop.pennylane is not None
    return shop.model_copy(update={"pennylane": shop.pennylane.model_copy(update={"url": sandbox.url})}), sandbox


def test_from_till_to_ledger_and_again_without_posting(chain: Any, publishing_shop: Any, engine: sa.Engine) -> None:
    shop, sandbox = publishing_shop
    shop = shop.model_copy(update={"pennylane": shop.pennylane.model_copy(update={"attach_z": True})})
    till = MemoryTill(make_facts(FIRST, LAST))
    first = chain(shop, till)
    assert [stage.stage for stage in first.stages] == ["reference", "facts", "entries", "publish"]
    assert first.worked
    assert [check for stage in first.stages for check in stage.failed_checks] == []
    facts, entries, publish = (stage.figures for stage in first.stages[1:])
    assert facts["pos/sales"] == {"orders": 16, "order_lines": 16, "gross_cents": 4000}
    booked = entries["accounting/entries"]["entries"]
    published = publish["pennylane/published_entries"]
    assert published["posted"] == published["verified"] == booked == len(sandbox.admin.entries())
    with_report = {entry.piece_number for entry in sandbox.admin.entries() if entry.file_id is not None}
    assert with_report == {f"BAKERY-{register}-{day:%y%m%d}-C" for register in ("K1", "K2") for day in DAYS}

    keys = sorted(entry.piece_number for entry in sandbox.admin.entries())
    second = chain(shop, till)
    assert second.worked
    assert second.stages[-1].figures["pennylane/published_entries"]["posted"] == 0
    assert sorted(entry.piece_number for entry in sandbox.admin.entries()) == keys
    assert len(set(keys)) == len(keys)


def test_an_unreachable_pennylane_leaves_entries_built_and_the_next_run_sends_them(
    chain: Any, publishing_shop: Any, engine: sa.Engine, instance: dg.DagsterInstance
) -> None:
    shop, _ = publishing_shop
    assert shop.pennylane is not None
    nowhere = shop.model_copy(update={"pennylane": shop.pennylane.model_copy(update={"url": "http://127.0.0.1:9"})})
    till = MemoryTill(make_facts(FIRST, LAST))
    silent = {
        "pennylane": lambda opened: connect(nowhere, opened, Environment.read(), pacing=NoPacing(), sleep=_no_wait)
    }
    result = chain(shop, till, **silent)
    assert [stage.worked for stage in result.stages] == [True, True, True, False]
    [problem] = result.stages[-1].problems
    assert "no connection" in problem.message
    assert problem.next_step
    ledger = PublicationLedger(engine, shop.shop.id)
    waiting = len(ledger.ready())
    assert waiting
    # The sensor would ask for exactly these days.
    context = dg.build_sensor_context(instance=instance, resources={"warehouse": engine})
    asked = publication_sensor(shop, dg.DefaultSensorStatus.STOPPED)(context)
    assert isinstance(asked, dg.SensorResult)
    assert (asked.run_requests or [])[0].tags["dagster/asset_partition_range_end"] == LAST.isoformat()

    assert chain(shop, till).stages[-1].figures["pennylane/published_entries"]["posted"] == waiting


def _no_wait(_seconds: float) -> None:
    """For retries of a connection that will not come."""


def test_what_pennylane_refuses_is_listed_and_the_rest_is_sent(chain: Any, publishing_shop: Any) -> None:
    from kash_pipeline.sandbox.pennylane import Fault

    shop, sandbox = publishing_shop
    sandbox.faults.add(Fault("refuse", method="POST", path="ledger_entries$", count=1, status=422))
    result = chain(shop, MemoryTill(make_facts(FIRST, LAST)))
    assert result.worked
    [failed] = result.stages[-1].failed_checks
    assert (failed.asset, failed.check) == ("pennylane/published_entries", "all_arrived")
    assert "refused" in failed.detail["which"]
    figures = result.stages[-1].figures["pennylane/published_entries"]
    assert (figures["refused"], figures["posted"]) == (1, figures["verified"])
    # The next run sends nothing of it, and does not fall silent either.
    [failed] = chain(shop, MemoryTill(make_facts(FIRST, LAST))).stages[-1].failed_checks
    assert "from an earlier run" in failed.detail["which"]
    assert "kash-pipeline pennylane retry" in failed.detail["which"]


def test_a_till_that_does_not_answer_is_data_and_stops_the_chain(chain: Any) -> None:
    result = chain(make_shop(), MemoryTill(make_facts(FIRST, LAST), unreachable={LAST}))
    assert [stage.stage for stage in result.stages] == ["reference", "facts"]
    assert not result.worked
    [problem] = result.stages[-1].problems
    assert (problem.step, problem.message, problem.next_step) == (
        "bakery__pos__sales",
        "no answer for 2025-03-02",
        "try again later",
    )


def test_a_database_that_does_not_answer_is_data_too(chain: Any, environment: Environment) -> None:
    from kash_pipeline.defs.resources import WarehouseResource

    gone = WarehouseResource(home=str(environment.home), url="postgresql://nobody@127.0.0.1:9/none?connect_timeout=2")
    result = chain(make_shop(), MemoryTill(make_facts(FIRST, LAST)), warehouse=gone)
    [stage] = result.stages
    [problem] = stage.problems
    assert "cannot be used" in problem.message
    assert "KASH_DATABASE_URL" in problem.next_step


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (date(2024, 12, 31), LAST, "2024-12-31 is before the first chart"),
        (FIRST, date(2999, 1, 1), "2999-01-01 has not come yet"),
    ],
)
def test_days_the_shop_does_not_have_are_an_error(
    instance: dg.DagsterInstance, environment: Environment, first: date, last: date, message: str
) -> None:
    """Dagster would run the days that exist and say nothing of the others."""
    with pytest.raises(SettingsError, match=message) as caught:
        run_days(make_shop(), first, last, instance=instance, environment=environment)
    assert caught.value.next_step
    assert instance.get_runs_count() == 0


def test_held_days_come_back_as_data(chain: Any) -> None:
    facts = make_facts(FIRST, LAST)
    chosen = facts.payments["business_day"] == pd.Timestamp(LAST)
    odd = facts.payments.assign(method_id=facts.payments["method_id"].where(~chosen, "crypto"))
    result = chain(make_shop(), MemoryTill(replace(facts, payments=odd)))
    assert result.worked
    [held] = [check for check in result.stages[-1].failed_checks if check.check == "no_held_days"]
    assert held.detail["held register-days"] == "2"
    assert "2025-03-02" in held.detail["held"]


def test_progress_is_told_month_by_month(chain: Any) -> None:
    told: list[tuple[str, str, int, int]] = []
    chain(make_shop(), MemoryTill(make_facts(FIRST, LAST)), progress=lambda *what: told.append(what))
    assert [item for item in told if item[1] == "pos/sales"] == [
        ("facts", "pos/sales", 2, 4),
        ("facts", "pos/sales", 4, 4),
    ]
    assert told[-1] == ("entries", "accounting/entries", 4, 4)


def test_the_instance_of_this_machine_keeps_runs_and_ends_killed_ones(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed command cannot say that its run has ended, and no daemon watches runs it did not launch."""
    for name in ("DAGSTER_HOME", "KASH_DAGSTER_DATABASE_URL", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")  # so that what the instance sets is taken back after the test
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
    with open_instance(environment) as instance:
        killed, alive, launched = (
            dg.DagsterRun(job_name="publish", status=dg.DagsterRunStatus.STARTED, tags=tags)
            for tags in ({OWNER_TAG: this_process().rpartition(":")[0] + ":1"}, {OWNER_TAG: this_process()}, {})
        )
        for run in (killed, alive, launched):
            instance.add_run(run)
        instance.event_log_storage.set_concurrency_slots("pennylane_x", 1)
        instance.event_log_storage.claim_concurrency_slot("pennylane_x", killed.run_id, "publish")
        assert end_killed_runs(instance) == [killed.run_id]
        statuses = {run.run_id: run.status for run in instance.get_runs()}
        assert statuses[killed.run_id] == dg.DagsterRunStatus.FAILURE
        assert statuses[alive.run_id] == statuses[launched.run_id] == dg.DagsterRunStatus.STARTED
        assert instance.event_log_storage.get_concurrency_info("pennylane_x").active_slot_count == 0
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "1000"
    with open_instance(environment) as again:
        assert again.get_runs_count() == 3
