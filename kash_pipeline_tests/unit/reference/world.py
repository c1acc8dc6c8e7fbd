"""A shop with a lake and a warehouse, without Dagster: facts kept, listings noted, days entered.

Only making that world belongs here; facts come from orchestration/till.py, expectations stand in the tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.accounting import BuildResult
from kash_pipeline.reference import store
from kash_pipeline.reference.building import BUILT, Builder
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import REFERENCE, Facts
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse import windows
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger
from kash_pipeline_tests.orchestration.till import MemoryTill


@dataclass
class World:
    """A shop file, what its till told so far, and its books."""

    engine: sa.Engine
    lake: Lake
    shop: ShopFile

    def keep(self, facts: Facts, first: date, last: date) -> None:
        """Facts of these days into the lake, as the daily assets do."""
        till = MemoryTill(facts)
        for day, closed in zip(till.sales(first, last), till.closings(first, last), strict=True):
            for name in ("orders", "order_lines", "order_vat"):
                self.lake.write_day(name, day.day, getattr(day, name))
            paid = facts.payments["business_day"] == pd.Timestamp(day.day)
            self.lake.write_day("payments", day.day, facts.payments[paid])
            for name in ("closings", "closing_counts", "cash_movements"):
                self.lake.write_day(name, closed.day, getattr(closed, name))

    def list_reference(self, facts: Facts, day: date) -> None:
        """What the till lists on a business day, as the reference assets note it."""
        tables = {name: getattr(facts, name) for name in REFERENCE}
        for name, frame in tables.items():
            self.lake.write_reference(name, frame)
        store.remember_till(self.engine, self.shop, tables, day)

    def enter(self, days: Sequence[date]) -> BuildResult:
        """Build days (in order) and write what comes of them."""
        _, built = Builder(self.engine, self.lake, self.shop, days[0]).build(days)
        with self.engine.begin() as connection:
            windows.replace_entries(
                connection, self.shop.shop.id, list(days), **{name: getattr(built, name) for name in BUILT}
            )
            PublicationLedger(self.engine, self.shop.shop.id).sync(connection, built.entries, built.held, list(days))
        return built


def with_records(facts: Facts, **tables: Sequence[Mapping[str, object]]) -> Facts:
    """The same facts with these reference tables."""
    return replace(facts, **{name: conform(pd.DataFrame(rows), REFERENCE[name]) for name, rows in tables.items()})
