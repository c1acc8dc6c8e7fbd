"""The key of Kash.click, searched by value in everything runs leave behind: Dagster's records, tables, lake, logs."""

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from html import escape
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
import pytest
from psycopg import sql

from kash_pipeline.defs.assembly import build_definitions
from kash_pipeline.defs.instance import open_instance
from kash_pipeline.defs.jobs import EXTRACT, REFERENCE_SYNC, range_tags
from kash_pipeline.defs.resources import OpenTill
from kash_pipeline.pos.port import Source
from kash_pipeline.sandbox import datasets
from kash_pipeline.settings import Environment, ShopFile, load_shop
from kash_pipeline_tests.unit.pos.kash_till import KEY, SHOP, Till, kash_till

DAY = date(2026, 3, 26)
OLD_KEY = 'form3r+key/with&"signs"'


def forms(key: str) -> set[str]:
    """The key as it is, in a URL, in JSON (PHP's too), in a page, in bytes written out."""
    in_json = json.dumps(key)[1:-1]
    return {key, quote(key), quote(key, safe=""), quote_plus(key), in_json, in_json.replace("/", "\\/"), escape(key)}


@pytest.fixture(scope="module")
def till() -> Iterator[Till]:
    with kash_till(datasets.load("bakery"), headers_only=True) as served:
        yield served


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DAGSTER_HOME", "KASH_DAGSTER_DATABASE_URL", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")  # so that what the instance sets is taken back after the test
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
    monkeypatch.setenv("KASH_SHOP_ID", SHOP)
    return tmp_path


def shop_at(till: Till, home: Path) -> ShopFile:
    """The bakery, read order by order from this till."""
    text = datasets.load("bakery").shop_path.read_text().replace("http://127.0.0.1:8711/workers", till.url)
    path = home / "shop.toml"
    path.write_text(text.replace('kind = "kash_api"\n', 'kind = "kash_api"\norder_detail = true\n'))
    return load_shop(path).model_copy(update={"pennylane": None})


def impatient(till: Till, **client: object) -> OpenTill:
    """The same till, by a client that waits for nothing between its attempts."""

    @contextmanager
    def opened() -> Iterator[Source]:
        with till.source(client={"sleep": lambda seconds: None, "attempts": 2, **client}) as source:
            yield source

    return opened


def test_the_key_is_in_no_event_table_file_or_log_of_any_run(
    till: Till, home: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop = shop_at(till, home)
    environment = Environment(home, str(home / "lake"), warehouse_url, home / "shop.toml")
    said: list[str] = []

    def run(job: str, says: str, **resources: object) -> None:
        definitions = build_definitions(shop, environment=environment, **resources)
        resolved = definitions.resolve_job_def(job)
        tags = range_tags(DAY, DAY) if resolved.partitions_def else {}
        result = resolved.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
        assert result.success is (not says)
        said.append(says)

    def faulty(fault: Callable[[], object], says: str, job: str = EXTRACT, **client: object) -> None:
        fault()
        run(job, says, till=impatient(till, **client))
        till.faults.clear()

    with caplog.at_level(logging.DEBUG), open_instance(environment) as instance:
        monkeypatch.setenv("KASH_API_KEY", OLD_KEY)
        run(EXTRACT, "getSales.php: Kash.click refuses: 'Wrong API key'")
        monkeypatch.setenv("KASH_API_KEY", KEY)
        till.faults.revoke_after = 100
        run(EXTRACT, "getOrder.php: Kash.click refuses: 'Wrong API key'")
        till.faults.clear()
        faults = till.faults
        # What httpx raises at a timeout or a cut connection carries the request, and that its URL.
        faulty(lambda: faults.set("slow", seconds=0.3), "does not answer within 0.1 s", timeout=0.1)
        faulty(lambda: faults.set("cut"), "cannot be reached")
        faulty(lambda: faults.set("html"), "page instead of JSON", REFERENCE_SYNC)
        echo = escape(KEY) + " " + quote_plus(KEY)
        faulty(lambda: faults.set("error_body", message=echo), "Kash.click refuses: '*** ***'", REFERENCE_SYNC)
        run(REFERENCE_SYNC, "")
        run(EXTRACT, "")
        runs = instance.get_runs()

    left = {**tables(warehouse_url), **files(home), "the log": caplog.text + repr([r.args for r in caplog.records])}
    assert len(runs) == len(said)
    for says in filter(None, said):  # each failure is on record: otherwise the search would be worth nothing
        assert says in left["dagster.event_logs"], says
    assert {"dagster.runs", "kash.entries"} <= set(left)
    assert sum(name.startswith("lake/") and "getOrder.php" in name for name in left) > 100
    assert "HTTP Request: GET" in left["the log"]
    for where, text in left.items():
        for form in {*forms(KEY), *forms(OLD_KEY), "k3y", "form3r"}:
            assert form not in text, (where, form)


def tables(url: str) -> dict[str, str]:
    """Every table of the database, its rows as text."""
    found = {}
    with psycopg.connect(url) as connection:
        for schema, name in connection.execute(
            "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall():
            rows = connection.execute(sql.SQL("select * from {}").format(sql.Identifier(schema, name)))
            found[f"{schema}.{name}"] = "\n".join(str(value) for row in rows for value in row)
    return found


def files(folder: Path) -> dict[str, str]:
    """Every file, unpacked."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file():
            body = file.read_bytes()
            body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            found[str(file.relative_to(folder))] = body.decode("utf-8", errors="replace")
    return found
