"""The tables of facts: what a till tells, in cents, basis points and business days.

One pandera schema per table of docs/files-interface.md ("Facts: a folder of tables"); the file form (euros
with a dot, percent) is turned into this form by pos/files.py. Rules that need more than one table are not
here but in accounting/ (they hold a register-day instead of refusing a frame).
"""

from dataclasses import dataclass, field, fields
from functools import partial

import pandas as pd
import pandera.pandas as pa

from kash_pipeline.schemas.columns import day, empty, instant, number, table, text
from kash_pipeline.settings import METHOD_KINDS as METHOD_KINDS  # also read from here
from kash_pipeline.settings import MOVEMENT_KINDS as MOVEMENT_KINDS

NATURES = ("sale", "voucher_multi", "voucher_single", "tip", "deposit", "rounding")
CUSTOMER_KINDS = ("company", "individual")

_rate = pa.Check.in_range(0, 10_000)

ORDERS = table(
    "orders",
    "One row per order (ticket); a refund is an order of its own, negative.",
    [
        text("order_id", "The till's id of the order."),
        text("number", "Accounting number printed on the ticket."),
        text("register_id", "Register that recorded the order.", coded=True),
        day("business_day", "Day of the order in the shop's time zone, cut at day_starts_at."),
        instant("validated_at", "When the order got its number."),
        text("customer_id", "Named customer, null for a counter order.", coded=True, nullable=True),
        text("refund_of", "Order that this one refunds, if known.", nullable=True),
        number("total_cents", "cents", "Total including tax, signed."),
    ],
    unique=["order_id"],
)

ORDER_LINES = table(
    "order_lines",
    "One row per line of an order.",
    [
        text("order_id", "Order the line belongs to."),
        number("line_no", "int", "Position in the order, from 1."),
        text("label", "What was sold.", coded=True, nullable=True),
        number("quantity_milli", "milli", "Quantity in thousandths."),
        number("vat_rate_bp", "bp", "VAT rate, basis points.", checks=[_rate]),
        number(
            "total_cents", "cents", "Line total, discount taken off: including tax where the shop sells tax included."
        ),
        number("vat_cents", "cents", "VAT the till computed for the line, if it says so.", nullable=True),
        text("item_id", "Article.", coded=True, nullable=True),
        text("department_id", "Department of the article.", coded=True, nullable=True),
        number("discount_cents", "cents", "Discount already in total_cents, for information.", nullable=True),
        text(
            "nature",
            "sale, voucher_multi, voucher_single, tip, deposit or rounding.",
            checks=[pa.Check.isin(NATURES)],
            coded=True,
        ),
    ],
    unique=["order_id", "line_no"],
)

ORDER_VAT = table(
    "order_vat",
    "The till's own VAT table of an order; wins over lines and recomputation.",
    [
        text("order_id", "Order."),
        number("vat_rate_bp", "bp", "VAT rate, basis points.", checks=[_rate]),
        number("net_cents", "cents", "Net of the rate in the order, signed."),
        number("vat_cents", "cents", "VAT of the rate in the order, signed."),
    ],
    unique=["order_id", "vat_rate_bp"],
)

PAYMENTS = table(
    "payments",
    "One row per payment, net of change; negative when money was given back.",
    [
        text("payment_id", "The till's id of the payment."),
        text("order_id", "Order paid; null when a customer settles an account.", nullable=True),
        text("register_id", "Register that took the money.", coded=True),
        day("business_day", "Day of the payment."),
        instant("paid_at", "When."),
        text("method_id", "Payment method.", coded=True),
        number("amount_cents", "cents", "Amount, signed."),
        text("customer_id", "Customer who pays, when no order says it.", coded=True, nullable=True),
    ],
    unique=["payment_id"],
)

CLOSINGS = table(
    "closings",
    "One row per closing (Z) of a register.",
    [
        text("closing_id", "The till's id of the closing."),
        text("register_id", "Register closed.", coded=True),
        day("business_day", "Day the closing belongs to."),
        instant("opened_at", "Start of the period."),
        instant("closed_at", "End of the period.", nullable=False),
        number("opening_float_cents", "cents", "Cash found at opening.", nullable=True),
        number("closing_float_cents", "cents", "Cash left in the drawer.", nullable=True),
        number("total_cents", "cents", "Total of the period including tax, as the Z prints it.", nullable=True),
        number("perpetual_total_cents", "cents", "Grand total since the register exists.", nullable=True),
    ],
    unique=["closing_id"],
)

CLOSING_COUNTS = table(
    "closing_counts",
    "Expected and counted amount per closing and method.",
    [
        text("closing_id", "Closing.", coded=True),
        text("method_id", "Payment method.", coded=True),
        number("expected_cents", "cents", "What the till expects to be there."),
        number("counted_cents", "cents", "What was counted."),
    ],
    unique=["closing_id", "method_id"],
)

