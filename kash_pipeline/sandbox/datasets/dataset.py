"""What a data set is once loaded: facts, what goes with them, and the sums the demo's last table is compared with.

Only the container and its sums belong here. Reading a file is the business of bakery.py, online_retail.py and
pizzaplace.py; what these files lack is derived in derive.py.
"""

from dataclasses import dataclass
from datetime import date, time
from functools import cached_property
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import pandas as pd

from kash_pipeline.schemas.facts import Facts

EXCLUDED_COLUMNS = ("source_row", "invoice", "reason", "amount_cents")
"""`source_row` counts the data rows of the file from 1; `amount_cents` is signed, without tax where the set is."""


@dataclass(frozen=True)
class Dataset:
    """Facts of a till over some months, the same for the same name and seed.

    facts          schemas.facts.Facts
    items          articles: item_id, title, price_cents (last price seen), department_id, vat_rate_bp
    users          people of the till: user_id, name, role
    excluded       lines of the file that are no sales, one row each: EXCLUDED_COLUMNS
    first, last    first and last business day with an order
    shop_path      the shop file that fits (shops/*.toml)
    source_rows    data rows of the file: order_lines plus excluded
    """

    name: str
    seed: int
    facts: Facts
    items: pd.DataFrame
    users: pd.DataFrame
    excluded: pd.DataFrame
    prices: Literal["tax_included", "tax_excluded"]
    zone: ZoneInfo
    day_starts_at: time
    shop_path: Path
    source_rows: int

    @cached_property
    def first(self) -> date:
        return date.fromisoformat(f"{self.facts.orders['business_day'].min():%Y-%m-%d}")

    @cached_property
    def last(self) -> date:
        return date.fromisoformat(f"{self.facts.orders['business_day'].max():%Y-%m-%d}")

    def sums_by_rate(self, first: date | None = None, last: date | None = None) -> pd.DataFrame:
        """`vat_rate_bp`, `gross_cents`, `net_cents`, `vat_cents`: the till's VAT of orders of these business days."""
        orders = self._between(self.facts.orders, first, last)
        vat = self.facts.order_vat[self.facts.order_vat["order_id"].isin(orders["order_id"])]
        sums = vat.groupby("vat_rate_bp", as_index=False)[["net_cents", "vat_cents"]].sum()
        sums.insert(1, "gross_cents", sums["net_cents"] + sums["vat_cents"])
        return sums

    def sums_by_method(self, first: date | None = None, last: date | None = None) -> pd.DataFrame:
        """`method_id`, `name`, `amount_cents` of the payments of these business days (the day of the payment)."""
        payments = self._between(self.facts.payments, first, last)
        sums = payments.groupby("method_id", as_index=False)["amount_cents"].sum()
        named = sums.merge(self.facts.payment_methods[["method_id", "name"]], on="method_id", how="left")
        return named[["method_id", "name", "amount_cents"]]

    @staticmethod
    def _between(frame: pd.DataFrame, first: date | None, last: date | None) -> pd.DataFrame:
        days = frame["business_day"]
        keep = pd.Series(True, index=frame.index)
        if first is not None:
            keep &= days >= pd.Timestamp(first)
        if last is not None:
            keep &= days <= pd.Timestamp(last)
        return frame[keep]


def nothing_excluded() -> pd.DataFrame:
    """`Dataset.excluded` of a set whose every line is a sale."""
    frame = pd.DataFrame({name: pd.Series(dtype="str") for name in EXCLUDED_COLUMNS})
    return frame.astype({"source_row": "int64", "amount_cents": "int64"})


def find_shop_file(name: str) -> Path:
    """`shops/<name>` in the working directory, else in the repository this package lies in, else as a relative path."""
    relative = Path("shops") / name
    if relative.is_file():
        return relative
    beside_package = Path(__file__).resolve().parents[3] / relative
    return beside_package if beside_package.is_file() else relative
