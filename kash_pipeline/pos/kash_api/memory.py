"""What was read before: each order whole with the hash of its entry in the list, and what a day's reports were kept of.

Only keeping it belongs here; when an order or a report is asked for again is source.py. It is no evidence (the raw
answers in the lake are) and no fact: deleting it costs one request per order and report, nothing else.

    <url>/<shop>/memory/orders/<business day>.json.gz     <url>/<shop>/memory/reports/<business day>
"""

import gzip
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import fsspec
import orjson

from kash_pipeline.pos import erasing


@dataclass(frozen=True)
class Known:
    """An order as it was read: `listed` is the sha256 of its entry in the list, `order` the decoded answer."""

    listed: str
    order: Any


class Memory(Protocol):
    def load(self, day: date) -> Mapping[str, Known]:
        """Orders of a business day by id; none when the day was never read."""
        ...

    def save(self, day: date, orders: Mapping[str, Known]) -> None: ...

    def reported(self, day: date) -> str | None:
        """What `note_report` was given for the day; None when its reports were never kept."""
        ...

    def note_report(self, day: date, of: str) -> None:
        """The day's reports were kept while the day was `of` this content."""
        ...


class NoMemory:
    """Every order and report is read anew."""

    def load(self, day: date) -> Mapping[str, Known]:
        return {}

    def save(self, day: date, orders: Mapping[str, Known]) -> None:
        pass

    def reported(self, day: date) -> str | None:
        return None

    def note_report(self, day: date, of: str) -> None:
        pass


class FileMemory:
    """Under any fsspec URL. A damaged or half-written file counts as nothing known.

    forgotten  customers whose personal data, should orders hold any, is not kept
    """

    def __init__(self, url: str, shop_id: str, forgotten: Collection[str] = ()) -> None:
        self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._root = f"{root.rstrip('/')}/{shop_id}/memory"
        self._forgotten = forgotten

    def forget(self, customer_ids: Collection[str], values: Collection[str]) -> int:
        """Take out the orders of days that name these customers, or hold one of these values; how many days."""
        count = 0
        for path in map(str, self._fs.find(f"{self._root}/orders")):
            try:
                body = gzip.decompress(self._fs.cat_file(path))
            except (OSError, EOFError):  # damaged: what it held is not known to be harmless
                body = None
            if body is None or erasing.without("orders", body, customer_ids, values) is not body:
                self._fs.rm_file(path)
                count += 1
        return count

    def load(self, day: date) -> Mapping[str, Known]:
        try:
            found = orjson.loads(gzip.decompress(self._fs.cat_file(self._path(day))))
            return {order: Known(listed, record) for order, (listed, record) in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, EOFError, ValueError):  # reading anew mends it
            return {}

    def save(self, day: date, orders: Mapping[str, Known]) -> None:
        content = gzip.compress(
            erasing.without(
                "orders",
                orjson.dumps({order: (known.listed, known.order) for order, known in sorted(orders.items())}),
                self._forgotten,
            ),
            compresslevel=3,
            mtime=0,
        )
        self._write(self._path(day), content)

    def reported(self, day: date) -> str | None:
        try:
            return str(self._fs.cat_file(self._report(day)).decode())
        except (OSError, ValueError):  # asking again mends it
            return None

    def note_report(self, day: date, of: str) -> None:
        self._write(self._report(day), of.encode())

    def _write(self, path: str, content: bytes) -> None:
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        beside = f"{path}.{uuid.uuid4().hex}.part"
        self._fs.pipe_file(beside, content)
        self._fs.mv(beside, path)

    def _path(self, day: date) -> str:
        return f"{self._root}/orders/{day.isoformat()}.json.gz"

    def _report(self, day: date) -> str:
        return f"{self._root}/reports/{day.isoformat()}"
