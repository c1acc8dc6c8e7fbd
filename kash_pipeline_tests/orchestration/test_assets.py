"""Assets on a real instance, PostgreSQL and lake: what a run leaves behind, and what a failing one does."""

from collections import Counter
from dataclasses import replace
from datetime import date

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline.defs.jobs import BUILD_ENTRIES, EXTRACT, NIGHTLY, REFERENCE_SYNC
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.orchestration.conftest import Run
from kash_pipeline_tests.orchestration.till import MemoryTill, days_between, make_facts, make_shop, with_method

SHOP = make_shop()
FIRST, LAST = date(2025, 2, 26), date(2025, 3, 4)
DAYS = days_between(FIRST, LAST)
DAILY = [("pos", "sales"), ("pos", "payments"), ("pos", "closings"), ("accounting", "entries")]


def key(*path: str) -> dg.AssetKey:
    return dg.AssetKey(["bakery", *path])


def rows(engine: sa.Engine, sql: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def materializations(instance: dg.DagsterInstance, *path: str) -> dict[str, list[dict[str, object]]]:
    """Metadata of every materialization of an asset, by partition, oldest first."""
    found: dict[str, list[dict[str, object]]] = {}
    for record in instance.fetch_materializations(key(*path), limit=10_000, ascending=True).records:
        event = record.asset_materialization
        assert event is not None
        found.setdefault(str(event.partition), []).append({name: item.value for name, item in event.metadata.items()})
    return found


def check(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    [found] = [item for item in result.get_asset_check_evaluations() if item.check_name == name]
    return found


def text(evaluation: dg.AssetCheckEvaluation) -> str:
    return " ".join(str(item.value) for item in evaluation.metadata.values())


def books(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    """Everything a build writes, without times."""
    return {
        "entries": rows(engine, "select * from kash.entries order by entry_key"),
        "lines": rows(engine, "select * from kash.entry_lines order by entry_key, line_no"),
        "held": rows(engine, "select * from kash.held order by 1, 2, 3, 4, 5"),
        "notices": rows(engine, "select * from kash.notices order by 1, 2, 3, 4, 5"),
        "ledger": rows(engine, "select key, digest, state, attempts, created_at from kash.publication order by key"),
    }


@pytest.mark.long
def test_a_year_is_one_run_with_one_materialization_per_day_and_its_own_figures(
    run: Run, instance: dg.DagsterInstance, engine: sa.Engine
) -> None:
    first, last = date(2025, 1, 1), date(2025, 12, 31)
    result = run(NIGHTLY, SHOP, MemoryTill(make_facts(first, last, orders_per_day=1)), first, last)
    assert result.success
    assert instance.get_runs_count() == 1
    keys = {day.isoformat() for day in days_between(first, last)}
    for path in DAILY:
        found = materializations(instance, *path)
        assert found.keys() == keys
        assert {len(events) for events in found.values()} == {1}
    [sales] = materializations(instance, "pos", "sales")["2025-07-14"]
    assert (sales["orders"], sales["gross_cents"], sales["dagster/partition_row_count"]) == (1, 100, 1)
    [entries] = materializations(instance, "accounting", "entries")["2025-07-14"]
    assert (
        entries["entries"] == rows(engine, "select count(*) from kash.entries where business_day = '2025-07-14'")[0][0]
    )
    assert rows(engine, "select sum(gross_cents) from marts.revenue_by_day") == [(365 * 100,)]
    assert all(item.passed for item in result.get_asset_check_evaluations())


def test_the_till_is_asked_month_by_month(run: Run) -> None:
    """A year at once would hold a year in memory."""
    till = MemoryTill(make_facts(FIRST, LAST))
    run(EXTRACT, SHOP, till, FIRST, LAST)
    assert till.asked == [(date(2025, 2, 26), date(2025, 2, 28)), (date(2025, 3, 1), date(2025, 3, 4))]


def test_a_rerun_replaces_and_changes_nothing(run: Run, engine: sa.Engine, lake: Lake) -> None:
    till = MemoryTill(make_facts(FIRST, LAST))
    assert run(NIGHTLY, SHOP, till, FIRST, LAST).success
    before, orders = books(engine), len(lake.read_days("orders", FIRST, LAST))
    assert run(NIGHTLY, SHOP, till, FIRST, LAST).success
    assert books(engine) == before
    assert len(lake.read_days("orders", FIRST, LAST)) == orders == 4 * len(DAYS)


def test_days_run_in_pieces_or_overlapping_give_the_same_books(run: Run, engine: sa.Engine) -> None:
    """An order of February paid in March: the March run must know it, whether February ran with it or before it."""
    facts = make_facts(FIRST, LAST)
    payments = facts.payments.copy()
    payments.loc[payments["order_id"] == "O250227-1", "business_day"] = pd.Timestamp("2025-03-03")
    till = MemoryTill(replace(facts, payments=payments))
    assert run(NIGHTLY, SHOP, till, FIRST, LAST).success
    at_once = books(engine)
    for start, end in ((FIRST, date(2025, 2, 28)), (date(2025, 2, 28), date(2025, 3, 2)), (date(2025, 3, 3), LAST)):
        assert run(BUILD_ENTRIES, SHOP, till, start, end).success
        assert books(engine) == at_once


def test_payments_are_filed_under_the_day_the_money_moved(run: Run, lake: Lake, instance: dg.DagsterInstance) -> None:
    """The till tells them with their order: one paid weeks later, one (a deposit) before the order's day."""
    facts = make_facts(FIRST, LAST)
    payments = facts.payments.copy()
    payments.loc[payments["order_id"] == "O250226-0", "business_day"] = pd.Timestamp("2025-03-04")
    payments.loc[payments["order_id"] == "O250304-1", "business_day"] = pd.Timestamp("2025-02-26")
    till = MemoryTill(replace(facts, payments=payments))
    assert run(EXTRACT, SHOP, till, FIRST, LAST).success

    def filed() -> list[str]:
        return sorted(lake.read_days("payments", date(2025, 3, 4), date(2025, 3, 4))["order_id"])

    assert filed() == ["O250226-0", "O250304-0", "O250304-2", "O250304-3"]
    early = lake.read_days("payments", date(2025, 2, 26), date(2025, 2, 26))
    assert "O250304-1" in set(early["order_id"])
    [figures] = materializations(instance, "pos", "payments")["2025-03-04"]
    assert (figures["payments"], figures["takings_cents"]) == (4, 100 + 100 + 300 + 400)
    # A single day looks back as well.
    assert run(EXTRACT, SHOP, till, LAST, LAST).success
    assert filed() == ["O250226-0", "O250304-0", "O250304-2", "O250304-3"]


def test_an_order_moved_to_another_day_stops_payments_until_both_days_are_read_again(
    run: Run, engine: sa.Engine, lake: Lake
) -> None:
    facts = make_facts(FIRST, LAST)
    payments, orders = facts.payments.copy(), facts.orders.copy()
    payments.loc[payments["order_id"] == "O250227-0", "business_day"] = pd.Timestamp("2025-02-28")
    orders.loc[orders["order_id"] == "O250227-0", "business_day"] = pd.Timestamp("2025-02-28")
    facts = replace(facts, payments=payments)
    run(EXTRACT, SHOP, MemoryTill(facts), FIRST, LAST)
    moved = MemoryTill(replace(facts, orders=orders))
    result = run(EXTRACT, SHOP, moved, date(2025, 2, 28), date(2025, 2, 28))
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "PO250227-0 stands under two business days" in str(failure.step_failure_data.user_failure_data)
    assert run(EXTRACT, SHOP, moved, date(2025, 2, 27), date(2025, 2, 28)).success
    assert list(lake.read_days("payments", FIRST, LAST)["payment_id"]).count("PO250227-0") == 1


def test_a_held_day_is_listed_with_its_cure_and_the_others_go_on(run: Run, engine: sa.Engine) -> None:
    facts = with_method(make_facts(FIRST, LAST), date(2025, 3, 1), "K1", "crypto")
    methods = pd.concat(
        [facts.payment_methods, facts.payment_methods.tail(1).assign(method_id="crypto", name="Crypto", kind="other")]
    )
    till = MemoryTill(replace(facts, payment_methods=methods))
    result = run(NIGHTLY, SHOP, till, FIRST, LAST)
    assert result.success
    held = check(result, "no_held_days")
    assert not held.passed
    assert "| 2025-03-01 | K1 | unmapped_method |" in text(held)
    assert "crypto" in text(held)
    assert rows(engine, "select distinct business_day::text, register_id from kash.held") == [("2025-03-01", "K1")]
    with_entries = rows(engine, "select distinct business_day, register_id from kash.entries")
    assert len(with_entries) == 2 * len(DAYS) - 1
    assert (date(2025, 3, 1), "K1") not in with_entries
    assert rows(
        engine, "select count(*) from kash.publication where register_id = 'K1' and business_day = '2025-03-01'"
    ) == [(0,)]
    # What is held is not missing from the comparison of till and entries.
    assert check(result, "entries_equal_facts").passed


def test_a_mended_day_is_built_by_the_next_run(run: Run, engine: sa.Engine) -> None:
    facts = with_method(make_facts(FIRST, LAST), date(2025, 3, 1), "K1", "crypto")
    assert not check(run(NIGHTLY, SHOP, MemoryTill(facts), FIRST, LAST), "no_held_days").passed
    mended = run(NIGHTLY, SHOP, MemoryTill(make_facts(FIRST, LAST)), date(2025, 3, 1), date(2025, 3, 1))
    assert check(mended, "no_held_days").passed
    assert rows(engine, "select count(*) from kash.held") == [(0,)]


def test_a_late_change_names_the_later_days_that_have_to_be_built_again(run: Run) -> None:
    """An order of 27 February is paid on 3 March and cleared by that day's closing; then its total changes."""
    first, paid = date(2025, 2, 27), date(2025, 3, 3)
    facts = make_facts(FIRST, LAST)
    payments, orders = facts.payments.copy(), facts.orders.copy()
    payments.loc[payments["order_id"] == "O250227-0", "business_day"] = pd.Timestamp(paid)
    facts = replace(facts, payments=payments)
    assert check(run(NIGHTLY, SHOP, MemoryTill(facts), FIRST, LAST), "later_days_follow").passed

    frames = {name: getattr(facts, name).copy() for name in ("order_lines", "order_vat")}
    orders.loc[orders["order_id"] == "O250227-0", "total_cents"] += 50
    frames["order_lines"].loc[frames["order_lines"]["order_id"] == "O250227-0", "total_cents"] += 50
    frames["order_vat"].loc[frames["order_vat"]["order_id"] == "O250227-0", "net_cents"] += 50
    till = MemoryTill(replace(facts, orders=orders, **frames))
    found = check(run(NIGHTLY, SHOP, till, first, first), "later_days_follow")
    assert not found.passed
    assert f"| {paid} | {paid} | 1 |" in text(found)
    # The day built again, nothing is left to do: neither after it nor after the change.
    assert check(run(NIGHTLY, SHOP, till, paid, paid), "later_days_follow").passed
    again = check(run(NIGHTLY, SHOP, till, first, first), "later_days_follow")
    assert again.passed
    assert again.metadata["compared"].value > 0
    # What was found to agree is not compared again.
    assert check(run(NIGHTLY, SHOP, till, first, first), "later_days_follow").metadata["compared"].value == 0


def test_a_failing_month_keeps_the_months_before_written_and_recorded(
    run: Run, instance: dg.DagsterInstance, lake: Lake
) -> None:
    """Dagster records the days of a step at its end: without more, a failure would leave none."""
    till = MemoryTill(make_facts(FIRST, LAST), unreachable={date(2025, 3, 2)})
    result = run(EXTRACT, SHOP, till, FIRST, LAST)
    assert not result.success
    assert sorted(materializations(instance, "pos", "sales")) == ["2025-02-26", "2025-02-27", "2025-02-28"]
    assert lake.days("orders") == DAYS[:3]
    [failure] = [event for event in result.all_events if event.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert "no answer for 2025-03-02" in str(told.description)
    assert "next step: try again later" in str(told.description)
    logged = [record.user_message for record in instance.all_logs(result.run_id)]
    assert any("2025-02-26 to 2025-02-28 are written and recorded; go on from 2025-03-01" in line for line in logged)

    till.unreachable.clear()
    assert run(EXTRACT, SHOP, till, date(2025, 3, 1), LAST).success
    assert Counter(map(len, materializations(instance, "pos", "sales").values())) == {1: len(DAYS)}


def test_a_till_that_breaks_the_contract_is_refused_and_what_needs_it_does_not_run(
    run: Run, engine: sa.Engine, lake: Lake
) -> None:
    facts = make_facts(FIRST, LAST)
    lines = facts.order_lines.copy()
    lines.loc[lines["order_id"] == "O250302-0", "vat_rate_bp"] = 20_000
    result = run(NIGHTLY, SHOP, MemoryTill(replace(facts, order_lines=lines)), FIRST, LAST)
    assert not result.success
    contract = next(
        item
        for item in result.get_asset_check_evaluations()
        if item.asset_key == key("pos", "sales") and not item.passed
    )
    assert contract.blocking
    assert "| order_lines | vat_rate_bp |" in text(contract)
    assert "20000" in text(contract)
    assert lake.days("orders") == DAYS[:3]
    assert rows(engine, "select count(*) from kash.entries") == [(0,)]


def test_rows_of_another_day_are_refused(run: Run) -> None:
    """Filed under the wrong day they would stand there twice after the next extraction."""

    class Confused(MemoryTill):
        def sales(self, first, last):  # type: ignore[no-untyped-def]
            for day in super().sales(first, last):
                yield replace(day, orders=day.orders.assign(business_day=pd.Timestamp("2025-02-26").as_unit("ms")))

    result = run(EXTRACT, SHOP, Confused(make_facts(FIRST, LAST)), FIRST, LAST)
    assert not result.success
    assert any(
        "hold 4 rows of another day" in str(event.step_failure_data.user_failure_data)
        for event in result.all_events
        if event.is_step_failure
    )


def test_entries_of_days_never_read_are_an_error_not_zero_sales(run: Run, engine: sa.Engine) -> None:
    till = MemoryTill(make_facts(FIRST, LAST))
    run(REFERENCE_SYNC, SHOP, till, FIRST, FIRST)
    run(EXTRACT, SHOP, till, FIRST, date(2025, 3, 1))
    result = run(BUILD_ENTRIES, SHOP, till, FIRST, LAST)
    assert not result.success
    told = next(event for event in result.all_events if event.is_step_failure).step_failure_data.user_failure_data
    assert told is not None
    assert "2025-03-02" in str(told.description)
    assert "was never read from the till" in str(told.description)
    # February was complete and stays.
    assert rows(engine, "select max(business_day)::text from kash.entries") == [("2025-02-28",)]


def test_entries_without_reference_data_are_an_error_not_held_days(run: Run, engine: sa.Engine) -> None:
    """Without payment methods every day would be held for an unknown method, and the cure named would be wrong."""
    till = MemoryTill(make_facts(FIRST, LAST))
    run(EXTRACT, SHOP, till, FIRST, LAST)
    result = run(BUILD_ENTRIES, SHOP, till, FIRST, LAST)
    assert not result.success
    told = next(event for event in result.all_events if event.is_step_failure).step_failure_data.user_failure_data
    assert "payment_methods" in str(told)
    assert rows(engine, "select count(*) from kash.held") == [(0,)]


def test_a_till_without_closings_says_so_once_and_leaves_empty_days(
    run: Run, instance: dg.DagsterInstance, lake: Lake
) -> None:
    result = run(EXTRACT, SHOP, MemoryTill(make_facts(FIRST, LAST), tells_closings=False), FIRST, LAST)
    assert result.success
    assert lake.read_days("closings", FIRST, LAST).empty
    warnings = [record.user_message for record in instance.all_logs(result.run_id) if record.level == 30]
    assert warnings == ["memory tells no closings: no closing entry and no till difference is made"]


def test_a_step_says_one_line_not_one_per_day(run: Run, instance: dg.DagsterInstance) -> None:
    """A line of log costs as much as an event (performance notes, section 1)."""
    result = run(EXTRACT, SHOP, MemoryTill(make_facts(FIRST, LAST)), FIRST, LAST)
    said = [record.user_message for record in instance.all_logs(result.run_id) if not record.is_dagster_event]
    assert sorted(line.partition(":")[0] for line in said) == ["pos/closings", "pos/payments", "pos/sales"]
    assert "pos/sales: 7 days, 2025-02-26 to 2025-03-04: orders 28, order_lines 28, gross_cents 7,000" in said


def test_unchanged_reference_data_keep_their_version(run: Run, instance: dg.DagsterInstance) -> None:
    """A new version would make everything that depends on it look stale every hour."""
    facts = make_facts(FIRST, LAST)
    shuffled = replace(facts, registers=facts.registers.iloc[::-1].reset_index(drop=True))
    renamed = replace(facts, registers=facts.registers.assign(name=["Caisse 1", "Terrasse"]))
    for version in (facts, shuffled, renamed):
        assert run(REFERENCE_SYNC, SHOP, MemoryTill(version), FIRST, FIRST).success
    records = instance.fetch_materializations(key("reference", "registers"), limit=10, ascending=True).records
    versions = [record.asset_materialization.tags["dagster/data_version"] for record in records]  # type: ignore[union-attr]
    assert versions[0] == versions[1] != versions[2]


def test_the_empty_day_is_a_day(run: Run, instance: dg.DagsterInstance, engine: sa.Engine) -> None:
    """Closed on Sundays: the day is read, built and recorded with zeros, not missing."""
    till = MemoryTill(make_facts(FIRST, date(2025, 3, 1)))
    assert run(NIGHTLY, SHOP, till, FIRST, LAST).success
    [sunday] = materializations(instance, "accounting", "entries")["2025-03-02"]
    assert (sunday["entries"], sunday["debit_cents"]) == (0, 0)
