"""A served Kash.click sandbox and sources that read it: what the tests of the adapter's wider duties stand on.

Only serving and opening belongs here; what is expected stands in the tests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from kash_pipeline.pos.kash_api import KashApiSource, KashClient
from kash_pipeline.pos.kash_api.dialects import DIALECTS
from kash_pipeline.pos.kash_api.memory import Known
from kash_pipeline.pos.port import DayOfSales, RawDocument
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.kash import CLOSINGS_SCRIPT, Account, Faults
from kash_pipeline_tests.sandboxes import kash_served

SHOP = "4711"
KEY = 'k3y+with/odd=signs&"quotes"'
PARIS = ZoneInfo("Europe/Paris")
TABLES = ("orders", "order_lines", "order_vat", "payments")


@dataclass
class Till:
    """Where the sandbox answers, its fault switch, how it writes, and the raw answers of the sources opened on it."""

    url: str
    faults: Faults
    dialect: str
    time_rule: str
    headers_only: bool
    raw: list[RawDocument] = field(default_factory=list)

    @contextmanager
    def source(self, *, client: dict[str, Any] | None = None, **options: Any) -> Iterator[KashApiSource]:
        """A source with the settings that fit this till; `options` are the source's, `client` the client's."""
        settings: dict[str, Any] = {
            "dialect": DIALECTS[self.dialect],
            "time_rule": self.time_rule,
            "detail": self.headers_only,
            "closings_script": CLOSINGS_SCRIPT,
        } | options
        with KashClient(
            self.url,
            SHOP,
            KEY,
            keep=self.raw.append,
            key_name="KASH_API_KEY",
            more_reads=frozenset({CLOSINGS_SCRIPT}),
            exact=settings["dialect"].numbers,
            **({"sleep": lambda seconds: None} | (client or {})),
        ) as opened:
            yield KashApiSource(opened, zone=PARIS, day_starts_at=time(4), **settings)

    def asked(self, script: str) -> int:
        return sum(seen == script for seen in self.faults.seen)


@contextmanager
def kash_till(
    dataset: Dataset,
    *,
    dialect: str = "english",
    time_rule: Any = "utc",
    headers_only: bool = False,
    account: Account | None = None,
) -> Iterator[Till]:
    with kash_served(
        dataset,
        shop_id=SHOP,
        key=KEY,
        dialect=dialect,
        time_rule=time_rule,
        headers_only=headers_only,
        account=account,
    ) as sandbox:
        yield Till(sandbox.url, sandbox.faults, dialect, time_rule, headers_only)


class DictMemory:
    """A memory of orders and reports that lasts as long as the test."""

    def __init__(self) -> None:
        self.days: dict[date, dict[str, Known]] = {}
        self.reports: dict[date, str] = {}

    def load(self, day: date) -> dict[str, Known]:
        return dict(self.days.get(day, {}))

    def save(self, day: date, orders: Any) -> None:
        self.days[day] = dict(orders)

    def reported(self, day: date) -> str | None:
        return self.reports.get(day)

    def note_report(self, day: date, of: str) -> None:
        self.reports[day] = of


def tables(days: list[DayOfSales]) -> dict[str, pd.DataFrame]:
    """The days' frames one after the other, sorted by their first columns."""
    found = {}
    for name in TABLES:
        frame = pd.concat([getattr(day, name) for day in days], ignore_index=True)
        found[name] = frame.sort_values(list(frame.columns[:2]), ignore_index=True)
    return found


def assert_same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    assert set(left) == set(right)
    for name in left:
        pd.testing.assert_frame_equal(left[name], right[name])
