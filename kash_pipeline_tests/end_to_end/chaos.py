"""A publisher in a process of its own, to be killed: what test_chaos.py starts."""

import sys
from datetime import date
from multiprocessing.synchronize import Event
from pathlib import Path

import pandas as pd
from sqlalchemy.exc import DBAPIError

from kash_pipeline.errors import KashPipelineError
from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.errors import ConnectAgain
from kash_pipeline.pennylane.pacing import SharedPacing
from kash_pipeline.pennylane.publisher import Publisher, PublishingStopped
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import CUSTOMERS
from kash_pipeline.settings import Environment
from kash_pipeline.warehouse.database import open_engine
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.unit.pennylane.world import shop_file

DONE, FAILED, CONNECT_AGAIN, LEFTOVERS = 0, 3, 4, 5
# Requests of the sandbox last milliseconds, its longest fault 0.4 s: what is not there after 0.6 s is nowhere.
SETTLE, TIMEOUT = 0.3, 1.0
NAMED = ("C1", "C2", "C3")
"""The till's customers who have accounts of their own; their lines are lettered."""
SHOP = {"auth": "oauth", "letter": True}


def publish(url: str, database_url: str, home: str, first: date, last: date, attach_z: bool, started: Event) -> None:
    """Publish some days, with Z evidence or without; the exit code says how it ended. Anything unforeseen ends with a
    traceback and code 1."""
    started.set()
    engine = open_engine(database_url)
    env = Environment(
        home=Path(home), lake_url=f"{home}/lake", database_url=database_url, shop_path=Path(home) / "shop.toml"
    )
    shop = shop_file(url, **SHOP, attach_z=attach_z)
    lake = Lake(env.lake_url, shop.shop.id)
    named = [{"customer_id": one, "kind": "company", "name": f"Client {one}"} for one in NAMED]
    customers = conform(pd.DataFrame(named, columns=list(CUSTOMERS.columns)).astype(object), CUSTOMERS)
    try:
        # The real pacing, through PostgreSQL, at a pace that does not make the test wait.
        pacing = SharedPacing(engine, "chaos", limit=50, hold=0.01, lease=3.0)
        with connect(shop, engine, env, pacing=pacing, timeout=TIMEOUT) as client:
            publisher = Publisher(client, engine, shop, settle=SETTLE, patience=2.0, customers=customers, lake=lake)
            report = publisher.publish(first, last)
        sys.exit(LEFTOVERS if report.problems else DONE)
    except PublishingStopped as error:
        sys.exit(CONNECT_AGAIN if isinstance(error.cause, ConnectAgain) else FAILED)
    except (KashPipelineError, DBAPIError):
        sys.exit(FAILED)
