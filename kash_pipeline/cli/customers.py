"""`kash-pipeline customers forget ID`: a person who asks to be forgotten.

Only asking and telling belongs here; what is removed is kash_pipeline/reference/customers.py.
"""

from datetime import UTC, datetime
from pathlib import Path

import click

from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.reference.customers import forget as forget_customer
from kash_pipeline.warehouse.lake import Lake


@click.group()
def customers() -> None:
    """Personal data of the till's named customers."""


@customers.command(short_help="Remove what says who a customer is.")
@click.argument("customer_id")
@shop_option
def forget(customer_id: str, shop_path: Path | None) -> None:
    """Remove what says who customer CUSTOMER_ID (the till's number) is. Entries keep the number."""
    with opened(shop_path) as (shop, engine, env):
        lake = Lake(env.lake_url, shop.shop.id)
        done = forget_customer(engine, lake, shop, customer_id, lake_url=env.lake_url, now=datetime.now(UTC))
    click.echo(f"customer {customer_id} is forgotten here and stays so when the till lists them again")
    click.echo(
        f"  {done.redacted} raw answers no longer name them, {done.emptied} of them emptied; each keeps its hash and "
        "says so"
    )
    if done.days:
        click.echo(f"  {done.days} days of remembered orders were dropped: they are read again when needed")
    click.echo(
        f"  {done.entries} entries keep the number {customer_id}: accounts are kept ten years (Code de commerce, art. "
        "L123-22), which the right to erasure does not reach (GDPR art. 17(3)(b))"
    )
    if done.in_pennylane:
        click.echo("  PennyLane keeps its customer and account for the same reason: nothing was changed there")
    click.echo("  in the till itself, and in files it exported, delete the customer there")
    for path in done.unreadable:
        click.echo(f"  could not be read, look at it: {path}", err=True)
    if done.unreadable:
        raise SystemExit(2)
