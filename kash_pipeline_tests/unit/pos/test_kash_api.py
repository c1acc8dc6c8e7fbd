"""The Kash.click adapter against the sandbox over real loopback HTTP: facts to the byte, and all that can go wrong."""

import asyncio
import dataclasses
import hashlib
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pandas as pd
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from kash_pipeline.errors import KashPipelineError, SettingsError
from kash_pipeline.pos import open_source
from kash_pipeline.pos.errors import PosError, SourceChanged, SourceRefused, SourceUnreachable
from kash_pipeline.pos.kash_api import KashApiSource, KashClient
from kash_pipeline.pos.port import RawDocument, Source
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.kash import Fault, Faults
from kash_pipeline.sandbox.server import serving
from kash_pipeline.schemas.facts import FACTS, REFERENCE
from kash_pipeline.settings import load_shop
from kash_pipeline_tests.contract.checking import request_violation
from kash_pipeline_tests.sandboxes import kash_served

SHOP = "4711"
KEY = 'k3y+with/odd=signs&"quotes"'
PARIS = ZoneInfo("Europe/Paris")
MARCH_14 = date(2026, 3, 14)


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@dataclasses.dataclass
class Till:
    url: str
    faults: Faults


@pytest.fixture(scope="module")
def server(bakery: Dataset) -> Iterator[Till]:
    with kash_served(bakery, shop_id=SHOP, key=KEY) as sandbox:
        yield Till(sandbox.url, sandbox.faults)


@pytest.fixture
def till(server: Till) -> Iterator[Till]:
    server.faults.seen.clear()
    yield server
    server.faults.clear()
    server.faults.reshape = None


@dataclasses.dataclass
class Opened:
    source: KashApiSource
    waits: list[float]
    raw: list[RawDocument]


@pytest.fixture
def opened(till: Till) -> Iterator[Callable[..., Opened]]:
    """A source on the till; named arguments go to the client."""
    clients = []

    def open_(*, window_days: int = 7, closings_script: str | None = "sandboxGetClosings.php", **more: Any) -> Opened:
        waits: list[float] = []
        raw: list[RawDocument] = []
        defaults: dict[str, Any] = {
            "sleep": waits.append,
            "jitter": lambda: 1.0,
            "keep": raw.append,
            "key_name": "KASH_API_KEY",
        }
        client = KashClient(
            more.pop("url", till.url),
            more.pop("shop_id", SHOP),
            more.pop("key", KEY),
            more_reads=frozenset({closings_script} if closings_script else ()),
            **{**defaults, **more},
        )
        clients.append(client)
        source = KashApiSource(
            client,
            zone=PARIS,
            day_starts_at=time(4),
            window_days=window_days,
            closings_script=closings_script,
        )
        return Opened(source, waits, raw)

    yield open_
    for client in clients:
        client.close()


# --- what is read ----------------------------------------------------------------------------------------------------


def read_all(source: Source, dataset: Dataset) -> dict[str, pd.DataFrame]:
    sales = list(source.sales(dataset.first, dataset.last))
    closings = list(source.closings(dataset.first, dataset.last))
    wanted = [date.fromordinal(at) for at in range(dataset.first.toordinal(), dataset.last.toordinal() + 1)]
    assert [day.day for day in sales] == [day.day for day in closings] == wanted
    for day in sales:
        assert (day.orders["business_day"] == pd.Timestamp(day.day)).all()
        for child in (day.order_lines, day.order_vat, day.payments):
            assert set(child["order_id"]) <= set(day.orders["order_id"])
    of_sales = ("orders", "order_lines", "order_vat", "payments")
    of_closings = ("closings", "closing_counts", "cash_movements")
    return {
        **{name: pd.concat([getattr(day, name) for day in sales], ignore_index=True) for name in of_sales},
        **{name: pd.concat([getattr(day, name) for day in closings], ignore_index=True) for name in of_closings},
        **source.reference(),
    }


