"""The lake: facts as Parquet, one file per table and business day, and the raw answers they were made from.

Only keeping them belongs here; what the columns mean is in schemas/facts.py, where they come from in pos/. A day is
replaced whole by an atomic rename, so a reader sees the old day or the new one. A day without rows is a file without
rows: a day that has no file was never read, and is an error, not zero sales.

    <url>/<shop>/facts/<table>/<day>.parquet      <url>/<shop>/raw/<call>/<day>/<sha256>.gz and .json beside it
    <url>/<shop>/reference/<table>.parquet        .dropped instead of both once retention deleted them
"""

import gzip
import hashlib
import io
import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import fsspec
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
import pyarrow.csv
import pyarrow.parquet as parquet

from kash_pipeline.schemas.columns import arrow_schema, from_arrow, kind_of, to_arrow
from kash_pipeline.schemas.control import CONTROL_TOTALS
from kash_pipeline.schemas.facts import DAILY, FACTS, ORDERS, PAYMENTS, REFERENCE, Facts
from kash_pipeline.warehouse.errors import LakeError, MissingDays

_DIGEST = b"kash.digest"
_DROPPED = ".dropped"
_FORGOTTEN = "forgotten.json"

FILED: dict[str, pa.DataFrameSchema] = {
    **DAILY,
    "order_payments": PAYMENTS,
    "control_totals": CONTROL_TOTALS,
    "gone_orders": ORDERS,
}
"""What has a file per day: the daily facts; payments as the till nests them, under the day of their order (the fact
`payments` is made of these, under the day the money moved: defs/pos.py); the till's daily report; and orders that were
read once and were not in a later answer, where there are any."""


