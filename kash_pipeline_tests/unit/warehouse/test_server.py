"""The embedded server: whatever is killed, at whatever moment, the next start needs no hand."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from kash_pipeline.settings import Environment
from kash_pipeline.warehouse import embedded, server
from kash_pipeline.warehouse.errors import ServerError

# Prints a line with the server's pid once it answers, then waits for its standard input to be closed.
USER = """
import sys
from pathlib import Path
from kash_pipeline.settings import Environment
from kash_pipeline.warehouse import server
import psycopg
home = Path(sys.argv[1])
url = server.database_url(Environment(home=home, lake_url="", database_url=None, shop_path=Path("x")))
with psycopg.connect(url) as connection:
    connection.execute("select 1")
print((home / "pg/postmaster.pid").read_text().split()[0], flush=True)
sys.stdin.read()
"""


_users: list[subprocess.Popen[str]] = []


@pytest.fixture
def home() -> Iterator[Path]:
    """A KASH_HOME yet to be made; what a failed test left running is ended."""
    with tempfile.TemporaryDirectory(prefix="kp-") as folder:
        yield Path(folder) / "home"
        for user in _users:
            if user.poll() is None:
                user.kill()
                user.communicate()
        _users.clear()
        stop_server(Path(folder) / "home")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A cluster in good order, to be copied: initdb is most of a first start."""
    with tempfile.TemporaryDirectory(prefix="kp-") as folder:
        embedded.url_of(Path(folder) / "pg")
        embedded.stop(Path(folder) / "pg")
        yield Path(folder) / "pg"


@pytest.fixture
def used(home: Path, cluster: Path) -> Path:
    """A KASH_HOME that was used before; nothing runs."""
    home.mkdir()
    subprocess.run(["cp", "-a", str(cluster), str(home / "pg")], check=True)
    return home


def ask(home: Path) -> str:
    """The URL, from this process."""
    return server.database_url(Environment(home, "", None, Path("x")))


def stop_server(home: Path) -> None:
    process = server_of(home)
    if process is not None:
        process.send_signal(signal.SIGQUIT)
        process.wait(20)


def server_of(home: Path) -> psutil.Process | None:
    """The running server of this home, by its postmaster.pid."""
    try:
        process = psutil.Process(int((home / "pg/postmaster.pid").read_text().split()[0]))
        return process if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, IndexError, psutil.NoSuchProcess):
        return None


def start(home: Path) -> subprocess.Popen[str]:
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _users.append(user)
    return user


def finish(process: subprocess.Popen[str]) -> str:
    """End a user in good order; what it printed."""
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors == ""
    return out.strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def wait_until_gone(process: psutil.Process) -> None:
    psutil.wait_procs([process], timeout=30)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_given_database_is_used_as_it_is(tmp_path: Path) -> None:
    environment = Environment(tmp_path, "", "postgresql://somewhere/books", Path("x"))
    assert server.database_url(environment) == "postgresql://somewhere/books"
    assert os.listdir(tmp_path) == []


def test_processes_that_start_at_once_share_one_server_and_the_last_stops_it(home: Path) -> None:
    """From nothing: both would run initdb in the same directory."""
    users = [start(home) for _ in range(4)]
    pids = [user.stdout.readline().strip() for user in users if user.stdout]
    assert len(set(pids)) == 1
    running = server_of(home)
    assert running is not None
    for user in users[:-1]:
        finish(user)
        assert running.is_running()
    finish(users[-1])
    wait_until_gone(running)


def test_a_killed_user_keeps_neither_the_lock_nor_the_server(used: Path) -> None:
    first = start(used)
    assert first.stdout is not None
    pid = first.stdout.readline().strip()
    kill(first)
    running = server_of(used)
    assert running is not None
    # The server went on; the next user joins it and, being the last alive, stops it.
    assert finish(start(used)) == pid
    wait_until_gone(running)