def test_the_facts_read_are_the_facts_of_the_till(opened: Callable[..., Opened], bakery: Dataset) -> None:
    """The 23-hour day of 29 March 2026 lies among these."""
    got = read_all(opened().source, bakery)
    for table, expected in bakery.facts.tables().items():
        key = (FACTS[table].metadata or {})["unique"]
        FACTS[table].validate(got[table])
        pd.testing.assert_frame_equal(
            got[table].sort_values(key, ignore_index=True), expected.sort_values(key, ignore_index=True)
        )


def test_days_read_one_by_one_are_the_days_read_at_once(opened: Callable[..., Opened]) -> None:
    first, last = date(2026, 3, 27), date(2026, 3, 31)
    at_once = list(opened(window_days=5).source.sales(first, last))
    one_by_one = list(opened(window_days=1).source.sales(first, last))
    for left, right in zip(at_once, one_by_one, strict=True):
        assert left.day == right.day
        for table in ("orders", "order_lines", "order_vat", "payments"):
            pd.testing.assert_frame_equal(getattr(left, table), getattr(right, table))


def test_a_shop_file_opens_its_source(
    till: Till, bakery: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop = load_shop(bakery.shop_path)
    shop = shop.model_copy(update={"source": shop.source.model_copy(update={"url": till.url})})
    monkeypatch.setenv("KASH_SHOP_ID", SHOP)
    monkeypatch.setenv("KASH_API_KEY", KEY)
    raw: list[RawDocument] = []
    with open_source(shop, keep=raw.append) as source:
        assert isinstance(source, Source)
        assert source.capabilities.closings
        (day,) = source.sales(MARCH_14, MARCH_14)
        assert day.orders["total_cents"].sum() > 0
    # The bakery's shop file holds each day against its daily report.
    assert [document.call for document in raw] == ["getSales.php", "getOrders.php"]
    monkeypatch.delenv("KASH_API_KEY")
    monkeypatch.setenv("KASH_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="KASH_API_KEY is not set"), open_source(shop):
        pass


def test_a_day_without_sales_is_empty_and_all_reference_tables_come(opened: Callable[..., Opened]) -> None:
    """4 March is a Wednesday: asked for, answered, nothing sold. That is no failure, and no failure looks like it."""
    source = opened().source
    (day,) = source.sales(date(2026, 3, 4), date(2026, 3, 4))
    assert [len(day.orders), len(day.order_lines), len(day.order_vat), len(day.payments)] == [0, 0, 0, 0]
    for name, frame in source.reference().items():
        REFERENCE[name].validate(frame)
    assert set(source.reference()) == set(REFERENCE)


def test_what_is_looked_at_every_hour_costs_five_requests_and_names_no_customer(opened: Callable[..., Opened]) -> None:
    shop = opened()
    wanted = [name for name in REFERENCE if name != "customers"]
    assert list(shop.source.reference(wanted)) == wanted
    assert [document.call for document in shop.raw] == [
        "getPaymentModes.php",
        "getVATs.php",
        "getCashbox.php",
        "getDepartments.php",
        "getDepartmentGroups.php",
    ]


def test_later_payments_come_with_their_order_and_their_own_day(opened: Callable[..., Opened]) -> None:
    days = list(opened().source.sales(date(2026, 3, 1), date(2026, 3, 31)))
    payments = pd.concat([day.payments for day in days])
    later = payments[payments["business_day"] == pd.Timestamp("2026-04-07")]
    assert later["amount_cents"].sum() == 17_785
    assert set(later["method_id"]) == {"6"}


def test_windows_are_asked_by_instants_of_the_shops_days(opened: Callable[..., Opened], till: Till) -> None:
    """Over the change to summer time a window begins at 03:00 UTC and ends at 02:00: days begin at 04:00 in Paris."""
    shop = opened(window_days=2)
    list(shop.source.sales(date(2026, 3, 28), date(2026, 3, 29)))
    (document,) = shop.raw
    url = httpx.URL(document.url)
    assert url.params["from_date_ISO8601"] == "2026-03-28T03:00:00Z"
    assert url.params["to_date_ISO8601"] == "2026-03-30T01:59:59Z"
    assert document.day == date(2026, 3, 28)


def test_raw_answers_are_kept_with_hash_and_time(opened: Callable[..., Opened]) -> None:
    moment = datetime(2026, 5, 1, 2, 0, tzinfo=UTC)
    shop = opened(now=lambda: moment)
    list(shop.source.sales(MARCH_14, MARCH_14))
    shop.source.reference()
    calls = [document.call for document in shop.raw]
    assert calls[0] == "getOrders.php"
    assert set(calls[1:]) == {
        "getPaymentModes.php",
        "getVATs.php",
        "getCashbox.php",
        "getDepartments.php",
        "getDepartmentGroups.php",
        "getClients.php",
    }
    for document in shop.raw:
        assert document.fetched_at == moment
        assert document.status == 200
        assert hashlib.sha256(document.body).hexdigest() == document.sha256
    assert [document.day for document in shop.raw] == [MARCH_14, *[None] * 6]


def test_without_a_script_there_are_no_closings_and_that_is_said(opened: Callable[..., Opened], till: Till) -> None:
    source = opened(closings_script=None).source
    assert not source.capabilities.closings
    assert not source.capabilities.cash_movements
    assert source.capabilities.payments
    assert source.capabilities.unconfirmed
    with pytest.raises(SourceRefused, match="documents no call that reads closings"):
        next(iter(source.closings(MARCH_14, MARCH_14)))
    assert not till.faults.seen


class Listening(httpx.HTTPTransport):
    """The true transport, which remembers what went over the wire."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[httpx.URL] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request.url)
        return super().handle_request(request)


def test_requests_are_those_of_the_documentation(opened: Callable[..., Opened]) -> None:
    """On the wire, key included; getVATs.php is in the publisher's own client only."""
    wire = Listening()
    source = opened(transport=wire).source
    list(source.sales(date(2026, 3, 1), date(2026, 3, 31)))
    source.reference()
    assert len(wire.sent) == 5 + 6
    assert all(url.params["key"] == KEY and url.params["idboutique"] == SHOP for url in wire.sent)
    wrong = {url.path: request_violation("kash", "GET", url.path, url.query.decode(), {}, b"") for url in wire.sent}
    assert "Path not found" in str(wrong.pop("/workers/getVATs.php"))
    assert set(wrong.values()) == {None}


# --- only calls that read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", ["webapp.php", "editOrder.php", "getAuthToken.php", "getTables.php", "../getOrders.php"]
)
def test_a_call_that_is_not_on_the_list_is_never_sent(till: Till, script: str) -> None:
    """webapp.php records an order even on GET."""
    with KashClient(till.url, SHOP, KEY) as client, pytest.raises(PosError, match="not on the list"):
        client.read(script)
    assert not till.faults.seen


@pytest.mark.parametrize(
    "script", ["webapp.php", "editOrder.php", "addVat.php", "getAuthToken.php", "get.php", "getX.php?a=", "../getX.php"]
)
def test_a_closings_script_must_be_named_like_a_read(till: Till, script: str) -> None:
    with pytest.raises(SourceRefused, match="not named like a call that reads"):
        KashClient(till.url, SHOP, KEY, more_reads=frozenset({script}))


# --- failures that may pass ------------------------------------------------------------------------------------------


PASSING: list[tuple[Fault, str]] = [
    ("down", "answers 503"),
    ("throttled", "answers 429"),
    ("truncated", "cut short"),
    ("cut", "cannot be reached"),
]


@pytest.mark.parametrize(("fault", "says"), PASSING)
def test_a_passing_failure_is_tried_again_and_costs_nothing(
    opened: Callable[..., Opened], till: Till, fault: Fault, says: str
) -> None:
    shop = opened()
    till.faults.set(fault, times=2)
    (day,) = shop.source.sales(MARCH_14, MARCH_14)
    assert len(day.orders) > 0
    assert len(till.faults.seen) == 3
    assert len(shop.waits) == 2


@pytest.mark.parametrize(("fault", "says"), PASSING)
def test_retries_end_with_an_error_never_with_an_empty_day(
    opened: Callable[..., Opened], till: Till, fault: Fault, says: str
) -> None:
    shop = opened()
    till.faults.set(fault)
    with pytest.raises(SourceUnreachable, match=says) as caught:
        list(shop.source.sales(MARCH_14, MARCH_14))
    assert len(till.faults.seen) == 4
    assert shop.waits == ([1.0, 1.0, 1.0] if fault == "throttled" else [1.0, 2.0, 4.0])
    assert "getOrders.php" in caught.value.message
    assert caught.value.next_step


def test_waits_are_spread_by_jitter(opened: Callable[..., Opened], till: Till) -> None:
    shop = opened(jitter=lambda: 0.0)
    till.faults.set("down")
    with pytest.raises(SourceUnreachable):
        shop.source.reference()
    assert shop.waits == [0.5, 1.0, 2.0]


def test_a_slow_till_is_given_up_on_by_name(opened: Callable[..., Opened], till: Till) -> None:
    shop = opened(timeout=0.1, attempts=2)
    till.faults.set("slow", seconds=0.5)
    with pytest.raises(SourceUnreachable, match=r"getOrders\.php .* does not answer within 0\.1 s"):
        list(shop.source.sales(MARCH_14, MARCH_14))
    assert len(shop.waits) == 1


def test_an_answer_that_never_ends_is_given_up_on(opened: Callable[..., Opened]) -> None:
    """A byte now and then keeps every timeout from striking: they count silence."""

    async def trickle(request: Request) -> StreamingResponse:
        async def spaces() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.01)

        return StreamingResponse(spaces(), media_type="application/json")

    with serving(Starlette(routes=[Route("/workers/getOrders.php", trickle)])) as url:
        shop = opened(url=f"{url}/workers", timeout=5, longest=0.1, attempts=2)
        with pytest.raises(SourceUnreachable, match=r"getOrders\.php .* has not ended its answer after 0\.1 s"):
            list(shop.source.sales(MARCH_14, MARCH_14))
    assert len(shop.waits) == 1
    assert shop.raw == []  # half an answer is no voucher


