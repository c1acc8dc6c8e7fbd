"""Orders to sale entries: which VAT figure stands, natures, discounts, refunds, odd tickets, tax excluded."""

from typing import Any

import pytest

from kash_pipeline.accounting import build
from kash_pipeline.accounting.errors import OrphanRows
from kash_pipeline.settings import PennylaneSection
from kash_pipeline_tests.unit.accounting.books import amounts, chart, closing, facts, line, order, pay, shop


def sold(
    *lines: dict[str, Any], total: int | None = None, shop_file: Any = None, **tables: Any
) -> list[tuple[str, int]]:
    """Lines of the sale entry of one counter order T1."""
    whole = facts(
        orders=[order("T1", sum(row["total_cents"] for row in lines) if total is None else total)],
        order_lines=list(lines),
        **tables,
    )
    result = build(whole, shop_file or shop())
    assert result.held.empty, result.held.to_dict("records")
    return amounts(result, "sale")


def test_vat_of_the_order_is_not_the_sum_of_its_lines() -> None:
    """T1 of the worked day: 0.30 per ticket, 0.29 per line."""
    lines = [line("T1", 120, 550, 1), line("T1", 120, 550, 2), line("T1", 330, 550, 3)]
    assert ("445711055", -30) in sold(*lines)
    assert ("445711055", -29) in sold(*lines, shop_file=shop(vat_rounding="line"))


def test_vat_sent_with_lines_is_followed() -> None:
    """The till rounded per line: its figures stand, and one notice says that they differ."""
    lines = [
        line("T1", 120, 550, 1, vat_cents=6),
        line("T1", 120, 550, 2, vat_cents=6),
        line("T1", 330, 550, 3, vat_cents=17),
    ]
    assert ("445711055", -29) in sold(*lines)
    whole = facts(orders=[order("T1", 570)], order_lines=lines)
    notices = build(whole, shop()).notices
    assert notices.loc[notices["code"] == "vat_not_as_computed", "amount_cents"].tolist() == [-1]


def test_the_tills_vat_table_wins_over_its_lines() -> None:
    lines = [line("T1", 120, 550, 1, vat_cents=6), line("T1", 450, 550, 2, vat_cents=23)]
    table = [{"order_id": "T1", "vat_rate_bp": 550, "net_cents": 540, "vat_cents": 30}]
    assert sold(*lines, order_vat=table) == [("580100", 570), ("701055", -540), ("445711055", -30)]


def test_a_vat_table_may_round_per_line_over_many_lines() -> None:
    """Ten lines of 0.14 at 5.5 %: 0.07 by ticket, 0.10 by line. Both are lawful; the till's is taken."""
    lines = [line("T1", 14, 550, number) for number in range(1, 11)]
    table = [{"order_id": "T1", "vat_rate_bp": 550, "net_cents": 130, "vat_cents": 10}]
    assert ("445711055", -10) in sold(*lines, order_vat=table)
    told = [{**row, "vat_cents": 1} for row in lines]
    table = [{"order_id": "T1", "vat_rate_bp": 550, "net_cents": 133, "vat_cents": 7}]
    assert ("445711055", -7) in sold(*told, order_vat=table)


@pytest.mark.parametrize(
    ("net", "vat", "held"),
    [(540, 30, False), (541, 29, False), (542, 28, True), (540, 28, True), (530, 30, True), (0, 0, True)],
)
def test_more_than_a_cent_between_vat_table_and_lines_holds_the_day(net: int, vat: int, held: bool) -> None:
    whole = facts(
        orders=[order("T1", 570)],
        order_lines=[line("T1", 570)],
        order_vat=[{"order_id": "T1", "vat_rate_bp": 550, "net_cents": net, "vat_cents": vat}],
    )
    result = build(whole, shop())
    assert list(result.held["reason"]) == (["vat_mismatch"] if held else [])
    assert result.entries.empty is held
    if held:
        assert "T1" in result.held["what"].iloc[0]


def test_a_rate_in_the_vat_table_that_no_line_has_holds_the_day() -> None:
    whole = facts(
        orders=[order("T1", 570)],
        order_lines=[line("T1", 570)],
        order_vat=[
            {"order_id": "T1", "vat_rate_bp": 550, "net_cents": 540, "vat_cents": 30},
            {"order_id": "T1", "vat_rate_bp": 2000, "net_cents": 100, "vat_cents": 20},
        ],
    )
    assert list(build(whole, shop()).held["reason"]) == ["vat_mismatch"]


