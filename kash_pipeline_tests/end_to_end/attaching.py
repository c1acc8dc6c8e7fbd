"""A shop that attaches Z evidence, its till's facts in the lake, and a publisher of it in a process of its own.

Only setting the scene; what is asserted stands in test_publish_evidence.py.
"""

import os
import sys
from collections.abc import Sequence
from datetime import date
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pandas as pd

from kash_pipeline.accounting import build
from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.pennylane.publisher import Publisher
from kash_pipeline.schemas.facts import DAILY, REFERENCE, Facts
from kash_pipeline.settings import Environment
from kash_pipeline.warehouse.database import open_engine
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.unit.accounting.books import closing, facts, line, order, pay
from kash_pipeline_tests.unit.pennylane.world import Books, World, shop_file

REGISTERS = ("K1", "K2")
SETTLE = 0.3


def till(days: Sequence[date], *, wine: int = 1200, closed: bool = True) -> Facts:
    """Two orders a register and day, bread and wine (its price including tax in cents); K1 is 3.20 short."""
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("orders", "order_lines", "payments", "closings", "closing_counts")
    }
    for day in days:
        for register in REGISTERS:
            at = {"business_day": day.isoformat(), "register_id": register}
            place = f"{day:%m%d}{register}"
            for name, method, cents, rate in (("A", "ESP", 1055, 550), ("B", "CB", wine, 2000)):
                rows["orders"].append(order(f"{place}{name}", cents, **at))
                rows["order_lines"].append(line(f"{place}{name}", cents, rate))
                rows["payments"].append(pay(f"P{place}{name}", f"{place}{name}", method, cents, **at))
            if closed:
                rows["closings"].append(
                    closing(f"Z{place}", day.isoformat(), register_id=register, opening_float_cents=10000)
                )
                short = 320 if register == "K1" else 0
                rows["closing_counts"].append(
                    {
                        "closing_id": f"Z{place}",
                        "method_id": "ESP",
                        "expected_cents": 11055,
                        "counted_cents": 11055 - short,
                    }
                )
    return facts(registers=[{"register_id": name, "name": f"Caisse {name}"} for name in REGISTERS], **rows)


def lake_of(here: World) -> Lake:
    return Lake(here.env.lake_url, here.shop.shop.id)


def book(here: World, days: Sequence[date], found: Facts) -> None:
    """Facts of these days into the lake, entries into the books and the publication ledger."""
    lake = lake_of(here)
    for name, table in found.tables().items():
        if name in REFERENCE:
            lake.write_reference(name, table)
    for day in days:
        stamp = pd.Timestamp(day)
        orders = found.orders[found.orders["business_day"] == stamp]["order_id"]
        closings = found.closings[found.closings["business_day"] == stamp]["closing_id"]
        for name in DAILY:
            table = getattr(found, name)
            if "business_day" in table:
                mine = table["business_day"] == stamp
            else:
                mine = (
                    table["closing_id"].isin(closings) if name == "closing_counts" else table["order_id"].isin(orders)
                )
            lake.write_day(name, day, table[mine])
    built = build(found, here.shop, first=days[0], last=days[-1])
    assert built.held.empty
    here.book(days, Books(built.entries, built.entry_lines))


def publish(url: str, token: str, database_url: str, home: str, started: Event) -> None:
    """Publish all there is; the exit code says whether anything is left."""
    started.set()
    # The server that forks these processes keeps the environment it was started in.
    os.environ["PENNYLANE_TOKEN"] = token
    engine = open_engine(database_url)
    env = Environment(home=Path(home), lake_url=f"{home}/lake", database_url=database_url, shop_path=Path("shop.toml"))
    shop = shop_file(url, auth="token", attach_z=True)
    with connect(shop, engine, env, pacing=NoPacing(), timeout=10.0) as client:
        lake = Lake(env.lake_url, shop.shop.id)
        report = Publisher(client, engine, shop, lake=lake, workers=1, settle=SETTLE, patience=1.0).publish()
    sys.exit(len(report.problems))
