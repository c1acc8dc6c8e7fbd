"""Payments to entries: methods, customers and their debts, credit notes, change, late and early money."""

import pandas as pd
import pytest

from kash_pipeline.accounting import build
from kash_pipeline_tests.unit.accounting.books import amounts, chart, closing, facts, line, order, pay, shop, text_of

TICKET = {"orders": [order("T1", 1055)], "order_lines": [line("T1", 1055)]}
NAMED = {"orders": [order("T1", 1055, customer_id="M1")], "order_lines": [line("T1", 1055)]}


def paid(whole: dict, *payments: dict, **tables: list) -> list[tuple[str, int]]:
    result = build(facts(**whole, payments=list(payments), **tables), shop())
    assert result.held.empty, result.held.to_dict("records")
    return amounts(result, "payment")


def reasons(whole: dict, *payments: dict, **tables: list) -> list[str]:
    return list(build(facts(**whole, payments=list(payments), **tables), shop()).held["reason"])


def test_one_line_per_method_and_the_sum_against_s() -> None:
    assert paid(TICKET, pay("P1", "T1", "ESP", 500), pay("P2", "T1", "CB", 555)) == [
        ("511500", 555), ("530000", 500), ("580200", -1055),
    ]  # fmt: skip


def test_change_given_as_a_payment_of_its_own() -> None:
    """20.00 received, 9.45 given back: the order is paid to the cent, both movements are shown."""
    assert paid(TICKET, pay("P1", "T1", "ESP", 2000), pay("P2", "T1", "ESP", -945)) == [
        ("530000", 2000), ("530000", -945), ("580200", 945), ("580200", -2000),
    ]  # fmt: skip


def test_money_back_by_another_method_than_the_sale() -> None:
    """Sold by card, refunded in cash: each method shows what it took and gave."""
    whole = {
        "orders": [order("T1", 1055), order("T2", -1055, refund_of="T1")],
        "order_lines": [line("T1", 1055), line("T2", -1055)],
    }
    assert paid(whole, pay("P1", "T1", "CB", 1055), pay("P2", "T2", "ESP", -1055)) == [
        ("511500", 1055), ("530000", -1055), ("580200", 1055), ("580200", -1055),
    ]  # fmt: skip


def test_refund_left_as_a_credit_note_and_used_later() -> None:
    """4197 is credited when the note is given and debited when it is used."""
    whole = {
        "orders": [order("T1", -1055), order("T2", 1055)],
        "order_lines": [line("T1", -1055), line("T2", 1055)],
    }
    given = pay("P1", "T1", "AVOIR", -1055)
    used = pay("P2", "T2", "AVOIR", 1055)
    assert paid(whole, given, used) == [
        ("419700", 1055), ("419700", -1055), ("580200", 1055), ("580200", -1055),
    ]  # fmt: skip


def test_a_named_customers_order_and_part_payment_stand_on_their_account() -> None:
    result = build(facts(**NAMED, payments=[pay("P1", "T1", "CB", 500)]), shop())
    assert amounts(result) == [
        ("411000", 1055), ("701055", -1000), ("445711055", -55), ("511500", 500), ("411000", -500),
    ]  # fmt: skip
    customers = result.entry_lines.loc[result.entry_lines["account"] == "411000", "customer_id"]
    assert set(customers) == {"M1"}
    assert list(result.carry.orders["order_id"]) == ["T1"]


def test_overpayment_of_a_named_customer_is_left_as_a_credit() -> None:
    assert paid(NAMED, pay("P1", "T1", "CB", 2000)) == [("511500", 2000), ("411000", -2000)]


def test_on_account_posts_nothing_and_the_debt_stays_open() -> None:
    result = build(facts(**NAMED, payments=[pay("P1", "T1", "CPT", 1055)]), shop())
    assert set(result.entries["kind"]) == {"sale"}
    assert list(result.carry.orders["order_id"]) == ["T1"]


def test_a_counter_order_put_on_somebodys_account_moves_to_them() -> None:
    assert paid(TICKET, pay("P1", "T1", "CPT", 1055, customer_id="M1")) == [("580200", -1055), ("411000", 1055)]


def test_an_old_debt_is_paid_without_an_order() -> None:
    assert paid({}, pay("P1", None, "VIR", 9900, customer_id="M1")) == [("512000", 9900), ("411000", -9900)]


def test_money_given_back_to_a_customer_swaps_the_sides() -> None:
    assert paid({}, pay("P1", None, "VIR", -9900, customer_id="M1")) == [("512000", -9900), ("411000", 9900)]


def test_meal_vouchers_and_gift_vouchers_have_their_accounts() -> None:
    assert paid(TICKET, pay("P1", "T1", "TR", 900), pay("P2", "T1", "BON", 155)) == [
        ("419100", 155), ("511700", 900), ("580200", -1055),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["cheque", "holiday_voucher", "loyalty", "transfer", "other"])
