"""The publication ledger: nothing is sent twice, nothing that was sent is forgotten."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import sqlalchemy as sa

from kash_pipeline.warehouse import database
from kash_pipeline.warehouse.errors import LedgerBusy, LedgerError
from kash_pipeline.warehouse.ledger import Changed, Content, Line, PublicationLedger, owner_alive, this_process
from kash_pipeline_tests.unit.warehouse.samples import MONDAY, TUESDAY, WEDNESDAY, build, entries, held

COMPANY = 22


@pytest.fixture
def ledger(engine: sa.Engine) -> PublicationLedger:
    return PublicationLedger(engine, "shop")


def post(ledger: PublicationLedger, key: str, *, remote_id: int = 900, verify: bool = False) -> None:
    """Send `key` as a publisher does."""
    assert ledger.begin(key, company_id=COMPANY) is not None
    ledger.sent(key, remote_id, [remote_id + 1, remote_id + 2])
    if verify:
        ledger.verified(key)


def states(ledger: PublicationLedger) -> dict[str, str]:
    return {row.key: row.state for row in ledger.rows()}


def content(key: str, cents: int, *, turned: bool = False, day: date = MONDAY) -> Content:
    debit, credit = ("707200", "411000") if turned else ("411000", "707200")
    lines = (Line(1, debit, cents, 0, "l"), Line(2, credit, 0, cents, "l", vat_rate_bp=2000))
    return Content(key, "sale", day, "K1", "K1", day, "Correction", lines)


def correct(engine: sa.Engine, ledger: PublicationLedger, changed: Changed, cents: int | None) -> None:
    """Take back what was sent and, with `cents`, send the new entry; keys end in the revision."""
    revision = changed.next_revision
    reversal = None if changed.sent is None else content(f"{changed.row.base_key}-R{revision}", 1, turned=True)
    replacement = None if cents is None else content(f"{changed.row.base_key}-N{revision}", cents)
    with engine.begin() as connection:
        ledger.correct(connection, changed, reversal=reversal, replacement=replacement)


# --- what the books say, before anything is sent ---------------------------------------------------------------


def test_a_new_entry_is_ready_and_an_unchanged_one_stays_as_it_is(engine: sa.Engine, ledger: PublicationLedger) -> None:
    books = entries(("A", MONDAY, 100), ("B", MONDAY, 200))
    assert build(engine, [MONDAY], books).new == 2
    post(ledger, "A", verify=True)
    before = ledger.row("A")
    report = build(engine, [MONDAY], books)
    assert (report.new, report.updated, report.removed, report.unchanged) == (0, 0, 0, 2)
    assert report.changed_after_sending == []
    assert ledger.row("A") == before
    assert states(ledger) == {"A": "verified", "B": "ready"}


def test_an_entry_never_sent_takes_the_new_content_or_goes(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY, TUESDAY], entries(("A", MONDAY, 100), ("B", TUESDAY, 200)))
    build(engine, [MONDAY, TUESDAY], entries(("A", MONDAY, 150)))
    (row,) = ledger.rows()
    assert (row.key, row.amount_cents, row.state) == ("A", 150, "ready")
    intent = ledger.begin("A", company_id=COMPANY)
    assert intent is not None
    assert intent.content.amount_cents == 150


def test_days_outside_the_window_are_left_alone(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    build(engine, [TUESDAY], entries())
    assert states(ledger) == {"A": "ready"}


def test_a_held_register_day_offers_nothing_and_takes_nothing_back(
    engine: sa.Engine, ledger: PublicationLedger
) -> None:
    """A till that no longer adds up must not make the pipeline reverse yesterday's good entry."""
    build(engine, [MONDAY], entries(("A", MONDAY, 100), ("B", MONDAY, 200)))
    post(ledger, "A")
    report = build(engine, [MONDAY], entries(), waiting=held((MONDAY, "K1")))
    assert (report.removed, report.changed_after_sending) == (1, [])
    assert states(ledger) == {"A": "sent"}
    assert ledger.changed(MONDAY, MONDAY) == []
    # Another register of that day is not held: what it loses is taken back.
    assert [c.how for c in build(engine, [MONDAY], entries(), waiting=held((MONDAY, "K2"))).changed_after_sending] == [
        "vanished"
    ]
    # And the day that adds up again is as if nothing had been.
    assert build(engine, [MONDAY], entries(("A", MONDAY, 100), ("B", MONDAY, 200))).changed_after_sending == []


