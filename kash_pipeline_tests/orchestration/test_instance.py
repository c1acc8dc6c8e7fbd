"""Dagster's storage on the embedded PostgreSQL, over its Unix socket, as the shipped dagster.yaml files set it up."""

import threading
from importlib.resources import files
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa
from dagster._core.events.log import EventLogEntry

from kash_pipeline.warehouse import database

REPOSITORY = Path(__file__).resolve().parents[2]
DAYS = dg.DailyPartitionsDefinition("2026-03-28", timezone="Europe/Paris")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), pool="pennylane_sandbox")
def takings(context: dg.AssetExecutionContext) -> None:
    """Two days in one run."""
    for day in context.partition_keys:
        context.add_asset_metadata({"cents": 100}, partition_key=day)


@pytest.fixture(params=["deploy", "package"])
def instance_home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME with one of the two shipped files."""
    packaged = files("kash_pipeline.defs") / "dagster.yaml"
    text = (REPOSITORY / "deploy/dagster.yaml").read_text() if request.param == "deploy" else packaged.read_text()
    (tmp_path / "dagster.yaml").write_text(text)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def test_runs_and_events_live_in_the_warehouses_database(
    engine: sa.Engine, warehouse_url: str, instance_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a plain postgresql:// URL SQLAlchemy 2.1 takes psycopg 3, and the first event's NOTIFY is a syntax error."""
    monkeypatch.setenv("KASH_DAGSTER_DATABASE_URL", database.dagster_url(warehouse_url))
    with dg.DagsterInstance.get() as instance:
        result = dg.materialize(
            [takings],
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": "2026-03-28",
                "dagster/asset_partition_range_end": "2026-03-29",
            },
        )
        assert result.success
        assert instance.get_materialized_partitions(dg.AssetKey("takings")) == {"2026-03-28", "2026-03-29"}
        assert instance.get_settings("telemetry") == {"enabled": False}
        (pool,) = instance.event_log_storage.get_pool_limits()
        assert (pool.name, pool.limit) == ("pennylane_sandbox", 1)
    with engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names(schema="dagster"))
        assert connection.execute(sa.text("select count(*) from dagster.runs")).scalar_one() == 1
    assert {"runs", "event_logs", "instigators", "job_ticks", "alembic_version"} <= tables
    assert sa.inspect(engine).get_table_names(schema="public") == []


def test_events_are_notified_and_watched(
    warehouse_url: str, instance_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KASH_DAGSTER_DATABASE_URL", database.dagster_url(warehouse_url))
    job = dg.define_asset_job("nightly", [takings]).resolve(
        asset_graph=dg.Definitions(assets=[takings]).resolve_asset_graph()
    )
    arrived = threading.Event()

    def watch(entry: EventLogEntry, _cursor: str) -> None:
        if entry.message == "hello":
            arrived.set()

    with dg.DagsterInstance.get() as instance, psycopg.connect(warehouse_url, autocommit=True) as listener:
        listener.execute("listen run_events")
        run = instance.create_run_for_job(job)
        instance.watch_event_logs(run.run_id, None, watch)
        instance.report_engine_event("hello", run)
        assert arrived.wait(30)
        notified = {note.payload.rpartition("_")[0] for note in listener.notifies(timeout=30, stop_after=1)}
    assert notified == {run.run_id}
