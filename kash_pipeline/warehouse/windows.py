"""Read and replace whole business days of the entry tables.

Days are replaced, never patched: delete and COPY in the caller's transaction, so that a rerun, an overlap or a retry
cannot double a day. What may be sent to PennyLane is not decided here but in ledger.py.
"""

import io
from collections.abc import Iterable
from datetime import date
from typing import Any, cast

import pandas as pd
import pandera.pandas as pa
import psycopg
import pyarrow as arrow
import pyarrow.csv
import sqlalchemy as sa
from psycopg import sql

from kash_pipeline.schemas import entries as schemas
from kash_pipeline.schemas.columns import DAY_DTYPE, INSTANT_DTYPE, arrow_schema, from_arrow, to_arrow
from kash_pipeline.warehouse.errors import LoadError
from kash_pipeline.warehouse.tables import ENTRIES, ENTRY_LINES, HELD, NOTICES

_WINDOW_LOCK = 0x6B77  # "kw": class of the advisory locks of writers

WINDOWED: dict[str, tuple[sa.Table, pa.DataFrameSchema, tuple[str, ...]]] = {
    "entries": (ENTRIES, schemas.ENTRIES, ("business_day", "register_id", "entry_key")),
    "entry_lines": (ENTRY_LINES, schemas.ENTRY_LINES, ("business_day", "entry_key", "line_no")),
    "held": (HELD, schemas.HELD, ("business_day", "register_id", "reason", "what")),
    "notices": (NOTICES, schemas.NOTICES, ("business_day", "register_id", "code", "what")),
}
"""Table, schema of its frame, and the order in which it is read: by name."""


def replace_entries(
    connection: sa.Connection,
    shop_id: str,
    days: Iterable[date],
    *,
    entries: pd.DataFrame,
    entry_lines: pd.DataFrame,
    held: pd.DataFrame,
    notices: pd.DataFrame,
) -> dict[str, int]:
    """Replace what the books say of `days`, in the caller's transaction; rows written, by table.

    Raises LoadError when a line has no entry or comes twice, or for the reasons of `replace_days`.
    """
    window = list(days)
    days_by_key = pd.Series(entries["business_day"].to_numpy(), index=entries["entry_key"].astype("str"))
    business_day = days_by_key.reindex(entry_lines["entry_key"].astype("str"))
    if business_day.isna().any():
        orphan = entry_lines["entry_key"][business_day.isna().to_numpy()].iloc[0]
        raise LoadError(f"line of entry {orphan} without that entry", next_step="report this: the build is at fault")
    twice = entry_lines.duplicated(["entry_key", "line_no"])
    if twice.any():
        key, line_no = entry_lines.loc[twice, ["entry_key", "line_no"]].iloc[0]
        raise LoadError(f"line {line_no} of entry {key} comes twice", next_step="report this: the build is at fault")
    lines = entry_lines.assign(business_day=business_day.to_numpy())
    return {
        "entries": replace_days(connection, "entries", shop_id, window, entries),
        "entry_lines": replace_days(connection, "entry_lines", shop_id, window, lines),
        "held": replace_days(connection, "held", shop_id, window, held),
        "notices": replace_days(connection, "notices", shop_id, window, notices),
    }


def replace_days(connection: sa.Connection, table: str, shop_id: str, days: Iterable[date], frame: pd.DataFrame) -> int:
    """Delete these days of a shop and write `frame` in their place, in the caller's transaction; rows written.

    `frame` is of the table's schema (schemas/entries.py); for `entry_lines` with `business_day` besides, the day of
    the entry. Days without rows end empty. Raises LoadError for a row of another day (it would be doubled by the next
    replacement), and for what PostgreSQL cannot store.
    """
    target, schema, _ = WINDOWED[table]
    window = sorted(set(days))
    rows = _with_day(frame, schema)
    stray = set(rows["business_day"].unique().to_pylist()) - set(window)
    if stray:
        raise LoadError(
            f"{table}: rows of {min(stray)}, which is not among the days to replace",
            next_step="replace every day that the frame holds",
        )
    lock_windows(connection, shop_id)
    connection.execute(
        sa.delete(target).where(target.c.shop_id == shop_id, target.c.business_day == sa.any_(sa.bindparam("days"))),
        {"days": window},
    )
    if rows.num_rows:
        copy_in(connection, target, rows.append_column("shop_id", arrow.repeat(shop_id, rows.num_rows)))
    return int(rows.num_rows)


def lock_windows(connection: sa.Connection, shop_id: str) -> None:
    """One writer of a shop's days at a time, until the caller's transaction ends.

    Two that replace the same day would otherwise both insert it: the second delete does not see the first's new rows.
    """
    connection.execute(
        sa.text("select pg_advisory_xact_lock(:class, hashtext(:shop))"), {"class": _WINDOW_LOCK, "shop": shop_id}
    )


