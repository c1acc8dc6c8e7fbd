"""Fixtures shared by all tests: a real PostgreSQL (one embedded server a worker, one database a test)."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from kash_pipeline_tests.leak_hooks import (  # noqa: F401 - hooks
    pytest_configure,
    pytest_runtest_logreport,
    pytest_runtest_setup,
    pytest_runtest_teardown,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from kash_pipeline_tests.leaks import WATCH
from kash_pipeline_tests.sandboxes import (  # noqa: F401 - fixtures
    make_pennylane_sandbox,
    pennylane_database,
    pennylane_sandbox,
)

# CI profile: at least 500 examples for money; deadlines measure the machine, not the code.
settings.register_profile("default", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), max_examples=500)
settings.register_profile("thousands", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the `long` tests out to the workers, each its share first: one begun late keeps all others waiting.

    xdist's worksteal gives every worker one even piece of the list, in order.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    left = len(items)
    items.clear()
    for worker in range(workers):
        share = long[worker::workers]
        size = max(0, left // (workers - worker) - len(share))
        items += share + others[:size]
        others = others[size:]
        left -= len(share) + size
    items += others


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of an embedded PostgreSQL of this test worker; KASH_TEST_PG names a directory to keep one in."""
    from kash_pipeline.warehouse import embedded

    # Nothing in it outlives the tests: without waiting for the disk a database is made and dropped in a third of the
    # time. What kills leave behind is tested on servers with the settings of production (test_server.py).
    settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    kept = os.environ.get("KASH_TEST_PG")
    if kept:
        yield embedded.url_of(Path(kept) / "pg", settings=settings)
        return
    with tempfile.TemporaryDirectory(prefix="kp-") as folder:
        yield embedded.url_of(Path(folder) / "pg", settings=settings)
        embedded.stop(Path(folder) / "pg")
        # A statement that fails is written there.
        WATCH.search("log of PostgreSQL", [(Path(folder) / "pg" / "log").read_bytes()], WATCH.ever)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database of one test."""
    name = f"t_{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    base, _, query = postgres_url.partition("?")
    url = base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
    yield url
    WATCH.search_database(url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture(scope="session")
def warehouse_template(postgres_url: str) -> Iterator[str]:
    """Name of a database with the warehouse's tables, to be copied: 40 ms a test instead of the migrations' 200."""
    from kash_pipeline.warehouse import database

    name = f"template_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    base, _, query = postgres_url.partition("?")
    engine = database.open_engine(base.rsplit("/", 1)[0] + f"/{name}?{query}")
    database.upgrade(engine)
    engine.dispose()
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture
def warehouse_url(postgres_url: str, warehouse_template: str) -> Iterator[str]:
    """A fresh database of one test that has the warehouse's tables."""
    name = f"w_{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{warehouse_template}"')
    base, _, query = postgres_url.partition("?")
    url = base.rsplit("/", 1)[0] + f"/{name}?{query}"
    yield url
    WATCH.search_database(url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def engine(warehouse_url: str) -> Iterator[sa.Engine]:
    """An engine on a fresh database that has the warehouse's tables."""
    from kash_pipeline.warehouse import database

    opened = database.open_engine(warehouse_url)
    yield opened
    opened.dispose()
