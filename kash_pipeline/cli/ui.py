"""`kash-pipeline ui`: sandboxes, Dagster's webserver and daemon, all ended together by Ctrl-C.

Only starting and stopping processes belongs here; what Dagster shows is definitions.py.
"""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import click

from kash_pipeline.cli.console import console
from kash_pipeline.cli.demo import connect
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.sandbox import local
from kash_pipeline.settings import Environment, load_shop
from kash_pipeline.warehouse import server


class UiError(KashPipelineError):
    """Dagster's UI could not be started, or ended by itself."""


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise UiError(
            f"port {port} of {host} cannot be used: {error.strerror}",
            next_step=f"stop what uses it (`ss -ltnp 'sport = :{port}'` names it), or give another --port",
        ) from None


@click.command()
@click.option("--data", default="bakery", show_default=True, help="Sandbox data: bakery, or the path of a known set.")
@click.option("--shop", "shop_path", type=click.Path(path_type=Path), help="A real shop's file: no sandbox is started.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, help="Port of the UI.")
def ui(data: str, shop_path: Path | None, host: str, port: int) -> None:
    """Dagster's UI with webserver, daemon and the sandboxes; Ctrl-C stops all of them."""
    # Before anything is started: an interrupt in the middle must find the same way out.
    # SIGINT too: a shell that starts us in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    _check_free(host, port)
    env = Environment.read()
    out = console()
    with ExitStack() as stack:
        if shop_path is None:
            served = stack.enter_context(local.running(data))
            shop = load_shop(served.shop_path)
            os.environ |= local.environment(shop, local.credentials(env.home)) | {"KASH_SHOP": str(served.shop_path)}
            connect(shop, env, out)
        else:
            shop = load_shop(shop_path)
            os.environ["KASH_SHOP"] = str(shop_path.absolute())
        from kash_pipeline.defs.instance import prepare_home

        # This process holds the embedded server for all the others, so it outlives them.
        server.database_url(env)
        prepare_home(env)
        command = [
            *(sys.executable, "-m", "dagster", "dev", "--module-name", "kash_pipeline.definitions"),
            *("--host", host, "--port", str(port), "--log-level", "warning"),
        ]
        log = env.home / "ui.log"
        with log.open("w") as output:  # every run's events go there: a terminal would show nothing else
            child = subprocess.Popen(  # noqa: S603 our own command line, no shell
                command, stdout=output, stderr=output, start_new_session=True
            )
        stack.callback(_end, child)
        out.print(
            f"[bold]{shop.shop.name}[/bold]: Dagster's UI on http://{host}:{port} in some ten seconds"
            f" (log: {log}); Ctrl-C stops everything"
        )
        try:
            code = child.wait()
        except KeyboardInterrupt:
            out.print("stopping")
            return
    raise UiError(f"dagster dev ended by itself with code {code}", next_step=f"read {log}")


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Ask Dagster's processes to stop, then make sure that none of the group is left."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGINT)  # the whole group, as a terminal does: dev alone waits for the others
        with suppress(subprocess.TimeoutExpired):
            child.wait(20)
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()
