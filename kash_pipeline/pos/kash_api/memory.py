"""What was read of each order before: the hash of its entry in the list, and the order whole, one file per day.

Only keeping it belongs here; when an order is asked for again is source.py. It is no evidence (the raw answers in the
lake are) and no fact: deleting it costs one getOrder.php per order, nothing else.

    <url>/<shop>/memory/orders/<business day>.json.gz
"""

import gzip
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import fsspec
import orjson


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


class NoMemory:
    """Every order is read anew."""

    def load(self, day: date) -> Mapping[str, Known]:
        return {}

    def save(self, day: date, orders: Mapping[str, Known]) -> None:
        pass


class FileMemory:
    """Under any fsspec URL. A damaged or half-written file counts as nothing known."""

    def __init__(self, url: str, shop_id: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._root = f"{root.rstrip('/')}/{shop_id}/memory/orders"

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
            orjson.dumps({order: (known.listed, known.order) for order, known in sorted(orders.items())}),
            compresslevel=3,
            mtime=0,
        )
        self._fs.makedirs(self._root, exist_ok=True)
        beside = f"{self._path(day)}.{uuid.uuid4().hex}.part"
        self._fs.pipe_file(beside, content)
        self._fs.mv(beside, self._path(day))

    def _path(self, day: date) -> str:
        return f"{self._root}/{day.isoformat()}.json.gz"
