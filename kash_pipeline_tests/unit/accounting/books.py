"""Small facts for the accounting tests: tables from tuples, the shop of the worked day, entries as plain text.

Helpers only; what is asserted stands in the test modules.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kash_pipeline.accounting import BuildResult
from kash_pipeline.accounting.money import euros
from kash_pipeline.schemas.columns import kind_of
from kash_pipeline.schemas.facts import FACTS, Facts
from kash_pipeline.settings import ShopFile, shop_from

CHART: dict[str, Any] = {
    "from": "2020-01-01",
    "sales": {"0": "707000", "5.5": "701055", "10": "701100", "20": "707200"},
    "vat": {"5.5": "445711055", "10": "445711100", "20": "445711200"},
    "methods": {
        "cash": "530000",
        "card": "511500",
        "cheque": "511200",
        "meal_voucher": "511700",
        "gift_voucher": "419100",
        "credit_note": "419700",
        "transfer": "512000",
    },
    "cash_movements": {"withdrawal": "580300", "deposit": "580300", "expense": "471000", "float": "580300"},
}

METHODS = [
    ("ESP", "Espèces", "cash"),
    ("CB", "Cartes", "card"),
    ("TR", "Titres-restaurant", "meal_voucher"),
    ("BON", "Bons cadeaux", "gift_voucher"),
    ("AVOIR", "Avoirs", "credit_note"),
    ("VIR", "Virements", "transfer"),
    ("CPT", "En compte", "on_account"),
]


def shop(
    *, chart: Sequence[Mapping[str, Any]] | None = None, journals: Mapping[str, str] | None = None, **section: Any
) -> ShopFile:
    """The shop of the worked day; `section` overrides keys of [shop]."""
    return shop_from(
        {
            "shop": {"id": "port", "name": "Boulangerie du Port", **section},
            "source": {"kind": "files", "path": "facts"},
            "chart": list(chart or [CHART]),
            "journals": dict({"C1": "C1", "C2": "C2"} if journals is None else journals),
        },
        Path("shop.toml"),
    )


def chart(**changes: Any) -> dict[str, Any]:
    return {**CHART, **changes}


def frame(table: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as the declared frame; columns left out are null, days and instants are text."""
    # Straight to the declared types: the property tests make thousands of these.
    schema = FACTS[table]
    out: dict[str, Any] = {}
    for name, column in schema.columns.items():
        values = [row.get(name) for row in rows]
        kind = kind_of(column)
        if kind == "text":
            out[name] = pd.array(values, dtype="str")
        elif kind == "day":
            out[name] = np.array(values, "datetime64[ms]")
        elif kind == "instant":
            naive = np.array([None if value is None else value.removesuffix("Z") for value in values], "datetime64[us]")
            out[name] = pd.DatetimeIndex(naive, tz="UTC")
        elif column.nullable:
            out[name] = pd.array(values, dtype="Int64")
        else:
            out[name] = np.array(values, np.int64)
    return pd.DataFrame(out)


def facts(day: str = "2026-03-14", **tables: Sequence[Mapping[str, Any]]) -> Facts:
    """Facts from rows; the usual methods and registers C1 and C2 unless given; `day` is the default business day."""
    defaults: dict[str, Sequence[Mapping[str, Any]]] = {
        "payment_methods": [{"method_id": key, "name": name, "kind": kind} for key, name, kind in METHODS],
        "registers": [{"register_id": "C1", "name": "Caisse 1"}, {"register_id": "C2", "name": "Caisse 2"}],
    }
    filled = {**defaults, **tables}
    out = {}
    for table, rows in filled.items():
        names = FACTS[table].columns
        base: dict[str, Any] = {}
        if "business_day" in names:
            base["business_day"] = day
        if table != "registers" and "register_id" in names:
            base["register_id"] = "C1"
        if table == "order_lines":
            base |= {"quantity_milli": 1000, "nature": "sale", "line_no": 1}
        out[table] = frame(table, [{**base, **row} for row in rows])
    return Facts(**out)


def order(name: str, total: int, **more: Any) -> dict[str, Any]:
    return {"order_id": name, "number": name, "total_cents": total, **more}


def line(order_id: str, total: int, rate: int = 550, line_no: int = 1, **more: Any) -> dict[str, Any]:
    return {"order_id": order_id, "line_no": line_no, "vat_rate_bp": rate, "total_cents": total, **more}


def pay(name: str, order_id: str | None, method: str, amount: int, **more: Any) -> dict[str, Any]:
    return {"payment_id": name, "order_id": order_id, "method_id": method, "amount_cents": amount, **more}


