"""Z evidence against the sandbox over HTTP: every closing entry there once, with its report, whatever happens."""

import io
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pypdf
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from kash_pipeline.cli.main import cli
from kash_pipeline.evidence.reading import ZReports
from kash_pipeline.pennylane.attaching import MOST_FAILED, Evidence
from kash_pipeline.pennylane.publisher import PublishingStopped
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline_tests.end_to_end import attaching
from kash_pipeline_tests.end_to_end.attaching import book, lake_of, till
from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane
from kash_pipeline_tests.unit.pennylane.world import FIRST, SHOP_TOML, World, days_from

__all__ = ["make_pennylane"]  # a fixture
DAYS = days_from(FIRST, 1)
# Sale, payment and clearing of two registers, and the shortage of K1.
ENTRIES, CLOSINGS = 7, 3
UPLOAD = {"method": "POST", "path": "file_attachments$"}
POST = {"method": "POST", "path": "ledger_entries$"}


@pytest.fixture
def here(make_pennylane: Callable[..., World]) -> World:
    return make_pennylane(attach_z=True)


def publish(here: World, **changes: Any) -> Any:
    with here.client(sleep=lambda _: None) as client:
        return here.publisher(client, lake=lake_of(here), **changes).publish()


def uploads(here: World) -> int:
    return int(here.sandbox.requests.count("POST", "file_attachments$"))


def attached(here: World) -> dict[str, bytes]:
    """The report on each of PennyLane's entries that has one, by piece number."""
    files = {file.id: file for file in here.sandbox.admin.files()}
    found = {}
    for entry in here.sandbox.admin.entries():
        if entry.file_id is not None:
            file = files[entry.file_id]
            assert (file.filename, file.content_type) == (f"{entry.piece_number}.pdf", "application/pdf")
            found[entry.piece_number] = file.content
    return found


def is_whole(here: World, days: Sequence[date] = DAYS) -> None:
    """Both ledgers are equal, and each closing entry has the report that the facts give now."""
    assert here.remote() == here.local()
    reports = ZReports(here.engine, lake_of(here), here.shop)
    assert attached(here) == {
        piece.key: reports.pdf(day, register, piece)
        for day in days
        for register in attaching.REGISTERS
        for piece in reports.pieces(day, register)
    }


def test_each_closing_entry_carries_the_report_of_its_day(here: World) -> None:
    book(here, DAYS, till(DAYS))
    here.sandbox.requests.clear()
    report = publish(here)
    assert (report.posted, report.attached, report.verified, report.problems) == (ENTRIES, CLOSINGS, ENTRIES, [])
    assert report.requests == len(here.sandbox.requests.all())
    is_whole(here)
    assert uploads(here) == CLOSINGS
    pages = pypdf.PdfReader(io.BytesIO(attached(here)["SHOP-K1-260301-C"])).pages
    text = pages[0].extract_text().replace("\xa0", " ")
    for words in ("SHOP-K1-260301-C", "Total TVA 20 %\n10,00 €\n2,00 €\n12,00 €", "110,55 €\n107,35 €\n-3,20 €"):
        assert words in text
    book(here, DAYS, till(DAYS))
    here.sandbox.requests.clear()
    assert publish(here).nothing_to_do
    assert here.sandbox.requests.all() == []


def test_a_z_entry_carries_it_and_a_day_without_closing_none(make_pennylane: Callable[..., World]) -> None:
    here = make_pennylane(attach_z=True, shop={"granularity": "z"})
    book(here, DAYS, till(DAYS))
    assert publish(here).attached == 2
    is_whole(here)
    later = days_from(FIRST, 2)[1:]
    daily = replace(
        here, shop=here.shop.model_copy(update={"shop": here.shop.shop.model_copy(update={"granularity": "day"})})
    )
    book(daily, later, till(later, closed=False))
    report = publish(daily)
    assert (report.posted, report.attached, report.unclosed) == (4, 0, 2)


