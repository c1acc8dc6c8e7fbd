"""Forgetting a customer: everything that says who a number is goes, what the law wants kept stays.

Only the pipeline's own copies are touched here. Entries keep the till's number, which names nobody without the till;
PennyLane's customer is the company's accounting record, kept for ten years (Code de commerce, art. L123-22), so the
right to erasure does not reach it (GDPR art. 17(3)(b)).
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.reference import personal
from kash_pipeline.reference.errors import CustomerStillNeeded
from kash_pipeline.reference.store import forgotten
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.tables import FORGOTTEN_CUSTOMERS, PENNYLANE_CUSTOMERS


@dataclass(frozen=True)
class Forgotten:
    """What was done: whether the till's list still had them, entries that keep the number, the account in PennyLane."""

    listed: bool
    entries: int
    in_pennylane: bool


def forget(engine: sa.Engine, lake: Lake, shop: ShopFile, customer_id: str) -> Forgotten:
    """Remove name, address and numbers of a customer, and never keep them again when the till lists them anew.

    Raises CustomerStillNeeded while entries wait that need the customer's account in PennyLane: it cannot be made
    without a name.
    """
    own = shop.pennylane is not None and shop.shop.named_customers == "own_account"
    parameters = {"shop": shop.shop.id, "customer": customer_id}
    with engine.begin() as connection:
        known = connection.execute(
            sa.select(PENNYLANE_CUSTOMERS.c.remote_id).where(
                PENNYLANE_CUSTOMERS.c.shop_id == shop.shop.id, PENNYLANE_CUSTOMERS.c.customer_id == customer_id
            )
        ).first()
        lines = "from kash.entry_lines l where l.shop_id = :shop and l.customer_id = :customer"
        entries = connection.execute(sa.text(f"select count(distinct l.entry_key) {lines}"), parameters).scalar() or 0
        waiting = connection.execute(
            sa.text(
                "select count(distinct p.key) from kash.publication p join kash.entry_lines l"
                " on l.shop_id = p.shop_id and l.entry_key = p.base_key"
                " where p.shop_id = :shop and l.customer_id = :customer and p.state in ('ready', 'sending')"
            ),
            parameters,
        ).scalar()
        if own and waiting and known is None:
            raise CustomerStillNeeded(
                f"{waiting} entries of customer {customer_id} wait to be sent, and PennyLane has no account for them",
                next_step="publish them first, then forget the customer",
            )
        connection.execute(
            insert(FORGOTTEN_CUSTOMERS).on_conflict_do_nothing(), {"shop_id": shop.shop.id, "customer_id": customer_id}
        )
        connection.execute(
            sa.update(PENNYLANE_CUSTOMERS)
            .where(PENNYLANE_CUSTOMERS.c.shop_id == shop.shop.id, PENNYLANE_CUSTOMERS.c.customer_id == customer_id)
            .values(fingerprint=None)
        )
    listed = False
    if lake.has_reference("customers"):
        customers = lake.read_reference("customers")
        listed = bool((customers["customer_id"] == customer_id).any())
        lake.write_reference("customers", personal.needed(customers, shop, forgotten(engine, shop)))
    return Forgotten(listed, int(entries), known is not None)