def test_every_kind_of_method_goes_where_the_chart_says(kind: str) -> None:
    """Loyalty points and holiday vouchers are methods like any other: the shop file names their account."""
    section = chart(methods={kind: "511999"}) if kind != "other" else chart(methods_by_id={"X": "511999"})
    methods = [{"method_id": "X", "name": "Moyen", "kind": kind}]
    whole = facts(**TICKET, payments=[pay("P1", "T1", "X", 1055)], payment_methods=methods)
    result = build(whole, shop(chart=[section]))
    assert amounts(result, "payment") == [("511999", 1055), ("580200", -1055)]


def test_a_payment_lands_on_its_own_day_and_register() -> None:
    late = pay("P1", "T1", "ESP", 1055, business_day="2026-03-16", register_id="C2")
    result = build(facts(**TICKET, payments=[late]), shop())
    assert [(row.kind, row.register_id, f"{row.date:%d}") for row in result.entries.itertuples()] == [
        ("sale", "C1", "14"), ("payment", "C2", "16"),
    ]  # fmt: skip
    assert list(result.notices["code"])[:1] == ["no_closing"]
    assert {"unpaid_order", "late_payment"} <= set(result.notices["code"])


def test_a_late_payment_is_cleared_by_the_orders_register() -> None:
    """Recorded and closed on the 14th, paid on the 16th: the closing of the 16th clears it, not that of the 14th."""
    result = build(
        facts(
            **TICKET,
            payments=[pay("P1", "T1", "ESP", 1055, business_day="2026-03-16")],
            closings=[closing("Z14"), closing("Z16", "2026-03-16")],
        ),
        shop(),
    )
    closings = result.entries[result.entries["kind"] == "closing"]
    assert [f"{day:%d}" for day in closings["date"]] == ["16"]
    assert amounts(result, "closing") == [("580200", 1055), ("580100", -1055)]


def test_a_payment_before_its_order_counts_when_the_order_is_recorded() -> None:
    """An order prepared and paid on the 13th, recorded on the 14th, with a closing on both days."""
    result = build(
        facts(
            **TICKET,
            payments=[pay("P1", "T1", "ESP", 1055, business_day="2026-03-13")],
            closings=[closing("Z13", "2026-03-13"), closing("Z14")],
        ),
        shop(),
    )
    assert result.held.empty
    closings = result.entries[result.entries["kind"] == "closing"]
    assert [f"{day:%d}" for day in closings["date"]] == ["14"]
    assert {"early_payment", "paid_earlier"} <= set(result.notices["code"])


@pytest.mark.parametrize(
    ("payment", "reason"),
    [
        (pay("P1", "T9", "ESP", 100), "unknown_order"),
        (pay("P1", "T1", "ESP", 1100), "paid_more_than_total"),
        (pay("P1", None, "ESP", 100), "payment_without_customer"),
        (pay("P1", "T1", "CPT", 1055), "on_account_without_customer"),
        (pay("P1", "T1", "NEW", 1055), "unknown_method"),
    ],
)
def test_payments_that_nobody_can_place_hold_the_register_day(payment: dict, reason: str) -> None:
    result = build(facts(**TICKET, payments=[payment]), shop())
    assert list(result.held["reason"]) == [reason]
    assert result.entries.empty
    assert (result.held["next_step"].str.len() > 20).all()


def test_a_payment_of_an_order_settled_on_an_earlier_day_is_held() -> None:
    again = pay("P2", "T1", "ESP", 1055, business_day="2026-03-15")
    result = build(facts(**TICKET, payments=[pay("P1", "T1", "ESP", 1055), again]), shop())
    assert [(row.reason, f"{row.business_day:%d}") for row in result.held.itertuples()] == [("unknown_order", "15")]


def test_the_same_payment_twice_is_held() -> None:
    twice = [pay("P1", "T1", "ESP", 500), pay("P1", "T1", "ESP", 555)]
    assert reasons(TICKET, *twice) == ["duplicate_payment"]


def test_a_settled_debt_leaves_the_carry() -> None:
    first = build(facts(**NAMED), shop())
    second = build(
        facts("2026-04-02", payments=[pay("P1", "T1", "VIR", 400)]),
        shop(),
        carry=first.carry,
    )
    assert list(second.carry.orders["order_id"]) == ["T1"]
    third = build(facts("2026-05-02", payments=[pay("P2", "T1", "VIR", 655)]), shop(), carry=second.carry)
    assert third.carry.orders.empty
    assert third.carry.payments.empty
    assert amounts(third) == [("512000", 655), ("411000", -655)]


def test_order_granularity_names_the_customer_of_an_old_debt() -> None:
    whole = facts(payments=[pay("P1", None, "VIR", 100, customer_id="M1")])
    result = build(whole, shop(granularity="order"))
    assert text_of(result).splitlines()[0] == "2026-03-14 C1 PORT-C1-260314-E-P-P1 Encaissement client M1"
    assert isinstance(result.entry_lines["account"].dtype, pd.CategoricalDtype)