def test_vat_at_a_rate_of_nought_holds_the_day_and_a_listed_voucher_does_not() -> None:
    zero = [{"order_id": "T1", "vat_rate_bp": 0, "net_cents": 990, "vat_cents": 10}]
    whole = facts(orders=[order("T1", 1000)], order_lines=[line("T1", 1000, 0)], order_vat=zero)
    assert list(build(whole, shop()).held["reason"]) == ["vat_mismatch"]
    voucher = [{"order_id": "T1", "vat_rate_bp": 2000, "net_cents": 3000, "vat_cents": 0}]
    assert sold(line("T1", 3000, 2000, nature="voucher_multi"), order_vat=voucher) == [
        ("580100", 3000), ("419100", -3000),
    ]  # fmt: skip


def test_an_order_told_only_by_its_vat_table_is_booked() -> None:
    """Sources that export totals per rate and no lines."""
    whole = facts(
        orders=[order("T1", 570)],
        order_vat=[{"order_id": "T1", "vat_rate_bp": 550, "net_cents": 540, "vat_cents": 30}],
    )
    assert amounts(build(whole, shop()), "sale") == [("580100", 570), ("701055", -540), ("445711055", -30)]


def test_departments_of_one_rate_share_its_vat_by_largest_remainder() -> None:
    """Three accounts, one rate: their VAT adds up to that of the ticket, and a refund mirrors it."""
    departments = {"pain": {"5.5": "701056"}, "sucre": {"5.5": "701057"}}
    shop_file = shop(chart=[chart(sales_by_department=departments)])
    lines = [
        line("T1", 120, 550, 1, department_id="pain"),
        line("T1", 120, 550, 2, department_id="sucre"),
        line("T1", 330, 550, 3),
    ]
    assert sold(*lines, shop_file=shop_file) == [
        ("580100", 570), ("701055", -313), ("701056", -113), ("701057", -114), ("445711055", -30),
    ]  # fmt: skip
    back = [{**row, "total_cents": -row["total_cents"]} for row in lines]
    assert sold(*back, shop_file=shop_file) == [
        ("580100", -570), ("701055", 313), ("701056", 113), ("701057", 114), ("445711055", 30),
    ]  # fmt: skip


def test_a_department_rule_may_name_every_rate() -> None:
    shop_file = shop(chart=[chart(sales_by_department={"bar": {"default": "707900"}})])
    assert ("707900", -100) in sold(line("T1", 110, 1000, department_id="bar"), shop_file=shop_file)


def test_zero_rated_sales_have_no_vat_line() -> None:
    assert sold(line("T1", 1000, 0)) == [("580100", 1000), ("707000", -1000)]


@pytest.mark.parametrize("rate", [1, 90, 105, 210, 850, 1300, 1960, 10_000])
def test_any_rate_is_accepted_when_the_chart_names_it(rate: int) -> None:
    """Corsica, overseas departments, old rates: no list in code."""
    percent = f"{rate // 100}.{rate % 100:02d}"
    shop_file = shop(chart=[chart(sales={percent: "707111"}, vat={percent: "445711111"})])
    vat = (10_000 * rate * 2 + 10_000 + rate) // (2 * (10_000 + rate))
    expected = [("580100", 10_000), ("707111", vat - 10_000), ("445711111", -vat)]
    assert sold(line("T1", 10_000, rate), shop_file=shop_file) == [row for row in expected if row[1]]


def test_voucher_for_several_uses_is_a_liability_without_vat() -> None:
    assert sold(line("T1", 3000, 2000, nature="voucher_multi")) == [("580100", 3000), ("419100", -3000)]


def test_voucher_for_one_use_pays_vat_when_sold_and_none_when_used() -> None:
    """A meal for two at 24.00, 10 %: 4191 21.82 and VAT 2.18 at sale; when used 4191 against 706, no VAT."""
    assert sold(line("T1", 2400, 1000, nature="voucher_single")) == [
        ("580100", 2400), ("445711100", -218), ("419100", -2182),
    ]  # fmt: skip
    used = [line("T1", 2400, 1000, 1), line("T1", -2400, 1000, 2, nature="voucher_single")]
    assert sold(*used) == [("701100", -2182), ("419100", 2182)]


def test_tips_are_neither_revenue_nor_taxed() -> None:
    assert sold(line("T1", 1100, 1000), line("T1", 200, 0, 2, nature="tip")) == [
        ("580100", 1300), ("701100", -1000), ("445711100", -100), ("467100", -200),
    ]  # fmt: skip


