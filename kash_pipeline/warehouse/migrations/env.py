"""Alembic's entry: runs on the connection that `database.upgrade` opened, inside its transaction.

`target_metadata` serves `alembic revision --autogenerate` and the test that tables.py and the migrations agree.
"""

from alembic import context

from kash_pipeline.warehouse.tables import METADATA, SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table_schema=SCHEMA,
    include_schemas=True,
)
with context.begin_transaction():
    context.run_migrations()
