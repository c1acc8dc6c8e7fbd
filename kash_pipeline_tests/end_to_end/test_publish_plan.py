"""A plan says per day what publishing would do, against what PennyLane holds; applying it does that, or nothing."""

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kash_pipeline.cli.plan import PlanOutdated, apply, plan
from kash_pipeline.pennylane.planning import Plan, make_plan
from kash_pipeline.pennylane.publisher import PublishingStopped
from kash_pipeline.sandbox.pennylane import Fault, FiscalYear
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.end_to_end.test_publish import duplicate, forget_sending
from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane, pennylane
from kash_pipeline_tests.unit.pennylane.test_customers import customers
from kash_pipeline_tests.unit.pennylane.world import FIRST, SHOP_TOML, World, days_from, make_books

__all__ = ["make_pennylane", "pennylane"]  # fixtures
DAYS = days_from(FIRST, 2)
LEA = customers({"customer_id": "7", "name": "Chez Léa"})


def planned(here: World) -> Plan:
    with here.client() as client:
        return make_plan(client, here.engine, here.shop, Lake(here.env.lake_url, "shop"), DAYS[0], DAYS[-1])


def test_a_plan_sends_nothing_and_says_what_would_be_added_left_corrected(pennylane: World) -> None:
    nothing = planned(pennylane)
    assert (nothing.changes_nothing, nothing.markdown()) == (True, "| business day |\n| --- |")
    pennylane.book(DAYS, make_books(DAYS))
    made = planned(pennylane)
    assert pennylane.sandbox.requests.count("POST") == 0
    assert [step.action for step in made.steps] == ["add"] * 12
    with pennylane.client() as client:
        report = pennylane.publisher(client).publish(only=made.keys())
    assert report.posted == 12
    assert planned(pennylane).changes_nothing
    assert {step.action for step in planned(pennylane).steps} == {"leave"}
    pennylane.book(DAYS[1:], make_books(DAYS[1:], salt="late"))
    assert [step.action for step in planned(pennylane).steps] == ["leave"] * 6 + ["correct"] * 6


def test_amounts_per_day_are_those_of_the_entries(pennylane: World) -> None:
    books = make_books(DAYS)
    pennylane.book(DAYS, books)
    frame = planned(pennylane).by_day()
    assert frame["add_cents"].tolist() == books.entries.groupby("business_day")["debit_cents"].sum().tolist()
    table = planned(pennylane).markdown().splitlines()
    assert table[0] == "| business day | added |"
    assert table[2].startswith("| 2026-03-01 | 6 (")


