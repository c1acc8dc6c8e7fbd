"""Publishing when two bad things meet: a kill and a renamed journal, half a correction and a refusal, a jumping clock."""

import pytest
import sqlalchemy as sa

from kash_pipeline.pennylane.publisher import PublishingStopped
from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane, pennylane
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books

__all__ = ["make_pennylane", "pennylane"]  # fixtures
DAYS = days_from(FIRST, 1)


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


def pieces(world: World) -> list[str]:
    return sorted(entry.piece_number for entry in world.sandbox.admin.entries())


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
