"""The accounting engine on synthetic sales: time against one DuckDB statement, memory, and what validation costs.

Makes its own facts (seeded, written as Parquet once per size) and gives rows; printing is bench/__main__.py or, alone,
`python -m bench.engine --lines 1000000`.
"""

import argparse
import gc
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from kash_pipeline.accounting import Carry, build
from kash_pipeline.schemas.columns import arrow_schema, from_arrow, is_coded, partial_frame
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES
from kash_pipeline.schemas.facts import DAILY, FACTS, PAYMENT_METHODS, REGISTERS, Facts
from kash_pipeline.settings import ShopFile, shop_from

FIRST_DAY = date(2026, 1, 1)
DAYS = 365
RATES = (210, 550, 1000, 2000)
REGISTERS_IDS = tuple(f"K{number}" for number in range(1, 9))
METHODS = (("CASH", "cash"), ("CARD", "card"), ("CHQ", "cheque"), ("TR", "meal_voucher"), ("VIR", "transfer"))
LINES_PER_ORDER = 3.4
WINDOW_LINES = 1_200_000
"""Whole months are built together up to this many lines: memory then depends on this number, not on the year."""

CHART: dict[str, Any] = {
    "from": "2020-01-01",
    "sales": {"2.1": "707021", "5.5": "701055", "10": "701100", "20": "707200"},
    "vat": {"2.1": "445711021", "5.5": "445711055", "10": "445711100", "20": "445711200"},
    "methods": {"cash": "530000", "card": "511500", "cheque": "511200", "meal_voucher": "511700", "transfer": "512000"},
}


def shop() -> ShopFile:
    return shop_from(
        {
            "shop": {"id": "bench", "name": "Bench"},
            "source": {"kind": "files", "path": "."},
            "chart": [CHART],
            "journals": {name: name for name in REGISTERS_IDS},
        },
        Path("bench.toml"),
    )


# -- synthetic facts -------------------------------------------------------------------------------------------------


def _coded(codes: np.ndarray, values: list[str]) -> arrow.Array:
    missing = codes < 0
    indices = arrow.array(np.where(missing, 0, codes).astype(np.int32), mask=missing)
    return arrow.DictionaryArray.from_arrays(indices, arrow.array(values)).cast(arrow.string())


def _numbered(prefix: str, numbers: np.ndarray) -> arrow.Array:
    padded = pc.utf8_lpad(arrow.array(numbers).cast(arrow.string()), 8, "0")
    return pc.binary_join_element_wise(arrow.scalar(prefix), padded, "")


