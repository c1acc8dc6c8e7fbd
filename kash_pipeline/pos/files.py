"""Facts from a folder of tables (CSV, CSV.gz, Parquet), and facts and results written as such.

The form of docs/files-interface.md and the adapter over it belong here: which files, columns and rows make a folder
of facts, with every problem named by file, row and column. The form of a single cell is cells.py; rules about what the
facts *say* (an unknown method, a total that is not its lines) belong to accounting/, which holds the register-day
instead of refusing the folder.
"""

import difflib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kash_pipeline.pos import cells
from kash_pipeline.pos.errors import FilesError, Problem
from kash_pipeline.pos.loading import PER_COLUMN, load
from kash_pipeline.pos.port import Capabilities, DayOfClosings, DayOfSales, RawDocument
from kash_pipeline.schemas.columns import arrow_schema, from_arrow, kind_of, to_arrow
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES, HELD, NOTICES, TRIAL_BALANCE
from kash_pipeline.schemas.facts import (
    CUSTOMER_KINDS,
    FACTS,
    METHOD_KINDS,
    MOVEMENT_KINDS,
    NATURES,
    REFERENCE,
    Facts,
)

SUFFIXES = (".csv", ".csv.gz", ".parquet")
REQUIRED = ("orders", "order_lines", "payment_methods", "registers")
"""Tables that must be there; of the others a missing one says "there are none of these facts"."""

# A doubled ticket, payment or closing concerns its register-day only: accounting/duplicates.py holds it, the others
# go on.
_HELD_WHEN_REPEATED = ("orders", "payments", "closings", "closing_counts", "cash_movements")
_UNITS = {"cents": "_cents", "bp": "_bp", "milli": "_milli"}
_WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("order_lines", "nature"): NATURES,
    ("payment_methods", "kind"): METHOD_KINDS,
    ("customers", "kind"): CUSTOMER_KINDS,
    ("cash_movements", "kind"): MOVEMENT_KINDS,
}
_DEFAULTS = {("order_lines", "nature"): "sale"}
# Nullable cells whose column must stand all the same, as the interface prints them upright.
_UPRIGHT = {("order_lines", "label")}
_SHOWN = 60  # characters of a cell told in a message
# A row whose parent is not there has no day and no register of its own, so no register-day could be held for it.
_PARENTS = (
    ("order_lines", "order_id", "orders"),
    ("order_vat", "order_id", "orders"),
    ("closing_counts", "closing_id", "closings"),
)


@dataclass(frozen=True)
class FileColumn:
    """A column as files name it (`total`), and as frames do (`total_cents`)."""

    name: str
    in_frame: str
    kind: str
    required: bool
    nullable: bool


def file_columns(schema: pandera.DataFrameSchema) -> list[FileColumn]:
    """The columns of a table in the files interface, in the order of the schema."""
    found = []
    table = str(schema.name)
    for in_frame, column in schema.columns.items():
        kind = kind_of(column)
        optional = column.nullable or (table, in_frame) in _DEFAULTS
        found.append(
            FileColumn(
                name=in_frame.removesuffix(_UNITS.get(kind, "")),
                in_frame=in_frame,
                kind=kind,
                required=not optional or (table, in_frame) in _UPRIGHT,
                nullable=optional,
            )
        )
    return found


@dataclass(frozen=True)
class _Read:
    """One file read: the Arrow table of the schema, and how a position becomes the row a user sees."""

    file: str
    data: pa.Table
    row_of: Callable[[int], int]
    named: Mapping[str, str]  # column of the frame -> column of the file


def read_folder(path: Path | str, *, tables: Sequence[str] | None = None) -> Facts:
    """All facts of a folder, as frames of schemas/facts.py (cents, basis points, thousandths, UTC instants).

    `tables` limits what is read; the others come empty. Raises FilesError that lists every problem found with file, row
    and column: a missing or doubled table, an unknown or missing column, a cell of the wrong form, a repeated key, a
    line without its order.
    """
    folder = Path(path)
    files, problems = _find_files(folder)
    wanted = {name: file for name, file in files.items() if tables is None or name in tables}
    read: dict[str, _Read] = {}
    for name, file in wanted.items():
        table, found = _read_table(FACTS[name], file)
        problems += found
        if table is not None:
            read[name] = table
    for name, table in read.items():
        if name not in _HELD_WHEN_REPEATED:
            problems += _repeated_keys(name, table)
    for child, key, parent in _PARENTS:
        # Where the parent table itself could not be read, all its rows would be missing: that is told already.
        told = parent in REQUIRED or any(problem.file.partition(".")[0] == parent for problem in problems)
        if child in read and (parent in read or not told):
            problems += _orphans(child, key, parent, read)
    if "closings" in read:
        problems += _closed_before_opened(read["closings"])
    if problems:
        raise FilesError(folder, problems)
    return Facts(**{name: from_arrow(table.data, FACTS[name]) for name, table in read.items()})


