"""Evidence: from an entry line to its orders and the raw answers they came in, and back; how long these are kept."""

import hashlib
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from kash_pipeline import accounting
from kash_pipeline.cli.main import cli
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.settings import load_shop
from kash_pipeline.warehouse import retention, tracing, windows
from kash_pipeline.warehouse.errors import TraceError
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.unit.pos.kash_till import KEY, kash_till

FIRST, LAST = date(2026, 3, 13), date(2026, 3, 14)
SHOP = "boulangerie"


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@dataclass
class Books:
    lake: Lake
    lake_url: str
    granularity: str
    engine: sa.Engine

    def trace(self, key: str, line: int | None = None) -> tracing.Trace:
        with self.engine.connect() as connection:
            return tracing.trace_entry(connection, self.lake, SHOP, key, line)


@pytest.fixture(scope="module", params=["day", "order"])
def read(
    request: pytest.FixtureRequest, bakery: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, dict[str, pd.DataFrame]]:
    """Two days read from the sandbox (in detail where entries are per order) into a lake, and built."""
    folder = tmp_path_factory.mktemp("lake")
    lake = Lake(str(folder), SHOP)
    shop = load_shop(bakery.shop_path)
    shop = shop.model_copy(update={"shop": shop.shop.model_copy(update={"granularity": request.param})})
    with kash_till(bakery, headers_only=request.param == "order") as till, till.source() as source:
        for day in source.sales(FIRST, LAST):
            for name in ("orders", "order_lines", "order_vat"):
                lake.write_day(name, day.day, getattr(day, name))
            own = day.payments["business_day"] == pd.Timestamp(day.day)
            lake.write_day("payments", day.day, day.payments[own])
        for closed in source.closings(FIRST, LAST):
            for name in ("closings", "closing_counts", "cash_movements"):
                lake.write_day(name, closed.day, getattr(closed, name))
        for name, frame in source.reference().items():
            lake.write_reference(name, frame)
        for document in till.raw:
            lake.keep(document)
    built = accounting.build(lake.read_facts(FIRST, LAST), shop, first=FIRST, last=LAST)
    return request.param, folder, {name: getattr(built, name) for name in ("entries", "entry_lines", "held", "notices")}


@pytest.fixture
def books(read: tuple[str, Path, dict[str, pd.DataFrame]], engine: sa.Engine, tmp_path: Path) -> Books:
    """A test's own copy of what was read, with the entries stored."""
    granularity, folder, frames = read
    own = tmp_path / "lake"
    shutil.copytree(folder, own)
    with engine.begin() as connection:
        windows.replace_entries(connection, SHOP, [FIRST, LAST], **frames)
    return Books(Lake(str(own), SHOP), str(own), granularity, engine)


def keys(books: Books, kind: str) -> list[str]:
    with books.engine.connect() as connection:
        return list(
            connection.execute(
                sa.text("select entry_key from kash.entries where kind = :kind order by entry_key"), {"kind": kind}
            ).scalars()
        )


def test_an_entry_leads_to_its_orders_and_to_the_answers_they_came_in(books: Books, bakery: Dataset) -> None:
    key = keys(books, "sale")[0]
    found = books.trace(key)
    orders = found.facts["orders"]
    assert orders["total_cents"].sum() == found.entry["debit_cents"] or books.granularity == "day"
    if books.granularity == "order":
        assert len(orders) == 1
        assert [document.call for document in found.documents] == ["getOrder.php"]
    else:
        assert len(orders) > 50
        assert [document.call for document in found.documents] == ["getOrders.php"]
        assert found.documents[0].ids == tuple(sorted(orders["order_id"]))
    body = books.lake.read_raw(found.documents[0].path)
    assert str(orders["order_id"].iloc[0]).encode() in body
    assert KEY.encode() not in body
    assert "key=***" in found.documents[0].url