def _with_day(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> arrow.Table:
    try:
        rows = to_arrow(frame, schema)
        if "business_day" not in schema.columns:
            day = arrow.array(frame["business_day"].astype(DAY_DTYPE)).cast(arrow.date32())
            rows = rows.append_column("business_day", day)
    except (KeyError, arrow.ArrowInvalid, arrow.ArrowTypeError, UnicodeError) as error:
        raise LoadError(
            f"{schema.name}: not a frame of this table: {error}", next_step="report this: the build is at fault"
        ) from error
    return rows


def copy_in(connection: sa.Connection, target: sa.Table | str, rows: arrow.Table) -> None:
    """COPY an Arrow table into a table with columns of these names.

    CSV written by Arrow is the fastest way measured (docs/performance-notes): 3 times psycopg's `write_row`, 30 times
    `to_sql`. Arrow quotes every text and leaves nulls bare, which is how COPY tells `""` from null.
    """
    name = sql.Identifier(target) if isinstance(target, str) else sql.Identifier(str(target.schema), str(target.name))
    statement = sql.SQL("copy {} ({}) from stdin with (format csv)").format(
        name, sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    )
    try:
        with _cursor(connection) as cursor, cursor.copy(statement) as copy:
            pyarrow.csv.write_csv(rows, _Writer(copy), pyarrow.csv.WriteOptions(include_header=False))
    except psycopg.errors.DataError as error:
        raise LoadError(
            f"{name.as_string()}: PostgreSQL cannot store a value: {error}".rstrip(),
            next_step="look at the row named above in the facts; a NUL character in a label is the usual cause",
        ) from error


class _Writer(io.RawIOBase):
    """What Arrow writes to, handed on to COPY in its own chunks: no copy of the whole text is made."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy = copy

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._copy.write(bytes(data))
        return len(data)


def _cursor(connection: sa.Connection) -> psycopg.Cursor[Any]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("the engine is not on psycopg 3: use database.open_engine")
    return driver.cursor()


def read_days(connection: sa.Connection, table: str, shop_id: str, first: date, last: date) -> pd.DataFrame:
    """The rows of `first..last` as a frame of the table's schema, in a fixed order."""
    target, schema, order = WINDOWED[table]
    source = sql.Identifier(str(target.schema), str(target.name))
    statement = sql.SQL(
        "copy (select {columns} from {source} where shop_id = {shop} and business_day between {first} and {last}"
        " order by {order}) to stdout with (format csv)"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, schema.columns)),
        source=source,
        shop=sql.Literal(shop_id),
        first=sql.Literal(first),
        last=sql.Literal(last),
        # Byte by byte, as in pandas and in the keys' indexes, whatever the server's locale.
        order=sql.SQL(", ").join(
            sql.SQL('{} collate "C"').format(sql.Identifier(name))
            if isinstance(target.c[name].type, sa.Text)
            else sql.Identifier(name)
            for name in order
        ),
    )
    types = arrow_schema(schema)
    out = io.BytesIO()
    with _cursor(connection) as cursor, cursor.copy(statement) as copy:
        for chunk in copy:
            out.write(chunk)
    if not out.tell():
        return from_arrow(types.empty_table(), schema)
    rows = pyarrow.csv.read_csv(
        io.BytesIO(out.getbuffer()),
        read_options=pyarrow.csv.ReadOptions(column_names=types.names),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    return from_arrow(rows, schema)


def sql_frame(connection: sa.Connection, query: str | sa.Executable, **parameters: Any) -> pd.DataFrame:
    """The answer to a query, typed without floats for whole numbers.

    Integers, and `numeric` without decimals (PostgreSQL's sum of bigint), are int64, or Int64 with nulls; other
    `numeric` stay Decimal; dates are datetime64[ms], instants datetime64[us, UTC], text is str.
    """
    result = connection.execute(sa.text(query) if isinstance(query, str) else query, parameters)
    cursor = result.cursor
    kinds = [psycopg.adapters.types[cast(int, column[1])] for column in (cursor.description if cursor else ())]
    names = list(result.keys())
    columns = list(zip(*result.fetchall(), strict=True)) or [()] * len(names)
    return pd.DataFrame(
        {
            name: _typed(values, kind.name if kind else "")
            for name, values, kind in zip(names, columns, kinds, strict=True)
        }
    )


def _typed(values: tuple[Any, ...], kind: str) -> pd.Series:
    raw = pd.Series(list(values), dtype=object)
    if kind == "numeric" and all(value is None or value == value.to_integral_value() for value in values):
        raw = pd.Series([None if value is None else int(value) for value in values], dtype=object)
        kind = "int8"
    if kind in ("int2", "int4", "int8"):
        return raw.astype("Int64" if raw.isna().any() else "int64")
    if kind == "bool":
        return raw.astype("boolean" if raw.isna().any() else "bool")
    if kind == "date":
        return pd.to_datetime(raw).astype(DAY_DTYPE)
    if kind == "timestamptz":
        return pd.to_datetime(raw, utc=True).astype(INSTANT_DTYPE)
    if kind in ("text", "varchar", "bpchar", "name"):
        return raw.astype("str")
    return raw
