"""Publishing against the sandbox over HTTP: what stands in PennyLane afterwards, and what it cost to get it there."""

from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane, pennylane
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books

__all__ = ["make_pennylane", "pennylane"]  # fixtures
DAYS = days_from(FIRST, 3)


def test_every_entry_stands_in_pennylane_once_with_the_same_lines_and_is_verified(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    report = pennylane.publish()
    assert pennylane.remote() == pennylane.local()
    assert pennylane.states() == {"verified": 18}
    assert (report.posted, report.verified, report.problems) == (18, 18, [])
    remote_ids = {entry.piece_number: entry.id for entry in pennylane.sandbox.admin.entries()}
    assert {row.key: row.remote_id for row in pennylane.ledger.rows()} == remote_ids


def test_a_second_run_posts_nothing_and_reads_next_to_nothing(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    before = pennylane.remote()
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.sandbox.requests.clear()
    report = pennylane.publish()
    assert report.nothing_to_do
    assert len(pennylane.sandbox.requests.all()) == 0
    assert pennylane.remote() == before


def test_remote_line_ids_are_kept_in_the_order_of_our_lines(pennylane: World) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    pennylane.publish()
    theirs = {line.id: line for entry in pennylane.sandbox.admin.entries() for line in entry.lines}
    for intent in pennylane.ledger.published(DAYS[0], DAYS[0]):
        assert [
            (theirs[line_id].account, theirs[line_id].debit_cents, theirs[line_id].label)
            for line_id in intent.row.remote_line_ids or ()
        ] == [(line.account, line.debit_cents, line.label) for line in intent.content.lines]
