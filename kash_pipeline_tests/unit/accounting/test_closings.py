"""Closings: what they clear, differences, opening floats, several a day, one over days, the Z against the orders."""

from datetime import date
from typing import Any

from kash_pipeline.accounting import BuildResult, build
from kash_pipeline_tests.unit.accounting.books import amounts, chart, closing, facts, line, order, pay, shop


def tickets(*rows: tuple[str, int, str], day: str = "2026-03-14", **more: Any) -> dict[str, list[dict[str, Any]]]:
    """Counter orders paid in cash in full: (id, cents, time)."""
    return {
        "orders": [
            order(name, cents, business_day=day, validated_at=f"{day}T{at}:00Z", **more) for name, cents, at in rows
        ],
        "order_lines": [line(name, cents, 0) for name, cents, _ in rows],
        "payments": [
            pay(f"P{name}", name, "ESP", cents, business_day=day, paid_at=f"{day}T{at}:00Z", **more)
            for name, cents, at in rows
        ],
    }


def together(*parts: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [row for part in parts for row in part[name]] for name in parts[0]}


def codes(result: BuildResult) -> list[tuple[str, int]]:
    return [(row.code, int(row.amount_cents)) for row in result.notices.itertuples()]


def counted(closing_id: str, method: str, expected: int, found: int) -> dict[str, Any]:
    return {"closing_id": closing_id, "method_id": method, "expected_cents": expected, "counted_cents": found}


def test_more_refunds_than_sales_swap_the_sides() -> None:
    whole = tickets(("T1", 500, "09:00"), ("T2", -800, "10:00"))
    result = build(facts(**whole, closings=[closing("Z1")]), shop())
    assert amounts(result, "closing") == [("580200", -300), ("580100", 300)]


def test_a_day_that_comes_to_nothing_has_no_closing_entry() -> None:
    whole = tickets(("T1", 500, "09:00"), ("T2", -500, "10:00"))
    result = build(facts(**whole, closings=[closing("Z1")]), shop())
    assert set(result.entries["kind"]) == {"sale", "payment"}
    assert build(facts(closings=[closing("Z1")]), shop()).entries.empty


def test_one_account_for_r_and_s_needs_no_closing_entry() -> None:
    both = chart(takings_to_come="580000", takings_paid="580000")
    result = build(facts(**tickets(("T1", 500, "09:00")), closings=[closing("Z1")]), shop(chart=[both]))
    assert set(result.entries["kind"]) == {"sale", "payment"}
    assert sum(cents for account, cents in amounts(result) if account == "580000") == 0


def test_an_unpaid_counter_order_stays_in_r_and_is_listed() -> None:
    whole = tickets(("T1", 500, "09:00"), ("T2", 700, "10:00"))
    whole["payments"] = [whole["payments"][0], pay("PT2", "T2", "ESP", 300)]
    result = build(facts(**whole, closings=[closing("Z1")]), shop())
    assert amounts(result, "closing") == [("580200", 500), ("580100", -500)]
    assert ("unpaid_order", 400) in codes(result)
    sums = {name: sum(cents for account, cents in amounts(result) if account == name) for name in ("580100", "580200")}
    assert sums == {"580100": 700, "580200": -300}


def test_several_closings_a_day_by_the_hour_at_order_granularity() -> None:
    """Each closing clears what was paid before it; a sale after the last one goes with the last one of the day."""
    whole = tickets(("T1", 100, "09:00"), ("T2", 200, "15:00"), ("T3", 400, "21:30"))
    two = [closing("ZA", at="14:00"), closing("ZB", at="20:00")]
    result = build(facts(**whole, closings=two), shop(granularity="order"))
    cleared = result.entries[result.entries["kind"] == "closing"].set_index("entry_key")["debit_cents"]
    assert cleared.to_dict() == {"PORT-C1-260314-C-ZA": 100, "PORT-C1-260314-C-ZB": 600}
    day = build(facts(**whole, closings=two), shop())
    assert amounts(day, "closing") == [("580200", 700), ("580100", -700)]


def test_one_closing_over_several_days_clears_them_all() -> None:
    whole = together(tickets(("T1", 100, "09:00"), day="2026-03-13"), tickets(("T2", 200, "09:00")))
    result = build(facts(**whole, closings=[closing("Z1", total_cents=300)]), shop())
    assert amounts(result, "closing") == [("580200", 300), ("580100", -300)]
    assert codes(result) == [("no_closing", 100)]  # the 13th says that it waits; the Z agrees with both days


