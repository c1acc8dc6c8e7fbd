"""One file of a folder of facts as columns of raw cells, and the row of the file a user looks for.

Only CSV and Parquet as such belong here: encoding, quotes, rows of the wrong width, damaged files. What the columns
mean is files.py, how a cell is read is cells.py.
"""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from kash_pipeline.pos.errors import Problem

# The csv module's own limit of 131,072 characters a cell would take a long label for damage; Arrow has no limit.
csv.field_size_limit(2**31 - 1)

PER_COLUMN = 5
"""Problems told per file and column: the sixth wrong decimal comma teaches nothing new."""


@dataclass(frozen=True)
class Loaded:
    """A file as it stands: text columns (CSV, dictionary-coded) or typed ones (Parquet).

    `row_of` turns a position in `data` into the line of the CSV file (header is 1) or the row of the Parquet file
    (from 1).
    """

    data: pa.Table
    row_of: Callable[[int], int]


def load(file: Path) -> tuple[Loaded | None, list[Problem]]:
    """The raw cells of a `.csv`, `.csv.gz` or `.parquet` file, or None and what is wrong with it."""
    try:
        return _load_parquet(file) if file.suffix == ".parquet" else _load_csv(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return None, [Problem(file.name, f"the compressed file is damaged ({error})", "copy or write it again")]
    except OSError as error:
        return None, [
            Problem(file.name, f"cannot be read ({error.strerror or error})", "check the file and its rights")
        ]


def _load_parquet(file: Path) -> tuple[Loaded | None, list[Problem]]:
    try:
        schema = pq.read_schema(file)
        words = [column.name for column in schema if pa.types.is_string(column.type)]
        data = pq.ParquetFile(file, read_dictionary=words).read().unify_dictionaries()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = str(error).splitlines()[0]
        return None, [Problem(file.name, f"is no readable Parquet file ({reason})", "write the file again")]
    return Loaded(data, lambda position: position + 1), []


def _load_csv(file: Path) -> tuple[Loaded | None, list[Problem]]:
    # Cells come dictionary-coded: 1 million order lines take about 0.25 s on two cores, and each distinct cell is
    # parsed once.
    header, problems = _header(file)
    if problems:
        return None, problems
    doubled = next((name for name in header if header.count(name) > 1), None)
    if doubled is not None:
        return None, [Problem(file.name, "this column stands twice", "keep one of them", row=1, column=doubled)]
    ragged = []

    def note(row: pa_csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    try:
        data = pa_csv.read_csv(
            file,
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.dictionary(pa.int32(), pa.string()) for name in header},
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                null_values=[""],
            ),
        ).unify_dictionaries()
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        if problems := _scan(file, len(header)):
            return None, problems
        if next(_line_numbers(file), None) is not None:
            return None, [Problem(file.name, f"is no readable CSV ({reason})", "write the file again")]
        # Arrow refuses a header without line end and without rows; it says that there are no facts.
        return Loaded(pa.table({name: pa.array([], pa.string()) for name in header}), int), []
    # A quote that is never closed swallows rows without a word, but leaves a line break inside a cell.
    if ragged or any(_has_line_break(column) for column in data.columns):
        problems = _scan(file, len(header))
        if problems or ragged:
            return None, problems or [Problem(file.name, "rows of different width", "write the file again")]
    lines: list[int] = []

    def line_of(position: int) -> int:
        if not lines:
            lines.extend(_line_numbers(file))
        # csv and Arrow count rows alike in all that was tried; should they ever differ, a wrong row beats a traceback.
        return lines[position] if position < len(lines) else position + 2

    return Loaded(data, line_of), []


def _has_line_break(column: pa.ChunkedArray) -> bool:
    return column.num_chunks > 0 and bool(pc.any(pc.match_substring(column.chunk(0).dictionary, "\n")).as_py())


def _open_text(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _header(file: Path) -> tuple[list[str], list[Problem]]:
    try:
        with _open_text(file) as stream:
            header = next(csv.reader(stream, strict=True), [])
    except UnicodeDecodeError:
        return [], _not_utf8(file)
    except csv.Error as error:
        return [], [Problem(file.name, f"the header is no readable CSV ({error})", "write the file again", row=1)]
    if not header:
        return [], [Problem(file.name, "the file is empty or starts with a blank line", "write the header row first")]
    return header, []


def _not_utf8(file: Path) -> list[Problem]:
    """The first byte that is not UTF-8, by line; it reads line by line, for it runs only when something is wrong."""
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return [Problem(file.name, "the file is UTF-16", "save it as UTF-8", row=1)]
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                near = line[max(0, error.start - 12) : error.start + 8].decode("latin-1").strip()
                what = f"not UTF-8: byte 0x{line[error.start]:02x} in {near!r}"
                return [Problem(file.name, what, "save the file as UTF-8, not as Windows or Latin-1", row=number)]
    return []


def _scan(file: Path, width: int) -> list[Problem]:
    """The rows that are not as wide as the header, and quotes that are never closed, by line number."""
    problems: list[Problem] = []
    try:
        with _open_text(file) as stream:
            reader = csv.reader(stream, strict=True)
            next(reader, None)
            line = reader.line_num + 1
            try:
                for row in reader:
                    if row and len(row) != width:
                        cure = (
                            "put a cell that holds a comma in quotes" if len(row) > width else "add the missing cells"
                        )
                        problems.append(Problem(file.name, f"{len(row)} cells instead of {width}", cure, row=line))
                        if len(problems) >= PER_COLUMN:
                            break
                    line = reader.line_num + 1
            except csv.Error:
                what = "a quote opened here is not closed as it should be"
                problems.append(Problem(file.name, what, 'close it; a quote inside a cell is written ""', row=line))
    except UnicodeDecodeError:
        return _not_utf8(file)
    return problems


def _line_numbers(file: Path) -> Iterator[int]:
    """Line on which each data row starts: blank lines and line breaks inside cells shift it."""
    with _open_text(file) as stream:
        reader = csv.reader(stream)
        next(reader, None)
        line = reader.line_num + 1
        for row in reader:
            if row:
                yield line
            line = reader.line_num + 1
