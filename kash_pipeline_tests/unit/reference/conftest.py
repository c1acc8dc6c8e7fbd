"""Fixtures of the reference tests: a shop with a lake and a warehouse of its own."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.orchestration.till import make_shop
from kash_pipeline_tests.unit.reference.world import World


@pytest.fixture
def world(engine: sa.Engine, tmp_path: Path) -> World:
    return World(engine, Lake(str(tmp_path / "lake"), "bakery"), make_shop())