def test_a_killed_server_is_started_again_with_what_it_held(used: Path) -> None:
    """SIGKILL leaves postmaster.pid, the socket and its lock, and shared memory behind.

    A daemon lives longer than its database: asking for the URL again is enough.
    """
    url = ask(used)
    with psycopg.connect(url) as connection:
        connection.execute("create table kept (n int)")
    busy = psycopg.connect(url)
    busy.execute("begin")
    for _ in range(2):
        killed = server_of(used)
        assert killed is not None
        killed.kill()
        assert ask(used) == url
        with psycopg.connect(url) as connection:
            assert connection.execute("select count(*) from kept").fetchone() == (0,)
    killed = server_of(used)
    assert killed is not None
    killed.kill()
    assert finish(start(used)) != str(killed.pid)
    busy.close()
    embedded.stop(used / "pg")


def test_killed_at_any_moment_of_the_first_start(home: Path) -> None:
    """initdb cut short must not leave a half cluster that every later start takes for whole."""
    moments = random.Random(20260328)
    for _ in range(4):
        user = start(home)
        time.sleep(moments.uniform(0.3, 1.8))  # the moment of the kill, not a wait for something
        kill(user)
    assert finish(start(home)) != ""


def test_a_stale_postmaster_pid_is_seen_through(used: Path) -> None:
    """After a container's restart the pid in it is somebody else's: here it is this test's."""
    whole = "{pid}\n{pgdata}\n1774000000\n5432\n{pgdata}\n\n  12345   67890\nready   \n"
    dead = whole.replace("{pid}", "4194304")
    for content in (whole, dead, "{pid}\n{pgdata}\n", ""):
        (used / "pg/postmaster.pid").write_text(content.format(pid=os.getpid(), pgdata=used / "pg"))
        with psycopg.connect(ask(used)) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        embedded.stop(used / "pg")
        assert server_of(used) is None


@pytest.mark.parametrize("count", ["[12, 3", "[4194301, 4194302]"], ids=["cut-short", "dead"])
def test_a_wrong_count_of_users_neither_hinders_nor_keeps_the_server(used: Path, count: str) -> None:
    (used / "pg/.handle_pids.json").write_text(count)
    user = start(used)
    assert user.stdout is not None
    user.stdout.readline()
    assert json.loads((used / "pg/.handle_pids.json").read_text()) == [user.pid]
    running = server_of(used)
    assert running is not None
    finish(user)
    wait_until_gone(running)


def test_a_deep_directory_with_spaces_works(home: Path) -> None:
    """A socket's path is limited to 107 characters, a project's is not."""
    for deep in (home / "Bilans et comptes d'été" / "100 %", home / ("a" * 60) / ("b" * 60)):
        with psycopg.connect(ask(deep)) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        embedded.stop(deep / "pg")
        assert server_of(deep) is None


def test_a_directory_moved_with_its_server_running(used: Path) -> None:
    """A second server on the same files would destroy them; the old one's socket cannot be reached."""
    user = start(used)
    assert user.stdout is not None
    old = psutil.Process(int(user.stdout.readline().strip()))
    moved = used.parent / "moved"
    used.rename(moved)
    with psycopg.connect(ask(moved)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    wait_until_gone(old)
    kill(user)
    embedded.stop(moved / "pg")
    assert server_of(moved) is None


def test_a_directory_deleted_with_its_server_running(used: Path) -> None:
    """`rm -rf .kash` while the UI runs: the next start begins anew."""
    user = start(used)
    assert user.stdout is not None
    old = psutil.Process(int(user.stdout.readline().strip()))
    shutil.rmtree(used)
    with psycopg.connect(ask(used)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    wait_until_gone(old)
    embedded.stop(used / "pg")
    shutil.rmtree(used)
    finish(user)
    assert not used.exists()  # its end does not bring the directory back


def test_a_directory_that_is_no_cluster_is_not_touched(home: Path) -> None:
    (home / "pg").mkdir(parents=True)
    (home / "pg/thesis.txt").write_text("mine")
    with pytest.raises(ServerError, match="no PostgreSQL cluster") as caught:
        ask(home)
    assert "KASH_HOME" in caught.value.next_step
    assert (home / "pg/thesis.txt").read_text() == "mine"


def test_a_server_that_cannot_start_says_why(used: Path) -> None:
    (used / "pg/postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(ServerError, match="no_such_setting") as caught:
        ask(used)
    assert "KASH_DATABASE_URL" in caught.value.next_step
