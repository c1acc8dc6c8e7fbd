"""Dagster resources: thin shells that open the plain objects of the packages below and close them when a run ends.

Only opening and closing belongs here. Assets receive the plain object (an engine, a lake, a source), so that a test
or a script passes its own instead. Secrets are named in the shop file or by EnvVar and read when a run starts.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import dagster as dg
import sqlalchemy as sa

# Dagster's class for a resource that gives assets another object than itself; documented, but not exported by name.
from dagster._config.pythonic_config import ConfigurableResourceFactory

from kash_pipeline import pennylane, pos
from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pos.port import Source
from kash_pipeline.reference.customers import keeper
from kash_pipeline.settings import Environment, load_shop
from kash_pipeline.warehouse import database, server
from kash_pipeline.warehouse.lake import Lake

OpenTill: TypeAlias = Callable[[], AbstractContextManager[Source]]
"""Opens the till for the time of a step: reaching it is no condition for starting a run that does more."""

OpenPennylane: TypeAlias = Callable[[sa.Engine], AbstractContextManager[PennylaneClient]]
"""Opens a client of the shop's company for the time of a step: facts and entries do without PennyLane."""


class WarehouseResource(ConfigurableResourceFactory[sa.Engine]):
    """The warehouse's engine with this version's tables. Without `url` the embedded server under `home` is started."""

    home: str
    url: str | None = None

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[sa.Engine]:
        engine = self.create_resource(context)
        try:
            database.upgrade(engine)
            yield engine
        finally:
            engine.dispose()

    def create_resource(self, context: dg.InitResourceContext) -> sa.Engine:
        environment = Environment(home=Path(self.home), lake_url="", database_url=self.url, shop_path=Path())
        return database.open_engine(server.database_url(environment))


class LakeResource(ConfigurableResourceFactory[Lake]):
    """The shop's part of the lake."""

    url: str
    shop_id: str

    def create_resource(self, context: dg.InitResourceContext) -> Lake:
        return Lake(self.url, self.shop_id)


class TillResource(ConfigurableResourceFactory[OpenTill]):
    """The till named by [source] of the shop file; every raw answer is kept in the lake."""

    shop_path: str
    lake_url: str

    def create_resource(self, context: dg.InitResourceContext) -> OpenTill:
        shop = load_shop(self.shop_path)
        lake = Lake(self.lake_url, shop.shop.id)
        return lambda: pos.open_source(shop, keep=keeper(lake), lake_url=self.lake_url)


class PennylaneResource(ConfigurableResourceFactory[OpenPennylane]):
    """The company that the shop is connected to; its secrets are those the shop file names."""

    shop_path: str
    home: str

    def create_resource(self, context: dg.InitResourceContext) -> OpenPennylane:
        shop = load_shop(self.shop_path)
        environment = Environment(home=Path(self.home), lake_url="", database_url=None, shop_path=Path(self.shop_path))
        return lambda engine: pennylane.connect(shop, engine, environment)
