"""JSON of an answer into Python: whole, number by number exact, or record by record where an answer is large.

Only decoding belongs here. What is asked is client.py, what the records mean is mapping.py.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

WHOLE = 8 * 2**20
"""Bytes up to which an answer is decoded at once. Decoded objects take some eight times the room of their text."""
CHUNK = 2**20
BATCH = 2000
"""Records handed on at once from a larger answer."""

_MARK = "\ufeff"
_START = re.compile(_MARK + r'?\s*(?:\[|\{\s*"(?P<envelope>[^"\\]+)"\s*:\s*\[)')
_BETWEEN = re.compile(r"[\s,]*")


class CutShort(Exception):
    """The text ends before the list does."""


def plain(body: bytes) -> bytes:
    """The body from its first sign on: a PHP file saved with a byte order mark sends it before whatever it says."""
    return body.removeprefix(_MARK.encode()).lstrip()


def whole(body: bytes, *, exact: bool) -> Any:
    """The decoded answer; with `exact`, numbers with decimals come as the text they were written as.

    Raises ValueError (json.JSONDecodeError) when it is no JSON.
    """
    if not exact:
        return orjson.loads(plain(body))
    try:
        return json.loads(plain(body), parse_float=str, parse_constant=str)
    except (UnicodeDecodeError, RecursionError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


def in_batches(body: bytes, envelope: str | None, *, exact: bool, batch: int = BATCH) -> Iterator[list[Any]] | None:
    """The records of a list, or of the list `envelope` of an object, some at a time; None when it begins otherwise.

    With `exact`, numbers with decimals come as the text they were written as. What follows the list is not looked at.
    Raises CutShort while it is read, when the list does not end.
    """
    start = _START.match(body[:4096].decode("utf-8", errors="replace"))
    if start is None or start["envelope"] != envelope:
        return None
    number = str if exact else float
    decode = json.JSONDecoder(parse_float=number, parse_constant=number).raw_decode
    skipped = len(body[:4096].decode("utf-8", errors="replace")[: start.end()].encode())
    return _records(body, skipped, batch, decode)


def _records(body: bytes, begin: int, batch: int, decode: Callable[[str, int], tuple[Any, int]]) -> Iterator[list[Any]]:
    to_text = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(body)
    text, at, read = "", 0, begin
    found: list[Any] = []
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing at least
        if at < len(text) and text[at] == "]":
            if found:
                yield found
            return
        try:
            record, at = decode(text, at)
        except json.JSONDecodeError:
            if read >= len(body):
                raise CutShort from None
            # The rest of the text begins inside a record: each chunk is scanned at most once more than needed.
            more = to_text.decode(view[read : read + CHUNK], final=read + CHUNK >= len(body))
            text, at, read = text[at:] + more, 0, read + CHUNK
            continue
        found.append(record)
        if len(found) >= batch:
            yield found
            found = []
