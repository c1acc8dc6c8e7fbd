"""A table's pandera schema as Dagster column metadata.

Only this derivation belongs here (`dagster-pandera` has one of its own, but holds pandas below 3); the schemas are in
schemas/, those of the marts in dbt_like_sql/.
"""

import dagster as dg
import pandera.pandas as pa

from kash_pipeline.schemas.columns import kind_of
from kash_pipeline.warehouse.sql_models import SqlModel

UNITS = {
    "text": "text",
    "day": "date",
    "instant": "timestamp, UTC",
    "cents": "integer, euro cents",
    "bp": "integer, basis points (5.5 % is 550)",
    "milli": "integer, thousandths",
    "int": "integer",
}


def table_schema(*schemas: pa.DataFrameSchema) -> dg.TableSchema:
    """Columns with unit, description and constraints. With several tables, columns are named `table.column`."""
    columns = []
    for schema in schemas:
        unique = (schema.metadata or {}).get("unique", [])
        for name, column in schema.columns.items():
            columns.append(
                dg.TableColumn(
                    name if len(schemas) == 1 else f"{schema.name}.{name}",
                    type=UNITS[kind_of(column)],
                    description=column.description,
                    constraints=dg.TableColumnConstraints(nullable=bool(column.nullable), unique=unique == [name]),
                )
            )
    keys = [
        f"{schema.name}: one row per {', '.join(unique)}"
        for schema in schemas
        if (unique := (schema.metadata or {}).get("unique"))
    ]
    return dg.TableSchema(columns, constraints=dg.TableConstraints(other=keys))


def model_schema(model: SqlModel) -> dg.TableSchema:
    """Columns of a SQL model with PostgreSQL's types and the descriptions of schema.yml."""
    unique = {test.name.removeprefix("unique_") for test in model.tests if test.name.startswith("unique_")}
    filled = {test.name.removeprefix("not_null_") for test in model.tests if test.name.startswith("not_null_")}
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                type=column.data_type,
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.name not in filled, unique=column.name in unique),
            )
            for column in model.columns
        ]
    )
