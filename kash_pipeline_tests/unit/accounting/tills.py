"""Random tills for the property tests: a few days of orders, payments, closings and movements, some of them odd.

Only what is drawn and how facts are cut up or mixed; the properties are in test_properties.py.
"""

import random
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from kash_pipeline.schemas.facts import FACTS, Facts
from kash_pipeline_tests.unit.accounting.books import facts, line, order

FIRST = date(2026, 3, 28)  # 29 March 2026 has 23 hours in Paris
REGISTERS = ("C1", "C2")
RATES = (0, 550, 1000, 2000)
MONEY = ("ESP", "CB", "TR", "BON", "AVOIR")


def day_text(offset: int) -> str:
    return (FIRST + timedelta(days=offset)).isoformat()


@st.composite
def tills(draw: st.DrawFn, *, days: int = 4, odd: bool = True, vat: str = "none", tax_excluded: bool = False) -> Facts:
    """Facts of some days. `odd` adds payments that hold a day; `vat` is none, lines or table; `tax_excluded` lines."""
    orders: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    tables: list[dict[str, Any]] = []
    payments: list[dict[str, Any]] = []

    def paid(order_id: str | None, day: int, register: str, method: str, amount: int, **more: Any) -> None:
        if 0 <= day < days:
            payments.append(
                {
                    "payment_id": f"P{len(payments)}",
                    "order_id": order_id,
                    "business_day": day_text(day),
                    "register_id": register,
                    "method_id": method,
                    "amount_cents": amount,
                    **more,
                }
            )

    def paid_on_another_day(order_id: str, day: int, register: str, method: str, amount: int) -> None:
        # The order is settled without a payment of nothing (of 0 cents, or half of one cent), which holds its day then.
        if amount or odd:
            paid(order_id, day, register, method, amount)

    for number in range(draw(st.integers(0, 9))):
        name = f"T{number}"
        day = draw(st.integers(0, days - 1))
        register = draw(st.sampled_from(REGISTERS))
        sign = draw(st.sampled_from((1, 1, 1, -1)))
        customer = draw(st.sampled_from((None, None, None, "M1", "M2")))
        total = 0
        given: dict[int, list[int]] = {}
        net_of: dict[tuple[str, int], int] = {}
        for line_no in range(1, draw(st.integers(1, 4)) + 1):
            nature = draw(
                st.sampled_from(("sale",) * 6 + ("voucher_multi", "voucher_single", "tip", "deposit", "rounding"))
            )
            rate = 0 if nature in ("voucher_multi", "tip", "deposit", "rounding") else draw(st.sampled_from(RATES))
            cents = sign * draw(st.one_of(st.integers(0, 3000), st.integers(-200, 200)))
            tax = (abs(cents) * rate * 2 + 10_000 + rate) // (2 * (10_000 + rate)) * (1 if cents >= 0 else -1)
            more = {"vat_cents": tax} if vat == "lines" else {}
            department = draw(st.sampled_from((None, "pain", "sucre")))
            lines.append(line(name, cents, rate, line_no, nature=nature, department_id=department, **more))
            total += cents
            if rate:
                net_of[nature, rate] = net_of.get((nature, rate), 0) + cents
            if rate and nature in ("sale", "voucher_single"):
                net, sums = given.setdefault(rate, [0, 0])
                given[rate] = [net + cents - tax, sums + tax]
        if vat == "table":
            tables += [
                {"order_id": name, "vat_rate_bp": rate, "net_cents": net, "vat_cents": tax}
                for rate, (net, tax) in given.items()
            ]
        if tax_excluded:
            total += sum(
                (abs(net) * rate * 2 + 10_000) // 20_000 * (1 if net >= 0 else -1) for (_, rate), net in net_of.items()
            )
        orders.append(order(name, total, business_day=day_text(day), register_id=register, customer_id=customer))
        if odd and draw(st.integers(0, 19)) == 0:
            orders.append({**orders[-1], "total_cents": total + 100})
        method, other = draw(st.sampled_from(MONEY)), draw(st.sampled_from(MONEY))
        way = draw(st.sampled_from(("whole",) * 4 + ("two", "late", "part", "none", "early", "change", "elsewhere")))
        if way == "whole":
            paid(name, day, register, method, total)
        elif way == "two":
            paid(name, day, register, method, total // 3)
            paid(name, day, register, other, total - total // 3)
        elif way == "late":
            paid(name, day, register, method, total // 2)
            paid_on_another_day(name, day + draw(st.integers(1, 2)), register, other, total - total // 2)
        elif way == "part":
            paid(name, day, register, method, total // 2)
        elif way == "early":
            paid_on_another_day(name, day - 1, register, method, total // 2)
            paid(name, day, register, other, total - total // 2)
        elif way == "change":
            paid(name, day, register, "ESP", total + 500)
            paid(name, day, register, "ESP", -500)
        elif way == "elsewhere":
            paid(name, day, draw(st.sampled_from(REGISTERS)), method, total)
        if customer and way == "none" and draw(st.booleans()):
            paid(name, day, register, "CPT", total)
        if odd and draw(st.integers(0, 9)) == 0:
            paid(name, day + draw(st.integers(0, 2)), register, method, draw(st.integers(-300, 300)))
    if draw(st.booleans()):
        paid(None, draw(st.integers(0, days - 1)), "C1", "VIR", draw(st.integers(1, 5000)), customer_id="M1")
    if odd and draw(st.integers(0, 9)) == 0:
        paid("NOWHERE", draw(st.integers(0, days - 1)), "C1", "ESP", 100)

    closings, counts = [], []
    for day in range(days):
        for register in REGISTERS:
            for turn in range(draw(st.sampled_from((0, 1, 1, 2)))):
                name = f"Z{day}{register}{turn}"
                closings.append(
                    {
                        "closing_id": name,
                        "register_id": register,
                        "business_day": day_text(day),
                        "opened_at": f"{day_text(day)}T0{5 + turn}:00:00Z",
                        "closed_at": f"{day_text(day)}T1{turn}:00:00Z",
                        "opening_float_cents": draw(st.sampled_from((None, 10000, 10050))),
                        "closing_float_cents": draw(st.sampled_from((None, 10000, 9900))),
                        "total_cents": draw(st.sampled_from((None, 0, 5000))),
                    }
                )
                if draw(st.booleans()):
                    counts.append(
                        {
                            "closing_id": name,
                            "method_id": draw(st.sampled_from(("ESP", "TR"))),
                            "expected_cents": 1000,
                            "counted_cents": draw(st.integers(900, 1100)),
                        }
                    )
    movements = [
        {
            "movement_id": f"M{number}",
            "register_id": draw(st.sampled_from(REGISTERS)),
            "business_day": day_text(draw(st.integers(0, days - 1))),
            "kind": draw(st.sampled_from(("withdrawal", "deposit", "expense", "float"))),
            "amount_cents": draw(st.integers(-2000, 2000)),
        }
        for number in range(draw(st.integers(0, 2)))
    ]
    return facts(
        orders=orders,
        order_lines=lines,
        order_vat=tables,
        payments=payments,
        closings=closings,
        closing_counts=counts,
        cash_movements=movements,
        customers=[{"customer_id": name, "name": name, "kind": "company"} for name in ("M1", "M2")],
    )


def of_day(whole: Facts, offset: int) -> Facts:
    """What a source hands out for one day: its rows, and the orders its payments belong to if these come later."""
    day = pd.Timestamp(day_text(offset))
    paid = whole.payments[whole.payments["business_day"] == day]
    mine = whole.orders["business_day"] == day
    later = (whole.orders["business_day"] > day) & whole.orders["order_id"].isin(paid["order_id"])
    ids = set(whole.orders.loc[mine, "order_id"])
    closings = whole.closings[whole.closings["business_day"] == day]
    cut = replace(
        whole,
        orders=whole.orders[mine | later],
        order_lines=whole.order_lines[whole.order_lines["order_id"].isin(ids)],
        order_vat=whole.order_vat[whole.order_vat["order_id"].isin(ids)],
        payments=paid,
        closings=closings,
        closing_counts=whole.closing_counts[whole.closing_counts["closing_id"].isin(set(closings["closing_id"]))],
        cash_movements=whole.cash_movements[whole.cash_movements["business_day"] == day],
    )
    return Facts(**{name: table.reset_index(drop=True) for name, table in cut.tables().items()})


def mixed(whole: Facts, seed: int) -> Facts:
    """The same rows in another order, text columns dictionary-coded in another order."""
    chance = random.Random(seed)
    out = {}
    for name, table in whole.tables().items():
        rows = list(range(len(table)))
        chance.shuffle(rows)
        shuffled = table.iloc[rows].reset_index(drop=True)
        text = [
            column
            for column, declared in FACTS[name].columns.items()
            if (declared.metadata or {})["kind"] == "text" and chance.random() < 0.7
        ]
        for column in text:
            values = sorted(set(shuffled[column].dropna()))
            chance.shuffle(values)
            shuffled[column] = pd.Categorical(shuffled[column], categories=pd.Index(values, dtype="str"))
        out[name] = shuffled
    return Facts(**out)


def taken_back(whole: Facts) -> Facts:
    """The facts and, for every order, payment and movement, its opposite on the same day and register."""

    def mirrored(table: pd.DataFrame, ids: tuple[str, ...], cents: tuple[str, ...]) -> pd.DataFrame:
        back = table.copy()
        for column in ids:
            back[column] = back[column] + "R"
        for column in cents:
            back[column] = -back[column]
        return pd.concat([table, back], ignore_index=True)

    return replace(
        whole,
        orders=mirrored(whole.orders, ("order_id", "number"), ("total_cents",)),
        order_lines=mirrored(whole.order_lines, ("order_id",), ("total_cents", "vat_cents")),
        order_vat=mirrored(whole.order_vat, ("order_id",), ("net_cents", "vat_cents")),
        payments=mirrored(whole.payments, ("payment_id", "order_id"), ("amount_cents",)),
        cash_movements=mirrored(whole.cash_movements, ("movement_id",), ("amount_cents",)),
        closing_counts=whole.closing_counts.iloc[:0],
        closings=whole.closings.assign(opening_float_cents=pd.array([pd.NA] * len(whole.closings), dtype="Int64")),
    )
