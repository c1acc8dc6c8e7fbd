"""What finding, making and remembering PennyLane's objects share: one maker at a time, stored lists replaced whole.

Only that belongs here; journals, accounts and fiscal years are reference.py's, customers customers.py's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.settings import ShopFile

MAKING_LOCK = 0x6B72  # "kr": class of the advisory locks under which PennyLane objects are made


@contextmanager
def alone(engine: sa.Engine, company_id: int) -> Iterator[None]:
    """One process at a time makes things in this company."""
    with engine.begin() as connection:
        connection.execute(
            sa.text("select pg_advisory_xact_lock(:class, hashtext(:company))"),
            {"class": MAKING_LOCK, "company": str(company_id)},
        )
        yield


def replace_listing(
    engine: sa.Engine, table: sa.Table, shop: ShopFile, company_id: int, rows: list[dict[str, Any]]
) -> None:
    """The stored copy of a list is replaced whole, so that what is gone in PennyLane is gone here."""
    own = {"shop_id": shop.shop.id, "company_id": company_id}
    with engine.begin() as connection:
        connection.execute(sa.delete(table).where(table.c.shop_id == shop.shop.id, table.c.company_id == company_id))
        if rows:
            connection.execute(insert(table).on_conflict_do_nothing(), [{**own, **row} for row in rows])
