"""A process that asks PennyLane who it is, at the same moment as others: run by test_auth.py."""

from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.settings import Environment
from kash_pipeline.warehouse.database import open_engine
from kash_pipeline_tests.unit.pennylane.world import shop_file


def ask(url: str, database_url: str, home: str, start: Barrier, answers: "Queue[str]") -> None:
    """Put the company's name, or the error, into `answers`."""
    engine = open_engine(database_url)
    env = Environment(home=Path(home), lake_url=home, database_url=database_url, shop_path=Path(home) / "shop.toml")
    try:
        with connect(shop_file(url, auth="oauth"), engine, env, pacing=NoPacing()) as client:
            start.wait(120)
            answers.put(client.me().company_name)
    except Exception as error:  # noqa: BLE001 - the test compares what comes back
        answers.put(repr(error))
    finally:
        engine.dispose()
