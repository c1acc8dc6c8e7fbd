"""Reference data of the till as assets: payment methods, VAT rates, registers, departments, customers.

Only reading them in one set of calls and keeping them in the lake, with their versions in the warehouse, belongs here;
PennyLane's side is in publishing.py, what a method or a rate means for the books is the chart's business (accounting/),
what makes a new version reference/history.py's.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from hashlib import sha256

import dagster as dg
import pandas as pd
import pandera.pandas as pa
import sqlalchemy as sa

from kash_pipeline.defs.daily import StepEvents, as_failure, hold_to_contract, table
from kash_pipeline.defs.resources import OpenTill
from kash_pipeline.defs.table_schema import table_schema
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.reference import changes, personal, store
from kash_pipeline.reference.sent import booked_otherwise
from kash_pipeline.schemas.columns import to_arrow
from kash_pipeline.schemas.facts import REFERENCE
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.forgotten import forgotten_customers
from kash_pipeline.warehouse.lake import Lake

GROUP = "reference"

# asset -> the tables it holds: a department without its group says nothing about its chapter.
TABLES = {
    "payment_methods": ("payment_methods",),
    "vat_rates": ("vat_rates",),
    "registers": ("registers",),
    "departments": ("departments", "department_groups"),
    "customers": ("customers",),
}

LIGHT = tuple(name for name in TABLES if name != "customers")
"""Assets read every hour: five short lists. The customers may be thousands, and a day waits for none of them."""

UNAFFECTED = "sent_entries_unaffected"
"""Name of the check that tells of sent entries made with what has changed since."""

TOLD_DAYS = 7
"""Days a change is told for: whoever looks once a week has seen it."""


def reference_key(shop: ShopFile, name: str) -> dg.AssetKey:
    return dg.AssetKey([shop.shop.id, "reference", name])


def reference_assets(shop: ShopFile) -> dg.AssetsDefinition:
    """The five reference assets, read together: the till answers them in one short set of calls.

    Any of them can be read alone (`LIGHT` is). A shop that publishes has a check on those that entries name.
    """
    specs = [
        dg.AssetSpec(
            reference_key(shop, name),
            description=" ".join(REFERENCE[table].description or "" for table in tables),
            group_name=GROUP,
            kinds={"python", "parquet"},
            owners=["team:accounting"],
            tags={"shop": shop.shop.id},
            metadata={"dagster/column_schema": table_schema(*(REFERENCE[table] for table in tables))},
        )
        for name, tables in TABLES.items()
    ]

    checked = ("payment_methods", "vat_rates", "registers", "customers") if shop.pennylane else ()

    @dg.multi_asset(
        name=f"{shop.shop.id}__reference",
        specs=specs,
        can_subset=True,
        check_specs=[
            dg.AssetCheckSpec(
                UNAFFECTED,
                asset=reference_key(shop, name),
                description=(
                    f"No entry in PennyLane was made with something that changed in the last {TOLD_DAYS} days, and "
                    "none would be booked otherwise by the shop file as it is now. Those that are concerned are "
                    "listed and stay as they are."
                ),
            )
            for name in checked
        ],
    )
    def reference(
        context: dg.AssetExecutionContext,
        till: dg.ResourceParam[OpenTill],
        lake: dg.ResourceParam[Lake],
        warehouse: dg.ResourceParam[sa.Engine],
    ) -> StepEvents:
        day = store.business_day(shop, datetime.now(UTC))
        asked = {
            name: parts for name, parts in TABLES.items() if reference_key(shop, name) in context.selected_asset_keys
        }
        names = [part for parts in asked.values() for part in parts]
        try:
            with till() as source:
                tables = source.reference(names)
            hold_to_contract({name: (tables[name], REFERENCE[name]) for name in names})
            if "customers" in tables:
                tables["customers"] = personal.needed(
                    tables["customers"], shop, forgotten_customers(warehouse, shop.shop.id)
                )
            # First: it refuses a list that cannot be, which must not reach the lake either.
            written = store.remember_till(warehouse, shop, tables, day)
            for name, frame in tables.items():
                lake.write_reference(name, frame)
        except KashPipelineError as error:
            raise as_failure(error) from error
        context.log.info("reference: %s", ", ".join(f"{len(frame):,} {name}" for name, frame in tables.items()))
        for name, parts in asked.items():
            rows = {part: len(tables[part]) for part in parts}
            rows["versions noted"] = sum(len(written[part]) for part in parts)
            yield dg.MaterializeResult(
                asset_key=reference_key(shop, name),
                metadata={"dagster/row_count": rows.pop(name), **rows},
                data_version=dg.DataVersion(_digest([(tables[part], REFERENCE[part]) for part in parts])),
            )
        if context.selected_asset_check_keys:
            yield from _unaffected(warehouse, shop, [name for name in checked if name in asked], day)

    return reference


def _unaffected(warehouse: sa.Engine, shop: ShopFile, names: list[str], day: date) -> Iterator[dg.AssetCheckResult]:
    since = date.fromordinal(day.toordinal() - TOLD_DAYS)
    told = [line for line in changes.report(warehouse, shop, since) if line.where == "till"]
    rebooked = booked_otherwise(warehouse, shop)
    for name in names:
        own = [line for line in told if line.kind == name]
        used = [(line.day, line.what, line.sent) for line in own if line.sent]
        otherwise = [(item.what, item.said) for item in rebooked if item.kind == name]
        yield dg.AssetCheckResult(
            check_name=UNAFFECTED,
            asset_key=reference_key(shop, name),
            passed=not used and not otherwise,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "changes": len(own),
                **({"made before the change": table(("noticed", "what", "sent entries"), used)} if used else {}),
                **(
                    {"booked otherwise now": table(("books → shop file", "sent entries"), otherwise)}
                    if otherwise
                    else {}
                ),
            },
        )


def _digest(tables: list[tuple[pd.DataFrame, pa.DataFrameSchema]]) -> str:
    """The same rows give the same version, in whatever order they came: what depends on them is then still fresh."""
    total = sha256()
    for frame, schema in tables:
        ordered = frame.sort_values((schema.metadata or {})["unique"])
        total.update(repr(to_arrow(ordered, schema).to_pylist()).encode())
    return total.hexdigest()[:16]
