"""An answer of 50 MB: read a part at a time in bounded memory, cut short by name, refused above a limit."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import time
from zoneinfo import ZoneInfo

import httpx
import numpy as np
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kash_pipeline.pos.errors import SourceChanged, SourceRefused, SourceUnreachable
from kash_pipeline.pos.kash_api import KashClient, decoding, mapping
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.kash.shapes import OrderBook, euros
from kash_pipeline.sandbox.server import serving

MEBIBYTE = 2**20
SIZE = 50_000_000

# What a process of its own needs for it: the answer itself (48 MiB), the decoded records of one batch, the frames.
PEAK_MIB = 160

READER = """
import json, resource, sys
from datetime import date, time
from zoneinfo import ZoneInfo
from kash_pipeline.pos.kash_api import KashApiSource, KashClient

def peak():
    # MiB. Linux hands ru_maxrss of the parent on to its child, so the kernel's own mark of this program is read.
    try:
        status = open("/proc/self/status").read()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20  # macOS counts bytes
    return int(status.partition("VmHWM:")[2].split()[0]) // 2**10

kept = []
with KashClient(sys.argv[1], "1", "key", keep=lambda document: kept.append(document.sha256)) as client:
    source = KashApiSource(client, zone=ZoneInfo("Europe/Paris"), day_starts_at=time(4))
    (day,) = source.sales(date(2026, 3, 13), date(2026, 3, 13))  # what imports and a small answer need
    before = peak()
    (day,) = source.sales(date(2026, 3, 14), date(2026, 3, 14))
print(json.dumps({"orders": len(day.orders), "total": int(day.orders["total_cents"].sum()), "sha256": kept[-1],
                  "lines": len(day.order_lines), "before": before, "peak": peak()}))
"""


class Large:
    """Orders of 14 March 2026 again and again under new ids, until the answer has 50 MB; the 13th has none."""

    def __init__(self) -> None:
        book = OrderBook(datasets.load("bakery"))
        day = list(book.records(*book.window(np.datetime64("2026-03-14T00:00"), np.datetime64("2026-03-14T23:59:59"))))
        parts, size, self.orders, self.total, self.lines = [], 0, 0, 0, 0
        while size < SIZE:
            for order in day:
                number = str(self.orders)
                again = {**order, "orderInternalID": number, "orderID": number, "price": euros(self.orders)}
                again["payments"] = [{**paid, "id": f"{number}-{at}"} for at, paid in enumerate(order["payments"])]
                parts.append(orjson.dumps(again))
                size += len(parts[-1]) + 1
                self.total += self.orders
                self.orders += 1
                self.lines += len(order["items"])
        self.body = b"[" + b",".join(parts) + b"]"


@pytest.fixture(scope="module")
def large() -> Large:
    return Large()


@pytest.fixture(scope="module")
def url(large: Large) -> Iterator[str]:
    def answer(request: Request) -> Response:
        first = request.query_params["from_date_ISO8601"]
        cut = {"2026-03-14": None, "2026-03-15": -1, "2026-03-16": SIZE // 2}.get(first[:10], 0)
        body = b"[]" if cut == 0 else large.body[:cut]
        return Response(body, media_type="application/json")

    with serving(Starlette(routes=[Route("/workers/getOrders.php", answer)])) as base:
        yield f"{base}/workers"


def test_fifty_megabytes_are_read_in_bounded_memory(large: Large, url: str) -> None:
    """Decoded at once, the same answer takes some 400 MiB."""
    done = subprocess.run([sys.executable, "-c", READER, url], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["orders"], told["total"], told["lines"]) == (large.orders, large.total, large.lines)
    print(f"{len(large.body)} bytes, {large.orders} orders: {told['before']} MiB before, peak {told['peak']} MiB")
    assert told["peak"] - told["before"] < PEAK_MIB


@pytest.mark.parametrize("day", ["2026-03-15", "2026-03-16"])
def test_a_large_answer_cut_short_is_no_data(url: str, day: str) -> None:
    with KashClient(url, "1", "key", sleep=lambda seconds: None) as client:
        bounds = {"from_date_ISO8601": f"{day}T03:00:00Z", "to_date_ISO8601": "x"}
        with pytest.raises(SourceUnreachable, match=r"getOrders\.php .* answers with JSON cut short after"):
            for _ in client.records("getOrders.php", bounds):
                pass


def test_more_than_the_limit_is_refused_before_it_is_read_whole(url: str) -> None:
    with KashClient(url, "1", "key", largest=10 * MEBIBYTE) as client:
        bounds = {"from_date_ISO8601": "2026-03-14T03:00:00Z", "to_date_ISO8601": "x"}
        with pytest.raises(SourceRefused, match="more than 10 MiB") as caught:
            list(client.records("getOrders.php", bounds))
        assert "window_days" in caught.value.next_step


def test_a_large_answer_of_another_encoding_is_told_as_a_small_one_is(large: Large) -> None:
    body = large.body.replace(b'"title":"', b'"title":"\xe8', 1)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    with (
        KashClient("http://till/workers", "1", "key", transport=transport) as client,
        pytest.raises(SourceChanged, match="JSON that cannot be read: 'utf-8' codec can't decode byte 0xe8"),
    ):
        list(client.records("getOrders.php"))


# --- records one by one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", [None, "orders"])
def test_parts_are_the_whole_in_order_and_numbers_exact(envelope: str | None) -> None:
    """Chunks end inside strings, escapes, numbers and letters of several bytes."""
    records = [{"id": at, "title": "crème " + 'é€\\"]},' * (at % 300), "amount": at / 100} for at in range(4000)]
    body = json.dumps(records if envelope is None else {envelope: records, "more": [1]}, ensure_ascii=False).encode()
    assert len(body) > 2 * decoding.CHUNK
    for exact in (True, False):
        parts = decoding.in_batches(body, envelope, exact=exact, batch=1000)
        assert parts is not None
        got = list(parts)
        assert [len(part) for part in got] == [1000] * 4
        assert [record["title"] for part in got for record in part] == [record["title"] for record in records]
        amounts = [record["amount"] for part in got for record in part]
        assert amounts == ([json.dumps(at / 100) for at in range(4000)] if exact else [at / 100 for at in range(4000)])


@pytest.mark.parametrize(
    ("body", "envelope"),
    [(b"{}", None), (b'{"error": "x"}', "orders"), (b"<html>", None), (b'{"orders": 1}', "orders")],
)
def test_what_does_not_begin_as_a_list_is_read_whole(body: bytes, envelope: str | None) -> None:
    assert decoding.in_batches(body, envelope, exact=False) is None


def test_damage_in_the_middle_ends_as_cut_short() -> None:
    parts = decoding.in_batches(b'[{"a": 1}, {"b": }, {"c": 3}]', None, exact=False)
    assert parts is not None
    with pytest.raises(decoding.CutShort):
        list(parts)


def test_a_number_as_float_in_a_large_answer_stops_as_in_a_small_one(large: Large) -> None:
    """Amounts are never taken from binary floats, whatever the size of the answer."""
    body = large.body.replace(b'"price":"', b'"price":0.5,"x":"', 1)
    parts = decoding.in_batches(body, None, exact=False)
    assert parts is not None
    clock = mapping.Clock(ZoneInfo("Europe/Paris"), time(4))
    with pytest.raises(SourceChanged, match="field 'price' of order 0 is a number"):
        mapping.sales(next(parts), mapping.Drift(), clock, mapping.Form())
