"""A process that needs customers and journals in PennyLane, at the same moment as others: run by test_customers.py."""

from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pandas as pd

from kash_pipeline.pennylane import connect, reference
from kash_pipeline.pennylane.customers import sync_customers
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import CUSTOMERS
from kash_pipeline.settings import Environment
from kash_pipeline.warehouse.database import open_engine
from kash_pipeline_tests.unit.pennylane.world import shop_file


def make(url: str, database_url: str, home: str, start: Barrier, answers: "Queue[Any]") -> None:
    """Put the ids of journals and of two customers' accounts, or the error, into `answers`."""
    engine = open_engine(database_url)
    env = Environment(home=Path(home), lake_url=home, database_url=database_url, shop_path=Path(home) / "shop.toml")
    shop = shop_file(url, auth="token")
    rows = pd.DataFrame({"customer_id": ["7", "8"], "kind": "company", "name": ["Chez Léa", "Au Port"]})
    frame = conform(rows.reindex(columns=list(CUSTOMERS.columns)).astype(object), CUSTOMERS)
    try:
        with connect(shop, engine, env, pacing=NoPacing()) as client:
            company = client.me().company_id
            start.wait(60)
            journals = reference.sync_journals(client, engine, shop, company)
            answers.put((journals, sync_customers(client, engine, shop, company, frame, ["7", "8"])))
    except Exception as error:  # noqa: BLE001 - the test compares what comes back
        answers.put(repr(error))
    finally:
        engine.dispose()