def test_the_command_writes_what_is_attached(
    here: World, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.toml").write_text(SHOP_TOML.format(url=here.url))
    for name, value in (("HOME", str(tmp_path)), ("DATABASE_URL", database_url), ("SHOP", str(tmp_path / "shop.toml"))):
        monkeypatch.setenv(f"KASH_{name}", value)
    book(here, DAYS, till(DAYS))
    publish(here)
    book(here, DAYS, till(DAYS, wine=1300))
    publish(here)

    def report(*options: str) -> Result:
        words = ["z-report", "--day", str(DAYS[0]), "--out", str(tmp_path / "new" / "z.pdf"), *options]
        return CliRunner().invoke(cli, words)

    file = tmp_path / "new" / "z.pdf"
    told = report("--register", "K1", "--entry", "SHOP-K1-260301-C-N1").output
    assert file.read_bytes() == attached(here)["SHOP-K1-260301-C-N1"]
    assert "the same for SHOP-K1-260301-D-Z0301K1-ESP: --entry SHOP-K1-260301-D-Z0301K1-ESP" in told
    assert ZReports(here.engine, lake_of(here), here.shop).figures(DAYS[0], "K1").sha256 in told
    # The difference of K1 is as it was, so its entry stands and keeps the report it was sent with.
    report("--register", "K1", "--entry", "SHOP-K1-260301-D-Z0301K1-ESP")
    assert file.read_bytes() != attached(here)["SHOP-K1-260301-D-Z0301K1-ESP"]
    assert "for SHOP-K2-260301-C;" in report("--register", "K2").output
    wrong = report("--register", "K2", "--entry", "SHOP-K1-260301-C")
    assert "its closing entries: SHOP-K2-260301-C" in str(wrong.exception)
    assert "cannot be written" in str(report("--register", "K1", "--out", str(tmp_path)).exception)


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "most_uploads"),
    [
        (Fault("cut_after", **UPLOAD, count=3), CLOSINGS + 3),
        (Fault("cut_after", **POST, count=3), CLOSINGS),
        (Fault("cut_before", **POST, count=7), CLOSINGS),
    ],
    ids=lambda value: f"{value.kind} {value.path}" if isinstance(value, Fault) else str(value),
)
def test_whatever_happens_to_a_request_every_entry_stands_there_once_with_its_report(
    here: World, fault: Fault, most_uploads: int
) -> None:
    """An upload is repeated, harmlessly; a posting that went wrong does not upload again."""
    book(here, DAYS, till(DAYS))
    here.sandbox.faults.add(replace(fault))
    assert publish(here).problems == []
    assert here.sandbox.faults.hits()
    is_whole(here)
    assert CLOSINGS <= uploads(here) <= most_uploads


def test_a_refused_upload_keeps_its_entry_waiting_and_no_other(here: World) -> None:
    book(here, DAYS, till(DAYS))
    here.sandbox.faults.add(Fault("refuse", **UPLOAD, status=422))
    report = publish(here, workers=1)
    assert (report.posted, [problem.key for problem in report.blocked]) == (ENTRIES - 1, ["SHOP-K1-260301-C"])
    assert report.problems == report.blocked
    assert "Z evidence was not uploaded" in report.blocked[0].why
    assert here.states() == {"verified": ENTRIES - 1, "ready": 1}
    assert publish(here).posted == 1
    is_whole(here)
    assert uploads(here) == CLOSINGS + 1


def test_when_no_upload_gets_through_the_closings_wait_and_three_are_tried(here: World) -> None:
    days = days_from(FIRST, 2)
    book(here, days, till(days))
    here.sandbox.faults.add(Fault("refuse", **UPLOAD, status=503, count=None))
    report = publish(here, workers=1)
    assert (report.posted, len(report.blocked)) == (2 * (ENTRIES - CLOSINGS), 2 * CLOSINGS)
    assert f"{MOST_FAILED} uploads of this run failed" in report.blocked[-1].why
    assert uploads(here) == MOST_FAILED * 6
    here.sandbox.faults.clear()
    publish(here)
    is_whole(here, days)


