"""A `KashApiSource` as a shop file describes it: address, credentials, dialect, memory, control totals.

Only putting the parts together belongs here. What the settings mean is told where they are used (source.py,
dialects.py); where the key rests is credentials.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date

import pandas as pd

from kash_pipeline.pos.errors import SourceRefused
from kash_pipeline.pos.kash_api import credentials, events, mapping
from kash_pipeline.pos.kash_api.client import KashClient
from kash_pipeline.pos.kash_api.dialects import DIALECTS, Dialect
from kash_pipeline.pos.kash_api.memory import FileMemory
from kash_pipeline.pos.kash_api.source import KashApiSource
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.schemas.facts import REGISTERS
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.lake import Lake


@contextmanager
def kash_client(
    shop: ShopFile,
    *,
    keep: Callable[[RawDocument], None] | None = None,
    dialect: Dialect | None = None,
    environment: Environment | None = None,
) -> Iterator[KashClient]:
    """A client with the shop's credentials: those of the environment, else those of `kash-pipeline kash login`.

    Raises SettingsError when there are none.
    """
    settings = shop.source
    known = credentials.find(shop, environment or Environment.read())
    with KashClient(
        str(settings.url),
        known.shop_id,
        known.key,
        keep=keep,
        key_name=known.where,
        exact=(dialect or DIALECTS[settings.dialect]).numbers,
        more_reads=frozenset([settings.closings_script] if settings.closings_script else []),
    ) as client:
        yield client


@contextmanager
def kash_source(
    shop: ShopFile, *, keep: Callable[[RawDocument], None] | None = None, lake_url: str
) -> Iterator[KashApiSource]:
    """The source of a shop file with `kind = "kash_api"`."""
    settings = shop.source
    with kash_client(shop, keep=keep) as client:
        pushed = _pushed(shop, client, Lake(lake_url, shop.shop.id)) if settings.closings_from_webhook else None
        yield KashApiSource(
            client,
            zone=shop.zone,
            day_starts_at=shop.shop.day_starts_at,
            window_days=settings.window_days,
            closings_script=settings.closings_script,
            pushed_closings=pushed,
            dialect=DIALECTS[settings.dialect],
            time_rule=settings.time_rule,
            detail=settings.order_detail,
            parallel=settings.parallel,
            memory=FileMemory(lake_url, shop.shop.id, Lake(lake_url, shop.shop.id).forgotten()),
            control_totals=settings.control_totals,
            evidence=settings.evidence,
        )


def _pushed(shop: ShopFile, client: KashClient, lake: Lake) -> Callable[[date, date], dict[str, pd.DataFrame]]:
    """Closings that the webhook received, for a shop with one register: the event names none."""

    def closings(first: date, last: date) -> dict[str, pd.DataFrame]:
        form = mapping.Form(DIALECTS[shop.source.dialect])
        listed = form.dialect.unwrap(mapping.CASHBOX.call, client.read(mapping.CASHBOX.call, {"format": "json"}))
        registers = mapping.plain(listed, mapping.CASHBOX, REGISTERS, mapping.Drift(), form)["register_id"].tolist()
        if len(registers) != 1:
            raise SourceRefused(
                f"closings_from_webhook: a closing event names no register, and the shop has {len(registers)}",
                next_step="take it out of [source]; closings of several registers need a closings_script",
            )
        bodies = [
            lake.read_raw(meta["path"])
            for meta in lake.raw(f"{events.CALL}.{events.CLOSE}")
            if meta["day"] is not None and first <= date.fromisoformat(meta["day"]) <= last
        ]
        return {"closings": events.closings(bodies, registers[0], shop.zone, shop.shop.day_starts_at)}

    return closings
