"""Facts that changed after sending, and what a person did in PennyLane since: corrected with links, or left alone."""

from collections import Counter
from collections.abc import Callable
from datetime import date

import pytest

from kash_pipeline.pennylane.client import FiscalYear as FiscalYearOfApi
from kash_pipeline.pennylane.correcting import later_day
from kash_pipeline.pennylane.publisher import PublishingStopped, reconsider
from kash_pipeline.pennylane.watching import hands
from kash_pipeline.sandbox.pennylane import Fault, FiscalYear
from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane, pennylane
from kash_pipeline_tests.unit.pennylane.test_customers import customers
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books

__all__ = ["make_pennylane", "pennylane"]  # fixtures
DAYS = days_from(FIRST, 1)
SALE = "SHOP-K1-260301-V"


def balances(world: World) -> Counter[str]:
    """Debit minus credit per account over everything in PennyLane, in cents; accounts at zero left out."""
    sums: Counter[str] = Counter()
    for entry in world.sandbox.admin.entries():
        for line in entry.lines:
            sums[line.account] += line.debit_cents - line.credit_cents
    return Counter({account: cents for account, cents in sums.items() if cents})


def should_be(world: World) -> Counter[str]:
    sums: Counter[str] = Counter()
    for (_, _, _, lines), count in world.local().items():
        for account, debit, credit, _ in lines:
            sums[account] += count * (debit - credit)
    return Counter({account: cents for account, cents in sums.items() if cents})


