"""Engines and migrations: how a program gets a database that has this version's tables.

The tables are in tables.py, their history in migrations/versions/; which server is used is decided in server.py.
"""

from importlib.resources import as_file, files

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError

from kash_pipeline.errors import SettingsError
from kash_pipeline.warehouse.errors import SchemaError, ServerError
from kash_pipeline.warehouse.tables import SCHEMA

DAGSTER_SCHEMA = "dagster"
"""Dagster's own tables live in the same database under this schema: one backup holds runs and books of one moment,
and a database user who may not create databases is enough."""

_UPGRADE_LOCK = 0x6B617368  # "kash": the advisory lock of migrations


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    # The text itself is not repeated: it may hold a password.
    if parsed is None or parsed.drivername.partition("+")[0] not in ("postgresql", "postgres"):
        raise SettingsError(
            "KASH_DATABASE_URL is no PostgreSQL URL",
            next_step="write postgresql://user:password@host:5432/database, or unset it for the embedded server",
        )
    return parsed


def open_engine(url: str, *, pool_size: int = 5) -> sa.Engine:
    """An engine on psycopg 3; connections work in UTC and are tested before use, so a restarted server is no error.

    Raises SettingsError for a URL that is not PostgreSQL's. Nothing is connected yet.
    """
    parsed = _parse(url).set(drivername="postgresql+psycopg")
    asked = parsed.query.get("options", "")
    options = " ".join([*([asked] if isinstance(asked, str) else asked), "-c timezone=UTC"]).strip()
    return sa.create_engine(
        parsed.difference_update_query(["options"]),
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=20,
        connect_args={
            "options": options,
            "connect_timeout": int(str(parsed.query.get("connect_timeout", 10))),
            "application_name": str(parsed.query.get("application_name", "kash_pipeline")),
        },
    )


def dagster_url(url: str) -> str:
    """The URL of Dagster's storage in the same database, for `KASH_DAGSTER_DATABASE_URL` (deploy/dagster.yaml).

    It names psycopg2: dagster-postgres sends `NOTIFY run_events, $1`, which psycopg 3 binds on the server, where it
    is a syntax error (dagster-io/dagster#33958), and SQLAlchemy 2.1 takes psycopg 3 for a plain postgresql://.
    The schema must exist: `upgrade` makes it.
    """
    parsed = _parse(url).set(drivername="postgresql+psycopg2")
    asked = parsed.query.get("options", "")
    options = " ".join([*([asked] if isinstance(asked, str) else asked), f"-csearch_path={DAGSTER_SCHEMA}"]).strip()
    return parsed.update_query_dict({"options": options}).render_as_string(hide_password=False)


def upgrade(engine: sa.Engine) -> None:
    """Bring the tables to this version, in one transaction; many processes may call it at once.

    Raises ServerError when the server cannot be reached, SchemaError when the database is newer than the program or
    its user may not make tables.
    """
    with as_file(files("kash_pipeline.warehouse") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            with engine.begin() as connection:
                if _revision(connection) == ScriptDirectory.from_config(config).get_current_head():
                    return
                connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
                for schema in (SCHEMA, DAGSTER_SCHEMA):
                    connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise SchemaError(
                f"the database was set up by another version of kash_pipeline: {error}",
                next_step="install the newest version, or use another database",
            ) from error
        except ProgrammingError as error:
            raise SchemaError(
                f"the tables cannot be set up as {engine.url.username or 'the current user'}: {error.orig}".strip(),
                next_step="let the owner of the database run: grant create on database ... to ...",
            ) from error
        except OperationalError as error:
            raise ServerError(
                f"PostgreSQL at {engine.url.render_as_string()} cannot be used: {error.orig}",
                next_step="check KASH_DATABASE_URL and that the server runs",
            ) from error


def _revision(connection: sa.Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
    return context.get_current_revision()
