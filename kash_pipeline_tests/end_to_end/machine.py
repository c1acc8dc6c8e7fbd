"""A fresh machine for end-to-end tests: the sandbox shop on free ports, a home of its own, real processes."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from kash_pipeline.sandbox.recording import TRAFFIC_VARIABLE
from kash_pipeline.warehouse import embedded
from kash_pipeline_tests.contract.checking import judge_traffic
from kash_pipeline_tests.leaks import WATCH

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Machine:
    """A fresh machine: a folder with the shop file on free ports, and a home of its own.

    `told` is what its commands printed; `traffic` is where its sandboxes keep what they were asked and answered.
    """

    folder: Path
    database_url: str | None = None
    told: list[str] = field(default_factory=list)

    @property
    def traffic(self) -> Path:
        return self.folder / "traffic"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KASH_", "DAGSTER_"))}
        own = {"KASH_HOME": str(self.folder / "home"), TRAFFIC_VARIABLE: str(self.traffic)}
        return kept | own | self.secrets()

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
        self.told += [out, err]
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def leave(self) -> None:
        """Hold what its sandboxes heard and said against the contract; search all that is left for secrets."""
        judge_traffic(self.traffic)
        WATCH.learn_files(self.folder)
        WATCH.search_folder(self.folder)
        WATCH.search("printed", [text.encode() for text in self.told])
        if (self.folder / "home" / "pg").exists():
            WATCH.search_server(embedded.url_of(self.folder / "home" / "pg"))
            WATCH.search("log of PostgreSQL", [(self.folder / "home" / "pg" / "log").read_bytes()])

    def piece_numbers(self) -> Counter[str]:
        """How often each piece number stands in the sandbox's ledger."""
        with psycopg.connect(embedded.url_of(self.folder / "home" / "pg")) as connection:
            rows = connection.execute("select piece_number from sandbox_pennylane.entries").fetchall()
        return Counter(row[0] for row in rows)

    def entry_keys(self) -> set[str]:
        with psycopg.connect(embedded.url_of(self.folder / "home" / "pg")) as connection:
            return {row[0] for row in connection.execute("select entry_key from kash.entries")}


@contextmanager
def fresh_machine() -> Iterator[Machine]:
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
        found.leave()
        embedded.stop(folder / "home" / "pg")
