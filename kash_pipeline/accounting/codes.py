"""Text columns as integers: one code per distinct value, whatever the column's type was.

The kernels work on codes only. What a code stands for in the books is chart.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.compute as pc
from numpy.typing import NDArray

Codes = NDArray[np.int64]


def day_numbers(days: pd.Series) -> Codes:
    """Days since 1970-01-01."""
    numbers: Codes = days.to_numpy().astype("datetime64[D]").astype(np.int64)
    return numbers


def instants(values: pd.Series) -> Codes:
    """Microseconds since 1970 UTC; a missing instant is the smallest int64."""
    numbers: Codes = values.to_numpy(dtype="datetime64[us]").astype(np.int64)
    return numbers


def dictionary(series: pd.Series) -> tuple[NDArray[Any], arrow.Array]:
    """Codes (-1 = null) and the values they stand for, in no promised order; values may be unused."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.cat.codes.to_numpy(), _text(series.cat.categories)
    encoded = pc.dictionary_encode(_text(series))
    if isinstance(encoded, arrow.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return codes, encoded.dictionary


def _text(values: Any) -> arrow.Array:
    array = arrow.array(values, from_pandas=True)
    if isinstance(array, arrow.ChunkedArray):
        array = array.combine_chunks()
    return array if array.type == arrow.large_string() else array.cast(arrow.large_string())


@dataclass(frozen=True)
class Names:
    """The distinct values of some columns, sorted; a code is a position in `values`."""

    values: list[str]

    def __len__(self) -> int:
        return len(self.values)

    def code(self, value: str) -> int:
        """Position of a value that is known to be there."""
        return self.values.index(value)


def shared_codes(columns: Sequence[pd.Series]) -> tuple[Names, list[Codes]]:
    """One code list over several columns that hold the same kind of id (null = -1).

    Codes follow the sorted values, so they order rows the same way however the rows or dictionaries came.
    """
    coded = [dictionary(column) for column in columns]
    lists = [values.to_pylist() for _, values in coded]
    names = Names(sorted(set().union(*lists)))
    position = {value: code for code, value in enumerate(names.values)}
    out: list[Codes] = []
    for (codes, _), values in zip(coded, lists, strict=True):
        # The last element answers for -1.
        table = np.array([*(position[value] for value in values), -1], np.int64)
        out.append(table[codes])
    return names, out


def _is_rising(values: arrow.Array) -> bool:
    """Each value above the one before it: unique, and seen to be so without hashing."""
    if len(values) < 2:
        return True
    return bool(pc.all(pc.less(values[:-1], values[1:])).as_py()) and values.null_count == 0


def repeated_rows(ids: pd.Series) -> Codes:
    """Rows whose id stands in an earlier row already."""
    if not isinstance(ids.dtype, pd.CategoricalDtype) and _is_rising(_text(ids)):
        return np.zeros(0, np.int64)
    codes, values = dictionary(ids)
    first = np.full(len(values) + 1, -1, np.int64)
    rows = np.arange(len(codes))
    first[codes[::-1]] = rows[::-1]
    return np.flatnonzero((first[codes] != rows) & (codes >= 0))


class Finder:
    """Rows by id: the position of each order in the table of orders."""

    def __init__(self, ids: pd.Series, keep: NDArray[np.bool_] | None = None) -> None:
        """`keep` marks the rows that can be found; of several rows with one id the first kept one is."""
        rows = np.arange(len(ids))
        if keep is not None:
            ids, rows = ids[keep], rows[keep]
        if isinstance(ids.dtype, pd.CategoricalDtype):
            codes, self._values = dictionary(ids)
            self._row = np.full(len(self._values) + 1, -1, np.int64)
            self._row[codes[::-1]] = rows[::-1]
            self._row[-1] = -1
        else:
            # Rows are their own dictionary; a repeated id means its first row.
            self._values = _text(ids)
            self._row = np.append(rows, -1)
            if len(repeated_rows(ids)):
                codes, values = dictionary(ids)
                first = np.full(len(values) + 1, -1, np.int64)
                first[codes[::-1]] = rows[::-1]
                self._row[:-1] = first[codes]

    def rows(self, ids: pd.Series) -> Codes:
        """Row of each id; -1 for null and for an id that is not there."""
        if isinstance(ids.dtype, pd.CategoricalDtype):
            codes, values = dictionary(ids)
            found: Codes = np.append(self._places(values), -1)[codes]
            return found
        values = _text(ids)
        if len(values) == 0:
            return np.zeros(0, np.int64)
        # Lines of an order stand together: only the first of each run is looked up.
        new = np.ones(len(values), np.bool_)
        new[1:] = pc.fill_null(pc.not_equal(values[1:], values[:-1]), True).to_numpy(zero_copy_only=False)
        heads = values.filter(arrow.array(new))
        spread: Codes = self._places(heads)[np.cumsum(new) - 1]
        return spread

    def _places(self, values: arrow.Array) -> Codes:
        """Rows of distinct values. Tables written together list the same ids in the same order: comparing two lists
        is twenty times cheaper than hashing one.
        """
        if values.equals(self._values):
            return self._row[:-1]
        found = pc.fill_null(pc.index_in(values, value_set=self._values, skip_nulls=True), -1)
        rows: Codes = self._row[found.to_numpy(zero_copy_only=False)]
        return rows
