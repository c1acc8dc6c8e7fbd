"""From "log in" to a ledger that holds the fiscal year: what is offered, what it sends, what a later run says."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from click.testing import CliRunner, Result

from kash_pipeline.cli.pennylane import pennylane as command
from kash_pipeline.pennylane import consent
from kash_pipeline.pennylane.history import history_of
from kash_pipeline.pos.files import write_folder
from kash_pipeline.sandbox.pennylane import FiscalYear, approve
from kash_pipeline.sandbox.server import serving
from kash_pipeline.settings import load_shop
from kash_pipeline.web.connect import Callback, history_to_send, next_steps
from kash_pipeline_tests.orchestration.till import make_facts
from kash_pipeline_tests.unit.pennylane.conftest import make_pennylane, pennylane
from kash_pipeline_tests.unit.pennylane.world import World, days_from, make_books, shop_file

__all__ = ["make_pennylane", "pennylane"]  # fixtures
TODAY = datetime.now(ZoneInfo("Europe/Paris")).date()
FIRST, LAST = TODAY - timedelta(days=2), TODAY - timedelta(days=1)
YEAR = FiscalYear(date(2026, 1, 1), date(2026, 12, 31), "open")

TOML = """
[shop]
id = "shop"
name = "Boulangerie"
[source]
kind = "files"
path = "facts"
[pennylane]
url = "{url}"
[[chart]]
from = "{first}"
sales = {{ "5.5" = "701055", "10" = "701100", "20" = "707200" }}
vat = {{ "5.5" = "445711055", "10" = "445711100", "20" = "445711200" }}
methods = {{ cash = "530000", card = "511500" }}
[journals]
K1 = "K1"
K2 = "K2"
"""


def test_the_history_is_that_of_the_open_year_from_the_first_chart_on(pennylane: World) -> None:
    admin = pennylane.sandbox.admin
    days = days_from(date(2026, 1, 5), 2)
    pennylane.book(days, make_books(days))
    pennylane.publish()

    def offered(today: date, shop: World = pennylane) -> tuple[str, str, int]:
        with pennylane.client() as client:
            found = history_of(client, pennylane.engine, shop.shop, today)
        return str(found.first), str(found.last), found.days_not_sent

    assert offered(date(2026, 1, 11)) == ("2026-01-01", "2026-01-10", 8)
    assert offered(date(2026, 1, 1)) == ("None", "None", 0)
    late = replace(pennylane, shop=shop_file(pennylane.url, auth="token"))
    [chart] = late.shop.chart
    late.shop = late.shop.model_copy(update={"chart": (chart.model_copy(update={"start": date(2026, 1, 6)}),)})
    assert offered(date(2026, 1, 11), late) == ("2026-01-06", "2026-01-10", 4)
    # The year that is open today counts, not the first of several that are open.
    admin.set_fiscal_year(YEAR._replace(status="closed"))
    assert offered(date(2026, 1, 11)) == ("None", "None", 0)
    with pennylane.client() as client:
        told = history_of(client, pennylane.engine, pennylane.shop, date(2026, 1, 11)).told()
    assert "No fiscal year is open" in told[0]


@pytest.fixture
def shop(
    make_pennylane: Callable[..., World], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[World, Path]:
    """A shop file whose chart began two days ago, its facts, and a PennyLane that nobody is connected to yet."""
    # Today is in the middle of its year, whenever this runs.
    year = FiscalYear(TODAY - timedelta(days=60), TODAY + timedelta(days=300), "open")
    here = make_pennylane(sandbox={"fiscal_years": [year]}, auth="oauth")
    for name, value in {
        "KASH_HOME": str(tmp_path),
        "KASH_DATABASE_URL": database_url,
        # Opening Dagster's instance sets these for the process: given back after the test.
        "DAGSTER_HOME": "",
        "KASH_DAGSTER_DATABASE_URL": "",
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
    }.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "shop.toml"
    path.write_text(TOML.format(url=here.url, first=FIRST))
    write_folder(make_facts(FIRST, LAST), tmp_path / "facts")
    return here, path


def call(of: object, *words: str) -> Result:
    return CliRunner().invoke(of, list(words), catch_exceptions=False)  # type: ignore[arg-type]


@pytest.mark.long
def test_login_offers_the_history_sends_it_and_says_what_it_corrected(shop: tuple[World, Path]) -> None:
    here, path = shop
    said = call(command, "login", "--sandbox", "--shop", str(path)).output
    assert f"2 days from {FIRST} to {LAST} are not sent yet" in said
    assert f"kash-pipeline run --shop {path} --from {FIRST} --to {LAST}" in said
    assert "runs by itself" in said
    assert here.sandbox.admin.entries() == []

    # The last day was sent before with other facts, and a person has since changed one of its entries.
    here.book([LAST], make_books([LAST]))
    here.publish()
    before = here.sandbox.admin.entries()
    here.sandbox.admin.edit_line(before[0].lines[0].id, label="corrigé par le cabinet")
    sent = call(command, "login", "--sandbox", "--history", "--shop", str(path))
    words = " ".join(sent.output.split())
    assert f"1 days from {FIRST} to {LAST} are not sent yet" in words
    assert "publish: pennylane/published_entries: 2 of 2" in words  # progress
    pieces = {entry.piece_number: entry for entry in here.sandbox.admin.entries()}
    assert any(entry.date == FIRST for entry in pieces.values())
    assert f"{len(pieces) - len(before)} entries posted and read back" in words
    assert {piece for piece in pieces if piece.endswith("-R1")} == {f"{old.piece_number}-R1" for old in before[1:]}
    assert f"{len(before) - 1} entries sent before were corrected" in words
    # What the person touched waits, and the exit code says that something does.
    assert "1 entries sent before are otherwise than the books now say, and wait for a person" in words
    assert sent.exit_code == 2
    assert "has been sent" in call(command, "login", "--sandbox", "--shop", str(path)).output


def test_a_terminal_is_asked_and_no_is_the_default(shop: tuple[World, Path]) -> None:
    here, path = shop
    ours, theirs = pty.openpty()
    asked = subprocess.Popen(
        [sys.executable, "-m", "kash_pipeline.cli.main", "pennylane", "login", "--sandbox", "--shop", str(path)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.write(ours, b"\n")
    said, _ = asked.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert f"Send history from {FIRST}? [y/N]" in said
    assert asked.returncode == 0
    assert here.sandbox.admin.entries() == []


def test_the_callback_page_says_what_comes_next(shop: tuple[World, Path]) -> None:
    here, path = shop
    opened = load_shop(path)
    assert opened.pennylane is not None
    with consent(opened, here.engine, here.env) as attempt:
        offer = lambda: next_steps(opened, history_to_send(opened, here.engine, here.env))  # noqa: E731
        callback = Callback(attempt, opened.pennylane.redirect_url, offer)
        with serving(callback.app) as page:
            query = approve(attempt.url).partition("?")[2]
            shown = httpx.get(f"{page}/pennylane/callback?{query}").text
    assert "2 days from" in shown
    assert "The terminal where you logged in offers it" in shown
