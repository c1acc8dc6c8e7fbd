"""`kash-pipeline customers forget ID`: a person who asks to be forgotten.

Only asking and telling belongs here; what is removed is kash_pipeline/reference/customers.py.
"""

from pathlib import Path

import click

from kash_pipeline.reference.customers import forget as forget_customer
from kash_pipeline.settings import Environment, load_shop
from kash_pipeline.warehouse import database, server
from kash_pipeline.warehouse.lake import Lake


@click.group()
def customers() -> None:
    """Personal data of the till's named customers."""


@customers.command()
@click.argument("customer_id")
@click.option("--shop", "shop_path", type=click.Path(path_type=Path), help="Shop file.  [default: KASH_SHOP]")
def forget(customer_id: str, shop_path: Path | None) -> None:
    """Remove what says who customer CUSTOMER_ID (the till's number) is. Entries keep the number."""
    env = Environment.read()
    shop = load_shop(shop_path or env.shop_path)
    engine = database.open_engine(server.database_url(env))
    try:
        database.upgrade(engine)
        done = forget_customer(engine, Lake(env.lake_url, shop.shop.id), shop, customer_id)
    finally:
        engine.dispose()
    click.echo(f"customer {customer_id} is forgotten here and stays so when the till lists them again")
    click.echo(f"  {done.entries} entries keep the number {customer_id}, as the law on accounts asks (ten years)")
    if done.in_pennylane:
        click.echo(
            "  PennyLane keeps its customer and account: they belong to entries; ask the accountant to archive them"
        )
    click.echo("  raw answers of the till are vouchers and stay; in the till itself delete the customer there")