def test_a_connection_that_may_not_upload_is_said_once_and_nothing_is_sent(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    book(here, DAYS, till(DAYS))
    granted = here.sandbox.admin.company_token()
    scopes = ["journals:all", "ledger_accounts:all", "ledger_entries:all", "fiscal_years:readonly", "customers:all"]
    monkeypatch.setenv("PENNYLANE_TOKEN", here.sandbox.admin.company_token(scopes))
    with pytest.raises(PublishingStopped, match="file_attachments:all") as stopped:
        publish(here)
    assert "attach_z" in stopped.value.next_step
    assert here.states() == {"ready": ENTRIES}
    assert here.sandbox.admin.entries() == []
    # What /me lists may still be refused: then it shows at the first upload.
    monkeypatch.setenv("PENNYLANE_TOKEN", granted)
    here.sandbox.faults.add(Fault("refuse", **UPLOAD, status=403))
    with pytest.raises(PublishingStopped, match="HTTP 403"):
        publish(here, workers=1)
    assert here.states() == {"ready": ENTRIES}
    publish(here)
    is_whole(here)


def test_facts_read_again_but_not_built_again_hold_their_closing(here: World) -> None:
    """The lake is ahead of the books: a report of the new facts would contradict the entry it hangs on."""
    book(here, DAYS, till(DAYS))
    payments = till(DAYS).payments
    more = payments["amount_cents"] + (payments["register_id"] == "K1")
    lake_of(here).write_day("payments", DAYS[0], payments.assign(amount_cents=more))
    report = publish(here)
    assert [problem.key for problem in report.blocked] == ["SHOP-K1-260301-C", "SHOP-K1-260301-D-Z0301K1-ESP"]
    assert "not those the entries were built from" in report.blocked[0].why
    assert report.posted == ENTRIES - 2
    book(here, DAYS, till(DAYS))
    publish(here)
    is_whole(here)


# --- crashes --------------------------------------------------------------------------------------------------------


def upload_without_posting(here: World) -> None:
    """As a publisher leaves it that is killed between the upload and the posting."""
    with here.client() as client:
        reports = ZReports(here.engine, lake_of(here), here.shop)
        company = client.me().company_id
        evidence = Evidence(client, here.engine, reports, shop_id=here.shop.shop.id, company_id=company)
        for row in here.ledger.ready():
            evidence.attach(row)


def test_what_was_uploaded_before_a_crash_is_uploaded_again_only_where_the_facts_changed(here: World) -> None:
    days = days_from(FIRST, 2)
    book(here, days, till(days))
    upload_without_posting(here)
    assert (uploads(here), here.sandbox.admin.entries()) == (2 * CLOSINGS, [])
    book(here, days[1:], till(days[1:], wine=1300))
    publish(here)
    is_whole(here, days)
    assert uploads(here) == 3 * CLOSINGS


def test_a_file_that_pennylane_has_dropped_is_uploaded_again(here: World) -> None:
    """How long a file without an entry is kept is not documented."""
    book(here, DAYS, till(DAYS))
    upload_without_posting(here)
    with here.sandbox.admin._engine.begin() as connection:
        connection.exec_driver_sql("delete from files")
    report = publish(here)
    assert (report.posted, report.problems) == (ENTRIES, [])
    is_whole(here)
    assert uploads(here) == 2 * CLOSINGS


@pytest.mark.parametrize(
    "slow",
    [Fault("delay_answer", **UPLOAD, count=None, seconds=1.0), Fault("delay", **POST, count=None, seconds=1.0)],
    ids=["in the upload", "in the posting"],
)
def test_a_publisher_killed_at_work_on_a_closing_leaves_one_entry_with_one_report(
    here: World, database_url: str, slow: Fault
) -> None:
    book(here, DAYS, till(DAYS))
    here.sandbox.faults.add(slow)
    # Forked with everything imported: the kill comes a moment after the first slow request, not after an import.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([attaching.__name__])
    started = context.Event()
    token, home = os.environ["PENNYLANE_TOKEN"], str(here.env.home)
    process = context.Process(target=attaching.publish, args=(here.url, token, database_url, home, started))
    process.start()
    assert started.wait(120)
    deadline = time.monotonic() + 60
    while not here.sandbox.faults.hits():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join(60)
    here.sandbox.faults.clear()
    assert publish(here, settle=attaching.SETTLE + slow.seconds).problems == []
    is_whole(here)


# --- corrections ----------------------------------------------------------------------------------------------------


def test_a_correction_carries_the_new_report_and_its_reversal_none(here: World) -> None:
    """The report that was sent stays on what was sent: nothing in PennyLane is edited."""
    book(here, DAYS, till(DAYS))
    publish(here)
    before = attached(here)
    book(here, DAYS, till(DAYS, wine=1300))
    publish(here)
    after = attached(here)
    assert {key: after[key] for key in before} == before
    new = {f"SHOP-{register}-260301-C-N1" for register in attaching.REGISTERS}
    assert after.keys() - before.keys() == new
    text = pypdf.PdfReader(io.BytesIO(after["SHOP-K2-260301-C-N1"])).pages[0].extract_text().replace("\xa0", " ")
    assert "SHOP-K2-260301-C-N1" in text
    assert "Total TTC des tickets\n23,55 €" in text
    pieces = Counter(entry.piece_number for entry in here.sandbox.admin.entries())
    assert set(pieces.values()) == {1}
    with here.engine.connect() as connection:
        kept = set(connection.execute(sa.text("select key from kash.pennylane_files")).scalars())
    assert kept == after.keys()