def test_deposits_stand_as_advances_with_vat_only_if_the_till_charged_it() -> None:
    chart_of = shop(chart=[chart(deposits="419200")])
    assert sold(line("T1", 5000, 2000, nature="deposit"), shop_file=chart_of) == [("580100", 5000), ("419200", -5000)]
    assert sold(line("T1", 6000, 2000, nature="deposit", vat_cents=1000), shop_file=chart_of) == [
        ("580100", 6000), ("445711200", -1000), ("419200", -5000),
    ]  # fmt: skip


def test_rounding_of_the_ticket_goes_to_658_and_758_never_to_a_sale() -> None:
    assert ("758000", -2) in sold(line("T1", 998), line("T1", 2, 0, 2, nature="rounding"))
    assert ("658000", 2) in sold(line("T1", 1002), line("T1", -2, 0, 2, nature="rounding"))
    refund = sold(line("T1", -998), line("T1", -2, 0, 2, nature="rounding"))
    assert ("758000", 2) in refund


def test_mixed_signs_in_a_ticket_stand_on_the_side_of_each_rate() -> None:
    assert sold(line("T1", 1000, 550, 1), line("T1", -550, 1000, 2)) == [
        ("580100", 450), ("701055", -948), ("701100", 500), ("445711055", -52), ("445711100", 50),
    ]  # fmt: skip


def test_tickets_that_come_to_nothing_post_nothing() -> None:
    """An order of total 0, a line of price 0, the same line twice and taken back twice."""
    empty = facts(
        orders=[order("T1", 0), order("T2", 0), order("T3", 0)],
        order_lines=[line("T1", 0), line("T2", 200, 550, 1), line("T2", -200, 550, 2)],
    )
    result = build(empty, shop())
    assert result.entries.empty
    assert result.held.empty


def test_the_same_line_twice_is_sold_twice() -> None:
    assert sold(line("T1", 120, 550, 1), line("T1", 120, 550, 2)) == [
        ("580100", 240), ("701055", -227), ("445711055", -13),
    ]  # fmt: skip


def test_a_refund_of_another_year_lands_on_its_own_day_and_side() -> None:
    whole = facts(
        orders=[order("T1", 1055, business_day="2025-12-31"), order("T2", -1055, refund_of="T1")],
        order_lines=[line("T1", 1055), line("T2", -1055)],
    )
    result = build(whole, shop())
    assert [f"{day:%Y-%m-%d}" for day in result.entries["date"]] == ["2025-12-31", "2026-03-14"]
    assert amounts(result)[3:] == [("580100", -1055), ("701055", 1000), ("445711055", 55)]


def test_refunds_and_sales_of_a_day_are_never_netted() -> None:
    whole = facts(orders=[order("T1", 1055), order("T2", -1055)], order_lines=[line("T1", 1055), line("T2", -1055)])
    assert amounts(build(whole, shop()), "sale") == [
        ("580100", 1055), ("580100", -1055), ("701055", 1000), ("701055", -1000), ("445711055", 55), ("445711055", -55),
    ]  # fmt: skip


def test_tax_excluded_prices_carry_vat_on_top() -> None:
    """Lines HT, the order's total TTC; VAT half up per order and rate: 3 x 0.45 at 5.5 % is 0.07."""
    shop_file = shop(prices="tax_excluded")
    lines = [line("T1", 45, 550, 1), line("T1", 45, 550, 2), line("T1", 45, 550, 3), line("T1", 1000, 2000, 4)]
    assert sold(*lines, total=1342, shop_file=shop_file) == [
        ("580100", 1342), ("701055", -135), ("707200", -1000), ("445711055", -7), ("445711200", -200),
    ]  # fmt: skip


def test_tax_excluded_a_cent_the_till_rounded_otherwise_goes_to_rounding() -> None:
    """Per line the VAT is 3 x 0.02 = 0.06; the books' 0.07 stand, the cent is a loss of rounding."""
    shop_file = shop(prices="tax_excluded")
    lines = [line("T1", 45, 550, number) for number in (1, 2, 3)]
    assert sold(*lines, total=141, shop_file=shop_file) == [
        ("580100", 141), ("701055", -135), ("445711055", -7), ("658000", 1),
    ]  # fmt: skip
    off = facts(orders=[order("T1", 150)], order_lines=lines)
    assert list(build(off, shop_file).held["reason"]) == ["unbalanced_order"]


