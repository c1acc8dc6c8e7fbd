"""Extraction from the Kash.click sandbox: a first load of a year order by order, and the nightly re-read of 35 days.

Only this measurement belongs here; the table of all benchmarks is printed by bench/__main__.py. The anchor of the first
load is the same requests made bare, one getOrder.php per order in as many threads, with nothing done to the answers: a
tenth of them right before and another right after.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from tempfile import TemporaryDirectory

import httpx
import pandas as pd

from kash_pipeline.pos.kash_api import KashApiSource, KashClient
from kash_pipeline.pos.kash_api.memory import FileMemory
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.kash import Faults, create_app
from kash_pipeline.sandbox.server import serving
from kash_pipeline.schemas.columns import DAY_DTYPE, INSTANT_DTYPE

SHOP, KEY = "4711", "bench"
PARALLEL = 4
LOOK_BACK = 35
DAYS = 365


def a_year() -> Dataset:
    """The bakery's 12,142 tickets dealt out over the 365 days of 2026, each at its time of the day: 33 a day."""
    bakery = datasets.load("bakery")
    facts = bakery.facts
    nth = pd.Series(range(len(facts.orders)), index=facts.orders["order_id"]) % DAYS

    def moved(frame: pd.DataFrame, moment: str) -> pd.DataFrame:
        day = pd.Timestamp("2026-01-01") + pd.to_timedelta(frame["order_id"].map(nth), unit="D")
        wall = frame[moment].dt.tz_convert(bakery.zone)
        local = day + (wall.dt.tz_localize(None) - wall.dt.tz_localize(None).dt.normalize())
        return frame.assign(
            business_day=day.astype(DAY_DTYPE),
            **{moment: local.dt.tz_localize(bakery.zone).dt.tz_convert("UTC").astype(INSTANT_DTYPE)},
        )

    dealt = replace(facts, orders=moved(facts.orders, "validated_at"), payments=moved(facts.payments, "paid_at"))
    return replace(bakery, facts=dealt)


def rows() -> list[dict[str, object]]:
    """One row per benchmark: `benchmark`, `ours` and `anchor` (seconds), `ratio`, `target` (what the ratio may be)."""
    dataset = a_year()
    faults = Faults()
    app = create_app(dataset, shop_id=SHOP, key=KEY, faults=faults, headers_only=True)
    with serving(app) as url, TemporaryDirectory() as folder, KashClient(f"{url}/workers", SHOP, KEY) as client:

        def read(first: date, last: date) -> tuple[float, int, int]:
            """Seconds, orders, requests."""
            source = KashApiSource(
                client,
                zone=dataset.zone,
                day_starts_at=dataset.day_starts_at,
                detail=True,
                parallel=PARALLEL,
                memory=FileMemory(folder, "bench"),
            )
            faults.seen.clear()
            begun = time.perf_counter()
            orders = sum(len(day.orders) for day in source.sales(first, last))
            return time.perf_counter() - begun, orders, len(faults.seen)

        in_time = dataset.facts.orders.sort_values(["validated_at", "order_id"])["order_id"].tolist()
        tenth = len(in_time) // 10
        before = _bare(url, in_time[-tenth:])
        first, orders, requests = read(dataset.first, dataset.last)
        after = _bare(url, in_time[:tenth])
        bare = (before + after) / 2 * len(in_time) / tenth
        # Half a second: the best of three, for another process would double one.
        nightly, again, few = min(read(dataset.last - timedelta(days=LOOK_BACK - 1), dataset.last) for _ in range(3))
        details = sum(script == "getOrder.php" for script in faults.seen)
    per_order = first * again / orders
    return [
        _row(
            f"first load of {DAYS} days: {orders:,} orders, {orders / first:,.0f} orders/s, "
            f"{requests / orders:.3f} requests per order / the same requests bare",
            first,
            bare,
            2.0,
        ),
        _row(
            f"nightly re-read of {LOOK_BACK} unchanged days: {again:,} orders, {again / nightly:,.0f} orders/s, "
            f"{few / again:.4f} requests per order, {details} detail requests / first load per order",
            nightly,
            per_order,
            0.25,
        ),
    ]


def _row(benchmark: str, ours: float, anchor: float, target: float) -> dict[str, object]:
    return {
        "benchmark": benchmark,
        "ours": round(ours, 2),
        "anchor": round(anchor, 2),
        "ratio": round(ours / anchor, 2),
        "target": target,
    }


def _bare(url: str, orders: list[str]) -> float:
    """Seconds of the detail requests of these orders without any reading. They are a tenth that follow each other, for
    the sandbox cuts a hundred such orders out of its frames at once; every tenth would pay that ten times over."""
    with httpx.Client(base_url=f"{url}/workers/", timeout=60) as http, ThreadPoolExecutor(PARALLEL) as pool:

        def ask(order: str) -> int:
            return len(http.get("getOrder.php", params={"idboutique": SHOP, "key": KEY, "order_id": order}).content)

        begun = time.perf_counter()
        if not all(pool.map(ask, orders)):
            raise RuntimeError("an order came back empty")
        return time.perf_counter() - begun


if __name__ == "__main__":
    for row in rows():
        print(row)
