"""The bakery: invented tickets with the shape of a French till export, shipped with the project.

Reading its three files and dealing out registers, customers and later transfers belongs here; VAT and closings come
from derive.py. Sums that must hold to the cent are in README.md beside this file and in the tests.
"""

from datetime import time
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from kash_pipeline.sandbox.datasets import derive
from kash_pipeline.sandbox.datasets.dataset import Dataset, find_shop_file, nothing_excluded

ZONE = ZoneInfo("Europe/Paris")
DAY_STARTS_AT = time(4, 0)

METHODS = pd.DataFrame(
    [
        ("1", "ESPECES", "cash", "530000"),
        ("2", "CB", "card", "511500"),
        ("3", "CHEQUE", "cheque", "511200"),
        ("4", "TICKET RESTO", "meal_voucher", "511700"),
        ("5", "EN COMPTE", "on_account", None),
        ("6", "VIREMENT", "transfer", "512000"),
    ],
    columns=["method_id", "name", "kind", "chapter"],
)
GROUPS = {"Boulangerie": "1", "Snacking": "2", "Boissons": "3"}
GROUP_OF = {"Snacking et traiteur": "Snacking", "Boissons fermées": "Boissons", "Boissons à consommer": "Boissons"}

# Six customers with an account. Names, numbers and addresses are invented; the SIREN numbers fail their checksum.
CUSTOMERS_ROWS = [
    ("C1", "Café Imaginaire", "company", None, None, "000000001", "Le Port Fictif"),
    ("C2", "Crèche des Exemples", "company", None, None, "000000002", "Le Port Fictif"),
    ("C3", "Mairie de Nullepart", "company", None, None, "000000003", "Nullepart"),
    ("C4", "Hôtel de l'Invention", "company", None, None, "000000004", "Le Port Fictif"),
    ("C5", "Camille Personne", "individual", "Camille", "Personne", None, "Nullepart"),
    ("C6", "Dominique Quidam", "individual", "Dominique", "Quidam", None, "Nullepart"),
]
NEVER_SETTLES = "C6"


def _read(name: str) -> pd.DataFrame:
    with (files("kash_pipeline.sandbox") / "data" / name).open("rb") as stream:
        return pd.read_csv(
            stream, dtype=str, keep_default_na=False, compression="gzip" if name.endswith(".gz") else None
        )


def load(seed: int) -> Dataset:
    """The bakery's two months: 12,142 tickets, two registers, six customers with an account."""
    source = _read("bakery_standin.csv.gz")
    paid = _read("bakery_standin_payments.csv.gz")
    articles = _read("bakery_vat.csv")

    source["order_id"] = source["ticket_number"].str.removesuffix(".0")
    local = pd.to_datetime(source["date"] + " " + source["time"], format="%Y-%m-%d %H:%M")
    unit = derive.scaled(source["unit_price"].str.removesuffix(" €").str.replace(",", "."), 2, "unit_price")
    quantity = derive.scaled(source["Quantity"], 3, "Quantity")
    article = articles.set_index("article").loc[source["article"]]
    departments = {name: str(at + 1) for at, name in enumerate(sorted(articles["department"].unique()))}
    item_ids = {name: str(at + 1) for at, name in enumerate(articles["article"])}
    rate = derive.scaled(article["vat_rate"], 2, "vat_rate")
    lines = pd.DataFrame(
        {
            "order_id": source["order_id"],
            "line_no": source.groupby("order_id", sort=False).cumcount() + 1,
            "label": source["article"],
            "quantity_milli": quantity,
            "vat_rate_bp": rate,
            "total_cents": derive.half_up(unit * quantity, 1000),
            "item_id": source["article"].map(item_ids),
            "department_id": article["department"].map(departments).to_numpy(),
            "nature": "sale",
        }
    )

    tickets = source.assign(local=local, total_cents=lines["total_cents"]).groupby(
        "order_id", as_index=False, sort=False
    )
    orders = tickets.agg(local=("local", "first"), total_cents=("total_cents", "sum"))
    on_account = paid.loc[paid["method"].eq("EN COMPTE"), "ticket_number"]
    number = orders["order_id"].astype("int64").to_numpy()
    customer = np.array([row[0] for row in CUSTOMERS_ROWS])[derive.draw(number, seed, "customer", len(CUSTOMERS_ROWS))]
    orders = orders.assign(
        number=orders["order_id"],
        # Every third ticket went over the second register.
        register_id=np.where(number % 3 == 0, "K2", "K1"),
        business_day=derive.day_column(orders["local"]),
        validated_at=derive.instants(orders["local"], ZONE),
        customer_id=pd.Series(customer, dtype="str").where(orders["order_id"].isin(on_account)),
    )

    payments = _payments(paid, orders)

    department_rows = pd.DataFrame({"name": list(departments), "department_id": list(departments.values())})
    department_rows["group_id"] = department_rows["name"].map(lambda name: GROUPS[GROUP_OF.get(name, "Boulangerie")])
    rates = pd.DataFrame(
        {
            "vat_rate_bp": [550, 1000, 2000],
            "name": ["TVA 5,5 %", "TVA 10 %", "TVA 20 %"],
            "chapter": ["11055", "11100", "11200"],
        }
    )
    last_price = pd.Series(unit, index=source["article"]).groupby(level=0).last()
    items = pd.DataFrame(
        {
            "item_id": articles["article"].map(item_ids),
            "title": articles["article"],
            "price_cents": articles["article"].map(last_price).fillna(0).astype("int64"),
            "department_id": articles["department"].map(departments),
            "vat_rate_bp": derive.scaled(articles["vat_rate"], 2, "vat_rate"),
        }
    )
    tables = {
        "orders": orders,
        "order_lines": lines,
        "payments": payments,
        "cash_movements": _movements(payments),
        "payment_methods": METHODS,
        "vat_rates": rates,
        "registers": pd.DataFrame(
            {"register_id": ["K1", "K2"], "name": ["Comptoir", "Terrasse"], "chapter": ["K1", "K2"]}
        ),
        "departments": department_rows,
        "department_groups": pd.DataFrame(
            {"group_id": list(GROUPS.values()), "name": list(GROUPS), "chapter": ["701", "701", "707"]}
        ),
        "customers": pd.DataFrame(
            CUSTOMERS_ROWS,
            columns=["customer_id", "name", "kind", "first_name", "last_name", "registration_number", "city"],
        ).assign(country="FR"),
    }
    return Dataset(
        name="bakery",
        seed=seed,
        facts=derive.complete(tables, "tax_included", seed),
        items=items,
        users=pd.DataFrame(
            [("1", "Administration", "administrator"), ("2", "Vente", "employee")], columns=["user_id", "name", "role"]
        ),
        excluded=nothing_excluded(),
        prices="tax_included",
        zone=ZONE,
        day_starts_at=DAY_STARTS_AT,
        shop_path=find_shop_file("sandbox.toml"),
        source_rows=len(source),
    )


