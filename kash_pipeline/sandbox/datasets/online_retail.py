"""Online Retail: 541,909 real invoice lines of a British gift wholesaler, 2010-12-01 to 2011-12-09, read by path.

Reading the file, the rule of what is no sale, and the fate of each invoice's payment belong here; VAT and closings come
from derive.py. Pounds are taken for euros and every sale for one at 20 %: the set is there for its size and oddities.
Origin: UCI archive, "Online Retail", and R package onlineretail 0.1.2 (CC0).
"""

from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.csv

from kash_pipeline.sandbox.datasets import derive
from kash_pipeline.sandbox.datasets.dataset import Dataset, find_shop_file
from kash_pipeline.sandbox.datasets.errors import DatasetError

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
ZONE = ZoneInfo("Europe/London")
DAY_STARTS_AT = time(0, 0)
RATE_BP = 2000

FEES = frozenset({"AMAZONFEE", "BANK CHARGES", "CRUK"})
"""Stock codes booked among the invoices that are the shop's own costs, no sales."""

DEPARTMENT_OF = {
    "POST": "2", "DOT": "2", "C2": "2",
    "M": "3", "m": "3", "D": "4", "S": "5",
}  # fmt: skip
DEPARTMENT_ROWS = [
    ("1", "Articles", "1"),
    ("2", "Frais de port", "2"),
    ("3", "Saisie manuelle", "1"),
    ("4", "Remises", "1"),
    ("5", "Échantillons", "1"),
    ("6", "Bons cadeaux", "1"),
]
METHODS = pd.DataFrame(
    [
        ("1", "Espèces", "cash", "530000"),
        ("2", "Carte bancaire", "card", "511500"),
        ("3", "Virement", "transfer", "512000"),
        ("4", "En compte", "on_account", None),
    ],
    columns=["method_id", "name", "kind", "chapter"],
)
CASH, CARD, TRANSFER, ON_ACCOUNT = METHODS["method_id"]
CASH_LIMIT_CENTS = 100_000
"""No cash above 1,000.00 (the French limit for a consumer)."""

COUNTRY_CODES = {
    "United Kingdom": "GB", "Germany": "DE", "France": "FR", "EIRE": "IE", "Spain": "ES", "Netherlands": "NL",
    "Belgium": "BE", "Switzerland": "CH", "Portugal": "PT", "Australia": "AU", "Norway": "NO", "Italy": "IT",
    "Channel Islands": "JE", "Finland": "FI", "Cyprus": "CY", "Sweden": "SE", "Austria": "AT", "Denmark": "DK",
    "Japan": "JP", "Poland": "PL", "Israel": "IL", "USA": "US", "Hong Kong": "HK", "Singapore": "SG", "Iceland": "IS",
    "Canada": "CA", "Greece": "GR", "Malta": "MT", "United Arab Emirates": "AE", "RSA": "ZA", "Lebanon": "LB",
    "Lithuania": "LT", "Brazil": "BR", "Czech Republic": "CZ", "Bahrain": "BH", "Saudi Arabia": "SA",
}  # fmt: skip
"""`Unspecified` and `European Community` have none."""


def _read(path: Path) -> pd.DataFrame:
    text = arrow.dictionary(arrow.int32(), arrow.string())
    try:
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(COLUMNS, text) | {"Quantity": arrow.int64()},
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
    except (arrow.ArrowInvalid, OSError) as error:
        raise DatasetError(f"{path}: cannot be read ({error})", next_step="fetch the file again") from None
    return table.to_pandas()


def _reasons(source: pd.DataFrame, price: derive.Ints) -> pd.Series:
    """Why a line is no sale, "" where it is one. A line at price 0 stays, as a zero line, on a customer's invoice."""
    no_price = (price == 0) & source["CustomerID"].isna().to_numpy()
    reason = np.full(len(source), "", dtype=object)
    reason[no_price] = "no_price"
    reason[no_price & (source["Quantity"].to_numpy() < 0)] = "stock_write_off"
    reason[source["StockCode"].isin(FEES).to_numpy()] = "fee"
    reason[source["InvoiceNo"].astype("str").str.startswith("A").to_numpy()] = "bad_debt"
    return pd.Series(reason, index=source.index)


