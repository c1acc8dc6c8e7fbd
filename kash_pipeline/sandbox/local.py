"""The sandboxes as one child process of a command: started, waited for, and gone when the command is gone.

Only the life of that process and its made-up credentials belong here. What the servers answer is in kash/ and
pennylane/; what a command does with them is in cli/.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from kash_pipeline.sandbox.errors import SandboxError
from kash_pipeline.settings import Environment, ShopFile

READY = "sandbox ready: "
"""Starts the line that the child prints when both servers answer; a `Served` as JSON follows."""


@dataclass(frozen=True)
class Served:
    """What the sandbox Kash.click serves: counts, first and last business day, and what was left out of the file.

    `excluded` is the number of source rows per reason.
    """

    name: str
    shop_path: Path
    first: date
    last: date
    orders: int
    order_lines: int
    source_rows: int
    excluded: dict[str, int]

    def line(self) -> str:
        """The line for the parent process."""
        return READY + json.dumps(asdict(self), default=str)

    @classmethod
    def parse(cls, line: str) -> "Served":
        told = json.loads(line.removeprefix(READY))
        return cls(
            **told
            | {
                "shop_path": Path(told["shop_path"]),
                "first": date.fromisoformat(told["first"]),
                "last": date.fromisoformat(told["last"]),
            }
        )


@dataclass(frozen=True, repr=False)
class SandboxCredentials:
    """What the sandboxes accept; made once per machine, kept in `<home>/sandbox.json` (mode 0600)."""

    shop_id: str
    api_key: str
    client_id: str
    client_secret: str


def credentials(home: Path) -> SandboxCredentials:
    """Read, or make, the sandbox's credentials. Two processes at once end with the same ones."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "sandbox.json"
    if not file.exists():
        made = SandboxCredentials(
            shop_id="4711",
            api_key=secrets.token_urlsafe(24),
            client_id="kash-pipeline-sandbox",
            client_secret=secrets.token_urlsafe(24),
        )
        temporary = home / f".sandbox.json.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(asdict(made), stream)
        try:
            os.link(temporary, file)  # fails when another process was first: its file stays
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    try:
        return SandboxCredentials(**json.loads(file.read_text()))
    except (ValueError, TypeError):
        raise SandboxError(f"{file} is damaged", next_step=f"delete {file}; it is made anew") from None


def environment(shop: ShopFile, known: SandboxCredentials) -> dict[str, str]:
    """The environment variables that the shop file names, filled with the sandbox's credentials."""
    variables = {shop.source.shop_id_env: known.shop_id, shop.source.key_env: known.api_key}
    if shop.pennylane:
        variables |= {
            shop.pennylane.client_id_env: known.client_id,
            shop.pennylane.client_secret_env: known.client_secret,
        }
    return variables


@contextmanager
def running(data: str, *, rate_limit: bool = True) -> Iterator[Served]:
    """Both sandboxes in a child process for the time of the block.

    The child ends when its standard input closes, so it is gone even after a SIGKILL of the parent.
    Raises SandboxError with the child's own message (a port in use, an unknown data set).
    """
    command = [sys.executable, "-m", "kash_pipeline.cli.main", "sandbox", "--data", data, "--until-stdin-closes"]
    if not rate_limit:
        command.append("--no-rate-limit")
    home = Environment.read().home
    home.mkdir(parents=True, exist_ok=True)
    log = home / "sandbox.log"
    with log.open("w") as errors:  # a file, not a pipe: nobody reads it while the block runs
        child = subprocess.Popen(  # noqa: S603 our own command line, no shell
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    try:
        ready = next((line for line in child.stdout or () if line.startswith(READY)), None)
        if ready is None:
            child.wait()
            text, _, step = log.read_text().strip().removeprefix("kash-pipeline: ").partition("\n  next step: ")
            raise SandboxError(text or "the sandbox ended before it was ready", next_step=step or f"see {log}")
        yield Served.parse(ready)
    finally:
        try:
            child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
