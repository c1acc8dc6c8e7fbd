"""What the orchestration tests stand on: a warehouse, a lake, an ephemeral Dagster instance, one way to run a job."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from kash_pipeline.definitions import build_definitions
from kash_pipeline.defs.jobs import range_tags
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.orchestration.till import MemoryTill

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), "bakery")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def run(engine: sa.Engine, lake: Lake, instance: dg.DagsterInstance, tmp_path: Path) -> Run:
    """`run(job, shop, till, first, last)`: one Dagster run over these days with real bodies."""
    environment = Environment(tmp_path, str(tmp_path / "lake"), None, tmp_path / "shop.toml")

    def one_run(
        job: str, shop: ShopFile, till: MemoryTill, first: date, last: date, **resources: Any
    ) -> dg.ExecuteInProcessResult:
        definitions = build_definitions(
            shop, environment=environment, warehouse=engine, lake=lake, till=till.opener(), **resources
        )
        resolved = definitions.resolve_job_def(job)
        return resolved.execute_in_process(
            instance=instance,
            raise_on_error=False,
            tags=range_tags(first, last) if resolved.partitions_def else {},
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        )

    return one_run