def load(path: Path, seed: int) -> Dataset:
    """The invoices as orders without tax, 20 % on top; refunds are the invoices that begin with C."""
    source = _read(path)
    price = derive.scaled(source["UnitPrice"], 3, "UnitPrice")
    # Four lines have a price finer than a cent: the line's total is rounded half away from zero.
    amount = derive.half_up(price * source["Quantity"].to_numpy(), 10)
    reason = _reasons(source, price)
    out = reason.ne("")
    excluded = pd.DataFrame(
        {
            "source_row": np.flatnonzero(out) + 1,
            "invoice": source.loc[out, "InvoiceNo"].astype("str").to_numpy(),
            "reason": reason[out].to_numpy(),
            "amount_cents": amount[out.to_numpy()],
        }
    )

    sold = source[~out].assign(total_cents=amount[~out.to_numpy()]).reset_index(drop=True)
    sold["InvoiceNo"] = sold["InvoiceNo"].cat.remove_unused_categories()
    order_id = sold["InvoiceNo"].astype("str")
    code = sold["StockCode"].astype("str")
    department = code.map(DEPARTMENT_OF).fillna("1").where(~code.str.startswith("gift_"), "6")
    lines = pd.DataFrame(
        {
            "order_id": order_id,
            "line_no": sold.groupby("InvoiceNo", sort=False, observed=True).cumcount() + 1,
            "label": sold["Description"].astype("str"),
            "quantity_milli": sold["Quantity"] * 1000,
            "vat_rate_bp": RATE_BP,
            "total_cents": sold["total_cents"],
            "item_id": code,
            "department_id": department,
            # A voucher is sold at its face value less 20 % and all goods are at 20 %: one rate, known at sale.
            "nature": np.where(department.eq("6"), "voucher_single", "sale"),
        }
    )
    vat = derive.vat_per_order(
        lines["order_id"], lines["vat_rate_bp"].to_numpy(), lines["total_cents"].to_numpy(), "tax_excluded"
    )

    heads = sold.drop_duplicates("InvoiceNo")
    local = pd.to_datetime(heads["InvoiceDate"].astype("str"), format="%Y-%m-%d %H:%M:%S")
    gross = vat.assign(total=vat["net_cents"] + vat["vat_cents"]).groupby("order_id")["total"].sum()
    invoice = heads["InvoiceNo"].astype("str")
    orders = pd.DataFrame(
        {
            "order_id": invoice,
            "number": invoice,
            "register_id": np.where(heads["CustomerID"].notna(), "K1", "K2"),
            "business_day": derive.day_column(local),
            "validated_at": derive.instants(local, ZONE),
            "customer_id": heads["CustomerID"].astype("str"),
            "total_cents": invoice.map(gross),
        }
    )

    tables = {
        "orders": orders,
        "order_lines": lines,
        "order_vat": vat,
        "payments": _payments(orders, seed),
        "payment_methods": METHODS,
        "vat_rates": pd.DataFrame({"vat_rate_bp": [RATE_BP], "name": ["TVA 20 %"], "chapter": ["11200"]}),
        "registers": pd.DataFrame(
            {"register_id": ["K1", "K2"], "name": ["Comptes clients", "Comptoir et site"], "chapter": ["K1", "K2"]}
        ),
        "departments": pd.DataFrame(DEPARTMENT_ROWS, columns=["department_id", "name", "group_id"]),
        "department_groups": pd.DataFrame(
            {"group_id": ["1", "2"], "name": ["Marchandises", "Port"], "chapter": ["707", "708"]}
        ),
        "customers": _customers(heads),
    }
    newest = sold.assign(unit=price[~out.to_numpy()], code=code, department=department).drop_duplicates(
        "code", keep="last"
    )
    items = pd.DataFrame(
        {
            "item_id": newest["code"],
            "title": newest["Description"].astype("str").fillna(newest["code"]),
            "price_cents": derive.half_up(newest["unit"].to_numpy(), 10),
            "department_id": newest["department"],
            "vat_rate_bp": RATE_BP,
        }
    ).sort_values("item_id", ignore_index=True)
    return Dataset(
        name="online_retail",
        seed=seed,
        facts=derive.complete(tables, "tax_excluded", seed),
        items=items,
        users=pd.DataFrame([("1", "Administration", "administrator")], columns=["user_id", "name", "role"]),
        excluded=excluded,
        prices="tax_excluded",
        zone=ZONE,
        day_starts_at=DAY_STARTS_AT,
        shop_path=find_shop_file("sandbox_online_retail.toml"),
        source_rows=len(source),
    )


def _customers(heads: pd.DataFrame) -> pd.DataFrame:
    """One row per CustomerID, with a name that nobody can take for a real one."""
    known = heads[heads["CustomerID"].notna()].drop_duplicates("CustomerID")
    number = known["CustomerID"].astype("str")
    frame = pd.DataFrame(
        {
            "customer_id": number,
            "name": "Boutique Imaginaire " + number,
            "kind": "company",
            "country": known["Country"].astype("str").map(COUNTRY_CODES),
        }
    )
    return frame.sort_values("customer_id")


def _payments(orders: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How each invoice was paid; the rule is stated in README.md ("Online Retail: payments")."""
    due = orders[orders["total_cents"] != 0].reset_index(drop=True)
    digits = due["order_id"].str.removeprefix("C").astype("int64").to_numpy()
    key = digits + np.where(due["order_id"].str.startswith("C"), 10_000_000, 0)
    fate = derive.draw(key, seed, "payment", 100)
    named = due["customer_id"].notna().to_numpy()
    refund = due["total_cents"].to_numpy() < 0
    total = due["total_cents"].to_numpy()

    counter_cash = ~named & ~refund & (fate < 30) & (total <= CASH_LIMIT_CENTS)
    credit = named & (fate >= 55)
    half = credit & (fate >= 95) & ~refund
    by_transfer = named & (fate >= 40) & (fate < 55)
    on_account = np.where(half, total // 2, np.where(credit, total, 0))
    method = np.select([counter_cash, by_transfer], [CASH, TRANSFER], CARD)
    base = due[["order_id", "register_id", "business_day"]].assign(paid_at=due["validated_at"])
    now = base.assign(method_id=method, amount_cents=total - on_account, nth=1)
    put = base.assign(method_id=ON_ACCOUNT, amount_cents=on_account, nth=2)

    # Later, 25 to 40 days on; one in ten never pays, and a credit for a refund stays on the customer's account.
    wait = pd.to_timedelta(25 + derive.draw(key, seed, "wait", 16), unit="D")
    paying = credit & ~refund & (derive.draw(key, seed, "never pays", 10) != 0)
    day = derive.next_open_day(due["business_day"] + wait, orders["business_day"])
    later = base.assign(business_day=day, method_id=TRANSFER, amount_cents=on_account, nth=3)[paying & day.notna()]
    later["paid_at"] = derive.instants(later["business_day"] + pd.Timedelta(hours=10), ZONE)

    payments = pd.concat([now, put, later], ignore_index=True)
    payments = payments[payments["amount_cents"] != 0].sort_values(["order_id", "nth"], ignore_index=True)
    payments["payment_id"] = "P" + payments["order_id"] + "-" + payments["nth"].astype("str")
    return payments