def test_each_line_of_a_rate_or_method_is_the_sum_of_what_it_leads_to(books: Books) -> None:
    """To the cent: sales and VAT per rate, takings per method."""
    compared = 0
    for kind in ("sale", "payment"):
        for key in keys(books, kind)[:2]:
            for line in books.trace(key).lines.itertuples():
                sums = books.trace(key, int(line.line_no)).sums
                if sums:
                    assert len(set(sums.values())) == 1, (key, line)
                    compared += 1
    assert compared >= 6


def test_orders_and_answers_lead_back_to_the_entry(books: Books) -> None:
    key = keys(books, "sale")[0]
    found = books.trace(key)
    order = found.facts["orders"].iloc[0]
    with books.engine.connect() as connection:
        for name in (order["order_id"], order["number"]):
            orders, back = tracing.trace_order(connection, books.lake, SHOP, name)
            assert orders["order_id"].tolist() == [order["order_id"]]
            assert key in back
            assert any("-E" in other for other in back)  # the payment's entry as well
        document, orders, back = tracing.trace_document(connection, books.lake, SHOP, found.documents[0].sha256[:12])
        assert key in back
        assert any("-E" in other for other in back)
        assert document.path == found.documents[0].path
        assert order["order_id"] in set(orders["order_id"])
        with pytest.raises(TraceError, match="'nothing' is no entry key"):
            tracing.trace_order(connection, books.lake, SHOP, "nothing")
        with pytest.raises(TraceError, match="has no line 99"):
            tracing.trace_entry(connection, books.lake, SHOP, key, 99)


