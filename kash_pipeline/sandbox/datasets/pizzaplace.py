"""Pizzaplace: a year of a pizza restaurant's orders, 2015, 49,574 lines, read by path.

Reading the file and dealing out registers and payments belongs here; VAT and closings come from derive.py. Dollars are
taken for euros, prices for prices with 10 % VAT (meals; there are no drinks in it). Origin: pizzaplace.csv of the
Python package great_tables 1.1.0 (MIT).
"""

from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from kash_pipeline.sandbox.datasets import derive
from kash_pipeline.sandbox.datasets.dataset import Dataset, find_shop_file, nothing_excluded
from kash_pipeline.sandbox.datasets.errors import DatasetError

COLUMNS = ("id", "date", "time", "name", "size", "type", "price")
ZONE = ZoneInfo("Europe/Paris")
DAY_STARTS_AT = time(4, 0)
RATE_BP = 1000

METHODS = pd.DataFrame(
    [
        ("1", "Espèces", "cash", "530000"),
        ("2", "Carte bancaire", "card", "511500"),
        ("3", "Titre restaurant", "meal_voucher", "511700"),
    ],
    columns=["method_id", "name", "kind", "chapter"],
)
CASH, CARD, MEAL_VOUCHER = METHODS["method_id"]


def load(path: Path, seed: int) -> Dataset:
    """The orders on two registers, paid by cash, card and meal voucher."""
    try:
        source = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: cannot be read ({error})", next_step="fetch the file again") from None
    cents = derive.scaled(source["price"], 2, "price")
    types = {name: str(at + 1) for at, name in enumerate(sorted(source["type"].unique()))}
    item = source["name"] + "-" + source["size"]
    lines = pd.DataFrame(
        {
            "order_id": source["id"],
            "line_no": source.groupby("id", sort=False).cumcount() + 1,
            "label": source["name"] + " " + source["size"],
            "quantity_milli": 1000,
            "vat_rate_bp": RATE_BP,
            "total_cents": cents,
            "item_id": item,
            "department_id": source["type"].map(types),
            "nature": "sale",
        }
    )
    local = pd.to_datetime(source["date"] + " " + source["time"], format="%Y-%m-%d %H:%M:%S")
    heads = (
        source.assign(local=local, total_cents=cents)
        .groupby("id", as_index=False, sort=False)
        .agg(local=("local", "first"), total_cents=("total_cents", "sum"))
    )
    key = heads["id"].str.removeprefix("2015-").astype("int64").to_numpy()
    orders = pd.DataFrame(
        {
            "order_id": heads["id"],
            "number": heads["id"],
            "register_id": np.where(derive.draw(key, seed, "register", 3) == 0, "K2", "K1"),
            "business_day": derive.day_column(heads["local"]),
            "validated_at": derive.instants(heads["local"], ZONE),
            "total_cents": heads["total_cents"],
        }
    )
    fate = derive.draw(key, seed, "payment", 100)
    payments = orders.assign(
        payment_id="P" + orders["order_id"],
        paid_at=orders["validated_at"],
        method_id=np.select([fate < 35, fate < 95], [CASH, CARD], MEAL_VOUCHER),
        amount_cents=orders["total_cents"],
        customer_id=None,
    )
    tables = {
        "orders": orders,
        "order_lines": lines,
        "payments": payments,
        "payment_methods": METHODS,
        "vat_rates": pd.DataFrame({"vat_rate_bp": [RATE_BP], "name": ["TVA 10 %"], "chapter": ["11100"]}),
        "registers": pd.DataFrame({"register_id": ["K1", "K2"], "name": ["Salle", "Emporté"], "chapter": ["K1", "K2"]}),
        "departments": pd.DataFrame({"department_id": list(types.values()), "name": list(types), "group_id": "1"}),
        "department_groups": pd.DataFrame({"group_id": ["1"], "name": ["Pizzas"], "chapter": ["701"]}),
    }
    newest = source.assign(item=item, cents=cents).drop_duplicates("item", keep="last").sort_values("item")
    items = pd.DataFrame(
        {
            "item_id": newest["item"],
            "title": newest["name"] + " " + newest["size"],
            "price_cents": newest["cents"],
            "department_id": newest["type"].map(types),
            "vat_rate_bp": RATE_BP,
        }
    ).reset_index(drop=True)
    return Dataset(
        name="pizzaplace",
        seed=seed,
        facts=derive.complete(tables, "tax_included", seed),
        items=items,
        users=pd.DataFrame([("1", "Administration", "administrator")], columns=["user_id", "name", "role"]),
        excluded=nothing_excluded(),
        prices="tax_included",
        zone=ZONE,
        day_starts_at=DAY_STARTS_AT,
        shop_path=find_shop_file("sandbox_pizzaplace.toml"),
        source_rows=len(source),
    )
