"""`kash-pipeline held`: the register-days that wait, each with the next step.

Only reading and printing; what holds a day is decided in accounting/.
"""

from datetime import date
from pathlib import Path

import click
import pandas as pd
from rich.table import Table

from kash_pipeline.cli.console import console
from kash_pipeline.settings import Environment, load_shop
from kash_pipeline.warehouse import database, server, windows


@click.command()
@click.option("--shop", "shop_path", type=click.Path(path_type=Path), help="Shop file; default: KASH_SHOP.")
def held(shop_path: Path | None) -> None:
    """Days that wait, with the next step for each.

    Exit code 0 when nothing waits, 2 when something does.
    """
    env = Environment.read()
    shop = load_shop(shop_path or env.shop_path)
    engine = database.open_engine(server.database_url(env))
    database.upgrade(engine)
    with engine.connect() as connection:
        frame = windows.read_days(connection, "held", shop.shop.id, date.min, date.max)
    out = console()
    if frame.empty:
        out.print(f"{shop.shop.name}: nothing is held")
        return
    table = Table(title=f"{shop.shop.name}: {len(frame)} reasons hold {held_days(frame)} register-days")
    for name in ("business day", "register", "reason", "what", "next step"):
        table.add_column(name, overflow="fold")
    for row in frame.itertuples():
        table.add_row(f"{row.business_day:%Y-%m-%d}", row.register_id, row.reason, row.what, row.next_step)
    out.print(table)
    raise SystemExit(2)


def held_days(frame: pd.DataFrame) -> int:
    """Number of different register-days in a frame of held reasons."""
    return len(frame[["business_day", "register_id"]].drop_duplicates())
