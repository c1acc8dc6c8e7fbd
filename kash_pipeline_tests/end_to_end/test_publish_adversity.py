"""Publishing when two bad things meet: a kill and a renamed journal, half a correction and a refusal, a wrong clock."""

from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.client import NewEntry, NewLine
from kash_pipeline.pennylane.publisher import PublishingStopped, reconsider
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline_tests.end_to_end.test_publish_changes import balances, should_be
from kash_pipeline_tests.end_to_end.test_publish_plan import LEA, planned
from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane, pennylane
from kash_pipeline_tests.unit.pennylane.world import FIRST, Books, World, days_from, make_books

__all__ = ["make_pennylane", "pennylane"]  # fixtures
DAYS = days_from(FIRST, 1)
SALE = "SHOP-K1-260301-V"
POST = {"method": "POST", "path": "ledger_entries$"}


def left_in_sending(world: World, *, ahead: str = "0 seconds") -> None:
    """As after a kill between PennyLane's answer and our record of it; `ahead`: the clock was wrong by that."""
    with world.engine.begin() as connection:
        connection.execute(
            sa.text(
                "update kash.publication set state = 'sending', remote_id = null, remote_line_ids = null,"
                " sent_at = null, verified_at = null, owner = 'gone:1:1',"
                " sending_at = clock_timestamp() + cast(:ahead as interval)"
            ),
            {"ahead": ahead},
        )


def pieces(world: World) -> Counter[str]:
    return Counter(entry.piece_number for entry in world.sandbox.admin.entries())


def test_a_journal_renamed_after_a_kill_does_not_hide_what_is_in_it(pennylane: World) -> None:
    """The code is given to a new journal, which is empty: what was sent stands in the old one."""
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    left_in_sending(pennylane)
    with pennylane.sandbox.admin._engine.begin() as connection:
        connection.exec_driver_sql("update journals set code = 'CA1' where code = 'K1'")
    with pennylane.engine.begin() as connection:
        connection.exec_driver_sql("delete from kash.pennylane_journals where code = 'K1'")
    report = pennylane.publish()
    assert (report.posted, report.adopted) == (0, 6)
    assert len(pieces(pennylane)) == 6


