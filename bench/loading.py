"""Loading of entries: what replacing a year (delete + COPY, keys, checks) costs over a bare COPY of the same rows.

Only this measurement belongs here; the table of all benchmarks is printed by bench/__main__.py.
"""

import hashlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pyarrow as arrow
import pyarrow.csv
import sqlalchemy as sa

from kash_pipeline.schemas import entries as schemas
from kash_pipeline.schemas.columns import conform, empty, to_arrow
from kash_pipeline.warehouse import database, embedded, windows

LINES = 131_000
"""Entry lines of a year at `order` granularity, a million lines of sales (docs/performance-notes, section 2)."""
ROUNDS = 5
SHOP = "bench"


def books(lines: int = LINES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Entries of four lines over a year, and their lines: deterministic."""
    entry = np.arange(lines // 4)
    key = pd.Series(entry).map("BENCH-260101-K1-S-{:07d}".format)
    day = np.datetime64("2026-01-01", "ms") + (entry * 365 // len(entry)).astype("timedelta64[D]")
    parts = np.stack([100 + (entry * 7919 * n) % 30_000 for n in (1, 2, 3)])
    header = pd.DataFrame(
        {
            "entry_key": key,
            "kind": "sale",
            "business_day": day,
            "register_id": "K1",
            "journal": "K1",
            "date": day,
            "label": "Ventes du jour, caisse 1",
            "lines": 4,
            "debit_cents": parts.sum(axis=0),
            "credit_cents": parts.sum(axis=0),
            "digest": key.map(lambda text: hashlib.sha256(text.encode()).hexdigest()),
        }
    )
    position = np.tile(np.arange(4), len(entry))
    debit = position == 0
    line = pd.DataFrame(
        {
            "entry_key": key.repeat(4).to_numpy(),
            "line_no": position + 1,
            "account": np.array(["411000", "707200", "445711200", "707100"])[position],
            "customer_id": None,
            "vat_rate_bp": pd.array(np.where(debit, 0, 2000), dtype="Int64"),
            "method_id": None,
            "debit_cents": np.where(debit, np.repeat(parts.sum(axis=0), 4), 0),
            "credit_cents": np.where(debit, 0, np.vstack([parts[0], parts]).T.reshape(-1)),
            "label": "Ventes du jour, caisse 1",
        }
    )
    return conform(header, schemas.ENTRIES), conform(line, schemas.ENTRY_LINES)


def rows() -> list[dict[str, object]]:
    """One row per benchmark: `benchmark`, `ours` and `anchor` (medians of interleaved rounds), `ratio`,
    `target` (what the ratio may be)."""
    with tempfile.TemporaryDirectory(prefix="kp-") as folder:
        home = Path(folder) / "pg"
        engine = database.open_engine(embedded.url_of(home))
        try:
            database.upgrade(engine)
            ours, anchor = _measure(engine, *books())
        finally:
            engine.dispose()
            embedded.stop(home)
    return [
        {
            "benchmark": f"a year of entries ({LINES:,} lines) replaced by delete + COPY / bare COPY of the same CSV",
            "ours": f"{ours:.2f} s",
            "anchor": f"{anchor:.2f} s",
            "ratio": f"{ours / anchor:.2f}",
            "target": "<= 4",
        }
    ]


def _measure(engine: sa.Engine, entries: pd.DataFrame, lines: pd.DataFrame) -> tuple[float, float]:
    days = entries["business_day"].dt.date.unique().tolist()
    bare = {"bare_entries": to_arrow(entries, schemas.ENTRIES), "bare_lines": to_arrow(lines, schemas.ENTRY_LINES)}
    texts = {name: _csv(table) for name, table in bare.items()}

    def replace() -> None:
        with engine.begin() as connection:
            windows.replace_entries(
                connection,
                SHOP,
                days,
                entries=entries,
                entry_lines=lines,
                held=empty(schemas.HELD),
                notices=empty(schemas.NOTICES),
            )

    def bare_copy() -> None:
        with engine.begin() as connection:
            for name, text in texts.items():
                connection.execute(sa.text(f"truncate {name}"))
                driver = connection.connection.driver_connection
                assert isinstance(driver, psycopg.Connection)
                with driver.cursor() as cursor, cursor.copy(f"copy {name} from stdin with (format csv)") as copy:
                    copy.write(text)

    with engine.begin() as connection:
        for name, table in bare.items():
            kinds = {arrow.int64(): "bigint", arrow.date32(): "date"}
            columns = ", ".join(f"{field.name} {kinds.get(field.type, 'text')}" for field in table.schema)
            connection.execute(sa.text(f"create table {name} ({columns})"))
    replace()  # the first load deletes nothing; every later one replaces a full year
    times: dict[Callable[[], None], list[float]] = {replace: [], bare_copy: []}
    for _ in range(ROUNDS):
        for act, taken in times.items():
            begun = time.perf_counter()
            act()
            taken.append(time.perf_counter() - begun)
    return statistics.median(times[replace]), statistics.median(times[bare_copy])


def _csv(table: arrow.Table) -> memoryview:
    out = io.BytesIO()
    pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(include_header=False))
    return out.getbuffer()


if __name__ == "__main__":
    for row in rows():
        print(row)
