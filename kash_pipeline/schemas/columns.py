"""The kinds of column that cross a boundary, and what is derived from a table's pandera schema.

Only kinds, units and derivations (Arrow schema, empty frame) belong here; the tables themselves are in
facts.py and entries.py. Kinds and their pandas types:

    text     pandas `str` or `category` of str; null = missing
    day      datetime64[ms] at midnight, a business day in the shop's time zone
    instant  datetime64[us, UTC]
    cents    int64, euro cents; nullable: Int64
    bp       int64, a rate in basis points (5.5 % = 550); nullable: Int64
    milli    int64, thousandths (quantities)
    int      int64
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow

DAY_DTYPE = "datetime64[ms]"
INSTANT_DTYPE = "datetime64[us, UTC]"


def _is_text(series: Any) -> bool:
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
        if len(series.cat.categories) == 0:
            return True
    return isinstance(dtype, pd.StringDtype) or (len(series) == 0 and pd.api.types.is_object_dtype(dtype))


_TEXT = pa.Check(_is_text, name="is_text", error="not text (str or category of str)")


def text(
    name: str, description: str, *, nullable: bool = False, checks: Sequence[pa.Check] = (), coded: bool = False
) -> pa.Column:
    """A text column; `coded` says that few values repeat, so that it is worth a dictionary (`category`)."""
    return pa.Column(
        None,
        name=name,
        nullable=nullable,
        checks=[_TEXT, *checks],
        description=description,
        metadata={"kind": "text", "coded": coded},
    )


def day(name: str, description: str) -> pa.Column:
    return pa.Column(DAY_DTYPE, name=name, description=description, metadata={"kind": "day"})


def instant(name: str, description: str, *, nullable: bool = True) -> pa.Column:
    return pa.Column(
        pd.DatetimeTZDtype("us", "UTC"),
        name=name,
        nullable=nullable,
        description=description,
        metadata={"kind": "instant"},
    )


def number(
    name: str, kind: str, description: str, *, nullable: bool = False, checks: Sequence[pa.Check] = ()
) -> pa.Column:
    """An integer column of kind cents, bp, milli or int."""
    return pa.Column(
        "Int64" if nullable else "int64",
        name=name,
        nullable=nullable,
        checks=list(checks),
        description=description,
        metadata={"kind": kind},
    )


def table(
    name: str, description: str, columns: Sequence[pa.Column], *, unique: Sequence[str] = ()
) -> pa.DataFrameSchema:
    """A closed table: unknown columns are refused. Column order is part of the statement."""
    return pa.DataFrameSchema(
        {column.name: column for column in columns},
        name=name,
        description=description,
        strict=True,
        ordered=True,
        metadata={"unique": list(unique)},
    )


def kind_of(column: pa.Column) -> str:
    return str((column.metadata or {})["kind"])


def is_coded(column: pa.Column) -> bool:
    """Whether readers should dictionary-code the column: few values over many rows.

    Ids that are nearly unique (orders, payments) stay plain: a categorical of 300,000 ids costs four times its column.
    """
    return bool((column.metadata or {}).get("coded", False))


_ARROW = {
    "text": arrow.string(),
    "day": arrow.date32(),
    "instant": arrow.timestamp("us", tz="UTC"),
    "cents": arrow.int64(),
    "bp": arrow.int64(),
    "milli": arrow.int64(),
    "int": arrow.int64(),
}


def arrow_schema(schema: pa.DataFrameSchema) -> arrow.Schema:
    """The Arrow (Parquet) form of a table."""
    return arrow.schema(
        [
            arrow.field(name, _ARROW[kind_of(column)], nullable=bool(column.nullable))
            for name, column in schema.columns.items()
        ]
    )


def to_arrow(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> arrow.Table:
    """`frame` as an Arrow table of exactly the declared types."""
    target = arrow_schema(schema)
    plain = arrow.Table.from_pandas(frame[list(schema.columns)], preserve_index=False)
    return plain.cast(target)


def from_arrow(source: arrow.Table, schema: pa.DataFrameSchema, *, categories: bool = False) -> pd.DataFrame:
    """The declared frame from an Arrow table; with `categories`, columns worth it (`is_coded`) are dictionary-coded."""
    source = source.select(list(schema.columns))
    return conform(partial_frame(source, schema, categories=categories), schema)


def partial_frame(source: arrow.Table, schema: pa.DataFrameSchema, *, categories: bool = False) -> pd.DataFrame:
    """The columns that `source` has, in the declared types: for readers that leave out what they do not need."""
    coded = [
        arrow.field(field.name, arrow.dictionary(arrow.int32(), arrow.string()))
        if categories and is_coded(schema.columns[field.name]) and not arrow.types.is_dictionary(field.type)
        else field
        for field in source.schema
    ]
    source = source.cast(arrow.schema(coded)).unify_dictionaries()
    nullable = [
        name
        for name in source.column_names
        if schema.columns[name].nullable and kind_of(schema.columns[name]) in ("cents", "bp", "milli", "int")
    ]
    frame = source.drop_columns(nullable).to_pandas(date_as_object=False)
    # Arrow would hand out a nullable integer as a float: cents never pass through one.
    for name in nullable:
        column = source.column(name).combine_chunks()
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        missing = column.is_null().to_numpy(zero_copy_only=False)
        frame[name] = pd.arrays.IntegerArray(values.astype("int64"), missing)
    return frame[source.column_names]


def conform(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Columns in the declared order and types; a missing nullable column becomes all null.

    Raises KeyError for a missing column that is not nullable.
    """
    out: dict[str, Any] = {}
    for name, column in schema.columns.items():
        kind = kind_of(column)
        if name not in frame.columns:
            if not column.nullable:
                raise KeyError(name)
            values = pd.Series([None] * len(frame), index=frame.index, dtype=object)
        else:
            values = frame[name]
        # A column that already has its type is taken as it is: most frames come from ourselves.
        if kind == "text":
            if not isinstance(values.dtype, pd.CategoricalDtype) and values.dtype != "str":
                values = (
                    values.astype("str")
                    if not values.isna().all()
                    else values.astype(object).astype("str").where(values.notna())
                )
        elif kind == "day":
            values = values if values.dtype == DAY_DTYPE else values.astype(DAY_DTYPE)
        elif kind == "instant":
            if values.dtype != INSTANT_DTYPE:
                values = pd.to_datetime(values, utc=True).astype(INSTANT_DTYPE)
        else:
            target = "Int64" if column.nullable else "int64"
            values = values if values.dtype == target else values.astype(target)
        out[name] = values
    return pd.DataFrame(out, index=frame.index).reset_index(drop=True)


_EMPTY: dict[int, tuple[pa.DataFrameSchema, pd.DataFrame]] = {}


def empty(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """A frame of the declared types without rows; the caller's own.

    Made once per schema and copied: making one costs 5 ms, and a year has thousands of empty days.
    """
    known, frame = _EMPTY.get(id(schema), (None, None))
    if known is not schema or frame is None:  # the schema is kept with it, so that its id is not given away again
        frame = from_arrow(arrow_schema(schema).empty_table(), schema)
        _EMPTY[id(schema)] = (schema, frame)
    return frame.copy()


def business_day_of(ids: pd.Series, heads: pd.DataFrame, key: str) -> pd.Series:
    """Business day of the order, closing or entry that each of `ids` names, NaT where `heads` has none.

    `Series.map` would do, but pandas 3 raises on it when `heads` is empty, as it is in a month without sales.
    """
    known = heads[[key, "business_day"]].drop_duplicates(key)
    at = pd.Index(known[key].astype("str")).get_indexer(pd.Index(ids.astype("str")))
    days = np.append(known["business_day"].to_numpy(), np.datetime64("NaT")).astype(DAY_DTYPE)
    return pd.Series(days[at], index=ids.index, dtype=DAY_DTYPE)
