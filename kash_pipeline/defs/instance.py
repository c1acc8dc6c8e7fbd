"""Dagster's instance of this machine: its home, its storage, and what killed runs leave behind.

Only where Dagster keeps its records belongs here; which PostgreSQL that is, is decided in warehouse/server.py.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import dagster as dg

from kash_pipeline.settings import Environment
from kash_pipeline.warehouse import database, server
from kash_pipeline.warehouse.ledger import owner_alive

EVENT_BATCH_SIZE = 1000
"""Materializations written at once: a year's backfill takes 0.4 of the time (performance notes, section 1)."""

OWNER_TAG = "kash/process"
"""Tag of runs that a command executes itself: `host:pid:start` of its process."""


def prepare_home(environment: Environment) -> Path:
    """Start the database, give it this version's tables, and set up DAGSTER_HOME for this process and its children.

    Raises ServerError or SchemaError of the warehouse. Returns the home, `<KASH_HOME>/dagster`.
    """
    url = server.database_url(environment)
    engine = database.open_engine(url)
    try:
        database.upgrade(engine)  # makes the schema that Dagster's tables live in
    finally:
        engine.dispose()
    home = environment.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    wanted = files("kash_pipeline.defs").joinpath("dagster.yaml").read_text()
    config = home / "dagster.yaml"
    if not config.exists() or config.read_text() != wanted:
        beside = home / f".dagster.yaml.{os.getpid()}"
        beside.write_text(wanted)
        beside.replace(config)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["KASH_DAGSTER_DATABASE_URL"] = database.dagster_url(url)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(EVENT_BATCH_SIZE))
    return home


@contextmanager
def open_instance(environment: Environment) -> Iterator[dg.DagsterInstance]:
    """The persistent instance of this machine, after the records of killed runs have been put in order."""
    home = prepare_home(environment)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        end_killed_runs(instance)
        yield instance


def end_killed_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process is gone as failed, and give back their places in pools; their ids.

    A killed command cannot say so itself, and no daemon watches runs that it did not launch.
    """
    ended = []
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED])
    for run in instance.get_runs(filters):
        owner = run.tags.get(OWNER_TAG)
        if owner and owner_alive(owner) is False:
            instance.report_run_failed(run, "The process that executed this run was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended.append(run.run_id)
    return ended