def test_a_rolled_back_build_leaves_the_ledger_as_it_was(engine: sa.Engine, ledger: PublicationLedger) -> None:
    books = entries(("A", MONDAY, 100))
    with engine.connect() as connection:
        assert ledger.sync(connection, books, held(), [MONDAY]).new == 1
        connection.rollback()
    assert ledger.rows() == []


# --- sending ----------------------------------------------------------------------------------------------------


def test_of_many_publishers_one_gets_the_intent(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(*[(f"E{n}", MONDAY, 100 + n) for n in range(10)]))
    keys = [f"E{n}" for n in range(10)] * 8
    with ThreadPoolExecutor(8) as pool:
        intents = list(pool.map(lambda key: ledger.begin(key, company_id=COMPANY), keys))
    assert sorted(intent.row.key for intent in intents if intent) == sorted(set(keys))


def test_the_intent_is_durable_before_anything_is_sent(
    engine: sa.Engine, ledger: PublicationLedger, warehouse_url: str
) -> None:
    """Another process must see it, with the lines, however this one dies."""
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    intent = ledger.begin("A", company_id=COMPANY)
    other = database.open_engine(warehouse_url)
    (doubtful,) = PublicationLedger(other, "shop").doubtful()
    other.dispose()
    assert intent is not None
    assert doubtful.content == intent.content
    assert [line.account for line in doubtful.content.lines] == ["411000", "707200"]
    assert doubtful.content.lines[0].customer_id == 'C,"7"'
    assert doubtful.row.attempts == 1
    assert owner_alive(doubtful.row.owner) is True


def test_a_content_that_changed_since_it_was_planned_is_not_begun(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    (planned,) = ledger.ready()
    build(engine, [MONDAY], entries(("A", MONDAY, 150)))
    assert ledger.begin("A", company_id=COMPANY, digest=planned.digest) is None
    assert states(ledger) == {"A": "ready"}


def test_ready_asks_for_days_and_counts_the_work(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY, TUESDAY], entries(("A", MONDAY, 100), ("B", TUESDAY, 200), ("C", TUESDAY, 300)))
    assert [row.key for row in ledger.ready(TUESDAY, WEDNESDAY)] == ["B", "C"]
    assert [row.key for row in ledger.ready(limit=1)] == ["A"]
    first = ledger.ready_days()
    assert [(day.business_day, day.entries, day.attempts) for day in first] == [(MONDAY, 1, 0), (TUESDAY, 2, 0)]
    build(engine, [TUESDAY], entries(("B", TUESDAY, 200), ("C", TUESDAY, 301)))
    assert [a.digest == b.digest for a, b in zip(first, ledger.ready_days(), strict=True)] == [True, False]


