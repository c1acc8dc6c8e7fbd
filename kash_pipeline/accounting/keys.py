"""Entry keys (piece numbers) and digests: how an entry is known again, and how a change in it is seen.

Both are pure functions of what they name. Which entries exist is entries.py; what is done about a changed
digest is corrections.py and the publication ledger.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache

import numpy as np
import pyarrow as arrow
import pyarrow.compute as pc
from numpy.typing import NDArray

LONGEST = 30
_PLAIN = re.compile(r"[A-Z0-9]+")
_HASH_LENGTH = 12  # 60 bits: ten million hashed keys meet by chance once in 23,000 such sets


def _hash(parts: Sequence[str]) -> str:
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return base64.b32encode(digest).decode()[:_HASH_LENGTH]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "", text.upper())


@lru_cache(maxsize=4096)
def _prefix(shop_id: str, register_id: str, day: date) -> str | None:
    """The readable beginning of a key; None where it would not say everything."""
    if "_" in shop_id or not _PLAIN.fullmatch(register_id) or not 2000 <= day.year <= 2099:
        return None
    return f"{shop_id.upper()}-{register_id}-{day:%y%m%d}"


def entry_key(shop_id: str, register_id: str, day: date, code: str, *ids: str) -> str:
    """`BOULANGERIE-K1-260314-V`: shop, register, business day, kind of entry, and the ids of a finer entry.

    At most 30 characters of `A-Z0-9-`. Where the readable form would be longer, or where writing an id in these
    characters would lose something, the key is register, day, kind and a hash over the exact parts, so two
    different entries do not share a key.
    """
    prefix = _prefix(shop_id, register_id, day)
    if prefix is not None:
        readable = "-".join((prefix, code, *ids))
        if len(readable) <= LONGEST and all(map(_PLAIN.fullmatch, ids)):
            return readable
    hashed = _hash([shop_id, register_id, day.isoformat(), code, *ids])
    return "-".join(part for part in (_slug(register_id)[:6], f"{day:%y%m%d}", code[:3], hashed) if part)


def correction_key(key: str, code: str, number: int) -> str:
    """The key of the `number`-th reversal (`code` R) or replacement (`code` N) of the entry `key`."""
    readable = f"{key}-{code}{number}"
    if len(readable) <= LONGEST:
        return readable
    return f"{key[: LONGEST - _HASH_LENGTH - 6].rstrip(chr(45))}-{_hash([key, code, str(number)])}-{code}{number}"


def line_digests(columns: Sequence[arrow.Array], starts: NDArray[np.int64]) -> list[str]:
    """sha256 (hex) over the lines of each entry, in an order that is theirs, not the input's.

    `columns` are text arrays of equal length, rows grouped by entry; `starts` is where each entry begins.
    One Arrow join and one slice an entry: a hundredth of the time of a string built per line in Python.
    """
    if len(starts) == 0:
        return []
    rows = pc.binary_join_element_wise(*columns, "\t", null_handling="replace", null_replacement="")
    counts = np.diff(np.append(starts, len(rows)))
    entry_of_row = np.repeat(np.arange(len(starts)), counts)
    order = pc.sort_indices(
        arrow.table({"entry": entry_of_row, "row": rows}), sort_keys=[("entry", "ascending"), ("row", "ascending")]
    )
    joined = pc.binary_join_element_wise(rows.take(order), "", "\n")
    joined = joined.combine_chunks() if isinstance(joined, arrow.ChunkedArray) else joined
    offsets = np.frombuffer(joined.buffers()[1], np.int32)[joined.offset : joined.offset + len(joined) + 1]
    data = memoryview(joined.buffers()[2])
    bounds = offsets[np.append(starts, len(rows))].tolist()
    return [hashlib.sha256(data[bounds[i] : bounds[i + 1]]).hexdigest() for i in range(len(starts))]