def test_the_command_follows_all_three_and_writes_the_answers(
    books: Books, bakery: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if books.granularity == "order":
        return  # said by the functions above; the command is the same
    monkeypatch.setenv(
        "KASH_DATABASE_URL", books.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    )
    monkeypatch.setenv("KASH_LAKE_URL", books.lake_url)
    monkeypatch.setenv("KASH_SHOP", str(bakery.shop_path))

    def told(key: str, *options: str) -> str:
        result = CliRunner().invoke(cli, ["trace", key, *options], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    key = keys(books, "sale")[0]
    line = int(books.trace(key).lines.query("vat_rate_bp == 550")["line_no"].iloc[0])
    output = told(f"{key}#{line}", "--out", str(tmp_path / "raw"))
    assert ", as do the lines of this rate" in output
    (written,) = (tmp_path / "raw").iterdir()
    found = books.trace(key)
    assert written.read_bytes() == books.lake.read_raw(found.documents[0].path)
    assert key in told(str(found.facts["orders"]["number"].iloc[0]))
    assert key in told(found.documents[0].sha256[:16])
    body = b"%PDF-1.7 the day's report"
    digest = hashlib.sha256(body).hexdigest()
    at = datetime(2026, 3, 15, tzinfo=UTC)
    url = "https://kash.click/workers/getSales.php?formatExport=PDF"
    books.lake.keep(RawDocument("getSales.php", found.entry["business_day"].date(), url, at, 200, digest, body))
    reported = told(key, "--out", str(tmp_path / "with report"))
    assert "report of its day" in reported
    assert digest in reported
    assert body in [file.read_bytes() for file in (tmp_path / "with report").iterdir()]
    refused = CliRunner().invoke(cli, ["trace", f"{key}#three"])
    assert "'three' is no line number" in str(refused.exception)


def test_what_retention_deleted_is_still_named(books: Books, bakery: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry older than its vouchers' ten years says which answers it came from and when they went; facts stay."""
    key = keys(books, "sale")[0]
    before = books.trace(key)
    kept = {document.path: books.lake.read_raw(document.path) for document in before.documents}
    shop = load_shop(bakery.shop_path)
    year = datetime.fromisoformat(before.documents[0].fetched_at).year
    # Kept to the end of the tenth year after the fiscal year they were read in.
    assert retention.retain(books.lake, shop, datetime(year + 10, 12, 31, tzinfo=UTC), drop=True).answers == 0
    dropped_at = datetime(year + 11, 1, 2, tzinfo=UTC)
    assert retention.retain(books.lake, shop, dropped_at, drop=True).answers > 0
    found = books.trace(key)
    assert found.lines.equals(before.lines)
    assert found.facts["orders"].equals(before.facts["orders"])
    assert [
        (document.path, document.url, document.dropped_at) for document in found.documents if document.path in kept
    ] == [(document.path, document.url, dropped_at.isoformat()) for document in before.documents]
    if books.granularity == "order":
        calls = [document.call for document in found.documents]
        assert calls.count("getOrder.php") == 1  # the one asked for this order, not all of the day
    monkeypatch.setenv(
        "KASH_DATABASE_URL", books.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    )
    monkeypatch.setenv("KASH_LAKE_URL", books.lake_url)
    monkeypatch.setenv("KASH_SHOP", str(bakery.shop_path))
    for name in (key, before.documents[0].sha256):
        told = CliRunner().invoke(cli, ["trace", name, "--out", books.lake_url + "-out"], catch_exceptions=False)
        assert f"dropped under retention on {dropped_at:%Y-%m-%d}" in told.output
        assert not list(Path(books.lake_url + "-out").iterdir())
    # The same answer read once more is a voucher again.
    path, body = next(iter(kept.items()))
    document = before.documents[0]
    again = dropped_at + timedelta(days=1)
    books.lake.keep(RawDocument(document.call, FIRST, document.url, again, 200, document.sha256, body))
    (back,) = (document for document in books.trace(key).documents if document.path == path)
    assert (back.dropped_at, back.fetched_at) == (None, again.isoformat())


def test_a_deletion_that_was_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    """Between record, description and body: no body stays that nothing lists, and nothing is counted twice."""
    lake = Lake(str(tmp_path), SHOP)
    at = datetime(2020, 1, 1, tzinfo=UTC)

    def drop() -> tuple[int, int]:
        return lake.drop_raw(before=date(2026, 1, 1), dropped_at=datetime(2026, 1, 2, tzinfo=UTC), dry_run=False)

    path = lake.keep(RawDocument("getOrders.php", at.date(), "u", at, 200, hashlib.sha256(b"x").hexdigest(), b"x"))
    body, description = (tmp_path / SHOP / f"{path}{suffix}" for suffix in (".gz", ".json"))
    saved = body.read_bytes(), description.read_bytes()
    assert drop() == (1, 1)
    body.write_bytes(saved[0])  # killed before the body went
    assert drop() == (0, 0)
    assert not body.exists()
    body.write_bytes(saved[0])
    description.write_bytes(saved[1])  # killed before the description went
    assert drop() == (1, 1)
    assert [file.suffix for file in body.parent.iterdir()] == [".dropped"]


def test_raw_answers_are_kept_for_the_years_of_the_policy(
    bakery: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten years by default, whole fiscal years; counted first, deleted only when asked; facts are not touched."""
    monkeypatch.setenv("KASH_LAKE_URL", str(tmp_path))
    monkeypatch.setenv("KASH_SHOP", str(bakery.shop_path))
    lake = Lake(str(tmp_path), SHOP)
    now = datetime.now(UTC)
    for years in (1, 9, 12):
        body = f"answer of {years} years ago".encode()
        at = now.replace(year=now.year - years, day=1)
        lake.keep(RawDocument("getOrders.php", at.date(), "u", at, 200, hashlib.sha256(body).hexdigest(), body))
    lake.write_day("orders", date(2012, 3, 1), bakery.facts.orders.head(0))

    def told(*options: str) -> str:
        return CliRunner().invoke(cli, ["kash", "retain", *options], catch_exceptions=False).output

    assert "1 raw answers" in told()
    assert "would be deleted" in told()
    assert len(lake.raw("getOrders.php")) == 3
    assert "1 raw answers" in told("--drop")
    left = [lake.read_raw(meta["path"]) for meta in lake.raw("getOrders.php")]
    assert left == [b"answer of 9 years ago", b"answer of 1 years ago"]
    assert lake.days("orders") == [date(2012, 3, 1)]
    assert "0 raw answers" in told("--drop")