CASH_MOVEMENTS = table(
    "cash_movements",
    "Cash put into or taken out of a drawer without a sale.",
    [
        text("movement_id", "The till's id of the movement."),
        text("register_id", "Register.", coded=True),
        day("business_day", "Day."),
        instant("moved_at", "When."),
        text("kind", "withdrawal, deposit, expense or float.", coded=True, checks=[pa.Check.isin(MOVEMENT_KINDS)]),
        number("amount_cents", "cents", "Positive: into the drawer."),
        text("label", "Reason given.", coded=True, nullable=True),
    ],
    unique=["movement_id"],
)

PAYMENT_METHODS = table(
    "payment_methods",
    "Payment methods of the till.",
    [
        text("method_id", "The till's id of the method."),
        text("name", "Name shown on the till."),
        text("kind", "Kind of method.", checks=[pa.Check.isin(METHOD_KINDS)]),
        text("chapter", "Accounting chapter set in the till.", nullable=True),
    ],
    unique=["method_id"],
)

VAT_RATES = table(
    "vat_rates",
    "VAT rates of the till.",
    [
        number("vat_rate_bp", "bp", "Rate, basis points.", checks=[_rate]),
        text("name", "Name shown on the till."),
        text("chapter", "Accounting chapter (code after 4457).", nullable=True),
    ],
    unique=["vat_rate_bp"],
)

REGISTERS = table(
    "registers",
    "Registers of the shop.",
    [
        text("register_id", "The till's id of the register."),
        text("name", "Name."),
        text("chapter", "Accounting chapter: its journal code.", nullable=True),
    ],
    unique=["register_id"],
)

DEPARTMENTS = table(
    "departments",
    "Departments of articles.",
    [
        text("department_id", "The till's id."),
        text("name", "Name."),
        text("group_id", "Department group.", nullable=True),
        text("activity_code", "Accounting activity code.", nullable=True),
    ],
    unique=["department_id"],
)

DEPARTMENT_GROUPS = table(
    "department_groups",
    "Groups of departments.",
    [
        text("group_id", "The till's id."),
        text("name", "Name."),
        text("chapter", "Accounting chapter.", nullable=True),
    ],
    unique=["group_id"],
)

CUSTOMERS = table(
    "customers",
    "Named customers; personal data, kept to what posting needs.",
    [
        text("customer_id", "The till's id."),
        text("name", "Name or company name."),
        text("kind", "company or individual.", checks=[pa.Check.isin(CUSTOMER_KINDS)]),
        text("first_name", "First name.", nullable=True),
        text("last_name", "Family name.", nullable=True),
        text("vat_number", "VAT number.", nullable=True),
        text("registration_number", "SIREN or SIRET.", nullable=True),
        text("email", "E-mail.", nullable=True),
        text("address", "Street.", nullable=True),
        text("postal_code", "Postal code.", nullable=True),
        text("city", "City.", nullable=True),
        text("country", "Country, two letters.", nullable=True),
        text("account", "Customer's own account or code, if the till has one.", nullable=True),
        text("activity_code", "Accounting activity code.", nullable=True),
    ],
    unique=["customer_id"],
)

DAILY: dict[str, pa.DataFrameSchema] = {
    str(schema.name): schema
    for schema in (ORDERS, ORDER_LINES, ORDER_VAT, PAYMENTS, CLOSINGS, CLOSING_COUNTS, CASH_MOVEMENTS)
}
"""Tables that have a business day (their own or that of their order or closing)."""

REFERENCE: dict[str, pa.DataFrameSchema] = {
    str(schema.name): schema
    for schema in (PAYMENT_METHODS, VAT_RATES, REGISTERS, DEPARTMENTS, DEPARTMENT_GROUPS, CUSTOMERS)
}

FACTS: dict[str, pa.DataFrameSchema] = {**DAILY, **REFERENCE}


@dataclass(frozen=True)
class Facts:
    """All tables of facts of some days; a table that the source does not have is empty."""

    orders: pd.DataFrame = field(default_factory=partial(empty, ORDERS))
    order_lines: pd.DataFrame = field(default_factory=partial(empty, ORDER_LINES))
    order_vat: pd.DataFrame = field(default_factory=partial(empty, ORDER_VAT))
    payments: pd.DataFrame = field(default_factory=partial(empty, PAYMENTS))
    closings: pd.DataFrame = field(default_factory=partial(empty, CLOSINGS))
    closing_counts: pd.DataFrame = field(default_factory=partial(empty, CLOSING_COUNTS))
    cash_movements: pd.DataFrame = field(default_factory=partial(empty, CASH_MOVEMENTS))
    payment_methods: pd.DataFrame = field(default_factory=partial(empty, PAYMENT_METHODS))
    vat_rates: pd.DataFrame = field(default_factory=partial(empty, VAT_RATES))
    registers: pd.DataFrame = field(default_factory=partial(empty, REGISTERS))
    departments: pd.DataFrame = field(default_factory=partial(empty, DEPARTMENTS))
    department_groups: pd.DataFrame = field(default_factory=partial(empty, DEPARTMENT_GROUPS))
    customers: pd.DataFrame = field(default_factory=partial(empty, CUSTOMERS))

    def tables(self) -> dict[str, pd.DataFrame]:
        return {item.name: getattr(self, item.name) for item in fields(self)}
