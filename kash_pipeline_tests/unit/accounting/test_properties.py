"""What must hold for any till: balance, sums, equal granularities, independence from order and from windows.

Run with HYPOTHESIS_PROFILE=ci for 500 examples a property, HYPOTHESIS_PROFILE=thousands for 5,000.
"""

from collections import Counter
from datetime import date
from typing import Any

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from kash_pipeline.accounting import BuildResult, Carry, build, carry_before, trial_balance
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES, HELD, NOTICES
from kash_pipeline.schemas.facts import CLOSINGS, Facts
from kash_pipeline_tests.unit.accounting.books import chart, shop
from kash_pipeline_tests.unit.accounting.tills import day_text, mixed, of_day, taken_back, tills

GRANULARITIES = st.sampled_from(("day", "order", "z"))
VAT = st.sampled_from(("none", "lines", "table"))
R, S = "580100", "580200"


def any_till(**more: Any) -> st.SearchStrategy[Facts]:
    return VAT.flatmap(lambda vat: tills(vat=vat, **more))


def as_bytes(*results: BuildResult) -> str:
    """Everything that comes out, as the command line writes it."""
    return "".join(
        "".join(getattr(result, name).to_csv(index=False, header=False) for result in results)
        for name in ("entries", "entry_lines", "held", "notices")
    )


def balances(lines: pd.DataFrame) -> dict[tuple[str, str], int]:
    table = trial_balance(lines)
    return {
        (account, customer): int(cents)
        for account, customer, cents in zip(
            table["account"], table["customer_id"].fillna(""), table["balance_cents"], strict=True
        )
        if cents
    }


def with_entries(result: BuildResult) -> pd.DataFrame:
    entries = result.entries[["entry_key", "kind", "business_day", "register_id"]]
    lines = result.entry_lines.astype({"entry_key": "str", "account": "str", "method_id": "str", "customer_id": "str"})
    out = lines.merge(entries, on="entry_key", validate="many_to_one")
    out["amount"] = out["debit_cents"] - out["credit_cents"]
    return out


@given(any_till(), GRANULARITIES)
def test_every_entry_balances_and_every_line_has_one_side(whole: Facts, granularity: str) -> None:
    result = build(whole, shop(granularity=granularity))
    ENTRIES.validate(result.entries)
    ENTRY_LINES.validate(result.entry_lines)
    HELD.validate(result.held)
    NOTICES.validate(result.notices)
    lines = result.entry_lines
    assert ((lines["debit_cents"] > 0) ^ (lines["credit_cents"] > 0)).all()
    assert ((lines["debit_cents"] >= 0) & (lines["credit_cents"] >= 0)).all()
    assert result.entries["entry_key"].is_unique
    sums = lines.astype({"entry_key": "str"}).groupby("entry_key")[["debit_cents", "credit_cents"]].sum()
    heads = result.entries.set_index("entry_key")
    assert (sums["debit_cents"] == sums["credit_cents"]).all()
    assert sums["debit_cents"].to_dict() == heads["debit_cents"].to_dict() == heads["credit_cents"].to_dict()
    assert lines["entry_key"].astype("str").value_counts().to_dict() == heads["lines"].to_dict()


@given(any_till(odd=False), GRANULARITIES)
def test_sum_over_entries_is_sum_over_facts(whole: Facts, granularity: str) -> None:
    """Per day, register and VAT rate: gross of sales. Per day, register and method: money received."""
    result = build(whole, shop(granularity=granularity))
    assert result.held.empty
    lines = with_entries(result)
    told = whole.order_lines.merge(whole.orders[["order_id", "business_day", "register_id"]], on="order_id")
    told = told[(told["nature"] == "sale") | ((told["nature"] == "voucher_single") & (told["vat_rate_bp"] > 0))]
    by_rate: Counter[Any] = Counter()
    for row in told.itertuples():
        by_rate[row.business_day, row.register_id, row.vat_rate_bp] += row.total_cents
    booked: Counter[Any] = Counter()
    for row in lines[lines["vat_rate_bp"].notna()].itertuples():
        booked[row.business_day, row.register_id, row.vat_rate_bp] -= row.amount
    assert {key: cents for key, cents in booked.items() if cents} == {k: c for k, c in by_rate.items() if c}

    by_method: Counter[Any] = Counter()
    for row in whole.payments[whole.payments["method_id"] != "CPT"].itertuples():
        by_method[row.business_day, row.register_id, row.method_id] += row.amount_cents
    for row in whole.closing_counts.merge(whole.closings, on="closing_id").itertuples():
        by_method[row.business_day, row.register_id, row.method_id] += row.counted_cents - row.expected_cents
    received: Counter[Any] = Counter()
    for row in lines[lines["method_id"].notna()].itertuples():
        received[row.business_day, row.register_id, row.method_id] += row.amount
    assert {key: cents for key, cents in received.items() if cents} == {k: c for k, c in by_method.items() if c}


