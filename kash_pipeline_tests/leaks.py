"""Every secret that a test saw, searched for by value in everything the test leaves behind.

Learning secrets and searching belong here; when what is searched is said by the hooks of conftest.py. A find is kept
as where and what kind, never as the value.

Learned are: what sandboxes were told and gave (tokens, codes, client secrets, keys), key files, and the variables of
the environment that hold secrets. Searched are: log records from INFO on, what pytest captured, databases (each as its
rows read in text form; the imitated PennyLane's own schema is left out: it issued the secrets), Dagster's storages, and
files: Parquet and gzip are opened first. Not searched are the places that may hold a secret, on condition that only
their owner can read them.
"""

import gzip
import html
import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from kash_pipeline.sandbox.recording import Exchange

SHORTEST = 12
"""Shorter values are no secrets but words, such as the token "x" of a test of the contract check."""
VARIABLES = ("KASH_SECRET_KEY", "KASH_API_KEY", "KASH_WEBHOOK_SECRET", "PENNYLANE_CLIENT_SECRET", "PENNYLANE_TOKEN")
MAY_HOLD = frozenset({"secret.key", "sandbox.json", "kash.jsonl", "pennylane.jsonl"})
"""Files that hold secrets rightly: nobody but their owner may read them."""
SANDBOX_SCHEMA = "sandbox_pennylane"

_FORM_SECRETS = {
    "client_secret": "client secret",
    "code": "authorization code",
    "refresh_token": "refresh token",
    "token": "token",
    "code_verifier": "PKCE verifier",
    "password": "password of Kash.click",
}
_ANSWER_SECRETS = {"access_token": "access token", "refresh_token": "refresh token", "APIKEY": "key of Kash.click"}