def generate(folder: Path, lines: int, seed: int = 20260314) -> None:
    """A year of facts with about `lines` sale lines: one Parquet file per table and month under `folder`.

    4 rates, 8 registers, 5 methods, 2 % refunds, 1 % named customers, 5 % orders paid by two methods, every order
    paid on its day, one closing a register and day.
    """
    chance = np.random.default_rng(seed)
    orders = int(lines / LINES_PER_ORDER)
    count = 1 + chance.poisson(LINES_PER_ORDER - 1, orders)
    day = np.sort(chance.integers(0, DAYS, orders))
    month = np.array([(FIRST_DAY + timedelta(days=number)).month for number in range(DAYS)])[day]
    register = chance.integers(0, len(REGISTERS_IDS), orders)
    refund = chance.random(orders) < 0.02
    customer = np.where(chance.random(orders) < 0.01, chance.integers(0, 400, orders), -1)
    of_order = np.repeat(np.arange(orders), count)
    cents = chance.integers(80, 2500, len(of_order)) * np.where(refund[of_order], -1, 1)
    rate = np.array(RATES)[chance.choice(4, len(of_order), p=(0.02, 0.6, 0.3, 0.08))]
    total = np.zeros(orders, np.int64)
    np.add.at(total, of_order, cents)
    line_no = np.arange(len(of_order)) - np.repeat(np.cumsum(count) - count, count) + 1
    two = chance.random(orders) < 0.05
    paid_order = np.concatenate([np.arange(orders), np.flatnonzero(two)])
    first_part = np.where(two, total // 3, total)
    paid = np.concatenate([first_part, (total - first_part)[two]])
    method = chance.integers(0, len(METHODS), len(paid_order))
    roll = np.argsort(paid_order, kind="stable")
    paid_order, paid, method = paid_order[roll], paid[roll], method[roll]
    order_ids = _numbered("", np.arange(orders) + 10_000_000)
    tables: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "orders": (
            month,
            {
                "order_id": order_ids,
                "number": _numbered("F", np.arange(orders)),
                "register_id": _coded(register, list(REGISTERS_IDS)),
                "business_day": _days(day),
                "customer_id": _coded(customer, [f"C{number:04d}" for number in range(400)]),
                "total_cents": total,
            },
        ),
        "order_lines": (
            month[of_order],
            {
                "order_id": order_ids.take(arrow.array(of_order)),
                "line_no": line_no,
                "label": _coded(chance.integers(0, 150, len(of_order)), [f"Article {n}" for n in range(150)]),
                "quantity_milli": np.full(len(of_order), 1000),
                "vat_rate_bp": rate,
                "total_cents": cents,
                "nature": _coded(np.zeros(len(of_order), np.int64), ["sale"]),
            },
        ),
        "payments": (
            month[paid_order],
            {
                "payment_id": _numbered("P", np.arange(len(paid_order))),
                "order_id": order_ids.take(arrow.array(paid_order)),
                "register_id": _coded(register[paid_order], list(REGISTERS_IDS)),
                "business_day": _days(day[paid_order]),
                "method_id": _coded(method, [name for name, _ in METHODS]),
                "amount_cents": paid,
            },
        ),
    }
    closing_day = np.repeat(np.arange(DAYS), len(REGISTERS_IDS))
    closing_register = np.tile(np.arange(len(REGISTERS_IDS)), DAYS)
    z_total = np.zeros(len(closing_day), np.int64)
    np.add.at(z_total, day * len(REGISTERS_IDS) + register, total)
    tables["closings"] = (
        np.array([(FIRST_DAY + timedelta(days=int(number))).month for number in closing_day]),
        {
            "closing_id": _numbered("Z", np.arange(len(closing_day))),
            "register_id": _coded(closing_register, list(REGISTERS_IDS)),
            "business_day": _days(closing_day),
            "closed_at": arrow.array(
                _days(closing_day).cast(arrow.timestamp("us")).to_numpy() + np.timedelta64(20, "h"),
                arrow.timestamp("us", tz="UTC"),
            ),
            "total_cents": z_total,
        },
    )
    for name, (months, columns) in tables.items():
        schema = arrow_schema(DAILY[name])
        rows = len(months)
        full = {
            field.name: arrow.array(columns[field.name]).cast(field.type)
            if field.name in columns
            else arrow.nulls(rows, field.type)
            for field in schema
        }
        table = arrow.table(full)
        (folder / name).mkdir(parents=True, exist_ok=True)
        bounds = np.searchsorted(months, np.arange(1, 14))
        for number in range(12):
            part = table.slice(bounds[number], bounds[number + 1] - bounds[number])
            parquet.write_table(part, folder / name / f"2026-{number + 1:02d}.parquet", row_group_size=1 << 20)


def _days(numbers: np.ndarray) -> arrow.Array:
    start = (FIRST_DAY - date(1970, 1, 1)).days
    return arrow.array((numbers + start).astype(np.int32), arrow.int32()).cast(arrow.date32())


# -- ours ------------------------------------------------------------------------------------------------------------

NEEDED: dict[str, tuple[str, ...]] = {
    "orders": ("order_id", "number", "register_id", "business_day", "validated_at", "customer_id", "total_cents"),
    "order_lines": ("order_id", "vat_rate_bp", "total_cents", "vat_cents", "nature"),
    "payments": ("payment_id", "order_id", "register_id", "business_day", "method_id", "amount_cents", "customer_id"),
    "closings": tuple(DAILY["closings"].columns),
}