def test_total_that_is_not_its_lines_holds_the_day_even_by_a_cent() -> None:
    whole = facts(orders=[order("T1", 571)], order_lines=[line("T1", 570)])
    held = build(whole, shop()).held
    assert list(held["reason"]) == ["unbalanced_order"]
    assert "5.71" in held["what"].iloc[0]
    assert "5.70" in held["what"].iloc[0]


def test_order_without_lines_holds_the_day() -> None:
    whole = facts(orders=[order("T1", 570)])
    assert list(build(whole, shop()).held["reason"]) == ["order_without_lines"]


def test_rows_that_belong_nowhere_stop_the_build_by_name() -> None:
    with pytest.raises(OrphanRows, match=r"order_lines, row 1: order 'T9' is not in orders"):
        build(facts(orders=[order("T1", 0)], order_lines=[line("T9", 100)]), shop())
    with pytest.raises(OrphanRows, match=r"order_vat, row 1: order 'T9'"):
        build(
            facts(
                orders=[order("T1", 0)],
                order_vat=[{"order_id": "T9", "vat_rate_bp": 550, "net_cents": 1, "vat_cents": 0}],
            ),
            shop(),
        )
    with pytest.raises(OrphanRows, match=r"closing_counts, row 1: closing 'Z9'"):
        build(
            facts(
                closings=[closing("Z1")],
                closing_counts=[{"closing_id": "Z9", "method_id": "ESP", "expected_cents": 0, "counted_cents": 1}],
            ),
            shop(),
        )


def test_no_facts_give_no_entries() -> None:
    result = build(facts(), shop())
    assert result.entries.empty
    assert result.entry_lines.empty
    assert next(iter(result.entries.columns)) == "entry_key"


def test_one_held_register_does_not_stop_the_other() -> None:
    whole = facts(
        orders=[order("T1", 571), order("T2", 1055, register_id="C2"), order("T3", 1055, business_day="2026-03-15")],
        order_lines=[line("T1", 570), line("T2", 1055), line("T3", 1055)],
        payments=[pay("P1", "T1", "ESP", 571)],
    )
    result = build(whole, shop())
    assert [(row.register_id, f"{row.business_day:%d}") for row in result.held.itertuples()] == [("C1", "14")]
    assert list(result.entries["entry_key"]) == ["PORT-C2-260314-V", "PORT-C1-260315-V"]


def test_duplicate_order_ids_hold_their_days() -> None:
    whole = facts(
        orders=[order("T1", 1055), order("T1", 1055), order("T2", 1055, register_id="C2")],
        order_lines=[line("T1", 1055), line("T2", 1055)],
    )
    result = build(whole, shop())
    assert "duplicate_order" in set(result.held["reason"])
    assert set(result.held["register_id"]) == {"C1"}


def test_an_order_id_used_on_two_days_holds_both() -> None:
    whole = facts(
        orders=[order("T1", 1055), order("T1", 2110, business_day="2026-03-20", register_id="C2")],
        order_lines=[line("T1", 1055)],
    )
    held = build(whole, shop()).held
    assert [(row.register_id, f"{row.business_day:%d}", row.reason) for row in held.itertuples()] == [
        ("C1", "14", "duplicate_order"),
        ("C2", "20", "duplicate_order"),
    ]


def test_a_customer_the_till_does_not_list_is_told_where_pennylane_needs_an_account_of_theirs() -> None:
    """Their entries would wait there without a word in the books' own lists."""
    whole = facts(
        orders=[
            order("T1", 570, customer_id="C7"),
            order("T2", 230, customer_id="C7"),
            order("T3", 100, customer_id="C8"),
        ],
        order_lines=[line("T1", 570), line("T2", 230), line("T3", 100)],
        customers=[{"customer_id": "C8", "name": "Mairie", "kind": "company"}],
    )
    sends = shop().model_copy(update={"pennylane": PennylaneSection()})
    result = build(whole, sends)
    told = result.notices[result.notices["code"] == "unknown_customer"]
    assert [(row.register_id, row.amount_cents) for row in told.itertuples()] == [("C1", 800)]
    assert "'C7'" in told["what"].iloc[0]
    assert result.held.empty
    collective = sends.model_copy(update={"shop": sends.shop.model_copy(update={"named_customers": "collective"})})
    for shop_file in (shop(), collective):
        assert "unknown_customer" not in set(build(whole, shop_file).notices["code"])
