"""Publishing against the sandbox over HTTP: what stands in PennyLane afterwards, and what it cost to get it there."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date

import pytest
import sqlalchemy as sa

from kash_pipeline.pennylane.client import NewEntry, NewLine
from kash_pipeline.pennylane.errors import ConnectAgain
from kash_pipeline.pennylane.publisher import PublishingStopped, reconsider
from kash_pipeline.sandbox.pennylane import Fault, FiscalYear
from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane, pennylane
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books, shop_file

__all__ = ["make_pennylane", "pennylane"]  # fixtures
DAYS = days_from(FIRST, 2)


def test_every_entry_stands_in_pennylane_once_with_the_same_lines_and_is_verified(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    report = pennylane.publish()
    assert pennylane.remote() == pennylane.local()
    assert pennylane.states() == {"verified": 12}
    assert (report.posted, report.verified, report.problems) == (12, 12, [])
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


# --- doubtful ends ----------------------------------------------------------------------------------------------------

POST = {"method": "POST", "path": "ledger_entries$"}
DOUBTS = {
    "answer cut after the effect": Fault("cut_after", **POST, count=3),
    "connection cut before the effect": Fault("cut_before", **POST, count=3),
    "500 after the commit": Fault("error_after", **POST, count=3),
    "500 before the commit": Fault("refuse", **POST, count=3),
    "503 before the commit": Fault("refuse", **POST, count=3, status=503),
    "429 storm": Fault("rate_limit", count=3, skip=2, seconds=1),
    "the database of PennyLane drops": Fault("drop_database", **POST, count=3),
    "look-ups fail": Fault("refuse", method="GET", path="ledger_entries$", count=2),
    "read-back fails": Fault("cut_before", method="GET", path="ledger_entry_lines", count=2),
}


@pytest.mark.parametrize("fault", DOUBTS.values(), ids=DOUBTS.keys())
def test_whatever_happens_to_a_request_every_entry_stands_there_once(pennylane: World, fault: Fault) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.sandbox.faults.add(replace(fault))
    report = pennylane.publish()
    assert pennylane.sandbox.faults.hits()
    assert pennylane.remote() == pennylane.local()
    assert pennylane.states() == {"verified": 12}
    assert report.problems == []
    assert report.posted + report.adopted == 12


def test_a_timeout_after_the_effect_is_adopted_not_repeated(pennylane: World) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    pennylane.publish()
    pennylane.book(DAYS[1:], make_books(DAYS[1:]))
    pennylane.sandbox.faults.add(Fault("delay_answer", **POST, count=2, seconds=4.0))
    with pennylane.client(timeout=2.0) as client:
        report = pennylane.publisher(client).publish()
    assert report.posted + report.adopted == 6
    assert report.adopted >= 2
    assert pennylane.remote() == pennylane.local()


def test_a_request_executed_long_after_its_caller_left_is_not_sent_again(pennylane: World) -> None:
    """The effect comes 2 s after the caller gave up: `settle` must outlast it, or the entry is there twice."""
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    pennylane.publish()
    pennylane.book(DAYS[1:], make_books(DAYS[1:], registers=["K1"]))
    pennylane.sandbox.faults.add(Fault("delay", **POST, count=1, seconds=4.0))
    with pennylane.client(timeout=2.0) as client:
        pennylane.publisher(client, settle=3.0).publish()
    assert pennylane.remote() == pennylane.local()


def test_an_unreachable_pennylane_stops_publishing_and_the_next_run_continues(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    here = replace(pennylane, shop=shop_file("http://127.0.0.1:9", auth="token"))
    with here.client(sleep=lambda _: None) as client, pytest.raises(PublishingStopped, match="no connection"):
        here.publisher(client).publish()
    assert pennylane.states() == {"ready": 12}
    assert pennylane.publish().posted == 12


def test_a_rejected_token_stops_publishing_with_connect_again_and_loses_nothing(
    pennylane: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    token = pennylane.sandbox.admin.company_token()
    monkeypatch.setenv("PENNYLANE_TOKEN", token)
    pennylane.sandbox.faults.add(Fault("expire_token", **POST, skip=5, count=1))
    with pytest.raises(PublishingStopped) as stopped:
        pennylane.publish(workers=1)
    assert isinstance(stopped.value.cause, ConnectAgain)
    posted = stopped.value.report.posted
    assert 0 < posted < len(pennylane.ledger.rows())
    assert pennylane.states() == {"sent": posted, "ready": len(pennylane.ledger.rows()) - posted}
    assert token not in str(stopped.value)
    monkeypatch.setenv("PENNYLANE_TOKEN", pennylane.sandbox.admin.company_token())
    pennylane.publish()
    assert pennylane.remote() == pennylane.local()


def test_a_missing_scope_stops_publishing_and_names_it(pennylane: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    pennylane.publish()
    pennylane.book(DAYS[1:], make_books(DAYS[1:]))
    scopes = ["journals:all", "ledger_accounts:all", "ledger_entries:readonly", "fiscal_years:readonly"]
    monkeypatch.setenv("PENNYLANE_TOKEN", pennylane.sandbox.admin.company_token(scopes))
    with pytest.raises(PublishingStopped, match="ledger_entries"):
        pennylane.publish()
    assert pennylane.states() == {"verified": 6, "ready": 6}


# --- what is already there --------------------------------------------------------------------------------------------


def forget_sending(world: World) -> None:
    """As after a restored backup: PennyLane has the entries, our ledger does not know."""
    with world.engine.begin() as connection:
        connection.execute(
            sa.text(
                "update kash.publication set state = 'ready', remote_id = null, remote_line_ids = null,"
                " sent_at = null, sent_digest = null, sent_entry = null, verified_at = null"
            )
        )


def test_entries_that_are_there_already_are_adopted(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    forget_sending(pennylane)
    report = pennylane.publish()
    assert (report.posted, report.adopted, report.verified) == (0, 12, 12)
    assert pennylane.remote() == pennylane.local()


def test_another_entry_under_our_piece_number_is_held_with_both_versions(pennylane: World) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    pennylane.publish()
    forget_sending(pennylane)
    changed = next(entry for entry in pennylane.sandbox.admin.entries() if entry.piece_number == "SHOP-K1-260301-P")
    line = next(line for line in changed.lines if line.account == "530")
    pennylane.sandbox.admin.edit_line(line.id, debit_cents=line.debit_cents + 1)
    report = pennylane.publish()
    assert (report.posted, report.adopted, len(report.held)) == (0, 5, 1)
    assert report.held[0].key == "SHOP-K1-260301-P"
    assert f"ours: 530 D {line.debit_cents / 100:.2f}".rstrip("0") in report.held[0].why
    assert "PennyLane: 530 D" in report.held[0].why
    row = pennylane.ledger.row("SHOP-K1-260301-P")
    assert row is not None
    assert (row.state, row.remote_id) == ("held", changed.id)


def test_two_entries_under_our_piece_number_are_held(pennylane: World) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    pennylane.publish()
    forget_sending(pennylane)
    duplicate(pennylane, "SHOP-K2-260301-C")
    report = pennylane.publish()
    assert [problem.key for problem in report.held] == ["SHOP-K2-260301-C"]
    assert "2 entries with piece number" in report.held[0].why


def duplicate(world: World, key: str, *, as_key: str | None = None, day: date | None = None) -> None:
    """Somebody posts the same entry again, outside our control, or its lines under another piece number and day."""
    entry = next(entry for entry in world.sandbox.admin.entries() if entry.piece_number == key)
    with world.client() as client:
        client.create_ledger_entry(
            NewEntry(
                world.sandbox.admin.journal_id(entry.journal),
                day or entry.date,
                as_key or key,
                entry.label,
                tuple(NewLine(x.account_id, x.debit_cents, x.credit_cents, x.label) for x in entry.lines),
            )
        )


# --- closed periods, missing accounts, refusals -----------------------------------------------------------------------


def test_a_closed_year_is_refused_before_anything_is_sent(pennylane: World) -> None:
    pennylane.sandbox.admin.set_fiscal_year(FiscalYear(date(2026, 1, 1), date(2026, 12, 31), "closed"))
    pennylane.book(DAYS, make_books(DAYS))
    report = pennylane.publish()
    assert len(report.refused) == 12
    assert "is closed" in report.refused[0].why
    assert pennylane.sandbox.requests.count("POST", "ledger_entries$") == 0
    pennylane.sandbox.admin.set_fiscal_year(FiscalYear(date(2026, 1, 1), date(2026, 12, 31), "reopen"))
    assert reconsider(pennylane.engine, pennylane.shop, DAYS[0], DAYS[-1]) == 12
    assert pennylane.publish().posted == 12


def test_what_stands_in_a_closed_year_already_is_adopted(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    pennylane.publish()
    forget_sending(pennylane)
    pennylane.sandbox.admin.set_fiscal_year(FiscalYear(date(2026, 1, 1), date(2026, 12, 31), "closed"))
    report = pennylane.publish()
    assert (report.posted, report.adopted, report.refused) == (0, 12, [])


def test_a_freeze_date_that_the_api_does_not_show_refuses_its_days_only(pennylane: World) -> None:
    pennylane.sandbox.admin.freeze(DAYS[1])
    pennylane.book(DAYS, make_books(DAYS))
    report = pennylane.publish()
    assert {problem.business_day for problem in report.refused} == {DAYS[0]}
    assert "frozen" in report.refused[0].why
    assert report.posted == 6
    assert pennylane.states() == {"verified": 6, "refused": 6}


def test_a_disabled_account_blocks_by_name_and_the_other_entries_go_on(pennylane: World) -> None:
    pennylane.sandbox.admin.enable_account("511", False)
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    report = pennylane.publish()
    assert [problem.key for problem in report.blocked] == ["SHOP-K1-260301-P", "SHOP-K2-260301-P"]
    assert "511 « Valeurs à l'encaissement » is disabled" in report.blocked[0].why
    assert report.posted == 4
    pennylane.sandbox.admin.enable_account("511", True)
    assert pennylane.publish().posted == 2
    assert pennylane.remote() == pennylane.local()


def test_missing_accounts_and_journals_are_created_only_when_the_shop_file_says_so(
    make_pennylane: Callable[..., World],
) -> None:
    here = make_pennylane(create_accounts=False, create_journals=False)
    here.book(DAYS[:1], make_books(DAYS[:1]))
    report = here.publish()
    assert len(report.blocked) == 6
    assert "580200 does not exist" in report.blocked[0].why
    assert "PennyLane has no journal K1" in report.blocked[0].why
    assert here.sandbox.requests.count("POST") == 0


def test_an_accountants_second_id_of_a_number_does_not_look_like_a_difference(pennylane: World) -> None:
    """707 exists under several ids, one per VAT rate: lines are compared by number, the id we chose aside."""
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    pennylane.publish()
    with pennylane.client() as client:
        other = client.create_ledger_account("701055", "Ventes 5,5 % bis", vat_rate="FR_100")
    moved = next(
        line for entry in pennylane.sandbox.admin.entries() for line in entry.lines if line.account == "701055"
    )
    with pennylane.sandbox.admin._engine.begin() as connection:
        connection.exec_driver_sql(
            "update lines set account_id = %(to)s where id = %(id)s", {"to": other.id, "id": moved.id}
        )
    forget_sending(pennylane)
    assert pennylane.publish().adopted == 6


# --- two publishers, and what it costs --------------------------------------------------------------------------------


def test_two_publishers_at_once_send_each_entry_once(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    with ThreadPoolExecutor(2) as pool:
        reports = [future.result() for future in [pool.submit(pennylane.publish) for _ in range(2)]]
    assert sum(report.posted for report in reports) == 12
    assert pennylane.remote() == pennylane.local()


def test_a_connection_to_another_company_is_refused(pennylane: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pennylane.book(DAYS[:1], make_books(DAYS[:1]))
    pennylane.publish()
    pennylane.sandbox.admin.add_company("Autre boutique")
    monkeypatch.setenv("PENNYLANE_TOKEN", pennylane.sandbox.admin.company_token(company="Autre boutique"))
    pennylane.book(DAYS[1:], make_books(DAYS[1:]))
    with pytest.raises(PublishingStopped, match="Autre boutique"):
        pennylane.publish()
    assert pennylane.states() == {"verified": 6, "ready": 6}


def test_a_month_costs_at_most_1_15_requests_an_entry(pennylane: World) -> None:
    days = days_from(FIRST, 31)
    pennylane.book(days, make_books(days))
    pennylane.sandbox.requests.clear()
    report = pennylane.publish()
    requests = pennylane.sandbox.requests.all()
    print(f"{report.posted} entries, {len(requests)} requests, {len(requests) / report.posted:.3f} an entry")
    assert report.posted == 186
    assert len(requests) / report.posted <= 1.15
    assert report.requests == len(requests)


def test_progress_counts_every_entry(pennylane: World) -> None:
    pennylane.book(DAYS, make_books(DAYS))
    seen: list[tuple[int, int]] = []
    with pennylane.client() as client:
        pennylane.publisher(client).publish(progress=lambda done, of: seen.append((done, of)))
    assert sorted(seen) == [(number, 12) for number in range(1, 13)]