def test_an_attempt_that_came_to_nothing_may_be_repeated(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    ledger.begin("A", company_id=COMPANY)
    ledger.back_to_ready("A", "connection refused")
    (row,) = ledger.ready()
    assert (row.attempts, row.error, row.sent_digest, row.owner) == (1, "connection refused", None, None)
    assert ledger.ready_days()[0].attempts == 1


def test_what_changed_while_it_was_being_refused_may_be_sent_as_it_is_now(
    engine: sa.Engine, ledger: PublicationLedger
) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    assert ledger.begin("A", company_id=COMPANY) is not None
    build(engine, [MONDAY], entries(("A", MONDAY, 150)))
    ledger.refused("A", "422: unbalanced")
    row = ledger.row("A")
    assert row is not None
    assert (row.state, row.amount_cents, row.digest) == ("ready", 150, "A:150")


def test_what_was_refused_waits_until_its_content_changes(engine: sa.Engine, ledger: PublicationLedger) -> None:
    books = entries(("A", MONDAY, 100))
    build(engine, [MONDAY], books)
    ledger.begin("A", company_id=COMPANY)
    ledger.refused("A", "422: the period is closed")
    build(engine, [MONDAY], books)
    assert states(ledger) == {"A": "refused"}
    build(engine, [MONDAY], entries(("A", MONDAY, 110)))
    (row,) = ledger.ready()
    assert (row.error, row.attempts) == (None, 0)


def test_only_what_is_sending_can_have_arrived(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    with pytest.raises(LedgerError, match="A is ready"):
        ledger.sent("A", 900, [901, 902])
    with pytest.raises(LedgerError, match="A is ready"):
        ledger.verified("A")
    post(ledger, "A")
    ledger.sent("A", 900, [901, 902])
    with pytest.raises(LedgerError, match="A is sent"):
        ledger.sent("A", 999, [901, 902])
    with pytest.raises(LedgerError, match="A is sent"):
        ledger.back_to_ready("A")
    with pytest.raises(LedgerError, match="no entry Z"):
        ledger.refused("Z", "?")
    row = ledger.row("A")
    assert row is not None
    assert (row.remote_id, row.remote_line_ids, row.company_id) == (900, (901, 902), COMPANY)
    assert ledger.companies() == {COMPANY}


def test_one_publisher_at_a_time_and_a_dead_one_blocks_nobody(
    engine: sa.Engine, ledger: PublicationLedger, warehouse_url: str
) -> None:
    other = database.open_engine(warehouse_url)
    with ledger.turn() as turn:
        with pytest.raises(LedgerBusy), PublicationLedger(other, "shop").turn(wait_seconds=0.05):
            pass
        with PublicationLedger(other, "another").turn():
            pass
        assert turn.still_mine()
        with other.begin() as connection:
            connection.execute(
                sa.text(
                    "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
                    " and database = (select oid from pg_database where datname = current_database())"
                )
            )
        assert [turn.still_mine(), turn.still_mine()] == [False, False]
        with PublicationLedger(other, "shop").turn(wait_seconds=5):
            pass
    with ledger.turn():
        pass
    other.dispose()


def test_a_process_is_known_by_more_than_its_pid() -> None:
    host, pid, start = this_process().rsplit(":", 2)
    assert owner_alive(f"{host}:{pid}:{int(start) - 100}") is False
    assert owner_alive(f"{host}:{2**22 + 1}:{start}") is False
    assert owner_alive(f"elsewhere:{pid}:{start}") is None


# --- late changes ------------------------------------------------------------------------------------------------


def test_a_change_after_sending_is_told_with_what_was_sent(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    post(ledger, "A", verify=True)
    (changed,) = build(engine, [MONDAY], entries(("A", MONDAY, 150))).changed_after_sending
    assert changed.how == "changed"
    assert changed.sent is not None
    assert (changed.sent.amount_cents, changed.wanted_digest) == (100, "A:150")
    assert states(ledger) == {"A": "verified"}
    assert ledger.ready() == []
    # It is told for as long as it is true, and no longer.
    assert ledger.changed(MONDAY, MONDAY) == [changed]
    assert build(engine, [MONDAY], entries(("A", MONDAY, 100))).changed_after_sending == []


def test_a_correction_is_sent_once_and_names_what_it_corrects(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    post(ledger, "A", verify=True)
    books = entries(("A", MONDAY, 150))
    (changed,) = build(engine, [MONDAY], books).changed_after_sending
    correct(engine, ledger, changed, 150)
    assert states(ledger) == {"A": "superseded", "A-R1": "ready", "A-N1": "ready"}
    original, new = ledger.row("A"), ledger.row("A-N1")
    assert original is not None
    assert new is not None
    assert original.corrected_by == ("A-R1", "A-N1")
    assert (new.corrects, new.base_key, new.role) == ("A", "A", "replacement")
    # The same books again: nothing more to do, before and after sending.
    assert build(engine, [MONDAY], books).changed_after_sending == []
    post(ledger, "A-R1", remote_id=910)
    post(ledger, "A-N1", remote_id=920)
    report = build(engine, [MONDAY], books)
    assert (report.changed_after_sending, report.removed, report.updated) == ([], 0, 0)
    assert states(ledger) == {"A": "superseded", "A-R1": "sent", "A-N1": "sent"}
    # What was sent last is what the next change takes back.
    (again,) = build(engine, [MONDAY], entries(("A", MONDAY, 170))).changed_after_sending
    assert (again.row.key, again.next_revision) == ("A-N1", 2)
    assert again.sent is not None
    assert again.sent.amount_cents == 150


def test_a_correction_moves_to_another_day_only_while_nobody_else_sends_it(
    engine: sa.Engine, ledger: PublicationLedger
) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    with pytest.raises(LedgerError, match="cannot become one of"):
        ledger.move("A", TUESDAY, "an entry of its own keeps its day")
    post(ledger, "A")
    (changed,) = build(engine, [MONDAY], entries(("A", MONDAY, 150))).changed_after_sending
    correct(engine, ledger, changed, 150)
    assert ledger.begin("A-N1", company_id=COMPANY) is not None
    ledger.move("A-N1", TUESDAY, "closed")
    moved = ledger.row("A-N1")
    assert moved is not None
    assert (moved.state, moved.date, moved.business_day, moved.attempts) == ("ready", TUESDAY, MONDAY, 0)
    intent = ledger.begin("A-N1", company_id=COMPANY)
    assert intent is not None
    assert (intent.content.date, intent.content.amount_cents) == (TUESDAY, 150)
    with engine.begin() as connection:
        connection.exec_driver_sql("update kash.publication set owner = 'elsewhere:1:1' where key = 'A-N1'")
    with pytest.raises(LedgerError):
        ledger.move("A-N1", WEDNESDAY, "another publisher is sending it")
    ledger.sent("A-N1", 920, [1, 2])
    with pytest.raises(LedgerError):
        ledger.move("A-N1", WEDNESDAY, "it is there")


def test_an_entry_that_vanished_is_taken_back_and_may_come_again(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    post(ledger, "A")
    (gone,) = build(engine, [MONDAY], entries()).changed_after_sending
    assert (gone.how, gone.wanted_digest) == ("vanished", None)
    correct(engine, ledger, gone, None)
    post(ledger, "A-R1", remote_id=910)
    assert build(engine, [MONDAY], entries()).changed_after_sending == []
    (back,) = build(engine, [MONDAY], entries(("A", MONDAY, 100))).changed_after_sending
    assert (back.how, back.sent) == ("reappeared", None)
    assert ledger.changed(MONDAY, MONDAY) == [back]
    correct(engine, ledger, back, 100)
    assert states(ledger) == {"A": "superseded", "A-R1": "sent", "A-N1": "ready"}
    assert build(engine, [MONDAY], entries(("A", MONDAY, 100))).changed_after_sending == []


def test_a_correction_nobody_sent_is_dissolved_when_the_books_return(
    engine: sa.Engine, ledger: PublicationLedger
) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    post(ledger, "A", verify=True)
    (changed,) = build(engine, [MONDAY], entries(("A", MONDAY, 150))).changed_after_sending
    correct(engine, ledger, changed, 150)
    # Another content: the correction is made afresh, from what is in PennyLane.
    (other,) = build(engine, [MONDAY], entries(("A", MONDAY, 160))).changed_after_sending
    assert states(ledger) == {"A": "verified"}
    correct(engine, ledger, other, 160)
    # The content that was sent: there is nothing to correct.
    assert build(engine, [MONDAY], entries(("A", MONDAY, 100))).changed_after_sending == []
    assert states(ledger) == {"A": "verified"}


def test_a_correction_half_sent_is_finished_with_the_newest_content(
    engine: sa.Engine, ledger: PublicationLedger
) -> None:
    """The reversal cannot be called back: the replacement alone follows the books."""
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    post(ledger, "A")
    (changed,) = build(engine, [MONDAY], entries(("A", MONDAY, 150))).changed_after_sending
    correct(engine, ledger, changed, 150)
    post(ledger, "A-R1", remote_id=910)
    (late,) = build(engine, [MONDAY], entries(("A", MONDAY, 160))).changed_after_sending
    assert late.how == "reappeared"
    correct(engine, ledger, late, 160)
    assert states(ledger) == {"A": "superseded", "A-R1": "sent", "A-N1": "ready"}
    replacement = ledger.begin("A-N1", company_id=COMPANY)
    assert replacement is not None
    assert replacement.content.amount_cents == 160


@pytest.mark.parametrize("end", ["not there", "refused", "moved"])
@pytest.mark.parametrize("reversal_sent", [True, False])
def test_a_replacement_whose_facts_changed_while_it_was_sent_is_made_anew(
    engine: sa.Engine, ledger: PublicationLedger, end: str, reversal_sent: bool
) -> None:
    """Its content is that of before: sent again under the new digest, nobody would ever correct it."""
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    post(ledger, "A", verify=True)
    (changed,) = build(engine, [MONDAY], entries(("A", MONDAY, 150))).changed_after_sending
    correct(engine, ledger, changed, 150)
    if reversal_sent:
        post(ledger, "A-R1", remote_id=910)
    assert ledger.begin("A-N1", company_id=COMPANY) is not None
    assert build(engine, [MONDAY], entries(("A", MONDAY, 160))).changed_after_sending == []
    if end == "not there":
        ledger.back_to_ready("A-N1")
    elif end == "refused":
        ledger.refused("A-N1", "no")
    else:
        ledger.move("A-N1", TUESDAY, "closed")
    assert states(ledger) == ({"A": "superseded", "A-R1": "sent"} if reversal_sent else {"A": "verified"})
    (again,) = ledger.changed(MONDAY, MONDAY)
    assert (again.row.key, again.how) == ("A", "reappeared" if reversal_sent else "changed")
    correct(engine, ledger, again, 160)
    intent = ledger.begin("A-N1", company_id=COMPANY)
    assert intent is not None
    assert intent.content.amount_cents == 160
    ledger.sent("A-N1", 920, [1, 2])
    assert ledger.changed(MONDAY, MONDAY) == []


def test_a_change_while_sending_is_told_once_it_has_arrived(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    ledger.begin("A", company_id=COMPANY)
    assert build(engine, [MONDAY], entries(("A", MONDAY, 150))).changed_after_sending == []
    ledger.sent("A", 900, [901, 902])
    (changed,) = ledger.changed(MONDAY, MONDAY)
    assert changed.sent is not None
    assert (changed.sent.amount_cents, changed.wanted_digest) == (100, "A:150")


@pytest.mark.parametrize("how", ["vanished", "held"])
def test_what_the_books_lost_while_it_was_being_sent_goes_when_it_did_not_arrive(
    engine: sa.Engine, ledger: PublicationLedger, how: str
) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    ledger.begin("A", company_id=COMPANY)
    build(engine, [MONDAY], entries(), waiting=held((MONDAY, "K1")) if how == "held" else held())
    assert states(ledger) == {"A": "sending"}
    ledger.back_to_ready("A")
    assert ledger.rows() == []


def test_what_changed_while_it_was_being_sent_is_sent_anew_when_it_did_not_arrive(
    engine: sa.Engine, ledger: PublicationLedger
) -> None:
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    ledger.begin("A", company_id=COMPANY)
    build(engine, [MONDAY], entries(("A", MONDAY, 150)))
    ledger.back_to_ready("A")
    assert ledger.ready()[0].amount_cents == 150
    intent = ledger.begin("A", company_id=COMPANY)
    assert intent is not None
    assert intent.content.amount_cents == 150


def test_a_stale_correction_is_refused(engine: sa.Engine, ledger: PublicationLedger) -> None:
    """Two processes that correct the same change must not both do it."""
    build(engine, [MONDAY], entries(("A", MONDAY, 100)))
    post(ledger, "A")
    (changed,) = build(engine, [MONDAY], entries(("A", MONDAY, 150))).changed_after_sending
    correct(engine, ledger, changed, 150)
    with pytest.raises(LedgerError, match="changed while"):
        correct(engine, ledger, changed, 150)
    assert len(ledger.rows()) == 3


def test_a_held_row_stands_until_a_person_or_new_facts_free_it(engine: sa.Engine, ledger: PublicationLedger) -> None:
    books = entries(("A", MONDAY, 100))
    build(engine, [MONDAY], books)
    ledger.begin("A", company_id=COMPANY)
    ledger.hold("A", "piece number A is in PennyLane with other lines", remote_id=77)
    build(engine, [MONDAY], books)
    (row,) = ledger.rows(states=["held"])
    assert (row.remote_id, row.error) == (77, "piece number A is in PennyLane with other lines")
    ledger.back_to_ready("A")
    assert states(ledger) == {"A": "ready"}


def test_status_by_day_adds_up(engine: sa.Engine, ledger: PublicationLedger) -> None:
    build(engine, [MONDAY, TUESDAY], entries(("A", MONDAY, 100), ("B", TUESDAY, 200), ("C", TUESDAY, 300)))
    post(ledger, "A")
    assert ledger.status_by_day().to_dict("list") | {"business_day": None} == {
        "business_day": None,
        "register_id": ["K1", "K1"],
        "state": ["sent", "ready"],
        "entries": [1, 2],
        "amount_cents": [100, 500],
    }


def test_a_month_of_small_entries_is_synced_quickly(engine: sa.Engine, ledger: PublicationLedger) -> None:
    """5,000 rows: row by row this took minutes."""
    books = entries(*[(f"E{n}", MONDAY, 100 + n) for n in range(5_000)])
    assert build(engine, [MONDAY], books).new == 5_000
    report = build(engine, [MONDAY], entries(*[(f"E{n}", MONDAY, 101 + n) for n in range(5_000)]))
    assert (report.updated, report.unchanged) == (5_000, 0)