def test_an_unreachable_host_is_named(opened: Callable[..., Opened]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    shop = opened(url=f"http://127.0.0.1:{port}/workers")
    with pytest.raises(SourceUnreachable, match=f"127.0.0.1:{port}/workers cannot be reached") as caught:
        list(shop.source.sales(MARCH_14, MARCH_14))
    assert len(shop.waits) == 3
    assert "url in [source]" in caught.value.next_step


def test_a_failure_in_the_middle_leaves_the_days_before_it(opened: Callable[..., Opened], till: Till) -> None:
    shop = opened(window_days=2, attempts=1)
    days = shop.source.sales(date(2026, 3, 1), date(2026, 3, 4))
    got = [next(days), next(days)]
    till.faults.set("down")
    with pytest.raises(SourceUnreachable):
        next(days)
    assert [day.day.day for day in got] == [1, 2]


def answering(*answers: httpx.Response) -> httpx.MockTransport:
    """A transport under the true client that gives these answers in turn, the last one for ever."""
    left = list(answers)
    return httpx.MockTransport(lambda request: left.pop(0) if len(left) > 1 else left[0])


def test_an_empty_body_is_a_failure_that_may_pass(opened: Callable[..., Opened]) -> None:
    """What a PHP script that died sends, with status 200."""
    shop = opened(transport=answering(httpx.Response(200, content=b" "), httpx.Response(200, content=b"[]")))
    (day,) = shop.source.sales(MARCH_14, MARCH_14)
    assert len(day.orders) == 0
    assert [document.body for document in shop.raw] == [b" ", b"[]"]
    shop = opened(transport=answering(httpx.Response(200)))
    with pytest.raises(SourceUnreachable, match="answers with an empty body"):
        list(shop.source.sales(MARCH_14, MARCH_14))


def test_retry_after_is_obeyed_up_to_half_a_minute(opened: Callable[..., Opened]) -> None:
    asked = [httpx.Response(429, headers={"Retry-After": value}) for value in ("7", "3600", b"\xb2")]
    shop = opened(transport=answering(*asked, httpx.Response(200, content=b"[]")))
    list(shop.source.sales(MARCH_14, MARCH_14))
    assert shop.waits == [7.0, 30.0, 4.0]


def test_a_byte_order_mark_is_no_part_of_an_answer(opened: Callable[..., Opened]) -> None:
    shop = opened(transport=answering(httpx.Response(200, content=b"\xef\xbb\xbf[]")))
    (day,) = shop.source.sales(MARCH_14, MARCH_14)
    assert len(day.orders) == 0


@pytest.mark.parametrize("body", [b'[{"title": "Cr\xe8me"}]', b'[{"price": NaN}]', b"[" * 9999 + b"]"])
def test_json_that_is_whole_and_cannot_be_read_is_not_asked_for_again(
    opened: Callable[..., Opened], body: bytes
) -> None:
    shop = opened(transport=answering(httpx.Response(200, content=body)))
    with pytest.raises(SourceChanged, match="answers with JSON that cannot be read"):
        list(shop.source.sales(MARCH_14, MARCH_14))
    assert shop.waits == []


def test_a_redirect_is_not_followed(opened: Callable[..., Opened]) -> None:
    """It could take the key to another host."""
    shop = opened(transport=answering(httpx.Response(302, headers={"Location": "https://elsewhere.example/"})))
    with pytest.raises(SourceRefused, match="answers 302"):
        shop.source.reference()
    assert len(shop.raw) == 1


# --- failures that stay ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("html", SourceRefused, "page instead of JSON: 'Kash.click Maintenance en cours'"),
        ("error_body", SourceRefused, "Kash.click refuses: 'Internal error 42'"),
        ("rubbish", SourceChanged, "neither JSON nor a page"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(
    opened: Callable[..., Opened], till: Till, fault: Fault, error: type[PosError], says: str
) -> None:
    shop = opened()
    till.faults.set(fault)
    for question in (
        lambda: list(shop.source.sales(MARCH_14, MARCH_14)),
        lambda: list(shop.source.closings(MARCH_14, MARCH_14)),
        shop.source.reference,
    ):
        with pytest.raises(error, match=says) as caught:
            question()
        assert caught.value.next_step
    assert shop.waits == []
    assert [document.status for document in shop.raw] == [200] * 3


def test_a_wrong_key_says_where_the_key_comes_from(opened: Callable[..., Opened]) -> None:
    shop = opened(key="not-the-key")
    with pytest.raises(SourceRefused, match=r"getOrders\.php: Kash.click refuses: 'Wrong API key'") as caught:
        list(shop.source.sales(MARCH_14, MARCH_14))
    assert "KASH_API_KEY" in caught.value.next_step
    with pytest.raises(SourceRefused, match="Unknown shop"):
        opened(shop_id="1").source.reference()


def test_a_wrong_path_or_address_is_refused_at_once(opened: Callable[..., Opened], till: Till) -> None:
    shop = opened(url=till.url.removesuffix("/workers"))
    with pytest.raises(SourceRefused, match="answers 404") as caught:
        shop.source.reference()
    assert "/workers" in caught.value.next_step
    for url in ("kash.click/workers", "ftp://kash.click/workers", "http://"):
        with pytest.raises(SourceRefused, match="no usable address"):
            opened(url=url).source.reference()
    assert shop.waits == []


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "result": "no licence"},
        {"result": "ERROR", "message": "no licence"},
        {"errorMessage": "no licence"},
        {"error": "no licence", "orders": []},
    ],
)
def test_each_known_form_of_refusal_is_recognised(opened: Callable[..., Opened], till: Till, body: Any) -> None:
    till.faults.reshape = lambda script, answer: body
    for call in (
        lambda source: list(source.sales(MARCH_14, MARCH_14)),
        lambda source: list(source.closings(MARCH_14, MARCH_14)),
        lambda source: source.reference(),
    ):
        with pytest.raises(SourceRefused, match="refuses: 'no licence'"):
            call(opened().source)