def _payments(paid: pd.DataFrame, orders: pd.DataFrame) -> pd.DataFrame:
    """The payments file as it is, then one transfer per ticket of March that was put on an account.

    Customers settle March on the first open day from 7 April, at 09:30, over the register of the ticket; one of them
    does not, and April stays open.
    """
    local = pd.to_datetime(paid["date"] + " " + paid["time"], format="%Y-%m-%d %H:%M")
    ids = dict(zip(METHODS["name"], METHODS["method_id"], strict=True))
    at_till = pd.DataFrame(
        {
            "order_id": paid["ticket_number"],
            "business_day": derive.day_column(local),
            "paid_at": derive.instants(local, ZONE),
            "method_id": paid["method"].map(ids),
            "amount_cents": derive.scaled(paid["amount"], 2, "amount"),
        }
    )
    of_order = orders.set_index("order_id")
    owed = at_till[at_till["method_id"].eq(ids["EN COMPTE"]) & (at_till["business_day"] < pd.Timestamp("2026-04-01"))]
    owed = owed[owed["order_id"].map(of_order["customer_id"]) != NEVER_SETTLES]
    settles = derive.next_open_day(pd.Series([pd.Timestamp("2026-04-07")]), orders["business_day"]).iloc[0]
    later = owed.assign(
        business_day=settles,
        paid_at=derive.instants(pd.Series([settles + pd.Timedelta(hours=9, minutes=30)]), ZONE).iloc[0],
        method_id=ids["VIREMENT"],
    )
    payments = pd.concat([at_till, later], ignore_index=True)
    payments["register_id"] = payments["order_id"].map(of_order["register_id"])
    nth = payments.groupby("order_id", sort=False).cumcount() + 1
    payments["payment_id"] = "P" + payments["order_id"] + "-" + nth.astype("str")
    return payments


def _movements(payments: pd.DataFrame) -> pd.DataFrame:
    """Cash banked from K1 each Monday at 14:30 (half of what the morning brought, in tens); stamps once a month."""
    cash = payments[payments["method_id"].eq("1") & payments["register_id"].eq("K1")]
    local = cash["paid_at"].dt.tz_convert(ZONE)
    morning = cash[(local.dt.hour < 14) & cash["business_day"].dt.dayofweek.eq(0)]
    banked = morning.groupby("business_day")["amount_cents"].sum() // 2000 * 1000
    rows = [
        (day, pd.Timestamp(day) + pd.Timedelta(hours=14, minutes=30), "withdrawal", -cents, "Remise en banque")
        for day, cents in banked.items()
        if cents > 0
    ]
    rows += [
        (pd.Timestamp(day), pd.Timestamp(day) + pd.Timedelta(hours=11), "expense", -1240, "Timbres")
        for day in ("2026-03-10", "2026-04-14")
    ]
    frame = pd.DataFrame(rows, columns=["business_day", "local", "kind", "amount_cents", "label"])
    frame = frame.sort_values("local", ignore_index=True)
    frame["movement_id"] = "M" + (frame.index + 1).astype("str")
    frame["register_id"] = "K1"
    frame["moved_at"] = derive.instants(frame["local"], ZONE)
    return frame