class RawDocument(Protocol):
    """A raw answer of a source, as pos/ hands it over; `url` is redacted already."""

    @property
    def call(self) -> str: ...
    @property
    def day(self) -> date | None: ...
    @property
    def url(self) -> str: ...
    @property
    def fetched_at(self) -> datetime: ...
    @property
    def status(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def body(self) -> bytes: ...


def days_between(first: date, last: date) -> list[date]:
    """All days from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


class Lake:
    """Facts and raw answers of one shop under any fsspec URL (a directory, s3://, gs://, memory://)."""

    def __init__(self, url: str, shop_id: str) -> None:
        try:
            # Another process may write: what a listing said a moment ago is not to be trusted.
            filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise LakeError(
                f"KASH_LAKE_URL {_without_secrets(url)!r} cannot be used: {error}",
                next_step="give a directory, or a URL of a file system that fsspec knows, with its package installed",
            ) from error
        self._fs = filesystem
        self._root = f"{root.rstrip('/')}/{shop_id}"
        self._shown = f"{_without_secrets(url).rstrip('/')}/{shop_id}"
        self._local = "file" in ([filesystem.protocol] if isinstance(filesystem.protocol, str) else filesystem.protocol)

    # --- facts ----------------------------------------------------------------------------------------------

    def write_day(self, table: str, day: date, frame: pd.DataFrame) -> str:
        """Replace one day of a daily table of schemas/facts.py; the content's digest (sha256).

        The digest does not depend on the order of the rows. An unchanged day is not written again.
        """
        rows = _arrow(frame, _schema(table, FILED))
        return self._write_rows(table, day, rows)

    def write_days(self, table: str, days: Sequence[date], frame: pd.DataFrame, rows: Sequence[int]) -> None:
        """`write_day` for many days at once: `frame` holds them one after the other, `rows` says how many each has.

        Turning a small frame into Arrow costs 3 ms whatever its size, so a month is turned over whole and cut there.
        """
        if sum(rows) != len(frame) or len(rows) != len(days):
            raise LakeError(
                f"{table}: {len(frame)} rows cannot be cut into {sum(rows)} of {len(days)} days",
                next_step="report this",
            )
        whole = _arrow(frame, _schema(table, FILED))
        at = 0
        for day, length in zip(days, rows, strict=True):
            self._write_rows(table, day, whole.slice(at, length))
            at += length

    def _write_rows(self, table: str, day: date, rows: arrow.Table) -> str:
        digest = content_digest(rows)
        if digest != self.digest(table, day):
            self._write_parquet(f"facts/{table}/{day.isoformat()}.parquet", rows, digest)
        return digest

    def digest(self, table: str, day: date) -> str | None:
        """The digest of a day as it was written; None when it never was."""
        path = f"{self._root}/facts/{table}/{day.isoformat()}.parquet"
        try:
            with self._reading(path), self._fs.open(path, "rb") as file:
                metadata = parquet.ParquetFile(file).schema_arrow.metadata or {}
        except MissingDays:
            return None
        return str(metadata[_DIGEST].decode())

    def days(self, table: str) -> list[date]:
        """The days that were written, empty ones too, in order."""
        _schema(table, FILED)
        try:
            names = self._fs.ls(f"{self._root}/facts/{table}", detail=False)
        except FileNotFoundError:
            return []
        stems = (
            str(name).rsplit("/", 1)[-1].removesuffix(".parquet") for name in names if str(name).endswith(".parquet")
        )
        return sorted(date.fromisoformat(stem) for stem in stems)

    def missing(self, table: str, first: date, last: date) -> list[date]:
        """Days of `first..last` that were never written."""
        return sorted(set(days_between(first, last)) - set(self.days(table)))

    def read_days(
        self,
        table: str,
        first: date,
        last: date,
        columns: Sequence[str] | None = None,
        *,
        categories: bool = False,
        missing: str = "raise",
    ) -> pd.DataFrame:
        """The rows of `first..last` as a frame of the table's schema, or of these `columns` only.

        Raises MissingDays when a day was never written, unless `missing="skip"`. With `categories`, text is
        dictionary-coded, as it is in the files: half the memory, and faster to group by.
        """
        schema = _schema(table, FILED)
        if columns is not None:
            schema = pa.DataFrameSchema({name: schema.columns[name] for name in columns}, name=table)
        written = set(self.days(table))
        wanted = days_between(first, last)
        absent = [day for day in wanted if day not in written]
        if absent and missing != "skip":
            raise MissingDays(
                f"{self._shown}: {table} of {_days_text(absent)} was never read from the till",
                next_step=f"kash-pipeline run --from {absent[0]} --to {absent[-1]} reads them; in Dagster's UI, "
                f"materialize pos/{_asset_of(table)} for these days first",
            )
        pieces = [
            self._read_parquet(f"facts/{table}/{day.isoformat()}.parquet", schema, categories=categories)
            for day in wanted
            if day in written
        ]
        whole = arrow.concat_tables(pieces) if pieces else arrow_schema(schema).empty_table()
        # Each file has a dictionary of its own; pandas needs one for all.
        return from_arrow(whole.unify_dictionaries(), schema, categories=categories)

    def write_reference(self, table: str, frame: pd.DataFrame) -> str:
        """Replace a reference table; the content's digest."""
        rows = _arrow(frame, _schema(table, REFERENCE))
        digest = content_digest(rows)
        self._write_parquet(f"reference/{table}.parquet", rows, digest)
        return digest

    def read_reference(self, table: str) -> pd.DataFrame:
        """A reference table. Raises LakeError when it was never written."""
        schema = _schema(table, REFERENCE)
        return from_arrow(self._read_parquet(f"reference/{table}.parquet", schema), schema)

    def has_reference(self, table: str) -> bool:
        return bool(self._fs.exists(f"{self._root}/reference/{_schema(table, REFERENCE).name}.parquet"))

    def read_facts(self, first: date, last: date, *, categories: bool = False, missing: str = "raise") -> Facts:
        """All tables of facts of `first..last` and the reference data.

        A table that was never written at all is empty: the source does not have it; orders and their lines every source
        has. Raises MissingDays for days that a table lacks, unless `missing="skip"`.
        """
        tables: dict[str, pd.DataFrame] = {}
        for table in DAILY:
            if table in ("orders", "order_lines") or self.days(table):
                tables[table] = self.read_days(table, first, last, categories=categories, missing=missing)
        for table in REFERENCE:
            if self.has_reference(table):
                tables[table] = self.read_reference(table)
        return Facts(**tables)

    # --- raw answers ----------------------------------------------------------------------------------------

    def keep(self, document: RawDocument, *, instead: bytes | None = None) -> str:
        """Keep a raw answer, once per call, day and content; its path below the shop's root.

        What is kept beside the body: redacted URL, time of the first fetch, status, sha256. `instead` takes the place
        of a body that names somebody who is forgotten, as `redact` would put it there. Raises LakeError when the body
        is not what its hash says.
        """
        if hashlib.sha256(document.body).hexdigest() != document.sha256:
            raise LakeError(
                f"raw answer of {document.call} differs from its hash", next_step="report this: the source is at fault"
            )
        day = document.day.isoformat() if document.day else "undated"
        path = f"raw/{document.call}/{day}/{document.sha256}"
        if not self._fs.exists(f"{self._root}/{path}.json"):
            meta: dict[str, Any] = {
                "call": document.call,
                "day": None if document.day is None else document.day.isoformat(),
                "url": document.url,
                "fetched_at": document.fetched_at.isoformat(),
                "status": document.status,
                "sha256": document.sha256,
                "bytes": len(document.body),
            }
            if instead is not None:
                meta["redacted"] = _redaction(instead, document.fetched_at)
            kept = document.body if instead is None else instead
            # mtime=0: the same answer gives the same file. The description comes last: it says that both are there.
            self._write(f"{path}.gz", gzip.compress(kept, compresslevel=6, mtime=0))
            self._write(f"{path}.json", json.dumps(meta, indent=1).encode())
        return path

    def raw(self, call: str, day: date | None = None) -> list[dict[str, Any]]:
        """What is known of the kept answers of a call (and day), oldest first, each with its `path`."""
        below = f"{self._root}/raw/{call}" + (f"/{day.isoformat()}" if day else "")
        return self._described(below, ".json")

    def read_raw(self, path: str) -> bytes:
        """The body of a kept answer. Raises LakeError when it is gone or no longer what its hash says."""
        with self._reading(f"{self._root}/{path}.gz"):
            body = gzip.decompress(self._fs.cat_file(f"{self._root}/{path}.gz"))
        digest = hashlib.sha256(body).hexdigest()
        if digest != path.rsplit("/", 1)[-1] and digest != self._redacted(path):
            raise LakeError(f"{self._shown}/{path}.gz was changed since it was kept", next_step="restore it")
        return body

    def redact(self, path: str, body: bytes, *, at: datetime) -> None:
        """Put a body without somebody's personal data in the place of a kept answer.

        It stays under the hash of what the till answered, by which entries are traced to it; the description says
        when it was redacted, and the hash of what is left.
        """
        name = f"{self._root}/{path}.json"
        with self._reading(name):
            meta = json.loads(self._fs.cat_file(name))
        meta["redacted"] = _redaction(body, at)
        # The description first: a body that is not yet replaced still has the hash it is filed under.
        self._write(f"{path}.json", json.dumps(meta, indent=1).encode())
        self._write(f"{path}.gz", gzip.compress(body, compresslevel=6, mtime=0))

    def _redacted(self, path: str) -> str | None:
        try:
            meta = json.loads(self._fs.cat_file(f"{self._root}/{path}.json"))
        except FileNotFoundError:
            return None
        return str(meta["redacted"]["sha256"]) if "redacted" in meta else None

    def write_forgotten(self, customer_ids: Collection[str]) -> None:
        """Note whom no raw answer may name any more, for those who keep answers without a database."""
        self._write(_FORGOTTEN, json.dumps(sorted(customer_ids)).encode())

    def forgotten(self) -> set[str]:
        """The till's numbers of customers whom no raw answer may name."""
        try:
            return set(json.loads(self._fs.cat_file(f"{self._root}/{_FORGOTTEN}")))
        except FileNotFoundError:
            return set()

    def raw_calls(self) -> list[str]:
        """The calls and files that answers are kept of."""
        try:
            names = self._fs.ls(f"{self._root}/raw", detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in names)

    def drop_raw(self, *, before: date, dropped_at: datetime, dry_run: bool) -> tuple[int, int]:
        """Delete answers first fetched before that day (UTC); their number and the bytes they took.

        What was known of each stays, without its body, and `dropped` lists it: a trace can say what there was. That
        record is written before anything is deleted; what a killed run left half done, the next one ends.
        """
        count, size = 0, 0
        for call in self.raw_calls():
            there = set(map(str, self._fs.find(f"{self._root}/raw/{call}")))
            for meta in self.raw(call):
                if datetime.fromisoformat(str(meta["fetched_at"])).date() < before:
                    path = str(meta.pop("path"))
                    count += 1
                    size += int(meta["bytes"])
                    if not dry_run:
                        record = {**meta, "dropped_at": dropped_at.isoformat()}
                        self._write(f"{path}{_DROPPED}", json.dumps(record, indent=1).encode())
                        for suffix in (".json", ".gz"):
                            if (name := f"{self._root}/{path}{suffix}") in there:
                                self._fs.rm_file(name)
                                there.remove(name)
            for name in [name for name in there if name.endswith(_DROPPED) and not dry_run]:
                body = name.removesuffix(_DROPPED)
                if f"{body}.gz" in there and f"{body}.json" not in there:
                    self._fs.rm_file(f"{body}.gz")
        return count, size

    def dropped(self, call: str) -> list[dict[str, Any]]:
        """What was known of the answers of a call that were deleted under retention, oldest first, each with its `path`
        and `dropped_at`; one that came again since is kept again and not listed."""
        return self._described(f"{self._root}/raw/{call}", _DROPPED)

    def _described(self, below: str, suffix: str) -> list[dict[str, Any]]:
        found = []
        names = set(map(str, self._fs.find(below)))
        for name in names:
            path = name.removesuffix(suffix)
            if name.endswith(suffix) and (suffix == ".json" or f"{path}.json" not in names):
                found.append({**json.loads(self._fs.cat_file(name)), "path": path.removeprefix(f"{self._root}/")})
        return sorted(found, key=lambda meta: (str(meta["fetched_at"]), str(meta["sha256"])))

    # --- files ----------------------------------------------------------------------------------------------

    def _write_parquet(self, path: str, rows: arrow.Table, digest: str) -> None:
        out = io.BytesIO()
        marked = rows.replace_schema_metadata({_DIGEST: digest.encode()})
        parquet.write_table(marked, out, compression="zstd", write_statistics=False)
        self._write(path, out.getvalue())

    def _write(self, path: str, content: bytes) -> None:
        """Whole or not at all: a local file by rename, an object of a store by its single put."""
        target = f"{self._root}/{path}"
        try:
            self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            if not self._local:
                self._fs.pipe_file(target, content)
                return
            beside = Path(f"{target}.{uuid.uuid4().hex}.part")
            try:
                beside.write_bytes(content)
                beside.replace(target)
            finally:
                with suppress(FileNotFoundError):
                    beside.unlink()
        except OSError as error:
            raise LakeError(
                f"{self._shown}/{path} cannot be written: {error}",
                next_step="check KASH_LAKE_URL, rights and free space",
            ) from error

    def _read_parquet(self, path: str, schema: pa.DataFrameSchema, *, categories: bool = False) -> arrow.Table:
        full = f"{self._root}/{path}"
        coded = [name for name, column in schema.columns.items() if kind_of(column) == "text"] if categories else None
        with self._reading(full):
            source = full if self._local else io.BytesIO(self._fs.cat_file(full))
            # One thread a file: 365 small files gain nothing from two, and the pool's start costs more than the file.
            with parquet.ParquetFile(source, read_dictionary=coded) as file:
                rows = file.read(list(schema.columns), use_threads=False)
        return rows.replace_schema_metadata(None)

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        shown = self._shown + path.removeprefix(self._root)
        try:
            yield
        except FileNotFoundError as error:
            raise MissingDays(f"{shown} was never written", next_step="read it from the till first") from error
        except (OSError, arrow.ArrowException, EOFError) as error:
            raise LakeError(
                f"{shown} cannot be read: {error}", next_step="delete this file and read its day from the till again"
            ) from error


def _redaction(body: bytes, at: datetime) -> dict[str, str]:
    return {
        "at": at.isoformat(),
        "why": "somebody named in it asked to be forgotten",
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def content_digest(rows: arrow.Table) -> str:
    """sha256 over the rows, whatever their order."""
    ordered = rows.sort_by([(name, "ascending") for name in rows.column_names]) if rows.num_columns else rows
    hasher = hashlib.sha256("\n".join(map(str, rows.schema)).encode())
    out = io.BytesIO()
    pyarrow.csv.write_csv(ordered, out)
    hasher.update(out.getbuffer())
    return hasher.hexdigest()


def _schema(table: str, known: dict[str, pa.DataFrameSchema]) -> pa.DataFrameSchema:
    try:
        return known[table]
    except KeyError:
        kind = "no table of facts" if table not in FACTS else "another kind of table"
        raise LakeError(f"{table!r} is {kind}; known here: {', '.join(known)}", next_step="report this") from None


def _arrow(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> arrow.Table:
    try:
        return to_arrow(frame, schema)
    except (KeyError, arrow.ArrowInvalid, arrow.ArrowTypeError, UnicodeError) as error:
        raise LakeError(
            f"{schema.name}: not a frame of this table: {error}",
            next_step="report this: the source adapter is at fault",
        ) from error


def _asset_of(table: str) -> str:
    return {"payments": "payments"}.get(table, "closings" if table.startswith(("clos", "cash")) else "sales")


def _days_text(days: Iterable[date]) -> str:
    ordered = sorted(days)
    first = ", ".join(day.isoformat() for day in ordered[:3])
    return first if len(ordered) <= 3 else f"{first} and {len(ordered) - 3} more days"


def _without_secrets(url: str) -> str:
    """A URL without user, password and query, which may hold keys of a store."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.partition('?')[0].rpartition('@')[2]}" if separator else url
