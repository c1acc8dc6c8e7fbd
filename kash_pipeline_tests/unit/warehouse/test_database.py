"""Engines and migrations: many starters, one set of tables."""

import os
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from kash_pipeline.errors import SettingsError
from kash_pipeline.warehouse import database
from kash_pipeline.warehouse.errors import SchemaError, ServerError
from kash_pipeline.warehouse.tables import METADATA, SCHEMA


def test_many_processes_may_upgrade_at_once(database_url: str) -> None:
    """Without the lock all but one would fail on a table that exists."""
    engines = [database.open_engine(database_url) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(database.upgrade, engines))
    assert set(sa.inspect(engines[0]).get_table_names(schema=SCHEMA)) > {"entries", "publication", "oauth_tokens"}
    for engine in engines:
        engine.dispose()


def test_migrations_and_tables_agree(engine: sa.Engine) -> None:
    """A column added to tables.py without a migration exists only on the developer's machine."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table_schema": SCHEMA,
                "include_schemas": True,
                "include_name": lambda name, kind, parents: kind != "schema" or name == SCHEMA,
                "compare_type": True,
            },
        )
        assert compare_metadata(context, METADATA) == []


def test_a_newer_database_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("update kash.alembic_version set version_num = '9999'"))
    with pytest.raises(SchemaError, match="another version"):
        database.upgrade(engine)


def test_an_unreachable_server_is_named_without_its_password() -> None:
    engine = database.open_engine("postgresql://kash:s3cret@127.0.0.1:1/books")
    with pytest.raises(ServerError) as caught:
        database.upgrade(engine)
    assert "127.0.0.1" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://kash:s3cret@host/books", "s3cret", ""])
def test_only_postgresql_urls(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        database.open_engine(url)
    assert "s3cret" not in str(caught.value)


def test_connections_work_in_utc(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(sa.text("show timezone")).scalar_one() == "UTC"


def test_a_user_who_may_not_make_tables_is_told_what_to_ask_for(database_url: str) -> None:
    role = f"clerk_{os.getpid()}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"create role {role} login")
    engine = database.open_engine(database_url.replace("postgres@", f"{role}@"))
    with pytest.raises(SchemaError, match="permission denied") as caught:
        database.upgrade(engine)
    assert "grant create" in caught.value.next_step
    engine.dispose()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"drop role {role}")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://kash:p%40ss@db:5433/books?sslmode=require",
            {"host": "db", "port": 5433, "password": "p@ss", "sslmode": "require", "options": "-csearch_path=dagster"},
        ),
        (
            "postgres://db/books?options=-cstatement_timeout%3D5000",
            {"host": "db", "options": "-cstatement_timeout=5000 -csearch_path=dagster"},
        ),
        ("postgresql+psycopg://postgres@/books?host=/srv/my%20pg", {"host": "/srv/my pg"}),
    ],
)
def test_dagsters_url_keeps_what_the_given_one_says(url: str, expected: dict[str, object]) -> None:
    """Seen by the driver that dagster-postgres must use."""
    parsed = sa.engine.make_url(database.dagster_url(url))
    assert parsed.drivername == "postgresql+psycopg2"
    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    assert {name: arguments.get(name) for name in expected} == expected
