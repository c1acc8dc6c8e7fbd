"""`kash-pipeline demo`: the sandboxes, a connection to the sandbox PennyLane, then exactly what `run` does.

Only putting the pieces in order belongs here: servers are sandbox/local.py, the chain is cli/run.py.
"""

import os
import sys
from contextlib import ExitStack
from datetime import date
from urllib.parse import urlsplit

import click
from rich.console import Console

from kash_pipeline import pennylane
from kash_pipeline.cli.console import console
from kash_pipeline.cli.options import Day
from kash_pipeline.cli.run import run_and_report
from kash_pipeline.pennylane.errors import ConnectAgain
from kash_pipeline.sandbox import local
from kash_pipeline.sandbox.errors import SandboxError
from kash_pipeline.sandbox.pennylane import approve
from kash_pipeline.settings import Environment, ShopFile, load_shop
from kash_pipeline.warehouse import database, server


@click.command()
@click.option("--data", default="bakery", show_default=True, help="bakery, or the path of a known data set.")
@click.option("--from", "first", type=Day(), help="First business day.  [default: the first of the data]")
@click.option("--to", "last", type=Day(), help="Last business day.  [default: the last of the data]")
@click.option(
    "--rate-limit/--no-rate-limit", default=True, show_default=True, help="25 requests per 5 s, as PennyLane."
)
@click.option("--verbose", is_flag=True, help="Show Dagster's log.")
def demo(data: str, first: date | None, last: date | None, rate_limit: bool, verbose: bool) -> None:
    """The whole chain on the sandbox shop: till data become entries in a (sandbox) PennyLane.

    Run again: nothing to post. Exit codes are those of `kash-pipeline run`.
    """
    env = Environment.read()
    out = console()
    with local.running(data, rate_limit=rate_limit) as served:
        shop = load_shop(served.shop_path)
        os.environ |= local.environment(shop, local.credentials(env.home)) | {"KASH_SHOP": str(served.shop_path)}
        out.print(
            f"till: {served.name}, {served.orders} orders with {served.order_lines} lines"
            f" ({served.source_rows} rows in the file)"
        )
        for reason, count in served.excluded.items():
            out.print(f"  left out by rule: {count} rows: {reason}")
        connect(shop, env, out)
        code = run_and_report(shop, env, first or served.first, last or served.last, verbose=verbose)
    out.print(
        "next: [bold]make demo[/bold] again (nothing to post), [bold]make ui[/bold] to look at it in Dagster,"
        " [bold]kash-pipeline --help[/bold] for the rest"
    )
    sys.exit(code)


def connect(shop: ShopFile, env: Environment, console: Console) -> None:
    """Log in to the sandbox PennyLane, unless the shop is connected already.

    The consent page is answered by a program: only ever on this machine's own sandbox.
    """
    if shop.pennylane is None or urlsplit(shop.pennylane.url).hostname not in ("127.0.0.1", "localhost"):
        raise SandboxError(
            f"{shop.path} does not name a sandbox PennyLane", next_step="use shops/sandbox.toml for the demo"
        )
    with ExitStack() as stack:
        engine = database.open_engine(server.database_url(env))
        stack.callback(engine.dispose)
        database.upgrade(engine)
        client = stack.enter_context(pennylane.connect(shop, engine, env))
        try:
            company = client.me().company_name
        except ConnectAgain:
            consent = stack.enter_context(pennylane.consent(shop, engine, env))
            company = consent.finish(approve(consent.url, company=shop.shop.name)).company_name
        console.print(f"PennyLane: connected to {company} by OAuth 2.0 (sandbox)")