def test_without_closings_takings_wait_in_the_carry() -> None:
    result = build(facts(**tickets(("T1", 100, "09:00"))), shop())
    left = {row.side: int(row.amount_cents) for row in result.carry.uncleared.itertuples()}
    assert left == {"R": 100, "S": 100}
    assert codes(result) == [("no_closing", 100)]


def test_differences_are_entries_of_their_own_and_never_netted() -> None:
    """Cash short by 3.20 at noon and over by 3.20 in the evening: two entries, 658 and 758 both."""
    result = build(
        facts(
            closings=[closing("ZA", at="14:00"), closing("ZB", at="20:00")],
            closing_counts=[
                counted("ZA", "ESP", 1000, 680),
                counted("ZB", "ESP", 1000, 1320),
                counted("ZB", "CB", 5, 5),
            ],
        ),
        shop(),
    )
    assert list(result.entries["label"]) == ["Ecart de caisse espèces"] * 2
    assert amounts(result) == [("658000", 320), ("530000", -320), ("530000", 320), ("758000", -320)]
    z = build(
        facts(
            closings=[closing("ZA", at="14:00"), closing("ZB", at="20:00")],
            closing_counts=[counted("ZA", "ESP", 1000, 680), counted("ZB", "ESP", 1000, 1320)],
        ),
        shop(granularity="z"),
    )
    assert amounts(z) == [("658000", 320), ("758000", -320)]


def test_a_count_on_account_is_no_money() -> None:
    result = build(
        facts(closings=[closing("Z1")], closing_counts=[counted("Z1", "CPT", 1000, 0)]),
        shop(),
    )
    assert result.entries.empty
    assert result.held.empty


def test_the_float_found_is_compared_with_the_float_left() -> None:
    """100.00 left on the 13th, 95.00 found on the 14th: five euros short before the first sale."""
    closings = [
        closing("Z13", "2026-03-13", closing_float_cents=10000),
        closing("Z14", opening_float_cents=9500, opened_at="2026-03-14T06:00:00Z"),
    ]
    result = build(facts(closings=closings), shop())
    assert list(result.entries["label"]) == ["Ecart de fonds de caisse à l'ouverture"]
    assert amounts(result) == [("658000", 500), ("530000", -500)]
    first = build(facts(closings=closings[:1], day="2026-03-13"), shop())
    second = build(facts(closings=closings[1:]), shop(), carry=first.carry)
    assert amounts(second) == amounts(result)


def test_money_moved_between_two_closings_is_no_difference() -> None:
    """The five euros were taken out in the night: a withdrawal, not a loss."""
    result = build(
        facts(
            closings=[
                closing("Z13", "2026-03-13", closing_float_cents=10000),
                closing("Z14", opening_float_cents=9500, opened_at="2026-03-14T06:00:00Z"),
            ],
            cash_movements=[
                {"movement_id": "M1", "kind": "withdrawal", "amount_cents": -500, "moved_at": "2026-03-14T05:00:00Z"}
            ],
        ),
        shop(),
    )
    assert amounts(result) == [("530000", -500), ("580300", 500)]
    assert list(result.entries["kind"]) == ["cash_movement"]


def test_cash_movements_by_kind_and_direction() -> None:
    movements = [
        {"movement_id": "M1", "kind": "float", "amount_cents": 10000},
        {"movement_id": "M2", "kind": "expense", "amount_cents": -1250, "label": "Timbres"},
        {"movement_id": "M3", "kind": "withdrawal", "amount_cents": -15000},
        {"movement_id": "M4", "kind": "deposit", "amount_cents": 0},
    ]
    result = build(facts(cash_movements=movements), shop())
    assert amounts(result) == [
        ("530000", 10000), ("530000", -16250), ("580300", 15000), ("471000", 1250), ("580300", -10000),
    ]  # fmt: skip
    each = build(facts(cash_movements=movements), shop(granularity="order"))
    assert list(each.entries["label"]) == [
        "Mouvement de caisse M1", "Mouvement de caisse Timbres", "Mouvement de caisse M3",
    ]  # fmt: skip


def test_a_z_by_payment_date_is_explained_to_the_euro() -> None:
    """Z counts money: an order of 7.00 is unpaid, 3.00 came in for an order of the day before."""
    before = tickets(("T0", 300, "09:00"), day="2026-03-13")
    before["payments"][0]["business_day"] = "2026-03-14"
    today = tickets(("T1", 500, "09:00"), ("T2", 700, "10:00"))
    today["payments"] = today["payments"][:1]
    whole = together(before, today)
    closings = [closing("Z13", "2026-03-13", total_cents=0), closing("Z14", total_cents=800)]
    result = build(facts(**whole, closings=closings), shop())
    assert ("z_total_differs", -400) in codes(result)
    assert ("z_unpaid_orders", -700) in codes(result)
    assert ("z_other_payments", 300) in codes(result)
    assert "z_unexplained" not in {code for code, _ in codes(result)}


