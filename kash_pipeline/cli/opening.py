"""The shop a command is about, with its database open: the option that names it and the block it is open in.

Only opening and closing belongs here; what a command does with them is the command's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import sqlalchemy as sa

from kash_pipeline.settings import Environment, ShopFile, load_shop
from kash_pipeline.warehouse import database, server

shop_option = click.option(
    "--shop", "shop_path", type=click.Path(path_type=Path), help="Shop file.  [default: KASH_SHOP]"
)


@contextmanager
def opened(shop_path: Path | None) -> Iterator[tuple[ShopFile, sa.Engine, Environment]]:
    """The shop (default: that of KASH_SHOP), an engine on its up-to-date database, and where all else is kept.

    Raises SettingsError for a shop file that cannot be used, and the warehouse's errors.
    """
    env = Environment.read()
    shop = load_shop(shop_path or env.shop_path)
    engine = database.open_engine(server.database_url(env))
    try:
        database.upgrade(engine)
        yield shop, engine, env
    finally:
        engine.dispose()