@given(any_till(odd=False))
def test_granularities_give_the_same_trial_balance(whole: Facts) -> None:
    """Clearing accounts apart: together they hold what the notices list, in each granularity."""
    seen = []
    for granularity in ("day", "order", "z"):
        result = build(whole, shop(granularity=granularity))
        table = balances(result.entry_lines)
        clearing = table.pop((R, ""), 0) + table.pop((S, ""), 0)
        listed = ("unpaid_order", "paid_earlier", "late_payment", "early_payment")
        notices = result.notices
        assert clearing == notices.loc[notices["code"].isin(listed), "amount_cents"].sum()
        seen.append(table)
    assert seen[0] == seen[1] == seen[2]


@given(any_till(odd=False))
def test_clearing_accounts_end_at_zero_but_for_open_orders(whole: Facts) -> None:
    """After a closing, R holds the open counter orders of its register and S what was paid on them."""
    closing_day = day_text(3)
    closings = [
        {"closing_id": f"END{register}", "register_id": register, "business_day": closing_day}
        for register in ("C1", "C2")
    ]
    more = pd.DataFrame(closings)
    more["business_day"] = pd.to_datetime(more["business_day"]).astype("datetime64[ms]")
    more["closed_at"] = pd.to_datetime(f"{closing_day}T23:00:00Z")
    ended = Facts(**{**whole.tables(), "closings": _under(whole.closings, more)})
    result = build(ended, shop())
    counter = whole.orders[whole.orders["customer_id"].isna()]
    paid = whole.payments.groupby("order_id")["amount_cents"].sum()
    rest = counter.assign(paid=counter["order_id"].map(paid).fillna(0).astype("int64"))
    rest = rest[rest["total_cents"] != rest["paid"]]
    table = balances(result.entry_lines)
    assert table.get((R, ""), 0) == rest["total_cents"].sum()
    assert table.get((S, ""), 0) == -rest["paid"].sum()


def _under(top: pd.DataFrame, bottom: pd.DataFrame) -> pd.DataFrame:
    bottom = conform(bottom, CLOSINGS)
    return bottom if top.empty else conform(pd.concat([top, bottom], ignore_index=True), CLOSINGS)


@given(any_till(), GRANULARITIES)
def test_a_closing_touches_no_revenue_and_no_vat(whole: Facts, granularity: str) -> None:
    """Class 7 only 758, class 6 only 658, no 445 (reading A, rule 2)."""
    lines = with_entries(build(whole, shop(granularity=granularity)))
    accounts = lines.loc[lines["kind"] == "closing", "account"]
    assert not accounts.str.match(r"^7(?!58)|^6(?!58)|^445").any()


@given(any_till(), GRANULARITIES, st.integers(0, 1000))
def test_order_of_rows_and_coding_of_text_change_no_byte(whole: Facts, granularity: str, seed: int) -> None:
    settings_file = shop(granularity=granularity)
    assert as_bytes(build(whole, settings_file)) == as_bytes(build(mixed(whole, seed), settings_file))


@given(any_till(days=3), GRANULARITIES, st.booleans())
def test_day_after_day_gives_the_bytes_of_all_at_once(whole: Facts, granularity: str, own_facts: bool) -> None:
    """With the carry passed on and each window seeing only its own facts, or with all facts and no carry."""
    settings_file = shop(granularity=granularity)
    days = [date.fromisoformat(day_text(offset)) for offset in range(4)]
    at_once = build(whole, settings_file, first=days[0], last=days[2])
    carry = Carry()
    results = []
    for offset in range(3):
        window = {"first": days[offset], "last": days[offset]}
        if own_facts:
            results.append(build(of_day(whole, offset), settings_file, **window, carry=carry))
            carry = results[-1].carry
        else:
            results.append(build(whole, settings_file, **window))
    assert as_bytes(*results) == as_bytes(at_once)
    if own_facts:
        after = Carry()
        for offset in range(3):
            after = carry_before(
                of_day(whole, offset), settings_file, days[offset + 1], first=days[offset], carry=after
            )
    else:
        after = carry_before(whole, settings_file, days[3])
    for name, table in after.tables().items():
        pd.testing.assert_frame_equal(table, getattr(results[-1].carry, name), obj=name)


