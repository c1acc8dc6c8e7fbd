"""Kash.click's webhook over real HTTP: kept raw, counted once, small, behind a secret; closings for one register."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from kash_pipeline.cli.main import cli
from kash_pipeline.errors import SettingsError
from kash_pipeline.pos import open_source
from kash_pipeline.pos.errors import SourceChanged, SourceRefused
from kash_pipeline.pos.kash_api import events
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.server import serving
from kash_pipeline.settings import load_shop
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.wake_ups import WakeUps
from kash_pipeline.web.webhook import LARGEST, create_app
from kash_pipeline_tests.unit.pos.kash_till import KEY, PARIS, SHOP, kash_till

SECRET = "aVeryLongSecretOfThePath24"
NOW = datetime(2026, 3, 14, 18, 0, tzinfo=UTC)
ORDER = {
    "type": "validated",
    "orderID": "312764",
    "orderInternalID": 312764,
    "valueDate": "2026-03-14T09:12:00+01:00",
    "price": "1.25",
    "cashBoxID": "K1",
    "items": [{"title": "BAGUETTE"}],
    "isRefund": False,
}
CLOSE = {"type": "cashBox_close", "Total": 918.5, "opened": "2026-03-14 06:57:00", "closed": "2026-03-14 19:36:00"}


@dataclass
class Receiver:
    url: str
    lake: Lake
    wake_ups: WakeUps

    def post(self, body: Any, *, path: str = SECRET, **options: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(f"{self.url}/kash/{path}", content=content, timeout=10, **options)

    def raw(self) -> list[str]:
        return [call for call in self.lake.raw_calls() for _ in self.lake.raw(call)]


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@pytest.fixture
def receiver(engine: sa.Engine, bakery: Dataset, tmp_path: Path) -> Iterator[Receiver]:
    shop = load_shop(bakery.shop_path)
    lake = Lake(str(tmp_path / "lake"), shop.shop.id)
    with serving(create_app(shop, engine, lake, secret=SECRET, now=lambda: NOW)) as url:
        yield Receiver(url, lake, WakeUps(engine, shop.shop.id))


def test_an_event_is_kept_raw_and_waits_once_however_often_it_comes(receiver: Receiver) -> None:
    assert receiver.post(ORDER).text == "kept"
    assert receiver.post(ORDER).text == "known"
    assert receiver.post({**ORDER, "type": "terminated"}).text == "kept"  # documented: two calls per order
    (waiting,) = receiver.wake_ups.waiting(events.CLOSE)
    assert (waiting.business_day, waiting.events, waiting.closings) == (date(2026, 3, 14), 2, 0)
    assert waiting.kinds == ("terminated", "validated")
    (meta,) = receiver.lake.raw("webhook.validated", date(2026, 3, 14))
    assert json.loads(receiver.lake.read_raw(meta["path"])) == ORDER
    assert SECRET not in json.dumps(meta)


def test_what_was_asked_for_waits_no_more_and_what_comes_after_does(receiver: Receiver) -> None:
    receiver.post(ORDER)
    waiting = receiver.wake_ups.waiting(events.CLOSE)
    receiver.wake_ups.asked(waiting)
    assert receiver.wake_ups.waiting(events.CLOSE) == []
    receiver.post(CLOSE)
    (again,) = receiver.wake_ups.waiting(events.CLOSE)
    assert (again.events, again.kinds, again.closings) == (1, ("cashBox_close",), 1)


def test_forms_and_unix_dates_are_understood(receiver: Receiver) -> None:
    """Encoding and date format are documented nowhere. 1773446400 is 14 March 2026, 01:00 in Paris: the 13th's sale."""
    form = urlencode({"type": "validated", "orderInternalID": "9", "valueDate": "1773446400"}).encode()
    assert receiver.post(form).text == "kept"
    (waiting,) = receiver.wake_ups.waiting(events.CLOSE)
    assert waiting.business_day == date(2026, 3, 13)


NOT_UNDERSTOOD: tuple[Any, ...] = (
    b"",
    b"\xff\xfe",
    b"[1]",
    b"[" * 100_000,
    {"type": "cashBox_explode"},
    {"type": ["validated"]},
    {"type": "validated"},
    {**ORDER, "orderInternalID": "9\0"},
    {**ORDER, "orderInternalID": "\ud800"},
    {**ORDER, "orderInternalID": "9" * 65},
    {**ORDER, "valueDate": "soon"},
    {**ORDER, "valueDate": "0001-01-01T00:00:00"},
    {**ORDER, "valueDate": "9999-12-31T23:59:59"},
    {**CLOSE, "Total": "9,1,1"},
    {**CLOSE, "closed": None},
)


def test_what_is_not_understood_is_kept_and_wakes_nobody(receiver: Receiver) -> None:
    for body in NOT_UNDERSTOOD:
        assert receiver.post(body).status_code == 400, body
    assert receiver.raw() == ["webhook.unknown"] * len(NOT_UNDERSTOOD)
    assert receiver.post(b'{"type": "validated", "pad": "' + b"x" * LARGEST + b'"}').status_code == 413
    assert receiver.raw() == ["webhook.unknown"] * len(NOT_UNDERSTOOD)
    assert receiver.wake_ups.waiting(events.CLOSE) == []


