"""Entries as a daily asset: facts of the lake to entries, held days and ledger rows in PostgreSQL, month by month.

Only the shell belongs here: which days, which facts, one transaction per month, and the checks over what was built.
Every rule is in accounting/, what may be sent in warehouse/ledger.py.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from kash_pipeline import accounting, reconciliation
from kash_pipeline.defs.daily import (
    CONTRACT,
    Day,
    Progress,
    StepEvents,
    as_failure,
    hold_to_contract,
    run_by_month,
    table,
)
from kash_pipeline.defs.partitions import business_days, day_before
from kash_pipeline.defs.pos import pos_key
from kash_pipeline.defs.reference import TABLES, reference_key
from kash_pipeline.defs.table_schema import table_schema
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES, HELD, NOTICES
from kash_pipeline.schemas.facts import DAILY, Facts
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse import windows
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger

GROUP = "accounting"
BUILT = {"entries": ENTRIES, "entry_lines": ENTRY_LINES, "held": HELD, "notices": NOTICES}

# What earlier days leave behind follows from these columns alone; the others stay on disk.
CARRIED = {
    "orders": ("order_id", "number", "register_id", "business_day", "customer_id", "total_cents"),
    "payments": tuple(DAILY["payments"].columns),
    "closings": tuple(DAILY["closings"].columns),
    "closing_counts": tuple(DAILY["closing_counts"].columns),
    "cash_movements": tuple(DAILY["cash_movements"].columns),
}


NEEDED = ("payment_methods", "registers")
"""Reference data that every till has; entries built without it would hold every day, for the wrong reason."""


def entries_key(shop: ShopFile) -> dg.AssetKey:
    return dg.AssetKey([shop.shop.id, "accounting", "entries"])


def accounting_assets(shop: ShopFile) -> list[dg.AssetsDefinition]:
    """accounting/entries of one shop."""
    key = entries_key(shop)

    def check(name: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(name, asset=key, description=description, blocking=blocking)

    @dg.asset(
        key=key,
        deps=[
            *(pos_key(shop, name) for name in ("sales", "payments", "closings")),
            *(reference_key(shop, name) for name in TABLES),
        ],
        partitions_def=business_days(shop),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=(
            "Balanced entries of a business day with their lines, the register-days that are held with reason and next "
            "step, and what may be sent: entries, lines, held days, notices and the publication ledger change in one "
            "transaction."
        ),
        group_name=GROUP,
        kinds={"python", "postgres"},
        owners=["team:accounting"],
        tags={"shop": shop.shop.id},
        metadata={
            "dagster/column_schema": table_schema(ENTRIES, ENTRY_LINES, HELD, NOTICES),
            "dagster/table_name": "kash.entries",
        },
        check_specs=[
            check(CONTRACT, "Columns, types and units are those of kash_pipeline/schemas/entries.py.", blocking=True),
            check("no_held_days", "No register-day of the shop waits for a cure; otherwise each with its next step."),
            check("entries_balance", "Debits equal credits in every entry, and its lines sum to its totals."),
            check("entries_equal_facts", "Sales and VAT per rate, takings per method: entries equal the till's facts."),
        ],
    )
    def entries(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[sa.Engine],
        lake: dg.ResourceParam[Lake],
        progress: dg.ResourceParam[Progress],
    ) -> StepEvents:
        ledger = PublicationLedger(warehouse, shop.shop.id)
        proof = _Proof()
        first = date.fromisoformat(min(context.partition_keys))
        try:
            for name in NEEDED:
                lake.read_reference(name)  # raises for what was never read: without it every day would be held
            carry = accounting.carry_before(_earlier(lake, first), shop, first)
        except KashPipelineError as error:
            raise as_failure(error) from error

        def one_month(days: list[date]) -> list[Day]:
            nonlocal carry
            facts = lake.read_facts(days[0], days[-1], categories=True)
            built = accounting.build(facts, shop, first=days[0], last=days[-1], carry=carry)
            carry = built.carry
            frames = {name: getattr(built, name) for name in BUILT}
            hold_to_contract({name: (frames[name], schema) for name, schema in BUILT.items()})
            with warehouse.begin() as connection:
                windows.replace_entries(connection, shop.shop.id, days, **frames)
                synced = ledger.sync(connection, built.entries, built.held, days)
            proof.add(facts, built, len(synced.changed_after_sending))
            return _figures(days, frames)

        yield from run_by_month(
            context,
            key,
            one_month,
            progress=progress,
            checks=lambda: _checks(warehouse, shop, proof),
            notes=lambda: {"to correct in the ledger": dg.MetadataValue.int(proof.to_correct)},
        )

    return [entries]


def _earlier(lake: Lake, first: date) -> Facts:
    """Facts of the days before `first`, in the columns that a carry follows from."""
    before = [day for day in lake.days("orders") if day < first]
    if not before:
        return Facts()
    tables = {
        name: lake.read_days(name, before[0], day_before(first), columns, categories=True, missing="skip")
        for name, columns in CARRIED.items()
    }
    return Facts(**tables, payment_methods=lake.read_reference("payment_methods"))


def _figures(days: list[date], frames: Mapping[str, pd.DataFrame]) -> list[Day]:
    entries, held, notices = (frames[name] for name in ("entries", "held", "notices"))
    per_day = entries.groupby(entries["business_day"].dt.date).agg(
        entries=("entry_key", "size"), lines=("lines", "sum"), debit_cents=("debit_cents", "sum")
    )
    registers = held[["business_day", "register_id"]].drop_duplicates()
    counts = per_day.join(registers["business_day"].dt.date.value_counts().rename("held_registers"), how="outer")
    counts = counts.join(notices["business_day"].dt.date.value_counts().rename("notices"), how="outer")
    counts = counts.reindex(days).fillna(0).astype("int64")
    return [
        Day(day, int(row["entries"]), {str(name): int(value) for name, value in row.items()})
        for day, (_, row) in zip(days, counts.iterrows(), strict=True)
    ]


@dataclass
class _Proof:
    """What the months built so far prove, kept as sums: entries that do not balance, and till against entries."""

    to_correct: int = 0
    unbalanced: list[tuple[str, int, int]] = field(default_factory=list)
    differences: list[tuple[str, str, str, int, int]] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)

    def add(self, facts: Facts, built: accounting.BuildResult, to_correct: int) -> None:
        """Compare one month: entries with their lines, and with the facts of the register-days that are not held."""
        self.to_correct += to_correct
        lines = built.entry_lines.groupby("entry_key", observed=True)[["debit_cents", "credit_cents"]].sum()
        totals = built.entries.set_index("entry_key")[["debit_cents", "credit_cents"]]
        both = totals.join(lines.add_suffix("_of_lines"), how="outer").fillna(-1).astype("int64")
        odd = both[both.nunique(axis=1) != 1]
        self.unbalanced += [
            (str(key), int(row["debit_cents_of_lines"]), int(row["credit_cents_of_lines"]))
            for key, row in odd.iterrows()
        ]
        self.compared["entries"] += len(both)

        orders = _not_held(facts.orders, built.held)
        order_lines = facts.order_lines[facts.order_lines["order_id"].isin(orders["order_id"])]
        by_rate = reconciliation.side_by_side(
            reconciliation.till_by_rate(orders, order_lines, facts.order_vat)[
                ["vat_rate_bp", "net_cents", "vat_cents"]
            ],
            reconciliation.entries_by_rate(built.entries, built.entry_lines),
            None,
            "vat_rate_bp",
        )
        by_method = reconciliation.side_by_side(
            reconciliation.till_by_method(_not_held(facts.payments, built.held), facts.payment_methods),
            reconciliation.entries_by_method(built.entries, built.entry_lines),
            None,
            "method_id",
        )
        month = f"{built.entries['business_day'].min():%Y-%m}" if len(built.entries) else ""
        for what, sides in (("vat_rate_bp", by_rate), ("method_id", by_method)):
            self.compared[what] += len(sides)
            for _, row in sides[~sides["agree"]].iterrows():
                for figure in (name.removeprefix("till_") for name in sides.columns if name.startswith("till_")):
                    told, booked = int(row[f"till_{figure}"]), int(row[f"entries_{figure}"])
                    if told != booked:
                        self.differences.append((month, f"{what} {row[what]}", figure, told, booked))


def _not_held(rows: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """Rows of register-days that have entries."""
    if held.empty:
        return rows
    keys = ["business_day", "register_id"]
    waiting = held[keys].astype({"register_id": "str"}).drop_duplicates().assign(waits=True)
    marked = rows[keys].astype({"register_id": "str"}).merge(waiting, on=keys, how="left")
    return rows[marked["waits"].isna().to_numpy()]


def _checks(warehouse: sa.Engine, shop: ShopFile, proof: _Proof) -> Iterator[dg.AssetCheckResult]:
    """The business rules: none of them stops a run, each names what a person has to look at."""
    with warehouse.connect() as connection:
        held = windows.sql_frame(
            connection,
            "select business_day, register_id, reason, what, next_step from kash.held where shop_id = :shop "
            "order by business_day, register_id, reason, what",
            shop=shop.shop.id,
        )
    waiting = held[["business_day", "register_id"]].drop_duplicates()
    rows = [
        (f"{row.business_day:%Y-%m-%d}", row.register_id, row.reason, row.what, row.next_step)
        for row in held.itertuples()
    ]
    yield dg.AssetCheckResult(
        check_name="no_held_days",
        passed=held.empty,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "held register-days": len(waiting),
            **({"held": table(("day", "register", "reason", "what", "next step"), rows)} if rows else {}),
        },
    )
    yield dg.AssetCheckResult(
        check_name="entries_balance",
        passed=not proof.unbalanced,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "entries compared": proof.compared["entries"],
            **({"unbalanced": table(("entry", "debit", "credit"), proof.unbalanced)} if proof.unbalanced else {}),
        },
    )
    columns = ("month", "of", "figure", "till", "entries")
    yield dg.AssetCheckResult(
        check_name="entries_equal_facts",
        passed=not proof.differences,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "sums per VAT rate compared": proof.compared["vat_rate_bp"],
            "sums per method compared": proof.compared["method_id"],
            **({"differences": table(columns, proof.differences)} if proof.differences else {}),
        },
    )
