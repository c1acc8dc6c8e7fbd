"""Which fields of a customer are kept, and how a person is shown. Pure.

Only the choice of fields belongs here (GDPR art. 5(1)(c): no more than the purpose needs); forgetting a customer is
customers.py.
"""

from collections.abc import Collection

import pandas as pd

from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import CUSTOMERS
from kash_pipeline.settings import ShopFile

BOOKING = ("customer_id", "kind", "account", "activity_code")
"""What the books need of a customer: a number and, with accounting chapters, the till's account."""

NUMBERED = "Client "
"""With the number behind it, the name of whoever is not to be named: who may look into the till knows who it is."""


def needed(customers: pd.DataFrame, shop: ShopFile, forgotten: Collection[str] = ()) -> pd.DataFrame:
    """The customers (schemas/facts.py CUSTOMERS) with the fields that posting needs, the others null.

    Name, address, e-mail and registration numbers are needed where each customer gets an account of their own in
    PennyLane; with one collective account, or without PennyLane, nobody reads them, so they are not kept. One who was
    forgotten and buys again gets an account under the number alone: the sale is booked, nobody is named.
    """
    kept = customers.copy()
    own_accounts = shop.pennylane is not None and shop.shop.named_customers == "own_account"
    without = kept["customer_id"].isin(list(forgotten)) if own_accounts else pd.Series(True, index=kept.index)
    if not without.any():
        return kept
    for name in CUSTOMERS.columns:
        if name in BOOKING:
            continue
        # The name may not be null.
        instead = (NUMBERED + kept["customer_id"].astype("str")).astype(object) if name == "name" else None
        kept[name] = kept[name].astype(object).mask(without, instead)
    return conform(kept, CUSTOMERS)


def shown(table: str, column: str, value: object) -> str:
    """A value as logs, messages and Dagster's records may show it: of a customer no field but those of `BOOKING`."""
    return "(personal data)" if table == "customers" and column not in BOOKING else str(value)
