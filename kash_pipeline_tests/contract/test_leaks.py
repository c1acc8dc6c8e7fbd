"""The search for secrets (leaks.py) finds what is planted, in each kind of place, and then fails a session.

That the suite's own tests leave no secret behind is what leak_hooks.py says after each of them.
"""

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import psycopg
import pytest

from kash_pipeline.sandbox.recording import Exchange
from kash_pipeline_tests.end_to_end.machine import REPOSITORY
from kash_pipeline_tests.leaks import Watch

SECRET = 'tok/en+of a "planted" kind'
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def watch() -> Watch:
    made = Watch()
    made.know("access token", SECRET)
    return made


PLACES: dict[str, Callable[[Path], Any]] = {
    "a log file": lambda folder: (folder / "x.log").write_text(f"Bearer {SECRET}\n"),
    "an address": lambda folder: (folder / "x.txt").write_text("?key=tok%2Fen%2Bof+a+%22planted%22+kind&a=1"),
    "JSON as PHP writes it": lambda folder: (folder / "x.json").write_text(r'["tok\/en+of a \"planted\" kind"]'),
    "a page": lambda folder: (folder / "x.html").write_text("tok/en+of a &quot;planted&quot; kind"),
    "a packed raw answer": lambda folder: (folder / "x.gz").write_bytes(gzip.compress(SECRET.encode())),
    "a lake's file": lambda folder: pd.DataFrame({"a": ["", SECRET * 2]}).to_parquet(folder / "x.parquet"),
    "a key file others can read": lambda folder: (folder / "secret.key").write_text(SECRET),
}


@pytest.mark.parametrize("plant", PLACES.values(), ids=PLACES.keys())
def test_a_secret_in_a_file_is_found(watch: Watch, tmp_path: Path, plant: Callable[[Path], Any]) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "harmless.txt").write_text("nothing")
    watch.search_folder(tmp_path)
    assert watch.found == []
    plant(tmp_path / "deep")
    watch.search_folder(tmp_path)
    assert len(watch.found) == 1
    assert "deep/" in watch.found[0]
    assert SECRET not in watch.found[0]
    (tmp_path / "deep" / "secret.key").unlink(missing_ok=True)  # the suite's own search is still to come


def test_a_key_file_that_only_its_owner_reads_may_hold_its_key(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("the key of the store\n")
    (tmp_path / "secret.key").chmod(0o600)
    watch = Watch()
    watch.learn_files(tmp_path)
    watch.search_folder(tmp_path)
    assert (watch.now, watch.found) == ({"the key of the store": "key of the token store"}, [])


def test_a_secret_in_a_database_is_found_as_text_and_as_bytes(watch: Watch, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create schema sandbox_pennylane")
        for table, kind in (("public.a", "jsonb"), ("public.b", "bytea"), ("sandbox_pennylane.c", "text")):
            connection.execute(f"create table {table} (x {kind})")
        connection.execute("insert into public.a values (jsonb_build_object('token', %s::text))", [SECRET])
        connection.execute("insert into public.b values (%s)", [SECRET.encode()])
        connection.execute("insert into sandbox_pennylane.c values (%s)", [SECRET])
    watch.search_database(database_url)
    assert [line.rpartition("teardown: ")[2].rpartition("public.")[2] for line in watch.found] == [
        "a: access token",
        "b: access token",
    ]


def test_a_secret_in_an_event_of_dagster_is_found(watch: Watch) -> None:
    @dg.op
    def talks(context: dg.OpExecutionContext) -> None:
        context.log.warning("asking with %s", SECRET)

    @dg.job
    def careless() -> None:
        talks()

    with dg.DagsterInstance.ephemeral() as instance:
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        careless.execute_in_process(instance=instance, run_config=quiet)
        watch.search_dagster(instance)
    assert [line.rpartition("Dagster's ")[2] for line in watch.found] == ["event_logs: access token"]


def test_what_is_said_to_a_sandbox_and_by_it_is_learned() -> None:
    watch = Watch()
    sent = b"grant_type=refresh_token&client_secret=secret-of-the-client&refresh_token=refresh-old-one"
    body = b'{"access_token": "access-new-one", "refresh_token": "refresh-new-one"}'
    watch.learn(Exchange("POST", "/oauth/token", "", FORM, sent, 200, {}, body, True))
    back = {"location": "http://127.0.0.1/callback?code=code-of-a-consent&state=state-of-a-consent"}
    watch.learn(Exchange("POST", "/oauth/authorize", "", FORM, b"client_id=known", 302, back, b"", True))
    watch.learn(Exchange("GET", "/me", "", {"authorization": "Bearer company-token-1"}, b"", 200))
    watch.learn(Exchange("GET", "/workers/getOrders.php", "idboutique=1&key=key%2Fof+a+shop", {}, b"", 200))
    assert set(watch.now) == {
        "secret-of-the-client", "refresh-old-one", "access-new-one", "refresh-new-one", "code-of-a-consent",
        "company-token-1", "key/of a shop",
    }  # fmt: skip


def test_a_session_that_leaves_a_secret_behind_fails_and_says_where(tmp_path: Path) -> None:
    """With a worker of xdist: what it finds must reach the controller."""
    (tmp_path / "conftest.py").write_text(
        "from kash_pipeline_tests.leak_hooks import *  # noqa\n"
        "from kash_pipeline_tests.leak_hooks import WATCH\n"
        "import pytest\n"
        "@pytest.fixture(autouse=True)\n"
        "def issued(): WATCH.know('access token', 'issued-by-the-test')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import logging\n"
        "def test_careful(): logging.info('a token: ***')\n"
        "def test_careless(): logging.info('a token: %s', 'issued-by-the-test')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "1", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
    assert "test_it.py::test_careless: log: access token" in ran.stdout
    assert "test_careful" not in ran.stdout
    assert "issued-by-the-test" not in ran.stdout
