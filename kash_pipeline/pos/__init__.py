"""Reading tills: `open_source` gives the adapter a shop file asks for, behind the port of port.py.

Only the choice of adapter and its settings belongs here; each adapter is a module of its own, imported when chosen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kash_pipeline.pos.port import RawDocument, Source
from kash_pipeline.settings import Environment, ShopFile

__all__ = ["open_source"]


@contextmanager
def open_source(
    shop: ShopFile, *, keep: Callable[[RawDocument], None] | None = None, lake_url: str | None = None
) -> Iterator[Source]:
    """The shop's till, open for the time of the block; `keep` receives every raw answer.

    `lake_url` (default: that of the environment) is where an adapter remembers what it read of each order.
    Raises SettingsError when neither an environment variable nor a login gives what the till asks for, FilesError when
    a file cannot be read.
    """
    settings = shop.source
    if settings.kind == "files":
        from kash_pipeline.pos.files import FilesSource
        from kash_pipeline.pos.remote import local_folder

        with local_folder(shop.source_url(), shop.source_path()) as folder:
            yield FilesSource(folder, keep=_named(keep, folder, shop.source_url()))
    elif settings.kind == "kash_api":
        from kash_pipeline.pos.kash_api import opening

        with opening.kash_source(shop, keep=keep, lake_url=lake_url or Environment.read().lake_url) as source:
            yield source
    elif settings.kind == "kash_accounting_csv":
        from kash_pipeline.pos.kash_accounting_csv import AccountingCsvSource

        yield AccountingCsvSource(shop, keep=keep)
    else:
        from kash_pipeline.pos.kash_fec import FecSource

        yield FecSource(shop, keep=keep)


def _named(
    keep: Callable[[RawDocument], None] | None, folder: Path, url: str | None
) -> Callable[[RawDocument], None] | None:
    """`keep` for a folder that was fetched: raw documents are named by where they came from, not by their copy."""
    if keep is None or url is None:
        return keep
    given = keep
    return lambda document: given(replace(document, url=document.url.replace(folder.as_posix(), url.rstrip("/"))))
