"""Engines and migrations: many starters, one set of tables."""

from concurrent.futures import ThreadPoolExecutor

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