def closing(name: str, day: str = "2026-03-14", at: str = "20:00", **more: Any) -> dict[str, Any]:
    return {"closing_id": name, "business_day": day, "closed_at": f"{day}T{at}:00Z", **more}


def text_of(result: BuildResult) -> str:
    """Entries as an accountant would write them, for golden files."""
    out = []
    for entry in result.entries.itertuples():
        out.append(f"{entry.date:%Y-%m-%d} {entry.journal} {entry.entry_key} {entry.label}")
        for row in result.entry_lines[result.entry_lines["entry_key"] == entry.entry_key].itertuples():
            account = row.account + ("" if pd.isna(row.customer_id) else f" {row.customer_id}")
            side = f"{euros(row.debit_cents):>10}" if row.debit_cents else f"{'':>10}{euros(row.credit_cents):>10}"
            out.append(f"    {account:<16} {side:<20}  {row.label}")
    return "\n".join(out) + "\n"


def amounts(result: BuildResult, kind: str | None = None) -> list[tuple[str, int]]:
    """(account, debit less credit) of every line, of one kind of entry if named."""
    lines = result.entry_lines
    if kind is not None:
        keys = result.entries.loc[result.entries["kind"] == kind, "entry_key"]
        lines = lines[lines["entry_key"].isin(keys)]
    return [
        (str(account), int(debit) - int(credit))
        for account, debit, credit in zip(lines["account"], lines["debit_cents"], lines["credit_cents"], strict=True)
    ]


def worked_day() -> Facts:
    """The till of french-pos-accounting.md, section 5, without the transfer of 20 March."""
    return facts(
        orders=[
            order("T1", 1365, validated_at="2026-03-14T08:01:00Z"),
            order("T2", -405, validated_at="2026-03-14T08:20:00Z", refund_of="T1"),
            order("T3", 2150, validated_at="2026-03-14T12:05:00Z"),
            order("T4", 2400, validated_at="2026-03-14T13:00:00Z", customer_id="C0042"),
            order("T5", 3000, validated_at="2026-03-14T15:00:00Z"),
            order("T6", 1840, validated_at="2026-03-14T17:30:00Z"),
        ],
        order_lines=[
            line("T1", 120, 550, 1, label="Baguette tradition"),
            line("T1", 120, 550, 2, label="Pain au chocolat"),
            line("T1", 330, 550, 3, label="Croissant", quantity_milli=3000),
            line("T1", 405, 1000, 4, label="Sandwich jambon", discount_cents=45),
            line("T1", 390, 2000, 5, label="Bière 33 cl"),
            line("T2", -405, 1000, 1, label="Sandwich jambon", quantity_milli=-1000),
            line("T3", 650, 1000, 1, label="Formule sandwich"),
            line("T3", 440, 550, 2, label="Tartelette", quantity_milli=2000),
            line("T3", 1060, 2000, 3, label="Vin"),
            line("T4", 2200, 550, 1, label="Croissant", quantity_milli=20000),
            line("T4", 200, 1000, 2, label="Café", quantity_milli=2000),
            line("T5", 3000, 0, 1, label="Bon cadeau", nature="voucher_multi"),
            line("T6", 800, 550, 1, label="Galette"),
            line("T6", 1040, 2000, 2, label="Boîte de bonbons"),
        ],
        payments=[
            pay("P1", "T1", "ESP", 1365),
            pay("P2", "T2", "ESP", -405),
            pay("P3a", "T3", "TR", 900),
            pay("P3b", "T3", "CB", 1250),
            pay("P4", "T4", "CPT", 2400),
            pay("P5", "T5", "CB", 3000),
            pay("P6", "T6", "BON", 1840),
        ],
        closings=[
            closing("Z1", opening_float_cents=10000, total_cents=10350, at="19:30"),
        ],
        closing_counts=[
            {"closing_id": "Z1", "method_id": "ESP", "expected_cents": 10960, "counted_cents": 10640},
            {"closing_id": "Z1", "method_id": "CB", "expected_cents": 4250, "counted_cents": 4250},
            {"closing_id": "Z1", "method_id": "TR", "expected_cents": 900, "counted_cents": 1050},
            {"closing_id": "Z1", "method_id": "BON", "expected_cents": 1840, "counted_cents": 1840},
        ],
        customers=[{"customer_id": "C0042", "name": "Mairie de Sainte-Luce", "kind": "company"}],
    )