def test_a_body_that_never_ends_is_given_up(bakery: Dataset, engine: sa.Engine, tmp_path: Path) -> None:
    shop = load_shop(bakery.shop_path)
    lake = Lake(str(tmp_path / "lake"), shop.shop.id)
    with (
        serving(create_app(shop, engine, lake, secret=SECRET, patience=0.1)) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as sender,
    ):
        sender.sendall(f"POST /kash/{SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
        assert sender.recv(4096).startswith(b"HTTP/1.1 408")
    assert lake.raw_calls() == []


def test_a_body_that_tells_no_length_is_cut_off_at_the_limit(receiver: Receiver) -> None:
    parts = [b"x" * 65536] * (LARGEST // 65536) + [b"x"]
    answer = httpx.post(f"{receiver.url}/kash/{SECRET}", content=iter(parts), timeout=10)
    assert "content-length" not in answer.request.headers
    assert answer.status_code == 413
    assert receiver.raw() == []


def test_the_path_is_a_secret(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="kash_pipeline"):
        for path in ("", "x", SECRET[:-1], SECRET + "a", SECRET.lower()):
            assert receiver.post(ORDER, path=path).status_code == 404
        receiver.post(b"nonsense")
    assert httpx.get(f"{receiver.url}/kash/{SECRET}").status_code == 405
    assert receiver.raw() == ["webhook.unknown"]
    assert SECRET not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("kash"))


@pytest.mark.parametrize("secret", ["", "short", "x" * 15, "a/path/of/segments/that/is/long"])
def test_a_secret_that_can_be_guessed_is_refused(
    bakery: Dataset, engine: sa.Engine, tmp_path: Path, secret: str
) -> None:
    shop = load_shop(bakery.shop_path)
    with pytest.raises(SettingsError, match="KASH_WEBHOOK_SECRET is no secret") as caught:
        create_app(shop, engine, Lake(str(tmp_path), "x"), secret=secret)
    assert not secret or secret not in str(caught.value)


def test_a_port_that_is_taken_is_named(bakery: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASH_WEBHOOK_SECRET", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} cannot be listened on") as caught:
            CliRunner().invoke(
                cli,
                ["kash", "webhook", "--shop", str(bakery.shop_path), "--port", port],
                catch_exceptions=False,
            )
    assert "--port" in caught.value.next_step


def test_an_event_that_cannot_be_kept_is_asked_for_again(bakery: Dataset, tmp_path: Path) -> None:
    """503, so that a sender that repeats does; the raw event is there already."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    gone = sa.create_engine(f"postgresql+psycopg://nobody@127.0.0.1:{port}/none?connect_timeout=2")
    shop = load_shop(bakery.shop_path)
    with serving(create_app(shop, gone, Lake(str(tmp_path), "x"), secret=SECRET)) as url:
        assert httpx.post(f"{url}/kash/{SECRET}", json=ORDER, timeout=10).status_code == 503
    gone.dispose()


# --- the push source of closings -------------------------------------------------------------------------------------


@pytest.fixture
def pushed(
    receiver: Receiver, bakery: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Any]:
    monkeypatch.setenv("KASH_SHOP_ID", SHOP)
    monkeypatch.setenv("KASH_API_KEY", KEY)

    def closings(registers: int) -> Any:
        shop = load_shop(bakery.shop_path)
        with kash_till(bakery) as till:
            till.faults.reshape = lambda script, body: body[:registers] if script == "getCashbox.php" else body
            settings = {"url": till.url, "closings_script": None, "closings_from_webhook": True}
            made = shop.model_copy(update={"source": shop.source.model_copy(update=settings)})
            with open_source(made, lake_url=str(tmp_path / "lake")) as source:
                assert source.capabilities.closings
                assert not source.capabilities.cash_movements
                return list(source.closings(date(2026, 3, 13), date(2026, 3, 14)))

    return closings


def test_closings_come_from_the_webhook_where_there_is_one_register(receiver: Receiver, pushed: Any) -> None:
    receiver.post(CLOSE)
    receiver.post(CLOSE)
    empty, day = pushed(1)
    assert (len(empty.closings), len(day.closings), len(day.closing_counts)) == (0, 1, 0)
    (closing,) = day.closings.to_dict("records")
    assert (closing["register_id"], closing["total_cents"]) == ("K1", 91_850)
    assert closing["closed_at"] == datetime(2026, 3, 14, 18, 36, tzinfo=UTC)
    assert closing["closing_id"] == "W-20260314T183600Z"


def test_with_two_registers_a_closing_cannot_be_attributed_and_is_refused(receiver: Receiver, pushed: Any) -> None:
    receiver.post(CLOSE)
    with pytest.raises(SourceRefused, match="names no register, and the shop has 2"):
        pushed(2)


def test_an_event_says_what_is_wrong_with_it() -> None:
    with pytest.raises(SourceChanged, match="type 'x' is none of validated, terminated, cashBox_close"):
        events.read_event(b'{"type": "x"}', PARIS, NOW)
    with pytest.raises(SourceChanged, match="field 'closed' is 'later', no date"):
        events.read_event(json.dumps({**CLOSE, "closed": "later"}).encode(), PARIS, NOW)
