"""Reading tills: `open_source` gives the adapter a shop file asks for, behind the port of port.py.

Only the choice of adapter belongs here; each adapter is a module of its own, imported when it is chosen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kash_pipeline.pos.errors import PosError
from kash_pipeline.pos.port import RawDocument, Source
from kash_pipeline.settings import ShopFile, secret

__all__ = ["open_source"]


@contextmanager
def open_source(shop: ShopFile, *, keep: Callable[[RawDocument], None] | None = None) -> Iterator[Source]:
    """The shop's till, open for the time of the block; `keep` receives every raw answer.

    Raises SettingsError when an environment variable the shop file names is unset, PosError for a kind without adapter.
    """
    settings = shop.source
    if settings.kind == "files":
        from kash_pipeline.pos.files import FilesSource

        yield FilesSource(shop.source_path(), keep=keep)
    elif settings.kind == "kash_api":
        from kash_pipeline.pos.kash_api import KashApiSource, KashClient

        with KashClient(
            str(settings.url),
            secret(settings.shop_id_env, used_for="the shop id of Kash.click"),
            secret(settings.key_env, used_for="the API key of Kash.click"),
            keep=keep,
            key_name=settings.key_env,
            more_reads=frozenset([settings.closings_script] if settings.closings_script else []),
        ) as client:
            yield KashApiSource(
                client,
                zone=shop.zone,
                day_starts_at=shop.shop.day_starts_at,
                window_days=settings.window_days,
                closings_script=settings.closings_script,
            )
    else:
        raise PosError(
            f'{shop.path}: kind = "{settings.kind}" in [source] has no adapter in this version',
            next_step='use kind = "kash_api" or kind = "files"',
        )