def read(folder: Path, months: list[int], columns: dict[str, tuple[str, ...]]) -> Facts:
    """Facts of some months, text of few values dictionary-coded."""
    tables: dict[str, pd.DataFrame] = {}
    for name, names in columns.items():
        text = [column for column in names if is_coded(FACTS[name].columns[column])]
        source = parquet.ParquetDataset(
            [folder / name / f"2026-{month:02d}.parquet" for month in months], read_dictionary=text
        )
        tables[name] = partial_frame(source.read(columns=list(names)), FACTS[name])
    return Facts(
        **tables,
        payment_methods=from_arrow(
            arrow.table(
                {
                    "method_id": [name for name, _ in METHODS],
                    "name": [name for name, _ in METHODS],
                    "kind": [kind for _, kind in METHODS],
                    "chapter": arrow.nulls(len(METHODS), arrow.string()),
                }
            ),
            PAYMENT_METHODS,
        ),
        registers=from_arrow(
            arrow.table(
                {
                    "register_id": list(REGISTERS_IDS),
                    "name": list(REGISTERS_IDS),
                    "chapter": arrow.nulls(len(REGISTERS_IDS), arrow.string()),
                }
            ),
            REGISTERS,
        ),
    )


def windows(folder: Path, limit: int = WINDOW_LINES) -> Iterator[list[int]]:
    """Runs of whole months of at most `limit` lines (one month at least)."""
    batch: list[int] = []
    size = 0
    for month in range(1, 13):
        rows = parquet.ParquetFile(folder / "order_lines" / f"2026-{month:02d}.parquet").metadata.num_rows
        if batch and size + rows > limit:
            yield batch
            batch, size = [], 0
        batch.append(month)
        size += rows
    yield batch


def month_end(month: int) -> date:
    return (date(2026, month + 1, 1) if month < 12 else date(2027, 1, 1)) - timedelta(days=1)