def test_a_plan_knows_what_pennylane_really_holds(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    entries = pennylane.sandbox.admin.entries()
    pennylane.sandbox.admin.delete_entry(entries[0].id)
    pennylane.sandbox.admin.edit_line(entries[1].lines[0].id, label="autre")
    touched = [step.key for step in planned(pennylane).steps if step.action == "touched"]
    assert sorted(touched) == sorted([entries[0].piece_number, entries[1].piece_number])


def test_an_entry_found_there_is_adopted_with_our_lines_and_held_with_others(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    deleted, edited, ours, doubled = pennylane.sandbox.admin.entries()[:4]
    pennylane.sandbox.admin.delete_entry(deleted.id)
    pennylane.sandbox.admin.edit_line(edited.lines[0].id, label="saisi à la main")
    duplicate(pennylane, doubled.piece_number)
    forget_sending(pennylane)
    made = planned(pennylane)
    now = {step.key: step for step in made.steps}
    of = [now[entry.piece_number] for entry in (deleted, edited, ours, doubled)]
    assert [step.action for step in of] == ["add", "held", "adopt", "held"]
    assert "ours: " in of[1].why
    assert "'saisi à la main'" in of[1].why
    assert "2 entries with piece number" in of[3].why
    assert made.by_day()["held"].sum() == 2
    # Publishing decides the same: what a plan calls adopted or held is what becomes of it.
    report = pennylane.publish()
    assert (report.posted, report.adopted) == (1, 9)
    assert {problem.why for problem in report.held} == {of[1].why, of[3].why}
    # What a person typed is shown, and kept nowhere: it may be somebody's name.
    row = pennylane.ledger.row(edited.piece_number)
    assert row is not None
    assert "another label: " in (row.error or "")
    assert "saisi" not in (row.error or "")


def test_a_customer_whom_only_publishing_looks_for_leaves_the_adoption_open(pennylane: World) -> None:
    """A plan creates and stores nothing, so it does not know the account of a customer never seen here."""
    pennylane.book(DAYS[:1], make_books(DAYS[:1], registers=["K1"], customer="7"))
    pennylane.publish(customers=LEA)
    forget_sending(pennylane)
    Lake(pennylane.env.lake_url, "shop").write_reference("customers", LEA)
    with pennylane.engine.begin() as connection:
        connection.exec_driver_sql("delete from kash.pennylane_customers")
    steps = {step.key: step for step in planned(pennylane).steps}
    assert {step.action for step in steps.values()} == {"adopt"}
    assert "if its lines are ours: customer 7" in steps["SHOP-K1-260301-V"].why
    assert "customer" not in steps["SHOP-K1-260301-C"].why
    report = pennylane.publish(customers=LEA)
    assert (report.posted, report.adopted, report.problems) == (0, 3, [])


@pytest.mark.parametrize("creates", [True, False])
def test_what_publishing_would_block_is_blocked_in_the_plan_for_the_same_reasons(
    make_pennylane: Callable[..., World], creates: bool
) -> None:
    here = make_pennylane(create_accounts=creates, create_journals=creates)
    here.sandbox.admin.enable_account("511", False)
    here.book(DAYS, make_books(DAYS, registers=["K1"], customer="7"))
    planned_why = {step.key: step.why for step in planned(here).steps if step.action == "blocked"}
    assert here.sandbox.requests.count("POST") == 0
    report = here.publish()
    assert planned_why == {problem.key: problem.why for problem in report.blocked}
    assert len(planned_why) == (4 if creates else 6)
    assert "511 « Valeurs à l'encaissement » is disabled" in planned_why["SHOP-K1-260301-P"]
    assert "customer 7, whom it does not describe" in planned_why["SHOP-K1-260301-V"]
    if not creates:
        assert "PennyLane has no journal K1" in planned_why["SHOP-K1-260301-C"]


def test_a_plan_knows_closed_years_as_publishing_does(pennylane: World) -> None:
    admin = pennylane.sandbox.admin
    pennylane.book(DAYS[:1], make_books(DAYS[:1], registers=["K1"]))
    pennylane.publish()
    pennylane.book(DAYS[:1], make_books(DAYS[:1], registers=["K1"], salt="late"))
    pennylane.book(DAYS[1:], make_books(DAYS[1:], registers=["K1"]))
    admin.set_fiscal_year(FiscalYear(date(2026, 1, 1), date(2026, 12, 31), "closed"))
    assert Counter(step.action for step in planned(pennylane).steps) == {"correct": 3, "refused": 3}
    admin.set_fiscal_year(FiscalYear(date(2027, 1, 1), date(2027, 12, 31), "frozen"))
    made = planned(pennylane)
    assert Counter(step.action for step in made.steps) == {"held": 3, "refused": 3}
    report = pennylane.publish()
    assert (len(report.to_correct), len(report.refused)) == (3, 3)
    assert report.to_correct[0].why == made.steps[0].why


def test_a_correction_on_its_way_when_the_year_is_closed_goes_to_the_next_as_planned(pennylane: World) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1], registers=["K1"]))
    pennylane.publish()
    pennylane.book(DAYS[:1], make_books(DAYS[:1], registers=["K1"], salt="late"))
    pennylane.sandbox.faults.add(Fault("refuse", "POST", "ledger_entries$", count=None, status=401))
    with pytest.raises(PublishingStopped):
        pennylane.publish()
    pennylane.sandbox.faults.clear()
    pennylane.sandbox.admin.set_fiscal_year(FiscalYear(date(2026, 1, 1), date(2026, 12, 31), "closed"))
    steps = [step for step in planned(pennylane).steps if step.action != "leave"]
    assert {step.action for step in steps} == {"add"}
    assert all(step.why.startswith("on 2027-01-01, for the fiscal year") for step in steps)
    assert pennylane.publish().posted == len(steps) == 6
    later = {entry.piece_number for entry in pennylane.sandbox.admin.entries() if entry.date == date(2027, 1, 1)}
    assert later == {step.key for step in steps}
    assert planned(pennylane).changes_nothing


