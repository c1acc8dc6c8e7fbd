"""`make clean`, which nothing else runs."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
START_AND_DIE = """
import os, signal
from pathlib import Path
from kash_pipeline.warehouse import embedded
embedded.url_of(Path(".kash/pg"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_clean_stops_a_server_that_killed_commands_left_running(tmp_path: Path) -> None:
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    killed = subprocess.run([sys.executable, "-c", START_AND_DIE], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    server = psutil.Process(int((tmp_path / ".kash/pg/postmaster.pid").read_text().split()[0]))
    try:
        subprocess.run(["make", "--file", str(REPOSITORY / "Makefile"), "clean"], cwd=tmp_path, check=True)
        # A container without an init leaves a process that has ended as a zombie.
        assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    finally:
        with suppress(psutil.NoSuchProcess):
            server.kill()
    assert list(tmp_path.iterdir()) == []