def test_what_may_stand_in_one_company_is_not_sent_to_another(
    pennylane: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    left_in_sending(pennylane)
    pennylane.sandbox.admin.add_company("Autre boutique")
    monkeypatch.setenv("PENNYLANE_TOKEN", pennylane.sandbox.admin.company_token(company="Autre boutique"))
    with pytest.raises(PublishingStopped, match="Autre boutique"):
        pennylane.publish()


def test_a_clock_that_was_set_back_does_not_make_publishing_wait_for_it(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    left_in_sending(pennylane, ahead="2 hours")
    for entry in pennylane.sandbox.admin.entries():
        pennylane.sandbox.admin.delete_entry(entry.id)
    waits: list[float] = []
    assert pennylane.publish(sleep=waits.append, settle=1.0).posted == 6
    assert sum(waits) <= 0.1 + 1.0 + 2.0


def test_an_account_that_pennylane_does_not_let_us_make_blocks_only_what_names_it(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.sandbox.faults.add(Fault("refuse", "POST", "ledger_accounts$", status=422))
    report = pennylane.publish()
    assert report.blocked
    assert report.posted == 6 - len(report.blocked) > 0
    assert "could not be made: PennyLane: creating account" in report.blocked[0].why
    assert pennylane.publish().posted == len(report.blocked)
    assert pennylane.remote() == pennylane.local()


def test_an_entry_that_a_person_moved_is_theirs_to_correct(pennylane: World) -> None:
    """Taken back on its old day, it would be wrong on both."""
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    entry = next(entry for entry in pennylane.sandbox.admin.entries() if entry.piece_number == SALE)
    pennylane.sandbox.admin.edit_entry(entry.id, day=FIRST + timedelta(days=40))
    pennylane.book(DAYS, make_books(DAYS, salt="late"))
    [step] = [step for step in planned(pennylane).steps if step.action == "touched"]
    report = pennylane.publish()
    assert [(problem.key, problem.why.split(": ")[-1]) for problem in report.to_correct] == [(SALE, step.why)]
    assert step.why == "date 2026-03-01 is now 2026-04-10"
    assert report.corrected == 5


# --- half a correction ------------------------------------------------------------------------------------------------


def test_a_new_entry_that_is_refused_leaves_the_old_one_standing_and_is_told_at_every_run(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"]))
    pennylane.publish()
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"], salt="late"))
    pennylane.sandbox.faults.add(Fault("refuse", **POST, status=422))
    report = pennylane.publish(workers=1)
    [refused], [waits] = report.refused, report.blocked
    assert waits.key == refused.key.replace("-N1", "-R1")
    assert waits.why.startswith(
        f"waits for {refused.key}, which is to take the place of {refused.key[:-3]}: PennyLane:"
    )
    # The other two are corrected whole, this one not at all.
    assert set(pieces(pennylane).values()) == {1}
    assert not {refused.key, waits.key} & pieces(pennylane).keys()
    assert len(pieces(pennylane)) == 3 + 2 * 2
    step = next(step for step in planned(pennylane).steps if step.key == waits.key)
    assert (step.action, step.why) == ("blocked", waits.why)
    assert pennylane.publish().blocked == [waits]
    assert reconsider(pennylane.engine, pennylane.shop, DAYS[0], DAYS[0]) == 1
    assert pennylane.publish().problems == []
    assert balances(pennylane) == should_be(pennylane)


def test_half_a_correction_is_told_with_both_numbers_and_tried_at_every_run(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"]))
    pennylane.publish()
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"], salt="late"))
    # Three new entries, then their reversals, the first of which is refused twice.
    pennylane.sandbox.faults.add(Fault("refuse", **POST, status=422, skip=3))
    report = pennylane.publish(workers=1)
    [half] = report.half_corrected
    new, old = half.key.replace("-R1", "-N1"), half.key.removesuffix("-R1")
    assert half.why.startswith(
        f"{new} stands beside {old}, which it is to take the place of: both count. {half.key} is"
    )
    assert "HTTP 422" in half.why
    assert report.problems == [half]
    step = next(step for step in planned(pennylane).steps if step.key == half.key)
    assert (step.action, step.why.split(":")[0]) == ("add", "again, refused before")
    pennylane.sandbox.faults.add(Fault("refuse", **POST, status=422))
    # Nothing else is to be done, and nobody asked for this day.
    elsewhere = FIRST + timedelta(days=300)
    assert [problem.key for problem in pennylane.publish(elsewhere, elsewhere).problems] == [half.key]
    # A person enters it as the message says: it is taken over.
    entry = next(entry for entry in pennylane.sandbox.admin.entries() if entry.piece_number == old)
    turned = tuple(NewLine(x.account_id, x.credit_cents, x.debit_cents, x.label) for x in entry.lines)
    with pennylane.client() as client:
        journal = pennylane.sandbox.admin.journal_id(entry.journal)
        client.create_ledger_entry(NewEntry(journal, FIRST + timedelta(days=3), half.key, "à la main", turned))
    report = pennylane.publish(elsewhere, elsewhere)
    assert (report.posted, report.adopted, report.problems) == (0, 1, [])
    assert balances(pennylane) == should_be(pennylane)
    assert pennylane.publish(elsewhere, elsewhere).requests == 0


def test_a_reversal_that_could_not_follow_keeps_the_new_entry_back(pennylane: World) -> None:
    """An account of the old entry is disabled, the new one does not name it: sent alone, the day would count twice."""
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"], customer="7"))
    pennylane.publish(customers=LEA)
    before = pennylane.remote()
    pennylane.sandbox.admin.enable_account("707200", False)
    with pennylane.client() as client:
        reference.store_listings(client, pennylane.engine, pennylane.shop, client.me().company_id)
    books = make_books(DAYS, registers=["K1"], salt="late", customer="7")
    lines = books.lines.assign(account=books.lines["account"].astype(str).replace("707200", "707201"))
    pennylane.book(DAYS, Books(books.entries, lines))
    with pennylane.client() as client:
        client.create_ledger_account("707201", "Ventes 20 %")
    steps = {step.key: step for step in planned(pennylane).steps}
    assert steps[SALE].action == "blocked"
    report = pennylane.publish(customers=LEA)
    blocked = {problem.key: problem.why for problem in report.blocked}
    assert blocked.keys() == {f"{SALE}-N1", f"{SALE}-R1"}
    assert f"its reversal {SALE}-R1 could not follow: 707200" in blocked[f"{SALE}-N1"]
    assert steps[SALE].why in blocked[f"{SALE}-N1"]
    assert {key: found for key, found in pieces(pennylane).items() if key.startswith(SALE)} == {SALE: 1}
    assert before - pennylane.remote() == Counter()
    pennylane.sandbox.admin.enable_account("707200", True)
    assert pennylane.publish(customers=LEA).problems == []
    assert balances(pennylane) == should_be(pennylane)


def test_facts_that_go_back_while_half_a_correction_stands_end_as_the_books_say(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"]))
    pennylane.publish()
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"], salt="late"))
    # Three new entries, one reversal that is refused, and all is stopped.
    pennylane.sandbox.faults.add(Fault("refuse", **POST, status=422, skip=3))
    pennylane.sandbox.faults.add(Fault("refuse", **POST, status=401, skip=3, count=None))
    with pytest.raises(PublishingStopped):
        pennylane.publish(workers=1)
    pennylane.sandbox.faults.clear()
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"]))
    assert pennylane.publish().problems == []
    assert set(pieces(pennylane).values()) == {1}
    assert balances(pennylane) == should_be(pennylane)
    assert pennylane.publish().requests == 0


# --- a ledger that forgot ---------------------------------------------------------------------------------------------


def test_corrections_that_a_restored_backup_does_not_know_are_found_on_whatever_day_they_stand(
    pennylane: World,
) -> None:
    """They were dated later by a freeze that is lifted since: looked for on their own day, they would be sent again."""
    tables = ("publication", "entries", "entry_lines")
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"]))
    pennylane.publish()
    with pennylane.engine.begin() as connection:
        for table in tables:
            connection.exec_driver_sql(f"create table kash.backup_of_{table} as table kash.{table}")
    late = make_books(DAYS, registers=["K1"], salt="late")
    pennylane.sandbox.admin.freeze(FIRST + timedelta(days=40))
    pennylane.book(DAYS, late)
    assert pennylane.publish().posted == 6
    before = pennylane.remote()
    pennylane.sandbox.admin.freeze(None)
    with pennylane.engine.begin() as connection:
        for table in tables:
            connection.exec_driver_sql(f"delete from kash.{table}")
            connection.exec_driver_sql(f"insert into kash.{table} table kash.backup_of_{table}")
    pennylane.book(DAYS, late)
    report = pennylane.publish()
    assert (report.posted, report.adopted, report.problems) == (0, 6, [])
    assert pennylane.remote() == before
    assert {step.action for step in planned(pennylane).steps} == {"leave"}
