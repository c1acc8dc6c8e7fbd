"""A till in memory for the orchestration tests: facts as frames, given day by day as an adapter would.

Only making and serving facts belongs here; what the tests expect of them stands in the tests.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from kash_pipeline.defs.resources import OpenTill
from kash_pipeline.pos.errors import SourceUnreachable
from kash_pipeline.pos.port import Capabilities, DayOfClosings, DayOfSales, Source
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import FACTS, REFERENCE, Facts
from kash_pipeline.settings import ShopFile, shop_from

RATES = (550, 1000, 2000)

METHODS = {"cash": "530000", "card": "511500"}
SHOP = {
    "shop": {"id": "bakery", "name": "Boulangerie", "siren": "123456782", "timezone": "Europe/Paris"},
    "source": {"kind": "files", "path": "facts"},
    "chart": [
        {
            "from": "2025-01-01",
            "sales": {"5.5": "701055", "10": "701100", "20": "707200"},
            "vat": {"5.5": "445711055", "10": "445711100", "20": "445711200"},
            "methods": METHODS,
            "cash_movements": {"withdrawal": "580300"},
        }
    ],
    "journals": {"K1": "K1", "K2": "K2"},
}
PENNYLANE = {"url": "http://127.0.0.1:9", "auth": "token"}


def make_shop(*, publishes: bool = False, **shop: str) -> ShopFile:
    """The tests' shop; with `publishes` it has a [pennylane] section."""
    data = SHOP | {"shop": {**SHOP["shop"], **shop}} | ({"pennylane": PENNYLANE} if publishes else {})  # type: ignore[dict-item]
    return shop_from(data, Path("shop.toml"))


def days_between(first: date, last: date) -> list[date]:
    return [date.fromordinal(n) for n in range(first.toordinal(), last.toordinal() + 1)]


def make_facts(first: date, last: date, *, orders_per_day: int = 4) -> Facts:
    """Counter orders of one line each, paid at once by cash or card, on two registers; every register closes each day.

    Order n of a day is of register K1 or K2 and of rate 5.5, 10 or 20 % in turn; its total is n + 1 euros.
    """
    days = days_between(first, last)
    n = len(days) * orders_per_day
    at = np.arange(n) % orders_per_day
    day = pd.to_datetime(np.repeat([item.isoformat() for item in days], orders_per_day))
    order = pd.Series([f"O{item:%y%m%d}-{place}" for item, place in zip(day, at, strict=True)])
    total = (at + 1) * 100
    rate = np.array(RATES)[at % 3]
    net = (2 * total * 10_000 + 10_000 + rate) // (2 * (10_000 + rate))
    register = pd.Series(np.where(at % 2 == 0, "K1", "K2"))
    instant = pd.to_datetime(day).tz_localize("UTC") + pd.Timedelta(hours=9)
    closing_register = np.tile(["K1", "K2"], len(days))
    closing_day = pd.to_datetime(np.repeat([item.isoformat() for item in days], 2))
    frames = {
        "orders": {
            "order_id": order,
            "number": order,
            "register_id": register,
            "business_day": day,
            "validated_at": instant,
            "total_cents": total,
        },
        "order_lines": {
            "order_id": order,
            "line_no": 1,
            "label": "pain",
            "quantity_milli": 1000,
            "vat_rate_bp": rate,
            "total_cents": total,
            "nature": "sale",
        },
        "order_vat": {"order_id": order, "vat_rate_bp": rate, "net_cents": net, "vat_cents": total - net},
        "payments": {
            "payment_id": "P" + order,
            "order_id": order,
            "register_id": register,
            "business_day": day,
            "paid_at": instant,
            "method_id": pd.Series(np.where(at % 3 == 0, "cash", "card")),
            "amount_cents": total,
        },
        "closings": {
            "closing_id": [f"Z{d:%y%m%d}{r}" for d, r in zip(closing_day, closing_register, strict=True)],
            "register_id": closing_register,
            "business_day": closing_day,
            "closed_at": pd.to_datetime(closing_day).tz_localize("UTC") + pd.Timedelta(hours=20),
        },
        "payment_methods": {"method_id": ["cash", "card"], "name": ["Espèces", "CB"], "kind": ["cash", "card"]},
        "registers": {"register_id": ["K1", "K2"], "name": ["Caisse 1", "Caisse 2"]},
        "vat_rates": {"vat_rate_bp": list(RATES), "name": ["5,5", "10", "20"]},
    }
    return Facts(**{name: conform(pd.DataFrame(columns), FACTS[name]) for name, columns in frames.items()})


def with_method(facts: Facts, day: date, register: str, method: str) -> Facts:
    """The same facts, but that register's payments of that day were made by `method`."""
    payments = facts.payments.copy()
    hit = (payments["business_day"] == pd.Timestamp(day)) & (payments["register_id"] == register)
    payments.loc[hit, "method_id"] = method
    return replace(facts, payments=payments)


@dataclass
class MemoryTill(Source):
    """Serves `facts`; days in `unreachable` raise. `asked` records the windows of sales asked for, `listed` the
    reference tables."""

    facts: Facts
    tells_closings: bool = True
    unreachable: set[date] = field(default_factory=set)
    asked: list[tuple[date, date]] = field(default_factory=list)
    listed: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="memory",
            payments=True,
            closings=self.tells_closings,
            cash_movements=self.tells_closings,
            till_vat=True,
            customers=True,
        )

    def reference(self, tables: Collection[str] = tuple(REFERENCE)) -> dict[str, pd.DataFrame]:
        self.listed.append(tuple(tables))
        return {name: getattr(self.facts, name) for name in REFERENCE if name in tables}

    def sales(self, first: date, last: date) -> Iterator[DayOfSales]:
        self.asked.append((first, last))
        day_of = self.facts.orders.set_index("order_id")["business_day"].dt.date
        parts = {
            name: _by(frame, frame["order_id"].map(day_of))
            for name in ("orders", "order_lines", "order_vat", "payments")
            for frame in [getattr(self.facts, name)]
        }
        for day in days_between(first, last):
            if day in self.unreachable:
                raise SourceUnreachable(f"no answer for {day}", next_step="try again later")
            yield DayOfSales(day, **{name: rows[day] for name, rows in parts.items() if day in rows})

    def closings(self, first: date, last: date) -> Iterator[DayOfClosings]:
        day_of = self.facts.closings.set_index("closing_id")["business_day"].dt.date
        parts = {
            "closings": _by(self.facts.closings, self.facts.closings["business_day"].dt.date),
            "closing_counts": _by(self.facts.closing_counts, self.facts.closing_counts["closing_id"].map(day_of)),
            "cash_movements": _by(self.facts.cash_movements, self.facts.cash_movements["business_day"].dt.date),
        }
        for day in days_between(first, last):
            yield DayOfClosings(day, **{name: rows[day] for name, rows in parts.items() if day in rows})

    def opener(self) -> OpenTill:
        @contextmanager
        def opened() -> Iterator[Source]:
            yield self

        return opened


def _by(frame: pd.DataFrame, key: pd.Series) -> dict[date, pd.DataFrame]:
    return {day: rows.reset_index(drop=True) for day, rows in frame.groupby(key)} if len(frame) else {}