def _find_files(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise FilesError(
            folder, [Problem(str(folder), what, "give the folder that holds orders.csv and the other tables")]
        )
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise FilesError(
            folder, [Problem(str(folder), f"cannot be read ({error.strerror})", "check its rights")]
        ) from None
    files: dict[str, list[Path]] = {}
    problems = []
    for entry in entries:
        stem, dot, rest = entry.name.partition(".")
        suffix = dot + rest
        if stem in FACTS and suffix and entry.is_dir():
            problems.append(Problem(entry.name, "is a folder, not a table", "take it away"))
        elif suffix in SUFFIXES and stem in FACTS:
            files.setdefault(stem, []).append(entry)
        elif stem in FACTS and suffix:
            cure = f"write the table as {stem}.csv, {stem}.csv.gz or {stem}.parquet"
            problems.append(Problem(entry.name, f"a table as {suffix} is not read", cure))
        elif suffix.lower() in SUFFIXES:
            near = difflib.get_close_matches(stem.lower(), FACTS, n=1, cutoff=0.5)
            known = f"did you mean {near[0]}?" if near else f"the tables are {', '.join(FACTS)}"
            problems.append(
                Problem(entry.name, "no table of facts has this name", f"rename it or take it away: {known}")
            )
    for name, found in files.items():
        if len(found) > 1:
            names = " and ".join(file.name for file in found)
            problems.append(Problem(names, f"table {name} stands in {len(found)} files", "keep exactly one of them"))
    for name in REQUIRED:
        if name not in files and not any(problem.file.partition(".")[0] == name for problem in problems):
            columns = ",".join(column.name for column in file_columns(FACTS[name]) if column.required)
            problems.append(Problem(name, "this table is missing", f"add {name}.csv with the columns {columns}"))
    return {name: found[0] for name, found in files.items() if len(found) == 1}, problems


# --- one table -----------------------------------------------------------------------------------------------------


def _read_table(schema: pandera.DataFrameSchema, file: Path) -> tuple[_Read | None, list[Problem]]:
    loaded, problems = load(file)
    if loaded is None:
        return None, problems
    parquet = file.suffix == ".parquet"
    columns, table = file_columns(schema), str(schema.name)
    named, problems = _match_columns(columns, file.name, loaded.data.column_names, parquet=parquet)
    if problems:
        return None, problems
    arrays: dict[str, pa.Array] = {}
    for column in columns:
        if column.in_frame in named:
            shown = named[column.in_frame]
            values, found = _column(table, file.name, column, shown, loaded.data.column(shown), loaded.row_of)
            problems += found
            arrays[column.in_frame] = values
        else:
            target = arrow_schema(schema).field(column.in_frame).type
            default = pa.scalar(_DEFAULTS.get((table, column.in_frame)), target)
            arrays[column.in_frame] = pa.repeat(default, loaded.data.num_rows)
    if problems:
        return None, problems
    return _Read(file.name, pa.table(arrays), loaded.row_of, named), []


def _match_columns(
    columns: Sequence[FileColumn], file: str, header: Sequence[str], *, parquet: bool
) -> tuple[dict[str, str], list[Problem]]:
    """Frame column -> file column; in Parquet a column may also stand under its frame name (`total_cents`)."""
    by_name = {column.name: column.in_frame for column in columns}
    if parquet:
        by_name |= {column.in_frame: column.in_frame for column in columns}
    named: dict[str, str] = {}
    problems = []
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        sign = "semicolons" if ";" in header[0] else "tabs"
        return {}, [Problem(file, f"the header is separated by {sign}", "separate the columns by commas", row=1)]
    for name in header:
        if name not in by_name:
            near = difflib.get_close_matches(name[:_SHOWN], by_name, n=1, cutoff=0.5)
            known = f"did you mean {near[0]}?" if near else f"the columns are {', '.join(c.name for c in columns)}"
            cure = f"rename it or take it away: {known}"
            shown = name if name == name.strip() and 0 < len(name) <= _SHOWN else _quoted(name)
            problems.append(
                Problem(file, f"unknown column {shown}", cure, row=None if parquet else 1, column=name[:_SHOWN])
            )
        elif by_name[name] in named:
            problems.append(Problem(file, "this column stands twice", "keep one of them", row=1, column=name))
        else:
            named[by_name[name]] = name
    for column in columns:
        if column.required and column.in_frame not in named:
            cure = (
                f"add it: {cells.form(column.kind)}" if column.kind != "text" else "add it to the header and the rows"
            )
            problems.append(Problem(file, "this column is missing", cure, column=column.name))
    return named, problems


def _column(
    table: str, file: str, column: FileColumn, shown: str, values: pa.ChunkedArray, row_of: Callable[[int], int]
) -> tuple[pa.Array | None, list[Problem]]:
    """One column in its declared type; on any problem None and what is wrong."""
    raw = _one_array(values)
    ready, instead = _readable(column, shown, raw)
    if instead:
        return None, [Problem(file, f"type {raw.type} is not accepted", instead, column=shown)]
    is_text = pa.types.is_dictionary(ready.type) or pa.types.is_string(ready.type)
    parsed = cells.parse(ready, column.kind) if is_text else cells.checked(ready, column.kind)
    problems = []
    for position in parsed.bad[:PER_COLUMN].tolist():
        cell = str(ready[position].as_py())
        meant = cells.suggestion(column.kind, cell)
        what = f"{_quoted(cell)} is not {cells.form(column.kind)}"
        if column.kind == "text":
            what = "the cell holds a NUL character"
        problems.append(Problem(file, what, f"write {meant}" if meant else "correct it", row_of(position), shown))
    result, count = parsed.values, len(parsed.bad)
    if count > PER_COLUMN:
        more = f"{count - PER_COLUMN} more cells of this column are wrong in the same way"
        problems.append(Problem(file, more, "correct the whole column", column=shown))
    if problems:
        return None, problems
    if (default := _DEFAULTS.get((table, column.in_frame))) is not None:
        result = result.fill_null(default)
    if not column.nullable and result.null_count:
        positions = np.flatnonzero(result.is_null().to_numpy(zero_copy_only=False))
        return None, [
            Problem(file, "the cell is empty", "every row must have a value here", row_of(position), shown)
            for position in positions[:PER_COLUMN].tolist()
        ]
    words = _WORDS.get((table, column.in_frame))
    return result, _unknown_words(file, shown, result, words, row_of) if words else []


def _quoted(value: object) -> str:
    """A value for a message: in quotes when it is text, and no longer than a line of a screen."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _unknown_words(
    file: str, shown: str, values: pa.Array, words: Sequence[str], row_of: Callable[[int], int]
) -> list[Problem]:
    unknown = np.flatnonzero(pc.invert(pc.is_in(values, pa.array(words))).to_numpy(zero_copy_only=False))
    problems = []
    for position in unknown[:PER_COLUMN].tolist():
        word = values[position].as_py()
        near = difflib.get_close_matches(word[:_SHOWN].lower(), words, n=1, cutoff=0.5)
        cure = f"write {near[0]}, if that is meant" if near else f"write one of {', '.join(words)}"
        problems.append(Problem(file, f"{_quoted(word)} is no known {shown}", cure, row_of(position), shown))
    return problems


def _readable(column: FileColumn, shown: str, values: pa.Array) -> tuple[pa.Array, str]:
    """A column as text for `cells.parse`, or in its declared type already; or what to store instead.

    CSV columns always come as text. A Parquet column carries its own type: this is where float money is refused.
    """
    kind, type_ = column.kind, values.type
    if pa.types.is_dictionary(type_):
        if pa.types.is_string(type_.value_type):
            return values, ""
        return _readable(column, shown, values.dictionary_decode())
    if any(is_type(type_) for is_type in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        return values.cast(pa.string()), ""
    if pa.types.is_null(type_):
        return values.cast(pa.string()), ""
    if kind == "text":
        return (values.cast(pa.string()), "") if pa.types.is_integer(type_) else (values, "store it as a string")
    if kind == "day":
        if pa.types.is_date(type_):
            return values.cast(pa.date32()), ""
        if pa.types.is_timestamp(type_) and type_.tz is None:
            days = values.cast(pa.date32())
            # A time of day is refused: whose business day 01:30 belongs to is the shop's rule, not a cut at midnight.
            if days.cast(type_).equals(values):
                return days, ""
        return values, "store it as a date or as YYYY-MM-DD"
    if kind == "instant":
        if pa.types.is_timestamp(type_) and type_.tz is not None:
            return values.cast(pa.timestamp("us", tz="UTC"), safe=False), ""
        return values, "store it as a timestamp with time zone UTC or as text with its offset"
    in_units = shown == column.in_frame
    if pa.types.is_integer(type_):
        if in_units:
            return values.cast(pa.int64()) if type_ != pa.uint64() else _uint64(values), ""
        if kind == "cents":
            return values, f"integers must say that they are cents: name the column {column.in_frame}"
        return values.cast(pa.string()), ""
    if in_units:
        return values, f"a column named {shown} must be of an integer type"
    if pa.types.is_decimal(type_):
        try:
            values = values.cast(pa.decimal128(38, cells.SCALE[kind]))  # 4.0500 to 4.05
        except pa.ArrowInvalid:  # a digit too many somewhere: as text, `parse` finds the cells
            return values.cast(pa.string()), ""
        return values.cast(pa.string()), ""
    if pa.types.is_floating(type_) and kind in ("bp", "milli"):
        # Rates and quantities are no money. Arrow prints the shortest digits that give the float back: 5.5, not 5.4999.
        return pc.replace_substring_regex(values.cast(pa.string()), r"\.0$", ""), ""
    cents = f"store it as decimal(12, 2) or as integer cents named {column.in_frame}; a float cannot hold every cent"
    return values, cents if kind == "cents" else "store it as an integer or a decimal"


def _uint64(values: pa.Array) -> pa.Array:
    """Unsigned 64-bit integers as signed ones, the largest clipped (they are out of range for any amount anyway)."""
    return pc.min_element_wise(values, pa.scalar(2**63 - 1, pa.uint64())).cast(pa.int64())


# --- rules over rows -----------------------------------------------------------------------------------------------


def _repeated_keys(table: str, read: _Read) -> list[Problem]:
    keys = list((FACTS[table].metadata or {}).get("unique", []))
    frame = pd.DataFrame({key: _codes(read.data.column(key)) for key in keys})
    repeated = frame.duplicated(keep="first").to_numpy()
    if not repeated.any():
        return []
    first_of = frame.drop_duplicates()
    problems = []
    for position in np.flatnonzero(repeated)[:PER_COLUMN].tolist():
        same = (first_of == frame.iloc[position]).all(axis=1)
        first = read.row_of(int(first_of.index[same.to_numpy()][0]))
        value = ", ".join(_quoted(read.data.column(key)[position].as_py()) for key in keys)
        shown = ", ".join(read.named[key] for key in keys)
        cure = "keep one of the two, or give each its own"
        problems.append(Problem(read.file, f"{value} stood in row {first} already", cure, read.row_of(position), shown))
    return problems


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_string(column.type):
        column = _one_array(column).dictionary_encode().indices
    codes: np.ndarray = column.fill_null(-1).to_numpy()
    return codes


def _orphans(child: str, key: str, parent: str, read: Mapping[str, _Read]) -> list[Problem]:
    known = _one_array(read[parent].data.column(key)) if parent in read else pa.array([], pa.string())
    table = read[child]
    values = table.data.column(key)
    unknown = np.flatnonzero(pc.invert(pc.is_in(values, known)).to_numpy())
    what = parent.removesuffix("s")
    return [
        Problem(
            table.file,
            f"{_quoted(values[position].as_py())} is no {what} of this folder",
            f"add the {what} to {read[parent].file if parent in read else parent + '.csv'} or take the row away",
            table.row_of(position),
            table.named[key],
        )
        for position in unknown[:PER_COLUMN].tolist()
    ]


def _closed_before_opened(closings: _Read) -> list[Problem]:
    opened, closed = closings.data.column("opened_at"), closings.data.column("closed_at")
    wrong = np.flatnonzero(pc.less(closed, opened).fill_null(False).to_numpy())
    cure = "correct one of the two instants"
    return [
        Problem(closings.file, "is before opened_at", cure, closings.row_of(position), closings.named["closed_at"])
        for position in wrong[:PER_COLUMN].tolist()
    ]


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    merged = column.combine_chunks()
    return merged if isinstance(merged, pa.Array) else pa.concat_arrays(merged.chunks)


# --- writing -------------------------------------------------------------------------------------------------------


def file_table(frame: pd.DataFrame, schema: pandera.DataFrameSchema) -> pd.DataFrame:
    """`frame` in the form of the files interface: text cells, columns without unit (`total` for `total_cents`)."""
    data = to_arrow(frame, schema)
    out = {}
    for name, column in schema.columns.items():
        kind, values = kind_of(column), _one_array(data.column(name))
        out[name.removesuffix(_UNITS.get(kind, ""))] = cells.to_text(values, kind).to_pandas()
    return pd.DataFrame(out)


def write_folder(facts: Facts, path: Path | str, *, suffix: str = ".csv") -> None:
    """Write facts as a folder that `read_folder` reads back equal: the required tables and those that have rows.

    `suffix` is `.csv`, `.csv.gz` or `.parquet` (which keeps `*_cents` integers). Raises FilesError when the folder
    cannot be written, or holds one of these tables in another form.
    """
    folder = Path(path)
    tables = {name: frame for name, frame in facts.tables().items() if len(frame) or name in REQUIRED}
    others = [
        name + other for name in FACTS for other in SUFFIXES if other != suffix and (folder / (name + other)).exists()
    ]
    if others:
        raise FilesError(
            folder, [Problem(others[0], "this table stands here in another form", "choose an empty folder")]
        )
    with writing_folder(folder) as staging:
        for name, frame in tables.items():
            target = staging / (name + suffix)
            if suffix == ".parquet":
                pq.write_table(to_arrow(frame, FACTS[name]), target)
            else:
                write_table(frame, FACTS[name], target)


def write_table(frame: pd.DataFrame, schema: pandera.DataFrameSchema, target: Path) -> None:
    """One table as CSV (compressed when `target` ends in .gz): the same rows give the same bytes."""
    # mtime 0: gzip would write the time of day into its header
    compression = {"method": "gzip", "mtime": 0} if target.suffix == ".gz" else None
    file_table(frame, schema).to_csv(target, index=False, lineterminator="\n", compression=compression)


RESULTS: dict[str, pandera.DataFrameSchema] = {
    str(schema.name): schema for schema in (ENTRIES, ENTRY_LINES, HELD, NOTICES, TRIAL_BALANCE)
}


def write_results(tables: Mapping[str, pd.DataFrame], path: Path | str) -> None:
    """Write entries, entry_lines, held, notices and trial_balance as CSV: all of them or none.

    Raises FilesError when the folder cannot be written.
    """
    with writing_folder(path) as staging:
        for name, frame in tables.items():
            write_table(frame, RESULTS[name], staging / f"{name}.csv")


def read_results(path: Path | str) -> dict[str, pd.DataFrame]:
    """What `write_results` wrote, as frames of schemas/entries.py. Raises FilesError as `read_folder` does."""
    folder = Path(path)
    found: dict[str, pd.DataFrame] = {}
    problems: list[Problem] = []
    for name, schema in RESULTS.items():
        file = folder / f"{name}.csv"
        if not file.is_file():
            problems.append(Problem(file.name, "this table is missing", "give the --out folder of kash-pipeline build"))
            continue
        read, wrong = _read_table(schema, file)
        problems += wrong
        if read is not None:
            found[name] = from_arrow(read.data, schema)
    if problems:
        raise FilesError(folder, problems)
    return found


@contextmanager
def writing_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder whose files appear in `path` when the block ends well, and nowhere when it does not.

    A new or empty `path` appears by one rename. In a folder that has files, each file is complete and on the disk
    before the first one is renamed into place. Raises FilesError when the folder cannot be written.
    """
    target = Path(path).absolute()
    staging: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(20, "is a file, not a folder")
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield staging
        for file in staging.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        if target.exists() and any(target.iterdir()):
            for file in sorted(staging.iterdir()):
                file.replace(target / file.name)
        else:
            umask = os.umask(0)
            os.umask(umask)
            staging.chmod(0o777 & ~umask)
            staging.replace(target)
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise FilesError(
            path, [Problem(str(path), what, "choose another folder with --out or mend its rights")]
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


# --- the adapter ---------------------------------------------------------------------------------------------------


class FilesSource:
    """A folder of facts as a till (`pos.port.Source`); it is read once, at the first question.

    `keep` receives every file as it stands. Raises FilesError like `read_folder`.
    """

    def __init__(self, folder: Path | str, *, keep: Callable[[RawDocument], None] | None = None) -> None:
        self.folder = Path(folder)
        self._keep = keep

    @cached_property
    def _facts(self) -> Facts:
        facts = read_folder(self.folder)
        if self._keep is not None:
            for file in _find_files(self.folder)[0].values():
                body = file.read_bytes()
                digest = hashlib.sha256(body).hexdigest()
                self._keep(RawDocument(file.name, None, file.as_posix(), datetime.now(UTC), 200, digest, body))
        return facts

    @property
    def capabilities(self) -> Capabilities:
        """Everything: in this interface a table that is not there says that there are none of these facts."""
        facts = self._facts
        till_vat = len(facts.order_vat) > 0 or bool(facts.order_lines["vat_cents"].notna().any())
        return Capabilities("files", True, True, True, till_vat, True)

    def reference(self, tables: Collection[str] = tuple(REFERENCE)) -> dict[str, pd.DataFrame]:
        return {name: frame for name, frame in self._facts.tables().items() if name in REFERENCE and name in tables}

    def sales(self, first: date, last: date) -> Iterator[DayOfSales]:
        facts = self._facts
        orders = facts.orders
        paid = _days_of(facts.payments["order_id"], orders, "order_id")
        paid = np.where(np.isnat(paid), facts.payments["business_day"].to_numpy("datetime64[D]"), paid)
        by_day = _Days(
            {
                "orders": (orders, orders["business_day"].to_numpy("datetime64[D]")),
                "order_lines": (facts.order_lines, _days_of(facts.order_lines["order_id"], orders, "order_id")),
                "order_vat": (facts.order_vat, _days_of(facts.order_vat["order_id"], orders, "order_id")),
                "payments": (facts.payments, paid),
            }
        )
        for day in _days(first, last):
            yield DayOfSales(day, **by_day.of(day))

    def closings(self, first: date, last: date) -> Iterator[DayOfClosings]:
        facts = self._facts
        closings, counts, movements = facts.closings, facts.closing_counts, facts.cash_movements
        by_day = _Days(
            {
                "closings": (closings, closings["business_day"].to_numpy("datetime64[D]")),
                "closing_counts": (counts, _days_of(counts["closing_id"], closings, "closing_id")),
                "cash_movements": (movements, movements["business_day"].to_numpy("datetime64[D]")),
            }
        )
        for day in _days(first, last):
            yield DayOfClosings(day, **by_day.of(day))


def _days_of(ids: pd.Series, frame: pd.DataFrame, key: str) -> np.ndarray:
    """Business day of the row each id names (the first, if it comes twice); NaT for null and for unknown ids."""
    once = frame.drop_duplicates(key)
    places = pd.Index(once[key]).get_indexer(pd.Index(ids))
    days = np.append(once["business_day"].to_numpy("datetime64[D]"), np.datetime64("NaT", "D"))
    found: np.ndarray = days[places]  # -1, not found, is the last element
    return found


def _days(first: date, last: date) -> Iterator[date]:
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


class _Days:
    """Tables cut by day: sorted once, so that a year of days does not scan every table 365 times."""

    def __init__(self, tables: Mapping[str, tuple[pd.DataFrame, np.ndarray]]) -> None:
        self._tables = {}
        for name, (frame, stamps) in tables.items():
            order = np.argsort(stamps, kind="stable")
            self._tables[name] = (frame.take(order), stamps[order])

    def of(self, day: date) -> dict[str, pd.DataFrame]:
        stamp = np.datetime64(day, "D")
        found = {}
        for name, (frame, stamps) in self._tables.items():
            start, end = np.searchsorted(stamps, [stamp, stamp + 1])
            found[name] = frame.iloc[start:end].reset_index(drop=True)
        return found