class Watch:
    """Secrets by value, each with its kind (`now`: of the test that runs, `ever`: of all), and what became of the
    search: how many places were searched, and `found`: where, and which kind of secret."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self.ever: dict[str, str] = {}
        self.places = 0
        self.found: list[str] = []

    # Learning ---------------------------------------------------------------------------------------------------------

    def know(self, kind: str, value: object) -> None:
        if isinstance(value, str) and len(value) >= SHORTEST:
            self.now[value] = self.ever[value] = kind

    def learn(self, exchange: Exchange) -> None:
        """The secrets of one request and its answer."""
        scheme, _, bearer = exchange.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            self.know("access token", bearer)
        self.know("key of Kash.click", dict(parse_qsl(exchange.query)).get("key"))
        if exchange.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            for name, value in parse_qsl(exchange.sent.decode("latin-1")):
                if name in _FORM_SECRETS:
                    self.know(_FORM_SECRETS[name], value)
        went_to = urlsplit(exchange.answer_headers.get("location", ""))
        self.know("authorization code", dict(parse_qsl(went_to.query)).get("code"))
        if exchange.method == "POST" and exchange.body[:1] == b"{":
            with suppress(ValueError):
                told = json.loads(exchange.body)
                for name, kind in _ANSWER_SECRETS.items():
                    self.know(kind, told.get(name))

    def learn_environment(self) -> None:
        for name in VARIABLES:
            self.know(name, os.environ.get(name))

    def learn_files(self, folder: Path) -> None:
        """What the key files below `folder` hold."""
        for file in _files(folder):
            if file.name == "secret.key":
                self.know("key of the token store", file.read_text(errors="replace").strip())
            elif file.name == "sandbox.json":
                with suppress(ValueError):
                    held = json.loads(file.read_text())
                    for name in ("api_key", "client_secret"):
                        self.know(name, held.get(name))

    # Searching --------------------------------------------------------------------------------------------------------

    def search(self, where: str, texts: Iterable[bytes], secrets: dict[str, str] | None = None) -> None:
        """Look for `secrets` (those of the test that runs) in `texts`, the parts of one place."""
        given = self.now if secrets is None else secrets
        self.places += bool(given)
        needles = [(form, kind) for value, kind in given.items() for form in forms(value)]
        hits = {kind for text in map(bare, texts) for form, kind in needles if form in text}
        self.found += [f"{_test()}{where}: {kind}" for kind in sorted(hits)]

    def search_folder(self, folder: Path) -> None:
        """Every file below `folder`, opened if it is packed."""
        if not self.now or not folder.is_dir():
            return
        for file in _files(folder):
            name = str(file.relative_to(folder))
            if file.name in MAY_HOLD:
                mode = stat.S_IMODE(file.stat().st_mode)
                if mode & 0o077:
                    self.found.append(f"{_test()}{name}: can be read by others (mode {mode:04o})")
            elif file.is_file():
                with suppress(FileNotFoundError):  # a temporary one, of a thread that still works
                    self.search(name, _texts(file))

    def search_database(self, url: str) -> None:
        """Every row of every table of a database, in the text form that pg_dump would write."""
        if not self.now:
            return
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                for schema, table in connection.execute(_TABLES).fetchall():
                    if schema != SANDBOX_SCHEMA:
                        with connection.cursor().copy(f"copy (select t::text from {table} t) to stdout") as rows:
                            self.search(table, [b"".join(map(bytes, rows))])
        except psycopg.OperationalError as error:
            if "does not exist" not in str(error):  # dropped by the test itself
                raise

    def search_server(self, url: str) -> None:
        """Every database of a server."""
        with psycopg.connect(url, autocommit=True) as connection:
            names = [row[0] for row in connection.execute("select datname from pg_database where datallowconn")]
        for name in names:
            self.search_database(psycopg.conninfo.make_conninfo(url, dbname=name))

    def search_dagster(self, instance: Any) -> None:
        """Event log and runs of an ephemeral Dagster instance (SQLite in memory)."""
        storages = (instance.event_log_storage.index_connection, instance.run_storage.connect)
        for connect in storages:
            with connect() as connection:
                tables = connection.execute(sa.text("select name from sqlite_master where type = 'table'"))
                for table in tables.scalars().all():
                    rows = connection.execute(sa.text(f'select * from "{table}"')).all()
                    self.search(f"Dagster's {table}", [repr(tuple(row)).encode() for row in rows])


def _test() -> str:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    return f"{test}: " if test else ""


def forms(value: str) -> set[bytes]:
    """A secret as it may be written: plain, in a URL, in a page, as bytea; all of it `bare`."""
    spelled = {value, quote(value), quote(value, safe=""), quote_plus(value), html.escape(value)}
    return {bare(form.encode()) for form in spelled | {value.encode().hex()}}


def bare(text: bytes) -> bytes:
    """Without backslashes and double quotes: JSON, JSON in JSON, reprs and rows as text put and double them."""
    return text.translate(None, b'\\"')


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        # Of a server's own files the rows are searched, as text, by search_database.
        folders[:] = [name for name in folders if not (Path(parent) / name / "PG_VERSION").exists()]
        yield from (Path(parent) / name for name in names)


def _texts(file: Path) -> Iterator[bytes]:
    body = file.read_bytes()
    yield body
    with suppress(OSError, EOFError, pa.ArrowInvalid):  # damaged on purpose by a test: its bytes were searched above
        if body[:2] == b"\x1f\x8b":
            yield gzip.decompress(body)
        elif body[:4] == b"PAR1":
            table = pq.read_table(file)
            for name, column in zip(table.column_names, table.columns, strict=True):
                yield name.encode()
                if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                    yield "\n".join(text for text in column.unique().to_pylist() if text).encode()


_TABLES = """
select n.nspname, format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
and pg_relation_size(c.oid) > 0 order by 2
"""


class Ear(logging.Handler):
    """Keeps the text of every record, the traceback included, until it is taken."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(f"{record.name} {self.format(record)} {record.args!r}")

    def take(self) -> bytes:
        heard, self._heard = self._heard, []
        return "\n".join(heard).encode(errors="replace")


EAR = Ear()
WATCH = Watch()
