"""The port every till is read through: what an adapter offers, day by day, in frames of schemas/facts.py.

Only the shape of the port belongs here. How one till is asked and how its answers are read is an adapter's business
(files.py, kash_api.py, ...); which adapter a shop uses is decided by `pos.open_source`.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Protocol, runtime_checkable

import pandas as pd

from kash_pipeline.schemas.columns import empty
from kash_pipeline.schemas.facts import (
    CASH_MOVEMENTS,
    CLOSING_COUNTS,
    CLOSINGS,
    ORDER_LINES,
    ORDER_VAT,
    ORDERS,
    PAYMENTS,
    REFERENCE,
)


@dataclass(frozen=True)
class Capabilities:
    """What an adapter can deliver. What it cannot is refused by the pipeline, never taken for "there is none".

    name            the adapter, for messages (`files`, `kash_api`, ...)
    payments        payments with their method, register and day
    closings        closings (Z) with counted amounts
    cash_movements  money put into or taken from a drawer without a sale
    till_vat        VAT amounts as the till computed them (order_vat, or vat of lines)
    customers       named customers
    control_totals  the till's own daily report, to hold the orders against
    unconfirmed     facts whose reading was never compared with a real account of this till, in words
    """

    name: str
    payments: bool
    closings: bool
    cash_movements: bool
    till_vat: bool
    customers: bool
    unconfirmed: tuple[str, ...] = ()
    control_totals: bool = False


@dataclass(frozen=True)
class RawDocument:
    """One answer of a till as it came, kept as the voucher behind the facts (six years, LPF L102 B).

    call        name of the call or of the file
    day         business day asked for; None for reference data
    url         where it came from, secrets redacted
    fetched_at  when, UTC
    status      HTTP status; 200 for a file
    sha256      of `body`, hexadecimal
    body        the bytes as received
    """

    call: str
    day: date | None
    url: str
    fetched_at: datetime
    status: int
    sha256: str
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class DayOfSales:
    """Orders of one business day with their lines and VAT, and the payments nested in them (of whatever day).

    `control` (schemas.control.CONTROL_TOTALS) is what the till's own report says of the day; None where it tells none.
    Payments without an order, or of an order the source does not have, come with the day they were made.

    An empty frame means the till said that there are none; an adapter that could not read raises instead.
    """

    day: date
    orders: pd.DataFrame = field(default_factory=partial(empty, ORDERS))
    order_lines: pd.DataFrame = field(default_factory=partial(empty, ORDER_LINES))
    order_vat: pd.DataFrame = field(default_factory=partial(empty, ORDER_VAT))
    payments: pd.DataFrame = field(default_factory=partial(empty, PAYMENTS))
    control: pd.DataFrame | None = None


@dataclass(frozen=True)
class DayOfClosings:
    """Closings of one business day with their counts, and the cash movements of that day."""

    day: date
    closings: pd.DataFrame = field(default_factory=partial(empty, CLOSINGS))
    closing_counts: pd.DataFrame = field(default_factory=partial(empty, CLOSING_COUNTS))
    cash_movements: pd.DataFrame = field(default_factory=partial(empty, CASH_MOVEMENTS))


@runtime_checkable
class Source(Protocol):
    """A till that can be read. Every method raises PosError when it could not read, never an empty frame for that."""

    @property
    def capabilities(self) -> Capabilities: ...

    def reference(self, tables: Collection[str] = tuple(REFERENCE)) -> dict[str, pd.DataFrame]:
        """Reference tables by name (`schemas.facts.REFERENCE`), as they stand now, some empty: those named, or all."""
        ...

    def sales(self, first: date, last: date) -> Iterator[DayOfSales]:
        """One `DayOfSales` per business day from `first` to `last`, days without sales included, in order."""
        ...

    def closings(self, first: date, last: date) -> Iterator[DayOfClosings]:
        """One `DayOfClosings` per business day from `first` to `last`, days without closing included, in order."""
        ...
