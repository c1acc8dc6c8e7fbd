"""`kash-pipeline sandbox`: the stand-ins of Kash.click and PennyLane on loopback, until Ctrl-C.

Only starting them with a data set belongs here; what they answer is in sandbox/.
"""

import signal
import sys
import threading
from datetime import date
from typing import Any, Literal
from urllib.parse import urlsplit

import click

from kash_pipeline.pos.kash_api.dialects import DIALECTS
from kash_pipeline.sandbox import datasets, kash, local, pennylane
from kash_pipeline.sandbox.errors import SandboxError
from kash_pipeline.sandbox.pennylane import FiscalYear
from kash_pipeline.sandbox.recording import kept
from kash_pipeline.sandbox.server import serving
from kash_pipeline.settings import Environment, ShopFile, load_shop
from kash_pipeline.warehouse import database, server


def fiscal_years(shop: ShopFile, first: date, last: date) -> list[FiscalYear]:
    """The shop's fiscal years: the one before the data closed, then open ones to the year after the last day."""
    years = []
    start, finish = shop.fiscal_year_of(first)
    before = shop.fiscal_year_of(date.fromordinal(start.toordinal() - 1))
    years.append(FiscalYear(*before, "closed"))
    while start <= last:
        years.append(FiscalYear(start, finish, "open"))
        start, finish = shop.fiscal_year_of(date.fromordinal(finish.toordinal() + 1))
    years.append(FiscalYear(start, finish, "open"))
    return years


def _address(url: str, what: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost") or parts.port is None:
        raise SandboxError(
            f"the shop file names {url!r} for {what}: a sandbox is served on this machine only",
            next_step="use a shop file of shops/sandbox*.toml, or write an address such as http://127.0.0.1:8711",
        )
    return parts.hostname, parts.port


def _stop_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


@click.command()
@click.option("--data", default="bakery", show_default=True, help="bakery, or the path of a known data set.")
@click.option(
    "--rate-limit/--no-rate-limit", default=True, show_default=True, help="25 requests per 5 s, as PennyLane."
)
@click.option(
    "--dialect",
    type=click.Choice(sorted(DIALECTS)),
    default="english",
    show_default=True,
    help="How Kash.click writes its answers.",
)
@click.option(
    "--time-rule",
    type=click.Choice(["utc", "local"]),
    default="utc",
    show_default=True,
    help="Kash.click's times: with their offset, or on the shop's clock.",
)
@click.option("--headers-only", is_flag=True, help="Kash.click's list of orders has no lines: getOrder.php has them.")
@click.option("--until-stdin-closes", is_flag=True, help="Stop when standard input closes (for parent processes).")
def sandbox(
    data: str,
    rate_limit: bool,
    dialect: str,
    time_rule: Literal["utc", "local"],
    headers_only: bool,
    until_stdin_closes: bool,
) -> None:
    """Serve the sandbox Kash.click and PennyLane on the addresses of the data set's shop file (shops/sandbox.toml below
    the working directory, else the one shipped)."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    env = Environment.read()
    dataset = datasets.load(data)
    shop = load_shop(dataset.shop_path)
    if shop.source.url is None or shop.pennylane is None:
        raise SandboxError(
            f"{dataset.shop_path} names no Kash.click or no PennyLane", next_step="see shops/sandbox.toml"
        )
    known = local.credentials(env.home)
    engine = database.open_engine(server.database_url(env))
    kash_host, kash_port = _address(shop.source.url, "[source] url")
    books_host, books_port = _address(shop.pennylane.url, "[pennylane] url")
    till = kash.create_app(
        dataset,
        shop_id=known.shop_id,
        key=known.api_key,
        dialect=dialect,
        time_rule=time_rule,
        headers_only=headers_only,
    )
    options: dict[str, Any] = {} if rate_limit else {"limiter": None}
    books = pennylane.create_app(
        engine,
        company=shop.shop.name,
        clients={known.client_id: (known.client_secret, [shop.pennylane.redirect_url])},
        fiscal_years=fiscal_years(shop, dataset.first, dataset.last),
        **options,
    )
    with (
        serving(kept(till, "kash"), kash_host, kash_port) as kash_url,
        serving(kept(books, "pennylane"), books_host, books_port) as books_url,
    ):
        click.echo(f"Kash.click sandbox: {kash_url} ({dataset.name}, {dataset.first} to {dataset.last})")
        click.echo(f"PennyLane sandbox:  {books_url} ({shop.shop.name})")
        click.echo(
            local.Served(
                name=dataset.name,
                shop_path=dataset.shop_path,
                first=dataset.first,
                last=dataset.last,
                orders=len(dataset.facts.orders),
                order_lines=len(dataset.facts.order_lines),
                source_rows=dataset.source_rows,
                excluded={str(reason): int(n) for reason, n in dataset.excluded["reason"].value_counts().items()},
            ).line()
        )
        if until_stdin_closes:
            threading.Thread(target=_stop_at_end_of_input, args=[stop], daemon=True).start()
        stop.wait()
    engine.dispose()
