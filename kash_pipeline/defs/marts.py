"""The SQL models of dbt_like_sql/ as assets, and their tests as checks of these assets.

Only the wiring belongs here: what a figure means is in the SQL file, loading and running it in
warehouse/sql_models.py.
"""

from collections.abc import Sequence

import dagster as dg
import sqlalchemy as sa

from kash_pipeline.defs.daily import StepEvents, as_failure, table
from kash_pipeline.defs.table_schema import model_schema
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.sql_models import SqlModel, SqlProject, TestResult, build_model, run_tests

WRITTEN_BY = {
    "entries": ("accounting", "entries"),
    "entry_lines": ("accounting", "entries"),
    "held": ("accounting", "entries"),
    "publication": ("accounting", "entries"),
}
"""Which asset writes a table that a model names with source()."""

GROUP = "marts"


def model_key(shop: ShopFile, name: str) -> dg.AssetKey:
    return dg.AssetKey([shop.shop.id, "marts", name])


def mart_assets(shop: ShopFile, project: SqlProject) -> list[dg.AssetsDefinition]:
    """One unpartitioned asset per model, depending on the models and tables that its SQL names."""
    return [_asset(shop, project, model) for model in project.models.values()]


def _deps(shop: ShopFile, model: SqlModel) -> list[dg.AssetKey]:
    written = {dg.AssetKey([shop.shop.id, *WRITTEN_BY[table_name]]) for _, table_name in model.sources}
    # Publishing moves the ledger's states on: a model of the ledger is only true after it.
    if shop.pennylane and ("kash", "publication") in model.sources:
        written.add(dg.AssetKey([shop.shop.id, "pennylane", "published_entries"]))
    return sorted([model_key(shop, name) for name in model.depends_on] + list(written))


def _asset(shop: ShopFile, project: SqlProject, model: SqlModel) -> dg.AssetsDefinition:
    key = model_key(shop, model.name)

    @dg.asset(
        key=key,
        deps=_deps(shop, model),
        description=f"{model.description}\n\n```sql\n{model.sql}\n```",
        group_name=GROUP,
        kinds={"postgres", "sql", model.materialized},
        owners=["team:analytics"],
        tags={"shop": shop.shop.id, "layer": model.layer},
        metadata={
            "dagster/column_schema": model_schema(model),
            "dagster/table_name": f"{project.schema}.{model.name}",
            "file": f"dbt_like_sql/{model.layer}/{model.path.name}",
        },
        check_specs=[dg.AssetCheckSpec(test.name, asset=key, description=test.description) for test in model.tests],
    )
    def build(warehouse: dg.ResourceParam[sa.Engine]) -> StepEvents:
        try:
            with warehouse.begin() as connection:
                rows = build_model(connection, project, model.name)
                results = run_tests(connection, project, model.name)
        except KashPipelineError as error:
            raise as_failure(error) from error
        yield dg.MaterializeResult(metadata={"dagster/row_count": rows})
        for result in results:
            yield _check(result)

    return build


def _check(result: TestResult) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.WARN if result.test.severity == "warn" else dg.AssetCheckSeverity.ERROR
    metadata: dict[str, dg.MetadataValue] = {"failing rows": dg.MetadataValue.int(result.failures)}
    if result.sample:
        columns: Sequence[str] = list(result.sample[0])
        metadata["sample"] = table(columns, [list(row.values()) for row in result.sample])
    return dg.AssetCheckResult(check_name=result.test.name, passed=result.passed, severity=severity, metadata=metadata)
