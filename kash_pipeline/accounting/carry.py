"""What earlier days leave behind for later ones: open orders, their payments, takings not yet cleared.

Only the frames and their meaning; how they are computed is window.py and closings.py. A carry follows from facts
alone, never from what was held, so a mended day changes no later one.
"""

from dataclasses import dataclass, field, fields
from functools import partial
from hashlib import sha256

import pandas as pd

from kash_pipeline.schemas.columns import day, empty, number, table, text, to_arrow
from kash_pipeline.schemas.facts import CASH_MOVEMENTS, CLOSINGS

OPEN_ORDERS = table(
    "open_orders",
    "Orders recorded and not fully paid.",
    [
        text("order_id", "Order."),
        text("number", "Number on the ticket."),
        text("register_id", "Register that recorded it."),
        day("business_day", "Its day."),
        text("customer_id", "Named customer.", nullable=True),
        number("total_cents", "cents", "Total including tax, signed."),
    ],
    unique=["order_id"],
)

OPEN_PAYMENTS = table(
    "open_payments",
    "Payments of open orders, and of orders not yet recorded.",
    [
        text("payment_id", "Payment."),
        text("order_id", "Order paid."),
        day("business_day", "Day of the payment."),
        number("amount_cents", "cents", "Amount, signed."),
    ],
    unique=["payment_id"],
)

UNCLEARED = table(
    "uncleared",
    "Counter orders fully paid that wait for the next closing of their register, as sums.",
    [
        text("register_id", "Register of the orders."),
        text("side", "R (recorded) or S (paid)."),
        day("business_day", "Day of the orders (R) or of their payments (S): its chart names the account."),
        number("amount_cents", "cents", "Sum, signed."),
    ],
    unique=["register_id", "side", "business_day"],
)

SESSIONS = table(
    "sessions",
    "Sums of the days since a register's last closing, for the comparison with its next Z.",
    [
        text("register_id", "Register."),
        day("business_day", "Day."),
        number("orders_cents", "cents", "Orders recorded."),
        number("same_day_cents", "cents", "Payments taken on this register for orders of this register and day."),
        number("payments_cents", "cents", "All payments taken."),
    ],
    unique=["register_id", "business_day"],
)


@dataclass(frozen=True)
class Carry:
    """What a window of days needs to know about the days before it.

    `closings` holds the last closing of each register (its float and perpetual total are compared with the next
    one), `cash_movements` those since.
    """

    orders: pd.DataFrame = field(default_factory=partial(empty, OPEN_ORDERS))
    payments: pd.DataFrame = field(default_factory=partial(empty, OPEN_PAYMENTS))
    uncleared: pd.DataFrame = field(default_factory=partial(empty, UNCLEARED))
    sessions: pd.DataFrame = field(default_factory=partial(empty, SESSIONS))
    closings: pd.DataFrame = field(default_factory=partial(empty, CLOSINGS))
    cash_movements: pd.DataFrame = field(default_factory=partial(empty, CASH_MOVEMENTS))

    def tables(self) -> dict[str, pd.DataFrame]:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def digest(self) -> str:
        """The same for the same carry, however the days before were cut into windows."""
        total = sha256()
        for name, frame in self.tables().items():
            total.update(f"{name} {to_arrow(frame, _SCHEMAS[name]).to_pylist()}".encode())
        return total.hexdigest()[:32]


_SCHEMAS = {
    "orders": OPEN_ORDERS,
    "payments": OPEN_PAYMENTS,
    "uncleared": UNCLEARED,
    "sessions": SESSIONS,
    "closings": CLOSINGS,
    "cash_movements": CASH_MOVEMENTS,
}