@given(any_till(odd=False, days=3), GRANULARITIES)
def test_everything_taken_back_leaves_nothing(whole: Facts, granularity: str) -> None:
    """Every order, payment and movement reversed on its day: all accounts at zero, R and S together."""
    table = balances(build(taken_back(whole), shop(granularity=granularity)).entry_lines)
    assert table.pop((R, ""), 0) + table.pop((S, ""), 0) == 0
    assert table == {}


@given(tills(odd=False), st.sampled_from(("order", "line")), st.booleans())
def test_vat_is_half_up_per_order_and_rate_or_per_line(whole: Facts, rounding: str, by_department: bool) -> None:
    """Against a plain Python sum over tickets; accounts per department change no VAT."""
    departments = {"pain": {"5.5": "701056", "20": "707201"}, "sucre": {"default": "701057"}} if by_department else {}
    result = build(whole, shop(vat_rounding=rounding, chart=[chart(sales_by_department=departments)]))
    taxed = whole.order_lines[whole.order_lines["nature"].isin(("sale", "voucher_single"))]
    expected: Counter[int] = Counter()
    cells: Counter[Any] = Counter()
    for row in taxed.itertuples():
        key = (row.order_id, row.nature, row.vat_rate_bp, row.line_no if rounding == "line" else 0)
        cells[key] += row.total_cents
    for (_, _, rate, _), gross in cells.items():
        exact = abs(gross) * rate * 2 + (10_000 + rate)
        expected[rate] += (1 if gross >= 0 else -1) * (exact // (2 * (10_000 + rate)))
    lines = result.entry_lines[result.entry_lines["account"].astype("str").str.startswith("4457")]
    booked: Counter[int] = Counter()
    for row in lines.itertuples():
        booked[int(row.vat_rate_bp)] += row.credit_cents - row.debit_cents
    assert {k: v for k, v in booked.items() if v} == {k: v for k, v in expected.items() if v}


@given(tills(odd=False, tax_excluded=True), GRANULARITIES)
def test_tax_excluded_prices_balance_and_cancel_out(whole: Facts, granularity: str) -> None:
    settings_file = shop(granularity=granularity, prices="tax_excluded")
    result = build(whole, settings_file)
    assert result.held.empty
    lines = with_entries(result)
    net = whole.order_lines[whole.order_lines["nature"] == "sale"]["total_cents"].sum()
    assert -lines.loc[lines["account"].str.startswith("70"), "amount"].sum() == net
    table = balances(build(taken_back(whole), settings_file).entry_lines)
    assert table.pop((R, ""), 0) + table.pop((S, ""), 0) == 0
    assert table == {}


@given(any_till(odd=False))
def test_accounts_per_department_add_up_and_cancel_out(whole: Facts) -> None:
    """Splitting a rate over accounts moves no cent to another rate, and a refund takes back the same cents."""
    finer = shop(
        chart=[chart(sales_by_department={"pain": {"5.5": "701056", "10": "701156"}, "sucre": {"5.5": "701057"}})]
    )
    plain, split = build(whole, shop()), build(whole, finer)

    def per_rate(result: BuildResult) -> dict[Any, int]:
        lines = with_entries(result)
        lines = lines[lines["vat_rate_bp"].notna()]
        lines["tax"] = lines["account"].str.startswith("445")
        sums = lines.groupby(["business_day", "register_id", "vat_rate_bp", "tax"])["amount"].sum()
        return {key: cents for key, cents in sums.items() if cents}

    assert per_rate(split) == per_rate(plain)
    table = balances(build(taken_back(whole), finer).entry_lines)
    assert table.pop((R, ""), 0) + table.pop((S, ""), 0) == 0
    assert table == {}
