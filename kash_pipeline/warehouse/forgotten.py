"""Who asked to be forgotten: the till's numbers, which are all that is kept of them.

Only reading them belongs here; forgetting somebody is reference/customers.py.
"""

import sqlalchemy as sa

from kash_pipeline.warehouse.tables import FORGOTTEN_CUSTOMERS


def forgotten_customers(engine: sa.Engine, shop_id: str) -> set[str]:
    """The till's numbers of customers whose name is not to be kept."""
    table = FORGOTTEN_CUSTOMERS.c
    with engine.connect() as connection:
        return set(connection.execute(sa.select(table.customer_id).where(table.shop_id == shop_id)).scalars())