# --- the form of the answers -----------------------------------------------------------------------------------------


def first_order(change: Callable[[dict[str, Any]], Any]) -> Callable[[str, Any], Any]:
    """Change the tenth order of an answer."""

    def reshape(script: str, body: Any) -> Any:
        if script == "getOrders.php":
            change(body[9])
        return body

    return reshape


def put(name: str, value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(order: dict[str, Any]) -> None:
        at: Any = order
        for step in path:
            at = at[step]
        at[name] = value

    return change


def drop(name: str, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(order: dict[str, Any]) -> None:
        at: Any = order
        for step in path:
            at = at[step]
        del at[name]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop("price"), r"getOrders.php: field 'price' of order 31\d+ is missing"),
        (drop("amount", "payments", 0), r"getOrders.php: field 'amount' of payments P31\d+-1 is missing"),
        (drop("VATs"), "field 'VATs' of order .* is missing"),
        (drop("title", "items", 0), "field 'title' of items 1 is missing"),
        (put("price", 12.5), "field 'price' of order .* is a number, an amount as text"),
        (put("price", None), "field 'price' of order .* is null"),
        (put("price", "12,50"), "field 'price' of order .* is '12,50'"),
        (put("price", "12.505"), "field 'price' of order .* is '12.505'"),
        (put("price", "NaN"), "field 'price' of order .* is 'NaN'"),
        (put("orderInternalID", None), "field 'orderInternalID' of order is null"),
        (put("orderInternalID", ""), "field 'orderInternalID' of order  is '', an id"),
        (put("title", "PAIN\0", "items", 0), "field 'title' of items 1 is"),
        (put("valueDate", 1772345678), "field 'valueDate' of order .* is a whole number"),
        (put("valueDate", "2026-03-14 09:00:00"), "field 'valueDate' of order .* is '2026-03-14 09:00:00'"),
        (put("isRefund", "false"), "field 'isRefund' of order .* is text, true or false was expected"),
        (put("items", {}), "field 'items' of order .* is an object, a list was expected"),
        (put("items", [1]), "entry of the list of items is a whole number"),
        (put("rate", "55%", "VATs", 0), "field 'rate' of VATs 55% is '55%'"),
        (put("nature", "mystery", "items", 0), "field 'nature' of items is 'mystery', known are sale"),
        (put("line", "1", "items", 0), "field 'line' of items .* is text, a whole number was expected"),
        (put("quantity", True, "items", 0), "field 'quantity' of items 1 is true/false"),
    ],
)
def test_a_missing_or_retyped_field_stops_and_is_named(
    opened: Callable[..., Opened], till: Till, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    till.faults.reshape = first_order(change)
    shop = opened()
    with pytest.raises(SourceChanged, match=says) as caught:
        list(shop.source.sales(MARCH_14, MARCH_14))
    assert "mapping.py" in caught.value.next_step
    assert len(shop.raw) == 1  # the answer is there to be looked at
    assert shop.waits == []


@pytest.mark.parametrize(
    ("call", "script", "body", "says"),
    [
        ("sales", "getOrders.php", {}, "order is an object, a list was expected"),
        ("sales", "getOrders.php", "OK", "order is text, a list was expected"),
        ("sales", "getOrders.php", None, "order is null, a list was expected"),
        ("closings", "sandboxGetClosings.php", [], "sandboxGetClosings.php: the answer is a list"),
        ("closings", "sandboxGetClosings.php", {"closings": []}, "field 'cashMovements' of the answer is missing"),
        ("reference", "getCashbox.php", {"K1": "Comptoir"}, "register is an object"),
        ("reference", "getClients.php", [["C1"]], "entry of the list of customer is a list"),
    ],
)
def test_an_answer_of_another_form_is_no_data(
    opened: Callable[..., Opened], till: Till, call: str, script: str, body: Any, says: str
) -> None:
    till.faults.reshape = lambda asked, answer: body if asked == script else answer
    source = opened().source
    with pytest.raises(SourceChanged, match=says):
        source.reference() if call == "reference" else list(getattr(source, call)(MARCH_14, MARCH_14))


def test_an_unknown_field_is_kept_raw_and_reported(
    opened: Callable[..., Opened], till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    def reshape(script: str, body: Any) -> Any:
        if script == "getOrders.php":
            body[0]["table"] = 12
            body[0]["items"][0]["allergens"] = "nuts"
        if script == "getPaymentModes.php":
            body[1]["type"] = "Solana_Refund"
        return body

    till.faults.reshape = reshape
    shop = opened()
    with caplog.at_level(logging.WARNING):
        (day,) = shop.source.sales(MARCH_14, MARCH_14)
        methods = shop.source.reference()["payment_methods"]
    assert len(day.orders) > 0
    assert b'"allergens":"nuts"' in shop.raw[0].body
    assert shop.source.unknown_fields == {
        "getOrders.php": ["items.allergens", "order.table"],
        "getPaymentModes.php": ["Solana"],
    }
    assert "getOrders.php: unknown field items.allergens" in caplog.text
    # No chart maps `other` by accident: the day is held until someone says where such payments go.
    assert methods.set_index("name")["kind"].to_dict() == {
        "ESPECES": "cash",
        "CB": "other",
        "CHEQUE": "cheque",
        "TICKET RESTO": "meal_voucher",
        "EN COMPTE": "on_account",
        "VIREMENT": "transfer",
    }


def test_a_rate_listed_twice_is_one_rate(opened: Callable[..., Opened], till: Till) -> None:
    """Goods and services at 20 %: one rate. Whose chapter it has nobody can say, so it has none."""

    def reshape(script: str, body: Any) -> Any:
        if script == "getVATs.php":
            body += [{**body[1], "id": "8"}, {**body[2], "id": "9", "title": "Services", "accountingChapter": "12200"}]
        if script == "getOrders.php":
            body[9]["VATs"] = [{**body[9]["VATs"][0], "net": "1.00", "amount": "0.05"}] * 2
        return body

    till.faults.reshape = reshape
    source = opened().source
    rates = source.reference()["vat_rates"]
    assert rates["vat_rate_bp"].tolist() == [550, 1000, 2000]
    assert rates["name"].tolist() == ["TVA 5,5 %", "TVA 10 %", "TVA 20 % / Services"]
    assert rates["chapter"].fillna("-").tolist() == ["11055", "11100", "-"]
    assert source.unknown_fields == {"getVATs.php": ["TVA 20 % / Services"]}
    (day,) = source.sales(MARCH_14, MARCH_14)
    assert not day.order_vat.duplicated(["order_id", "vat_rate_bp"]).any()
    assert [200, 10] in day.order_vat[["net_cents", "vat_cents"]].to_numpy().tolist()


def test_a_reference_id_that_is_there_twice_stops(opened: Callable[..., Opened], till: Till) -> None:
    till.faults.reshape = lambda script, body: [*body, body[0]] if script == "getCashbox.php" else body
    with pytest.raises(SourceChanged, match="registers: register K1 is there twice"):
        opened().source.reference()


def test_ids_may_be_numbers(opened: Callable[..., Opened], till: Till, bakery: Dataset) -> None:
    def reshape(script: str, body: Any) -> Any:
        for record in body if script == "getOrders.php" else []:
            record["orderInternalID"] = int(record["orderInternalID"])
            record["clientID"] = record["clientID"] or ""  # as PHP may say that no customer is named
        return body

    till.faults.reshape = reshape
    (day,) = opened().source.sales(MARCH_14, MARCH_14)
    expected = bakery.facts.orders[bakery.facts.orders["business_day"] == pd.Timestamp(MARCH_14)]
    assert set(day.orders["order_id"]) == set(expected["order_id"])
    assert day.orders["customer_id"].notna().sum() == expected["customer_id"].notna().sum()


def test_an_order_outside_the_window_or_twice_stops(opened: Callable[..., Opened], till: Till) -> None:
    """A server that reads the bounds in another zone would lose the sales at the other edge without a word."""
    till.faults.reshape = first_order(put("valueDate", "2026-03-15T03:30:00Z"))
    with pytest.raises(SourceChanged, match=r"order 31\d+ of 2026-03-15 lies outside the days asked for") as caught:
        list(opened().source.sales(MARCH_14, MARCH_14))
    assert "timezone" in caught.value.next_step
    till.faults.reshape = lambda script, body: [*body, body[0]]
    with pytest.raises(SourceChanged, match=r"order 31\d+ is there twice"):
        list(opened().source.sales(MARCH_14, MARCH_14))
    till.faults.reshape = first_order(lambda order: order["payments"].append(order["payments"][0]))
    with pytest.raises(SourceChanged, match=r"payment P31\d+-1 is there twice"):
        list(opened().source.sales(MARCH_14, MARCH_14))


# --- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_is_in_no_log_error_or_raw_document(
    opened: Callable[..., Opened], till: Till, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Searched by value, in every form a URL, JSON or a page may give it; httpx itself logs every URL at INFO."""
    forms = [KEY, str(httpx.QueryParams({"k": KEY}))[2:], KEY.replace('"', '\\"'), KEY.replace("/", "\\/"), "k3y"]
    caught: list[BaseException] = []
    shop = opened(timeout=0.2, attempts=2)
    with caplog.at_level(logging.DEBUG):
        list(shop.source.sales(MARCH_14, MARCH_14))
        shop.source.reference()
        for fault in ("down", "html", "truncated", "cut", "rubbish", "throttled", "slow"):
            till.faults.set(fault, seconds=0.4)
            with pytest.raises(KashPipelineError) as failed:
                list(shop.source.sales(MARCH_14, MARCH_14))
            caught.append(failed.value)
        till.faults.clear()
        # A server that echoes what it was asked, in an error body, in a field, in a redirect.
        for echo in ({"success": False, "result": f"bad key {KEY}"}, [{"orderInternalID": KEY}], [KEY]):
            till.faults.reshape = lambda script, body, echo=echo: echo
            with pytest.raises(KashPipelineError) as failed:
                list(shop.source.sales(MARCH_14, MARCH_14))
            caught.append(failed.value)
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        for url in (f"http://127.0.0.1:{port}/workers", "nonsense", "http://["):
            with pytest.raises(KashPipelineError) as failed:
                opened(url=url, attempts=2).source.reference()
            caught.append(failed.value)
    assert "HTTP Request: GET" in caplog.text  # httpx did log; the test would be worth nothing otherwise
    told = [
        caplog.text,
        repr(shop.source.__dict__),
        *(repr(record.args) for record in caplog.records),
        *("".join(traceback.format_exception(error)) for error in caught),
        *(repr(vars(error)) for error in caught),
        *(f"{document} {document.body!r}" for document in shop.raw),
    ]
    for text in told:
        for form in forms:
            assert form not in text
    assert any(b"***" in document.body for document in shop.raw)  # the echoes came, masked
    assert all("key=***" in document.url for document in shop.raw)
