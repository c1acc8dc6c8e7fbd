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


class Finder:
    """Rows by id: the position of each order in the table of orders."""

    def __init__(self, ids: pd.Series, keep: NDArray[np.bool_] | None = None) -> None:
        """`keep` marks the rows that can be found; of several rows with one id the first kept one is."""
        codes, self._values = dictionary(ids)
        self._row_of_code = np.full(len(self._values) + 1, -1, np.int64)
        rows = np.arange(len(codes))
        if keep is not None:
            codes, rows = codes[keep], rows[keep]
        self._row_of_code[codes[::-1]] = rows[::-1]
        self._row_of_code[-1] = -1
        found = self._row_of_code[codes]
        self.repeated = rows[found != rows]

    def rows(self, ids: pd.Series) -> Codes:
        """Row of each id; -1 for null and for an id that is not there."""
        codes, values = dictionary(ids)
        # Files written together carry the same dictionary: comparing two is twenty times cheaper than hashing one.
        table = self._row_of_code
        if not values.equals(self._values):
            places = pc.fill_null(pc.index_in(values, value_set=self._values), -1).to_numpy(zero_copy_only=False)
            table = table[np.append(places, -1)]
        rows: Codes = table[codes]
        return rows


def text_at(series: pd.Series, row: int) -> str:
    """The text of one row, for messages."""
    return str(series.iloc[row])
