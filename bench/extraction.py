"""Extraction from the Kash.click sandbox: a first load of a year order by order, and the nightly re-read of 35 days.

Only this measurement belongs here; the table of all benchmarks is printed by bench/__main__.py. The anchor of the first
load is the same requests made bare, one getOrder.php per order in as many threads, with nothing done to the answers.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from datetime import time as clock
from tempfile import TemporaryDirectory

import httpx

from kash_pipeline.pos.kash_api import KashApiSource, KashClient
from kash_pipeline.pos.kash_api.memory import FileMemory
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.kash import Faults, create_app
from kash_pipeline.sandbox.server import serving

SHOP, KEY = "4711", "bench"
PARALLEL = 4
LOOK_BACK = 35


def rows(data: str = "bakery") -> list[dict[str, object]]:
    """One row per benchmark: `benchmark`, `ours` and `anchor` (seconds), `ratio`, `target` (what the ratio may be).

    `data` is a data set of the sandbox. The bakery has two months; pizzaplace.csv.gz has a year.
    """
    dataset = datasets.load(data)
    faults = Faults()
    app = create_app(dataset, shop_id=SHOP, key=KEY, faults=faults, headers_only=True)
    with serving(app) as url, TemporaryDirectory() as folder, KashClient(f"{url}/workers", SHOP, KEY) as client:

        def read(first: date, last: date) -> tuple[float, int, int]:
            """Seconds, orders, requests."""
            source = KashApiSource(
                client,
                zone=dataset.zone,
                day_starts_at=dataset.day_starts_at or clock(0),
                detail=True,
                parallel=PARALLEL,
                memory=FileMemory(folder, "bench"),
            )
            faults.seen.clear()
            begun = time.perf_counter()
            orders = sum(len(day.orders) for day in source.sales(first, last))
            return time.perf_counter() - begun, orders, len(faults.seen)

        first, orders, requests = read(dataset.first, dataset.last)
        nightly, again, few = read(dataset.last - timedelta(days=LOOK_BACK - 1), dataset.last)
        details = sum(script == "getOrder.php" for script in faults.seen)
        in_time = dataset.facts.orders.sort_values(["validated_at", "order_id"])["order_id"].tolist()
        bare = _bare(url, in_time)
    days = (dataset.last - dataset.first).days + 1
    return [
        {
            "benchmark": f"first load, {days} days: {orders:,} orders, {orders / first:,.0f} orders/s, "
            f"{requests / orders:.3f} requests per order / the same requests bare",
            "ours": first,
            "anchor": bare,
            "ratio": first / bare,
            "target": 2.0,
        },
        {
            "benchmark": f"nightly re-read of {LOOK_BACK} unchanged days: {again:,} orders, {again / nightly:,.0f} "
            f"orders/s, {few / again:.4f} requests per order, {details} detail requests / first load per order",
            "ours": nightly,
            "anchor": first * again / orders,
            "ratio": nightly / (first * again / orders),
            "target": 0.25,
        },
    ]


def _bare(url: str, orders: list[str]) -> float:
    """Seconds of all detail requests without any reading, from the first tenth: the sandbox cuts a hundred orders that
    follow each other out of its frames at once, so a sample of every tenth would pay that ten times over."""
    sample = orders[: max(len(orders) // 10, 1)]
    with httpx.Client(base_url=f"{url}/workers/", timeout=60) as http, ThreadPoolExecutor(PARALLEL) as pool:

        def ask(order: str) -> int:
            return len(http.get("getOrder.php", params={"idboutique": SHOP, "key": KEY, "order_id": order}).content)

        begun = time.perf_counter()
        if not all(pool.map(ask, sample)):
            raise RuntimeError("an order came back empty")
        return (time.perf_counter() - begun) * len(orders) / len(sample)


if __name__ == "__main__":
    for row in rows():
        print(row)