def ours(folder: Path, shop_file: ShopFile, limit: int = WINDOW_LINES) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Entries and entry lines, window after window with the carry passed on."""
    carry = Carry()
    for months in windows(folder, limit):
        facts = read(folder, months, NEEDED)
        result = build(facts, shop_file, first=date(2026, months[0], 1), last=month_end(months[-1]), carry=carry)
        if len(result.held):
            raise RuntimeError(f"a synthetic day is held: {result.held.iloc[0].to_dict()}")
        carry = result.carry
        yield result.entries, result.entry_lines


# -- the anchor ------------------------------------------------------------------------------------------------------

ANCHOR = """
with orders as (
    select order_id, register_id, business_day, customer_id, total_cents from read_parquet('{folder}/orders/*.parquet')
),
cells as (
    select order_id, vat_rate_bp as rate, sum(total_cents)::bigint as gross
    from read_parquet('{folder}/order_lines/*.parquet') group by 1, 2
),
vat as (
    select o.business_day, o.register_id, c.rate, c.gross,
           sign(c.gross)::bigint * ((2 * abs(c.gross) * c.rate + 10000 + c.rate) // (2 * (10000 + c.rate))) as vat
    from cells c join orders o using (order_id)
),
sales as (select account, rate from (values {sales}) t(account, rate)),
taxes as (select account, rate from (values {taxes}) t(account, rate)),
methods as (select method_id, account from (values {methods}) t(method_id, account)),
paid as (
    select p.business_day, p.register_id, p.method_id, p.amount_cents as amount, o.customer_id
    from read_parquet('{folder}/payments/*.parquet') p join orders o using (order_id)
),
closed as (
    select business_day, register_id, sum(total_cents)::bigint as amount
    from orders where customer_id is null group by 1, 2
),
postings as (
    select business_day, register_id, 'sale' as kind,
           case when customer_id is null then '580100' else '411000' end as account,
           customer_id, null::bigint as rate, null as method_id, total_cents as amount from orders
    union all select v.business_day, v.register_id, 'sale', s.account, null, v.rate, null, v.vat - v.gross
    from vat v join sales s using (rate)
    union all select v.business_day, v.register_id, 'sale', t.account, null, v.rate, null, -v.vat
    from vat v join taxes t using (rate)
    union all select p.business_day, p.register_id, 'payment', m.account, null, null, p.method_id, p.amount
    from paid p join methods m using (method_id)
    union all select business_day, register_id, 'payment',
           case when customer_id is null then '580200' else '411000' end, customer_id, null, null, -amount from paid
    union all select business_day, register_id, 'closing', '580200', null, null, null, amount from closed
    union all select business_day, register_id, 'closing', '580100', null, null, null, -amount from closed
)
select business_day, register_id, kind, account, customer_id, rate, method_id,
       sum(case when amount > 0 then amount else 0 end)::bigint as debit_cents,
       sum(case when amount < 0 then -amount else 0 end)::bigint as credit_cents
from postings where amount <> 0
group by business_day, register_id, kind, account, customer_id, rate, method_id, amount > 0
order by all
"""


def anchor(folder: Path) -> arrow.Table:
    """The same lines by one SQL statement over the same files."""

    def values(pairs: list[tuple[str, Any]]) -> str:
        return ", ".join(f"({left!r}, {right!r})" for left, right in pairs)

    rate_of = {"2.1": 210, "5.5": 550, "10": 1000, "20": 2000}
    kinds = dict(METHODS)
    statement = ANCHOR.format(
        folder=folder,
        sales=values([(account, rate_of[rate]) for rate, account in CHART["sales"].items()]),
        taxes=values([(account, rate_of[rate]) for rate, account in CHART["vat"].items()]),
        methods=values([(method, CHART["methods"][kind]) for method, kind in kinds.items()]),
    )
    with duckdb.connect() as connection:
        return connection.sql(statement).to_arrow_table()


COMPARED = ("business_day", "register_id", "kind", "account", "customer_id", "rate", "method_id", "debit", "credit")


def digest(frame: pd.DataFrame) -> str:
    """sha256 over the sorted rows of the columns both sides have."""
    rows = sorted(frame.astype("str").fillna("").agg("\t".join, axis=1))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def our_digest(results: list[tuple[pd.DataFrame, pd.DataFrame]]) -> str:
    frames = []
    for entries, lines in results:
        plain = lines.astype(dict.fromkeys(("entry_key", "account", "customer_id", "method_id"), "str"))
        both = plain.merge(entries[["entry_key", "business_day", "register_id", "kind"]], on="entry_key")
        both["business_day"] = both["business_day"].dt.strftime("%Y-%m-%d")
        both = both.rename(columns={"vat_rate_bp": "rate", "debit_cents": "debit", "credit_cents": "credit"})
        frames.append(both[list(COMPARED)])
    return digest(pd.concat(frames))


def anchor_digest(table: arrow.Table) -> str:
    frame = table.to_pandas()
    frame["business_day"] = pd.to_datetime(frame["business_day"]).dt.strftime("%Y-%m-%d")
    frame["rate"] = frame["rate"].astype("Int64")
    return digest(frame.rename(columns={"debit_cents": "debit", "credit_cents": "credit"})[list(COMPARED)])


# -- measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Timing:
    ours: float
    anchor: float
    lines: int

    @property
    def ratio(self) -> float:
        return self.ours / self.anchor


def compare(folder: Path, rounds: int) -> Timing:
    """Medians of interleaved rounds; raises when the two results differ in any line."""
    shop_file = shop()
    results = list(ours(folder, shop_file))
    table = anchor(folder)
    if our_digest(results) != anchor_digest(table):
        raise RuntimeError("the engine and the SQL statement disagree")
    lines = sum(len(item[1]) for item in results)
    del results, table
    mine, theirs = [], []
    for _ in range(rounds):
        for seconds, run in ((mine, lambda: list(ours(folder, shop_file))), (theirs, lambda: anchor(folder))):
            gc.collect()
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return Timing(statistics.median(mine), statistics.median(theirs), lines)


def validation(folder: Path, rounds: int) -> Timing:
    """pandera on all facts and results (ours) against the transform without reading (anchor)."""
    shop_file = shop()
    columns = {name: tuple(DAILY[name].columns) for name in NEEDED}
    batches = [(months, read(folder, months, columns)) for months in windows(folder)]
    checked, built = [], []
    lines = 0
    for _ in range(rounds):
        seconds = [0.0, 0.0]
        carry = Carry()
        for months, facts in batches:
            start = time.perf_counter()
            result = build(facts, shop_file, first=date(2026, months[0], 1), last=month_end(months[-1]), carry=carry)
            middle = time.perf_counter()
            for name in NEEDED:
                DAILY[name].validate(getattr(facts, name), lazy=True)
            ENTRIES.validate(result.entries, lazy=True)
            ENTRY_LINES.validate(result.entry_lines, lazy=True)
            end = time.perf_counter()
            carry = result.carry
            lines = len(result.entry_lines)
            seconds[0] += end - middle
            seconds[1] += middle - start
        checked.append(seconds[0])
        built.append(seconds[1])
    return Timing(statistics.median(checked), statistics.median(built), lines)


def peak_over_base(folder: Path) -> int:
    """Peak memory (KiB) of one whole build in a process of its own, less what the imports take."""
    command = [sys.executable, "-m", "bench.engine", "--memory-of", str(folder)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(answer.stdout)


def _peak() -> int:
    """KiB at most resident so far. `ru_maxrss` would begin with what the parent process held when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def _measure_memory(folder: Path) -> None:
    base = _peak()
    for _ in ours(folder, shop()):
        pass
    print(_peak() - base)


def _row(benchmark: str, ours_: str, anchor_: str, ratio: float, target: float) -> dict[str, str]:
    return {
        "benchmark": benchmark,
        "ours": ours_,
        "anchor": anchor_,
        "ratio": f"{ratio:.2f}",
        "target": f"<= {target:g}",
    }


def rows(sizes: tuple[int, ...] = (1_000_000, 10_000_000), rounds: int = 5) -> list[dict[str, str]]:
    """One row per figure: benchmark, ours, anchor, ratio, target. Raises when engine and SQL disagree."""
    out = []
    peaks: dict[int, int] = {}
    with tempfile.TemporaryDirectory(prefix="kash-bench-") as place:
        for size in sizes:
            folder = Path(place) / str(size)
            generate(folder, size)
            turns = rounds if size <= 1_000_000 else max(3, rounds // 2)
            timing = compare(folder, turns)
            name = f"{size / 1e6:g} M lines"
            out.append(
                _row(
                    f"{name}: Parquet facts to {timing.lines:,} entry lines, against one DuckDB statement",
                    f"{timing.ours:.3f} s",
                    f"{timing.anchor:.3f} s",
                    timing.ratio,
                    2.5 if size <= 1_000_000 else 3.0,
                )
            )
            if size <= 1_000_000:
                checks = validation(folder, rounds)
                out.append(
                    _row(
                        f"{name}: pandera on facts and entries, against the transform",
                        f"{checks.ours:.3f} s",
                        f"{checks.anchor:.3f} s",
                        checks.ratio,
                        0.6,
                    )
                )
            peaks[size] = peak_over_base(folder)
        if len(peaks) > 1:
            small, large = min(peaks), max(peaks)
            out.append(
                _row(
                    f"peak memory over the imports: {large / 1e6:g} M against {small / 1e6:g} M lines, months streamed",
                    f"{peaks[large] / 1024:.0f} MiB",
                    f"{peaks[small] / 1024:.0f} MiB",
                    peaks[large] / peaks[small],
                    1.5,
                )
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--lines", type=int, action="append", help="sale lines; may be given several times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of is not None:
        _measure_memory(options.memory_of)
        return
    for row in rows(tuple(options.lines or (1_000_000, 10_000_000)), options.rounds):
        print("  ".join(f"{value}" for value in row.values()))


if __name__ == "__main__":
    main()