def test_a_z_that_nothing_explains_says_so() -> None:
    result = build(facts(**tickets(("T1", 500, "09:00")), closings=[closing("Z1", total_cents=600)]), shop())
    assert codes(result) == [("z_total_differs", 100), ("z_unexplained", 100)]


def test_grand_totals_that_do_not_follow_are_named() -> None:
    closings = [
        closing("Z13", "2026-03-13", total_cents=0, perpetual_total_cents=100_000),
        closing("Z14", total_cents=0, perpetual_total_cents=100_700),
    ]
    assert ("perpetual_total_gap", 700) in codes(build(facts(closings=closings), shop()))


def test_a_chart_that_changes_between_sale_and_closing_still_ends_at_zero() -> None:
    """Recorded and paid under the old R and S on the 31st, closed on the 1st: the old accounts are cleared."""
    old = chart()
    new = chart(**{"from": "2026-01-01", "takings_to_come": "580111", "takings_paid": "580222"})
    whole = together(
        tickets(("T1", 100, "09:00"), day="2025-12-31"),
        tickets(("T2", 200, "09:00"), day="2026-01-01"),
    )
    result = build(facts(**whole, closings=[closing("Z1", "2026-01-01")]), shop(chart=[old, new]))
    sums: dict[str, int] = {}
    for account, cents in amounts(result):
        sums[account] = sums.get(account, 0) + cents
    assert {account: cents for account, cents in sums.items() if account.startswith("58")} == {
        "580100": 0, "580200": 0, "580111": 0, "580222": 0,
    }  # fmt: skip


def test_ids_that_come_twice_hold_every_day_they_touch() -> None:
    """Orders, payments, closings, movements, counts: nobody knows which row is the true one."""
    movement = {"movement_id": "M1", "kind": "expense", "amount_cents": -100}
    tables: list[tuple[str, dict[str, list[dict[str, Any]]]]] = [
        ("duplicate_closing", {"closings": [closing("Z1"), closing("Z1", "2026-03-15")]}),
        ("duplicate_cash_movement", {"cash_movements": [movement, {**movement, "business_day": "2026-03-15"}]}),
        (
            "duplicate_payment",
            {
                **tickets(("T1", 500, "09:00"), ("T2", 500, "09:00")),
                "payments": [pay("P1", "T1", "ESP", 500), pay("P1", "T2", "ESP", 500)],
            },
        ),
        (
            "duplicate_count",
            {"closings": [closing("Z1")], "closing_counts": [counted("Z1", "ESP", 5, 6), counted("Z1", "ESP", 5, 7)]},
        ),
    ]
    for reason, rows in tables:
        for granularity in ("day", "order", "z"):
            result = build(facts(**rows), shop(granularity=granularity))
            assert set(result.held["reason"]) == {reason}
            assert result.entries.empty


def test_a_drawer_that_holds_less_than_nothing_holds_its_day() -> None:
    """Whatever the source: a wrong sign would book the whole drawer as missing. A terminal's total may be negative."""
    sold = together(tickets(("T1", 500, "09:00")), tickets(("T2", 500, "09:00"), day="2026-03-15"))
    closings = [closing("Z1"), closing("Z2", "2026-03-15")]
    for granularity in ("day", "order", "z"):
        counts = [counted("Z1", "ESP", 500, -500), counted("Z2", "CB", -300, -300)]
        result = build(facts(**sold, closings=closings, closing_counts=counts), shop(granularity=granularity))
        (held,) = result.held.itertuples()
        assert (str(held.business_day.date()), held.reason) == ("2026-03-14", "cash_below_zero")
        assert held.what == "closing Z1 counts -5.00 of Espèces"
        assert set(result.entries["business_day"].dt.day) == {15}


def test_days_outside_the_facts_are_empty_and_pass_the_carry_on() -> None:
    first = build(facts(**tickets(("T1", 500, "09:00"))), shop())
    none = build(facts(), shop(), first=date(2026, 3, 15), last=date(2026, 3, 20), carry=first.carry)
    assert none.entries.empty
    later = build(facts(closings=[closing("Z1", "2026-03-21")]), shop(), carry=none.carry)
    assert amounts(later) == [("580200", 500), ("580100", -500)]