def test_changed_facts_become_a_reversal_and_a_new_entry_that_name_what_they_correct(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    pennylane.book(DAYS, make_books(DAYS, salt="late ticket"))
    report = pennylane.publish()
    assert (report.corrected, report.posted, report.problems) == (6, 12, [])
    assert balances(pennylane) == should_be(pennylane)
    entries = {entry.piece_number: entry for entry in pennylane.sandbox.admin.entries()}
    assert SALE in entries[f"{SALE}-R1"].label
    assert SALE in entries[f"{SALE}-N1"].label
    assert {(line.account, line.debit_cents, line.credit_cents) for line in entries[SALE].lines} == {
        (line.account, line.credit_cents, line.debit_cents) for line in entries[f"{SALE}-R1"].lines
    }
    assert pennylane.states() == {"superseded": 6, "verified": 12}


def test_a_correction_is_corrected_again_and_then_left_in_peace(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    for salt in ("first", "second"):
        pennylane.book(DAYS, make_books(DAYS, salt=salt))
        pennylane.publish()
    assert balances(pennylane) == should_be(pennylane)
    assert f"{SALE}-N2" in {entry.piece_number for entry in pennylane.sandbox.admin.entries()}
    pennylane.sandbox.requests.clear()
    assert pennylane.publish().nothing_to_do
    assert pennylane.sandbox.requests.all() == []


def test_an_entry_that_shall_not_stand_is_taken_back_and_one_that_returns_stands_again(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    pennylane.book(DAYS, make_books(DAYS, registers=["K1"]))
    pennylane.publish()
    assert balances(pennylane) == should_be(pennylane)
    pennylane.book(DAYS, make_books(DAYS))
    report = pennylane.publish()
    assert report.problems == []
    assert balances(pennylane) == should_be(pennylane)


def test_the_shop_file_can_say_hold(make_pennylane: Callable[..., World]) -> None:
    here = make_pennylane(correct="hold")
    here.book(DAYS, make_books(DAYS))
    here.publish()
    before = here.remote()
    here.book(DAYS, make_books(DAYS, salt="late"))
    report = here.publish()
    assert len(report.to_correct) == 6
    assert 'correct = "hold"' in report.to_correct[0].why
    assert here.remote() == before


def test_a_correction_of_a_closed_year_is_dated_on_the_first_open_day(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    pennylane.sandbox.admin.set_fiscal_year(FiscalYear(date(2026, 1, 1), date(2026, 12, 31), "closed"))
    pennylane.book(DAYS, make_books(DAYS, salt="late"))
    report = pennylane.publish()
    assert report.problems == []
    dates = {entry.date for entry in pennylane.sandbox.admin.entries() if entry.piece_number.endswith(("R1", "N1"))}
    assert dates == {date(2027, 1, 1)}
    assert balances(pennylane) == should_be(pennylane)


def corrections(world: World) -> dict[str, date]:
    return {
        entry.piece_number: entry.date
        for entry in world.sandbox.admin.entries()
        if entry.piece_number.endswith(("R1", "N1"))
    }


def test_a_correction_that_a_hidden_freeze_date_refuses_goes_to_the_first_month_that_is_open(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    pennylane.sandbox.admin.freeze(date(2026, 5, 16))
    pennylane.book(DAYS, make_books(DAYS, salt="late"))
    pennylane.sandbox.requests.clear()
    report = pennylane.publish(today=date(2026, 9, 9))
    assert (report.corrected, report.posted, report.problems) == (6, 12, [])
    assert set(corrections(pennylane).values()) == {date(2026, 6, 1)}
    assert balances(pennylane) == should_be(pennylane)
    # Each new entry once on its own day; then April and May are tried by one ahead of the others, June by all. The
    # reversals go to June with them.
    assert pennylane.sandbox.requests.count("POST", "ledger_entries$", 422) == 6 + 2
    assert pennylane.states() == {"superseded": 6, "verified": 12}
    reversal, replacement = (pennylane.ledger.row(f"{SALE}-{code}1") for code in "RN")
    assert reversal is not None
    assert replacement is not None
    assert (reversal.corrects, replacement.corrects, reversal.business_day) == (SALE, SALE, FIRST)
    assert pennylane.publish(today=date(2026, 9, 9)).nothing_to_do


def test_a_correction_with_no_open_day_left_waits_with_its_reason_and_goes_when_the_books_are_open(
    pennylane: World,
) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    pennylane.sandbox.admin.freeze(date(2026, 6, 1))
    pennylane.book(DAYS, make_books(DAYS, salt="late"))
    today = date(2026, 4, 20)
    report = pennylane.publish(today=today)
    assert (len(report.refused), len(report.blocked)) == (6, 6)
    assert "frozen" in report.refused[0].why
    assert f"waits for {report.refused[0].key}" in report.blocked[0].why
    assert "no later day up to 2026-04-20 is open" in report.refused[0].why
    assert corrections(pennylane) == {}
    pennylane.sandbox.admin.freeze(date(2026, 4, 20))
    assert reconsider(pennylane.engine, pennylane.shop, DAYS[0], DAYS[-1]) == 6
    assert pennylane.publish(today=today).posted == 12
    assert set(corrections(pennylane).values()) == {today}
    assert balances(pennylane) == should_be(pennylane)


def test_lost_answers_and_a_stop_on_the_way_to_an_open_day_leave_each_correction_once(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    pennylane.sandbox.admin.freeze(date(2026, 4, 15))
    pennylane.book(DAYS, make_books(DAYS, salt="late"))
    # 6 are refused in March and one in April; the one that May takes loses its answer, and two later all is stopped.
    pennylane.sandbox.faults.add(Fault("cut_after", path="ledger_entries$", method="POST", skip=7))
    pennylane.sandbox.faults.add(
        Fault("refuse", path="ledger_entries$", method="POST", skip=10, count=None, status=401)
    )
    with pytest.raises(PublishingStopped) as stopped:
        pennylane.publish(today=date(2026, 9, 9))
    assert stopped.value.report.adopted == 1
    assert 0 < len(corrections(pennylane)) < 12
    pennylane.sandbox.faults.clear()
    assert pennylane.publish(today=date(2026, 9, 9)).problems == []
    assert Counter(corrections(pennylane).values()) == {date(2026, 5, 1): 12}
    pieces = Counter(entry.piece_number for entry in pennylane.sandbox.admin.entries())
    assert set(pieces.values()) == {1}
    assert balances(pennylane) == should_be(pennylane)


@pytest.mark.parametrize(
    ("day", "today", "later"),
    [
        ("2026-03-31", "2026-09-09", "2026-04-01"),
        ("2026-04-01", "2026-09-09", "2026-05-01"),
        ("2026-09-01", "2026-09-09", "2026-09-09"),
        ("2026-09-09", "2026-09-09", None),
        ("2025-12-31", "2026-02-02", "2026-01-01"),
        # 2024 is closed: its corrections go to the next open year, which then is tried month by month like any other.
        ("2024-12-31", "2026-02-02", "2025-01-01"),
        ("2026-12-31", "2027-03-03", None),
    ],
)
def test_where_a_refused_correction_goes(day: str, today: str, later: str | None) -> None:
    years = [
        FiscalYearOfApi(number, date(year, 1, 1), date(year, 12, 31), status)
        for number, (year, status) in enumerate([(2024, "frozen"), (2025, "open"), (2026, "reopen"), (2027, "closed")])
    ]
    found = later_day(years, date.fromisoformat(day), date.fromisoformat(today))
    assert found == (date.fromisoformat(later) if later else None)


@pytest.mark.parametrize("hand", ["edits", "deletes"])
def test_what_a_person_changed_is_reported_and_never_corrected(pennylane: World, hand: str) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    entry = next(entry for entry in pennylane.sandbox.admin.entries() if entry.piece_number == SALE)
    if hand == "edits":
        pennylane.sandbox.admin.edit_line(entry.lines[0].id, label="corrigé par le cabinet")
    else:
        pennylane.sandbox.admin.delete_entry(entry.id)
    pennylane.book(DAYS, make_books(DAYS, salt="late"))
    report = pennylane.publish()
    assert [problem.key for problem in report.to_correct] == [SALE]
    assert "somebody changed it in PennyLane" in report.to_correct[0].why
    assert (report.corrected, report.posted) == (5, 10)
    assert not [entry for entry in pennylane.sandbox.admin.entries() if entry.piece_number.startswith(f"{SALE}-")]


# --- the accountant's hand ------------------------------------------------------------------------------------------


def seen(world: World) -> dict[str, str]:
    with world.client() as client:
        return {f"{hand.key} {hand.what}": hand.why for hand in hands(client, world.engine, world.shop)}


def test_an_untouched_ledger_shows_no_hand_and_costs_one_request(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    pennylane.sandbox.requests.clear()
    assert seen(pennylane) == {}
    assert len(pennylane.sandbox.requests.all()) == 1


def test_edits_deletions_moves_and_letterings_are_found_and_left_alone(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    entries = {entry.piece_number: entry for entry in pennylane.sandbox.admin.entries()}
    edited, deleted, moved = (entries[f"SHOP-K1-260301-{code}"] for code in "VPC")
    lettered = entries["SHOP-K2-260301-C"]
    admin = pennylane.sandbox.admin
    admin.edit_line(edited.lines[0].id, label="corrigé")
    admin.delete_entry(deleted.id)
    admin.edit_entry(moved.id, day=date(2026, 3, 9))
    admin.letter([line.id for line in lettered.lines])
    before = pennylane.remote()
    found = seen(pennylane)
    assert list(found) == [
        "SHOP-K1-260301-C moved",
        "SHOP-K1-260301-P deleted",
        "SHOP-K1-260301-V edited",
        "SHOP-K2-260301-C lettered",
    ]
    assert "2026-03-09" in found["SHOP-K1-260301-C moved"]
    assert "'corrigé'" in found["SHOP-K1-260301-V edited"]
    pennylane.publish()
    assert pennylane.remote() == before


def test_what_we_lettered_ourselves_is_nobodys_hand(make_pennylane: Callable[..., World]) -> None:
    here = make_pennylane(letter=True)
    here.book(DAYS, make_books(DAYS, registers=["K1"], customer="7"))
    assert here.publish(customers=customers({"customer_id": "7", "name": "Chez Léa"})).lettering.groups == 1
    here.sandbox.requests.clear()
    assert seen(here) == {}
    assert len(here.sandbox.requests.all()) == 3  # the changelog, the day's entries, the day's lines
    entries = {entry.piece_number: entry for entry in here.sandbox.admin.entries()}
    sale, payment = (entries[f"SHOP-K1-260301-{code}"] for code in "VP")
    # A person puts another line into our group: told for all of it.
    group = [line for line in (*sale.lines, *payment.lines) if line.lettering is not None]
    other = next(line for line in payment.lines if line.lettering is None)
    here.sandbox.admin.letter([line.id for line in (*group, other)])
    assert list(seen(here)) == [f"{payment.piece_number} lettered", f"{sale.piece_number} lettered"]
