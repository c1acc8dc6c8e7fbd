"""Cells of the files interface to integers, days and instants, and back, in whole columns and without floats.

Only the form of one cell belongs here (docs/files-interface.md: euros with a dot, percent, `YYYY-MM-DD`, RFC 3339).
Which columns a table has, and what its rows may say together, is files.py.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DAY_MIN, DAY_MAX = date(1990, 1, 1), date(2099, 12, 31)
"""Days a till can mean: before 1990 there was no such till, after 2099 it is a slip of the keyboard."""

AMOUNT_DIGITS = 10
"""Digits before the dot of an amount. Below 10**12 cents, sums of millions of rows and VAT products stay in int64."""

SCALE = {"cents": 2, "bp": 2, "milli": 3, "int": 0}
"""Decimals a cell of this kind may have; its integer counts the last one."""
_DIGITS = {"cents": AMOUNT_DIGITS, "bp": 3, "milli": 9, "int": 9}
_RANGE: dict[str, tuple[Any, Any]] = {
    "cents": (1 - 10**12, 10**12 - 1),
    "bp": (0, 10_000),
    "milli": (1 - 10**12, 10**12 - 1),
    "int": (1, 10**9 - 1),
    "day": (DAY_MIN, DAY_MAX),
    "instant": (datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)),
}
_ORNAMENTS = str.maketrans("", "", "€%+'")
_INSTANT = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)$"


@dataclass(frozen=True)
class Cells:
    """One column read: `values` in the declared Arrow type, and the positions of the cells that say nothing usable."""

    values: pa.Array
    bad: np.ndarray


def form(kind: str) -> str:
    """How a cell of this kind is written, for messages."""
    return {
        "cents": f"an amount in euros: a dot, at most two decimals and {AMOUNT_DIGITS} digits before it, like 4.05",
        "bp": "a rate in percent between 0 and 100 with at most two decimals, like 5.5",
        "milli": "a quantity with a dot and at most three decimals, like 1.250",
        "int": "a whole number from 1",
        "day": f"a day between {DAY_MIN} and {DAY_MAX}, written YYYY-MM-DD",
        "instant": "an instant of RFC 3339 with its offset, like 2026-03-14T08:12:00+01:00",
        "text": "text",
    }[kind]


def suggestion(kind: str, cell: str) -> str:
    """The cell as it was probably meant, or an empty string: `4,05 €` gives `4.05`, `20/03/2026` gives `2026-03-20`."""
    if kind in SCALE:
        plain = "".join(sign for sign in cell if not sign.isspace()).translate(_ORNAMENTS)
        if plain.count(",") == 1 and "." not in plain:
            plain = plain.replace(",", ".")
        if "." in plain:
            plain = re.sub(rf"(\.\d{{{SCALE[kind]}}})0+$", r"\1", plain).removesuffix(".")
        return plain if plain != cell and not len(_parse_numbers(pa.array([plain]), kind).bad) else ""
    if kind == "day":
        plain = re.sub(r"^(\d\d)[/.-](\d\d)[/.-](\d{4})$", r"\3-\2-\1", cell.strip())[:10]
        return plain if not len(_parse_days(pa.array([plain])).bad) else ""
    return ""


def parse(column: pa.Array, kind: str) -> Cells:
    """A text column (dictionary-coded: each distinct cell is parsed once) as integers, days or instants.

    Nulls stay null and are never bad. `kind` is one of schemas/columns.py.
    """
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    words = coded.dictionary
    if kind == "text":
        parsed = Cells(words, _true_at(pc.match_substring(words, "\0")))
    elif kind == "day":
        parsed = _parse_days(words)
    elif kind == "instant":
        parsed = _parse_instants(words)
    else:
        parsed = _parse_numbers(words, kind)
    bad = _true_at(pc.is_in(coded.indices, pa.array(parsed.bad, pa.int32()))) if len(parsed.bad) else parsed.bad
    return Cells(parsed.values.take(coded.indices), bad)


def _true_at(mask: pa.Array) -> np.ndarray:
    flags = mask.fill_null(False).to_numpy(zero_copy_only=False)
    return np.flatnonzero(flags)


def _only(words: pa.Array, good: pa.Array) -> pa.Array:
    return pc.if_else(good, words, pa.scalar(None, words.type))


def scaled(decimals: pa.Array) -> pa.Array:
    """The unscaled integers of a decimal128 column, as int64; the caller has bounded the digits below 19."""
    words = np.frombuffer(decimals.buffers()[1], dtype=np.int64).reshape(-1, 2)
    low = words[decimals.offset : decimals.offset + len(decimals), 0]
    return pa.array(low, mask=decimals.is_null().to_numpy(zero_copy_only=False))


def _parse_numbers(words: pa.Array, kind: str) -> Cells:
    scale, digits = SCALE[kind], _DIGITS[kind]
    sign = "-?" if kind in ("cents", "milli") else ""
    decimals = rf"(\.\d{{1,{scale}}})?" if scale else ""
    good = pc.match_substring_regex(words, rf"^{sign}\d{{1,{digits}}}{decimals}$")
    return checked(scaled(pc.cast(_only(words, good), pa.decimal128(digits + scale, scale))), kind, good)


def checked(values: pa.Array, kind: str, good: pa.Array | None = None) -> Cells:
    """Values of the declared type; bad are those out of range, and those that `good` says were no cell of this kind."""
    low, high = (pa.scalar(bound, values.type) for bound in _RANGE[kind])
    outside = pc.or_(pc.less(values, low), pc.greater(values, high)).fill_null(False)
    return Cells(values, _true_at(outside if good is None else pc.or_(outside, pc.invert(good))))


def _parse_days(words: pa.Array) -> Cells:
    good = pc.match_substring_regex(words, r"^\d{4}-\d\d-\d\d$")
    return _cast(words, good, pa.date32(), "day")


def _parse_instants(words: pa.Array) -> Cells:
    good = pc.match_substring_regex(words, _INSTANT)
    return _cast(pc.utf8_upper(words), good, pa.timestamp("us", tz="UTC"), "instant")


def _cast(words: pa.Array, good: pa.Array, target: pa.DataType, kind: str) -> Cells:
    candidates = _only(words, good)
    try:
        values = candidates.cast(target)
    except pa.ArrowInvalid:  # 2026-02-30: right form, no such day. Arrow does not say which cell, so ask one by one.
        flags = []
        for word in candidates:
            try:
                word.cast(target)
                flags.append(True)
            except pa.ArrowInvalid:
                flags.append(False)
        good = pc.and_(good, pa.array(flags, pa.bool_()))
        values = _only(words, good).cast(target)
    return checked(values, kind, good)


def to_text(column: pa.Array, kind: str) -> pa.Array:
    """Integers, days and instants as the cells `parse` reads: 405 cents to `4.05`, 550 bp to `5.5`, nulls stay null."""
    if kind == "instant":
        return pc.strftime(column.cast(pa.timestamp("us", tz="UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    if kind not in SCALE:
        return column.cast(pa.string())
    scale = SCALE[kind]
    integers = column.cast(pa.int64())
    low = integers.fill_null(0).to_numpy(zero_copy_only=False)
    words = np.empty((len(low), 2), dtype=np.int64)
    words[:, 0], words[:, 1] = low, low >> 63
    exact = pa.Array.from_buffers(pa.decimal128(19, scale), len(low), [None, pa.py_buffer(words)])
    text = exact.cast(pa.string())
    if kind in ("bp", "milli"):  # 5.50 is written 5.5, 1.000 is written 1
        text = pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), ".")
    return pc.if_else(integers.is_valid(), text, pa.scalar(None, pa.string()))
