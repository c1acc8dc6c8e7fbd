"""Two months of the bakery stand-in: its sums by ticket, as the README of the data gives them, to the cent."""

import csv
import gzip
import io
from collections import defaultdict
from functools import cache
from importlib.resources import files

import pytest

from kash_pipeline.accounting import BuildResult, build
from kash_pipeline.accounting.money import vat_in
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import rate_to_bp
from kash_pipeline_tests.unit.accounting.books import facts, shop

METHODS = {
    "CB": "card",
    "ESPECES": "cash",
    "TICKET RESTO": "meal_voucher",
    "CHEQUE": "cheque",
    "EN COMPTE": "on_account",
}


def _rows(name: str) -> list[dict[str, str]]:
    content = (files("kash_pipeline.sandbox") / "data" / name).read_bytes()
    text = gzip.decompress(content) if name.endswith(".gz") else content
    return list(csv.DictReader(io.StringIO(text.decode("utf-8"))))


def cents(text: str) -> int:
    euros, _, rest = text.replace("€", "").strip().replace(",", ".").partition(".")
    return (1 if not euros.startswith("-") else -1) * (abs(int(euros)) * 100 + int(rest.ljust(2, "0")))


@cache
def bakery() -> Facts:
    """Tickets as orders, one register; a ticket with a part on account belongs to a named customer."""
    rates = {row["article"]: rate_to_bp(row["vat_rate"]) for row in _rows("bakery_vat.csv")}
    lines = []
    totals: dict[str, int] = defaultdict(int)
    days: dict[str, str] = {}
    for number, row in enumerate(_rows("bakery_standin.csv.gz"), start=1):
        ticket = row["ticket_number"].removesuffix(".0")
        quantity = int(row["Quantity"].removesuffix(".0"))
        total = quantity * cents(row["unit_price"])
        totals[ticket] += total
        days[ticket] = row["date"]
        lines.append(
            {
                "order_id": ticket,
                "line_no": number,
                "label": row["article"],
                "quantity_milli": 1000 * quantity,
                "vat_rate_bp": rates[row["article"]],
                "total_cents": total,
            }
        )
    paid = _rows("bakery_standin_payments.csv.gz")
    named = {row["ticket_number"] for row in paid if row["method"] == "EN COMPTE"}
    return facts(
        orders=[
            {
                "order_id": ticket,
                "number": ticket,
                "business_day": days[ticket],
                "customer_id": "M1" if ticket in named else None,
                "total_cents": total,
            }
            for ticket, total in totals.items()
        ],
        order_lines=lines,
        payments=[
            {
                "payment_id": f"P{number}",
                "order_id": row["ticket_number"],
                "business_day": row["date"],
                "method_id": row["method"],
                "amount_cents": cents(row["amount"]),
            }
            for number, row in enumerate(paid)
        ],
        payment_methods=[{"method_id": name, "name": name, "kind": kind} for name, kind in METHODS.items()],
    )


def collected(result: BuildResult) -> dict[int, tuple[int, int]]:
    """(gross, VAT) per rate in basis points."""
    lines = result.entry_lines
    signed = lines.assign(amount=lines["credit_cents"] - lines["debit_cents"], account=lines["account"].astype("str"))
    taxed = signed[signed["vat_rate_bp"].notna()]
    vat = taxed[taxed["account"].str.startswith("4457")].groupby("vat_rate_bp")["amount"].sum()
    return {
        int(rate): (int(gross), int(vat[rate])) for rate, gross in taxed.groupby("vat_rate_bp")["amount"].sum().items()
    }


@pytest.mark.parametrize("granularity", ["day", "z"])
def test_sums_by_ticket(granularity: str) -> None:
    result = build(bakery(), shop(granularity=granularity))
    assert result.held.empty
    assert collected(result) == {550: (4265460, 223171), 1000: (682390, 62012), 2000: (26620, 4439)}


def test_takings_by_method() -> None:
    result = build(bakery(), shop())
    lines = result.entry_lines.astype({"method_id": "str"})
    lines["amount"] = lines["debit_cents"] - lines["credit_cents"]
    assert lines.groupby("method_id")["amount"].sum().to_dict() == {
        "CB": 2256855,
        "ESPECES": 2327590,
        "TICKET RESTO": 256335,
        "CHEQUE": 90805,
    }
    customer = lines[lines["customer_id"] == "M1"]
    assert customer["amount"].sum() == 42885  # EN COMPTE: nothing received, the customer owes it


def test_the_three_roundings_differ_and_the_ticket_wins() -> None:
    """5.5 %: 2,242.14 rounded per line, 2,231.71 per ticket, 2,223.70 from the day's total, which is never used."""
    assert collected(build(bakery(), shop(vat_rounding="line")))[550][1] == 224214
    assert collected(build(bakery(), shop()))[550][1] == 223171
    day_of = dict(zip(bakery().orders["order_id"], bakery().orders["business_day"], strict=True))
    per_day: dict[object, int] = defaultdict(int)
    for row in bakery().order_lines.itertuples():
        if row.vat_rate_bp == 550:
            per_day[day_of[row.order_id]] += row.total_cents
    assert sum(vat_in(total, 550) for total in per_day.values()) == 222370


def test_cash_closing_leaves_clearing_accounts_to_the_accountant() -> None:
    """The stand-in has no closings: each day says so once, and R and S mirror each other."""
    result = build(bakery(), shop())
    assert set(result.entries["kind"]) == {"sale", "payment"}
    days = result.notices[result.notices["code"] == "no_closing"]
    assert len(days) == result.entries["business_day"].nunique() == 52
    lines = result.entry_lines.assign(amount=result.entry_lines["debit_cents"] - result.entry_lines["credit_cents"])
    sums = lines.astype({"account": "str"}).groupby("account")["amount"].sum()
    open_items = result.notices[result.notices["code"].isin(["unpaid_order", "late_payment"])]["amount_cents"].sum()
    assert sums["580100"] + sums["580200"] == open_items
