"""A fiscal year as one Dagster run: five daily assets, real bodies on a million lines, against what cannot be saved.

The anchor is the same graph with empty bodies (what Dagster's events cost) plus the same work without Dagster (extract,
validate, file, build, load). Storage is PostgreSQL with event batches, as shipped. The facts are those of engine.py;
nothing is sent: the bench's ledger takes every entry for sent and read back.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from bench import engine as synthetic
from kash_pipeline import accounting
from kash_pipeline.defs.assembly import build_definitions
from kash_pipeline.defs.daily import hold_to_contract
from kash_pipeline.defs.instance import open_instance
from kash_pipeline.defs.jobs import range_tags
from kash_pipeline.defs.partitions import by_month
from kash_pipeline.defs.pos import ORDER_PAYMENTS, SALES, TILL_CLOSED
from kash_pipeline.pos.port import Capabilities, DayOfClosings, DayOfSales, Source
from kash_pipeline.schemas.columns import DAY_DTYPE, conform
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES, HELD, NOTICES
from kash_pipeline.schemas.facts import DAILY, PAYMENTS, REFERENCE, Facts
from kash_pipeline.settings import Environment, PennylaneSection, ShopFile
from kash_pipeline.warehouse import database, embedded, server, windows
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger

LINES = 1_000_000
EARLIER = pd.Timedelta(days=365)
"""The facts of engine.py are of 2026; days that have not come yet are no partitions, so they are moved back a year."""
FIRST, LAST = date(2025, 1, 1), date(2025, 12, 31)
DAYS = [date.fromordinal(n) for n in range(FIRST.toordinal(), LAST.toordinal() + 1)]
EVENTS_PER_PARTITION = 2.0
"""One planned and one materialized: Dagster writes no fewer. Run, steps and checks of a year add 57 to its 3,650."""

# In the bench nothing waits to be sent, so the publishing step runs and finds nothing to do.
NOTHING_TO_SEND = """
create function kash.all_verified() returns trigger language plpgsql as
$$ begin new.state := 'verified'; new.sent_digest := new.digest; new.sent_at := now(); return new; end $$;
create trigger all_verified before insert on kash.publication for each row execute function kash.all_verified();
"""


class ParquetTill(Source):
    """A till over engine.py's files: a month is read at once and cut into days, as an adapter that pages would."""

    capabilities = Capabilities(
        name="bench", payments=True, closings=True, cash_movements=False, till_vat=False, customers=True
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _month(self, month: int, *tables: str) -> Facts:
        facts = synthetic.read(self._folder, [month], {name: tuple(DAILY[name].columns) for name in tables})
        for name in tables:
            frame = getattr(facts, name)
            if "business_day" in frame:
                frame["business_day"] = (frame["business_day"] - EARLIER).astype(DAY_DTYPE)
        return facts

    def reference(self, tables: Collection[str] = tuple(REFERENCE)) -> dict[str, pd.DataFrame]:
        facts = self._month(1, "orders")
        return {name: getattr(facts, name) for name in REFERENCE if name in tables}

    def sales(self, first: date, last: date) -> Iterator[DayOfSales]:
        facts = self._month(first.month, "orders", "order_lines", "payments")
        days = [date.fromordinal(n) for n in range(first.toordinal(), last.toordinal() + 1)]
        ends = facts.orders["business_day"].searchsorted(pd.to_datetime(days), side="right")
        ids = facts.orders["order_id"].to_numpy(object)
        cuts = {
            name: getattr(facts, name)["order_id"].searchsorted([ids[end - 1] for end in ends], side="right")
            for name in ("order_lines", "payments")
        }
        start, starts = 0, dict.fromkeys(cuts, 0)
        for at, day in enumerate(days):
            parts = {name: getattr(facts, name).iloc[starts[name] : cut[at]] for name, cut in cuts.items()}
            yield DayOfSales(day, orders=facts.orders.iloc[start : ends[at]], **parts)
            start, starts = ends[at], {name: cut[at] for name, cut in cuts.items()}

    def closings(self, first: date, last: date) -> Iterator[DayOfClosings]:
        closings = self._month(first.month, "closings").closings
        for day in (date.fromordinal(n) for n in range(first.toordinal(), last.toordinal() + 1)):
            yield DayOfClosings(day, closings=closings[closings["business_day"] == pd.Timestamp(day)])


def _shop() -> ShopFile:
    shop = synthetic.shop()
    return shop.model_copy(update={"pennylane": PennylaneSection(auth="token")})


@contextmanager
def _opened(value: Any) -> Iterator[Any]:
    yield value


def _real(shop: ShopFile, environment: Environment, warehouse: sa.Engine, till: ParquetTill) -> dg.Definitions:
    return build_definitions(
        shop,
        environment=environment,
        warehouse=warehouse,
        till=lambda: _opened(till),
        # No request is made: a client that could make one is not needed.
        pennylane=lambda _engine: _opened(SimpleNamespace(sent=0)),
    )


def _daily(definitions: dg.Definitions) -> list[dg.AssetsDefinition]:
    return [
        asset for asset in definitions.assets or [] if isinstance(asset, dg.AssetsDefinition) and asset.partitions_def
    ]


def _empty(real: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The same asset, checks and partitions, with nothing to do."""

    @dg.asset(
        key=real.key,
        deps=[dep.asset_key for dep in real.get_asset_spec(real.key).deps],
        partitions_def=real.partitions_def,
        backfill_policy=real.backfill_policy,
        check_specs=list(real.check_specs),
    )
    def nothing() -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        for check in real.check_specs:
            yield dg.AssetCheckResult(check_name=check.name, passed=True)
        yield dg.MaterializeResult()

    return nothing


def _run(definitions: dg.Definitions, instance: dg.DagsterInstance) -> tuple[float, str]:
    """Seconds and id of one run over the year."""
    start = time.perf_counter()
    with open(os.devnull, "w") as silent, redirect_stderr(silent):
        result = definitions.resolve_job_def("year").execute_in_process(
            instance=instance,
            tags=range_tags(FIRST, LAST),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    return time.perf_counter() - start, result.run_id


def _job(assets: list[dg.AssetsDefinition]) -> Any:
    keys = [asset.key for asset in assets]
    return dg.define_asset_job("year", dg.AssetSelection.assets(*keys), executor_def=dg.in_process_executor)


def _without_dagster(shop: ShopFile, lake: Lake, warehouse: sa.Engine, till: ParquetTill) -> float:
    """The work of the five bodies in one pass, month by month; seconds."""
    start = time.perf_counter()
    ledger = PublicationLedger(warehouse, shop.shop.id)
    carry = None
    for days in by_month(day.isoformat() for day in DAYS):
        sales = list(till.sales(days[0], days[-1]))
        closed = list(till.closings(days[0], days[-1]))
        frames: dict[str, list[pd.DataFrame]] = {
            name: [getattr(day, "payments" if name == ORDER_PAYMENTS else name) for day in sales] for name in SALES
        } | {name: [getattr(day, name) for day in closed] for name in TILL_CLOSED}
        schemas = SALES | TILL_CLOSED
        month = {name: conform(pd.concat(parts, ignore_index=True), schemas[name]) for name, parts in frames.items()}
        hold_to_contract({name: (frame, schemas[name]) for name, frame in month.items()})
        for name, parts in frames.items():
            lake.write_days(name, days, month[name], [len(part) for part in parts])
        lake.write_days("payments", days, month[ORDER_PAYMENTS], [len(part) for part in frames[ORDER_PAYMENTS]])
        hold_to_contract({"payments": (month[ORDER_PAYMENTS], PAYMENTS)})
        facts = lake.read_facts(days[0], days[-1], categories=True)
        built = accounting.build(facts, shop, first=days[0], last=days[-1], carry=carry)
        carry = built.carry
        made = {"entries": ENTRIES, "entry_lines": ENTRY_LINES, "held": HELD, "notices": NOTICES}
        hold_to_contract({name: (getattr(built, name), schema) for name, schema in made.items()})
        with warehouse.begin() as connection:
            windows.replace_entries(connection, shop.shop.id, days, **{name: getattr(built, name) for name in made})
            ledger.sync(connection, built.entries, built.held, days)
    return time.perf_counter() - start


def measure(lines: int = LINES, rounds: int = 1) -> dict[str, float]:
    """Medians in seconds (`real`, `empty`, `work`) of interleaved rounds, and `events` of the real run."""
    taken: dict[str, list[float]] = {"real": [], "empty": [], "work": []}
    events = 0
    with tempfile.TemporaryDirectory(prefix="kb-") as folder, _environment(Path(folder)) as environment:
        facts = Path(folder) / "facts"
        synthetic.generate(facts, lines)
        shop, till = _shop(), ParquetTill(facts)
        warehouse = database.open_engine(server.database_url(environment))
        with open_instance(environment) as instance:
            with warehouse.begin() as connection:
                connection.exec_driver_sql(NOTHING_TO_SEND)
            for number in range(rounds):
                # A fresh lake each time: an unchanged day would not be written again.
                here = Environment(environment.home, str(Path(folder) / f"lake-{number}"), None, environment.shop_path)
                for name, frame in till.reference().items():
                    Lake(here.lake_url, shop.shop.id).write_reference(name, frame)
                    Lake(f"{here.lake_url}-work", shop.shop.id).write_reference(name, frame)
                real = _real(shop, here, warehouse, till)
                daily = _daily(real)
                full = dg.Definitions(assets=daily, jobs=[_job(daily)], resources=real.resources)
                hollow = [_empty(asset) for asset in daily]
                seconds, run_id = _run(full, instance)
                taken["real"].append(seconds)
                events = _events(instance, run_id)
                _clear(warehouse)
                taken["empty"].append(_run(dg.Definitions(assets=hollow, jobs=[_job(hollow)]), instance)[0])
                taken["work"].append(
                    _without_dagster(shop, Lake(f"{here.lake_url}-work", shop.shop.id), warehouse, till)
                )
                _clear(warehouse)
        warehouse.dispose()
        embedded.stop(environment.home / "pg")
    return {name: statistics.median(values) for name, values in taken.items()} | {"events": float(events)}


@contextmanager
def _environment(folder: Path) -> Iterator[Environment]:
    """State of its own under `folder`; what open_instance sets for child processes is taken back afterwards."""
    before = dict(os.environ)
    try:
        yield Environment(folder / "home", str(folder / "lake"), None, folder / "bench.toml")
    finally:
        os.environ.clear()
        os.environ.update(before)


def _events(instance: dg.DagsterInstance, run_id: str) -> int:
    """Rows of the event log that belong to a run."""
    total, cursor = 0, None
    while True:
        page = instance.get_records_for_run(run_id, cursor=cursor, limit=10_000)
        total += len(page.records)
        if not page.has_more:
            return total
        cursor = page.cursor


def _clear(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql("truncate kash.entries, kash.entry_lines, kash.held, kash.notices, kash.publication")


def rows() -> list[dict[str, object]]:
    """One row per benchmark: `benchmark`, `ours` and `anchor`, `ratio`, `target` (what the ratio may be)."""
    found = measure()
    floor = found["empty"] + found["work"]
    partitions = len(DAYS) * 5
    return [
        {
            "benchmark": (
                f"a year of 5 daily assets as one run, {LINES:,} lines / the graph empty + the work without Dagster"
            ),
            "ours": f"{found['real']:.1f} s",
            "anchor": f"{found['empty']:.1f} + {found['work']:.1f} s",
            "ratio": round(found["real"] / floor, 2),
            "target": 1.25,
        },
        {
            "benchmark": "events per partition and asset, those of the run, its steps and its checks included",
            "ours": f"{found['events'] / partitions:.3f}",
            "anchor": f"{EVENTS_PER_PARTITION:.0f}",
            "ratio": round(found["events"] / (partitions * EVENTS_PER_PARTITION), 3),
            "target": 1.025,
        },
    ]
