"""The demo as a newcomer types it: real processes, real Dagster runs, real PostgreSQL, real HTTP."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from kash_pipeline.warehouse import embedded

REPOSITORY = Path(__file__).resolve().parents[2]
DAYS = ["--from", "2026-03-01", "--to", "2026-03-03"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Machine:
    """A fresh machine: a folder with the shop file on free ports, and a home of its own."""

    folder: Path
    database_url: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KASH_", "DAGSTER_"))}
        return kept | {"KASH_HOME": str(self.folder / "home")} | self.secrets()

    def secrets(self) -> dict[str, str]:
        """The variables of the shop file with the sandbox's credentials, once a demo has made them."""
        file = self.folder / "home" / "sandbox.json"
        if not file.exists():
            return {}
        known = json.loads(file.read_text())
        return {
            "KASH_SHOP_ID": known["shop_id"],
            "KASH_API_KEY": known["api_key"],
            "PENNYLANE_CLIENT_ID": known["client_id"],
            "PENNYLANE_CLIENT_SECRET": known["client_secret"],
        }

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "kash_pipeline.cli.main", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*words)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def piece_numbers(self) -> Counter[str]:
        """How often each piece number stands in the sandbox's ledger."""
        with psycopg.connect(embedded.url_of(self.folder / "home" / "pg")) as connection:
            rows = connection.execute("select piece_number from sandbox_pennylane.entries").fetchall()
        return Counter(row[0] for row in rows)

    def entry_keys(self) -> set[str]:
        with psycopg.connect(embedded.url_of(self.folder / "home" / "pg")) as connection:
            return {row[0] for row in connection.execute("select entry_key from kash.entries")}


@pytest.fixture
def machine() -> Iterator[Machine]:
    # A short path: pytest's own temporary folders are too deep for PostgreSQL's socket.
    with TemporaryDirectory(prefix="kd-") as name:
        folder = Path(name)
        shop = (REPOSITORY / "shops" / "sandbox.toml").read_text()
        for port in ("8711", "8712"):
            shop = shop.replace(port, str(free_port()))
        (folder / "shops").mkdir()
        (folder / "shops" / "sandbox.toml").write_text(shop)
        found = Machine(folder)
        yield found
        embedded.stop(folder / "home" / "pg")


def test_days_are_posted_once_then_nothing_and_an_unreachable_till_loses_nothing(machine: Machine) -> None:
    first = machine.run("demo", *DAYS, "--no-rate-limit")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "DIFFERENT" not in first.stdout
    assert re.search(r"\d+ entries posted and read back", first.stdout)
    posted = machine.piece_numbers()
    assert set(posted) == machine.entry_keys()
    assert set(posted.values()) == {1}

    second = machine.run("demo", *DAYS, "--no-rate-limit")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "nothing to post" in second.stdout
    assert machine.piece_numbers() == posted

    # The sandboxes are gone now: the run names the server that does not answer, and the books stay as they are.
    keys = machine.entry_keys()
    failed = machine.run("run", "--shop", "shops/sandbox.toml", *DAYS)
    assert failed.returncode == 1
    assert "127.0.0.1" in failed.stderr
    assert "next step:" in failed.stderr
    assert "Traceback" not in failed.stderr
    for name in ("KASH_API_KEY", "PENNYLANE_CLIENT_SECRET"):
        assert machine.secrets()[name] not in first.stdout + first.stderr + failed.stderr + failed.stdout
    assert (machine.piece_numbers(), machine.entry_keys()) == (posted, keys)


def test_a_killed_demo_goes_on_where_it_was(machine: Machine) -> None:
    """SIGKILL in the middle of publishing: no server is left behind, the next run posts the rest, nothing twice."""
    process = machine.start("demo", *DAYS)  # with the rate limit, so that publishing takes a while
    assert process.stdout is not None
    for line in process.stdout:
        if "entries: accounting/entries" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = machine.run("demo", *DAYS, "--no-rate-limit")
    assert again.returncode == 0, again.stdout + again.stderr
    posted = machine.piece_numbers()
    assert set(posted) == machine.entry_keys()
    assert set(posted.values()) == {1}


def test_a_port_in_use_is_named_and_nothing_is_started(machine: Machine) -> None:
    shop = (machine.folder / "shops" / "sandbox.toml").read_text()
    port = int(re.findall(r"127\.0\.0\.1:(\d+)/workers", shop)[0])
    with socket.create_server(("127.0.0.1", port)):
        failed = machine.run("demo", *DAYS)
    assert failed.returncode == 1
    assert f"port {port}" in failed.stderr
    assert "next step:" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo", "--data", "nowhere.csv"], "nowhere.csv"),
        (["run", "--shop", "none.toml", *DAYS], "none.toml"),
        (["run", "--shop", "shops/sandbox.toml", "--from", "2026-03-03", "--to", "2026-03-01"], "before --from"),
    ],
)
def test_wrong_input_is_answered_with_the_next_step(machine: Machine, words: list[str], said: str) -> None:
    failed = machine.run(*words)
    assert failed.returncode == 1
    assert said in failed.stderr
    assert "next step:" in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