def test_apply_sends_only_what_the_plan_named(pennylane: World) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    made = planned(pennylane)
    pennylane.book(DAYS[1:], make_books(DAYS[1:]))
    with pennylane.client() as client:
        assert pennylane.publisher(client).publish(only=made.keys()).posted == 6
    assert pennylane.states() == {"verified": 6, "ready": 6}


def test_changed_content_is_not_what_was_planned(pennylane: World) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    made = planned(pennylane)
    pennylane.book(DAYS[:1], make_books(DAYS[:1], salt="other"))
    with pennylane.client() as client:
        assert pennylane.publisher(client).publish(only=made.keys()).posted == 0
    assert planned(pennylane).id != made.id


@pytest.mark.long
def test_plan_and_apply_on_the_command_line(
    make_pennylane: Callable[..., World], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make_pennylane()
    monkeypatch.setenv("KASH_HOME", str(tmp_path))
    monkeypatch.setenv("KASH_DATABASE_URL", database_url)
    shop = tmp_path / "shop.toml"
    shop.write_text(SHOP_TOML.format(url=here.url))
    here.book(DAYS, make_books(DAYS))

    def run(command: object, *words: str) -> Result:
        return CliRunner().invoke(command, [*words, "--shop", str(shop)], catch_exceptions=False)  # type: ignore[arg-type]

    window = ("--from", str(DAYS[0]), "--to", str(DAYS[-1]))
    shown = run(plan, *window)
    assert shown.exit_code == 0
    plan_id = shown.output.split("kash-pipeline apply ")[1].split()[0]
    here.book(DAYS[1:], make_books(DAYS[1:], salt="late ticket"))
    with pytest.raises(PlanOutdated, match="SHOP-K1-260302-C"):
        run(apply, plan_id)
    assert here.remote() == {}
    plan_id = run(plan, *window).output.split("kash-pipeline apply ")[1].split()[0]
    done = run(apply, plan_id)
    assert (done.exit_code, "posted 12" in done.output) == (0, True)
    assert here.remote() == here.local()
    assert "nothing to post" in run(plan, *window).output

    # Facts changed: the correction is planned, named when it is done, and not done when a person was quicker.
    here.book(DAYS[:1], make_books(DAYS[:1], salt="corrected at the till"))
    plan_id = run(plan, *window).output.split("kash-pipeline apply ")[1].split()[0]
    sale = next(entry for entry in here.sandbox.admin.entries() if entry.piece_number == "SHOP-K1-260301-V")
    here.sandbox.admin.edit_line(sale.lines[0].id, label="corrigé par le cabinet")
    before = here.remote()
    with pytest.raises(PlanOutdated, match="SHOP-K1-260301-V"):
        run(apply, plan_id)
    assert here.remote() == before
    plan_id = run(plan, *window).output.split("kash-pipeline apply ")[1].split()[0]
    done = run(apply, plan_id)
    assert (done.exit_code, "posted 10" in done.output, "corrected 5" in done.output) == (0, True, True)
    assert "SHOP-K1-260301-P: changed after sending: SHOP-K1-260301-P-R1 and SHOP-K1-260301-P-N1" in done.output

    # Somebody posts under our piece number between plan and apply: not what was planned any more.
    more = days_from(DAYS[-1] + timedelta(days=1), 1)
    here.book(more, make_books(more))
    window = ("--from", str(more[0]), "--to", str(more[0]))
    plan_id = run(plan, *window).output.split("kash-pipeline apply ")[1].split()[0]
    duplicate(here, "SHOP-K2-260301-C", as_key="SHOP-K2-260303-C", day=more[0])
    with pytest.raises(PlanOutdated, match="SHOP-K2-260303-C"):
        run(apply, plan_id)
    assert "held" in run(plan, *window).output
    with pytest.raises(PlanOutdated, match="there is no plan"):
        run(apply, "../../etc/passwd")
