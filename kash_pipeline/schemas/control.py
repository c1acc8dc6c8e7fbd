"""What a till's own daily report says of a day, to hold the orders read against: no fact, and never booked.

Only the table belongs here; how a report is read is pos/, the comparison pos/control.py.
"""

import pandera.pandas as pa

from kash_pipeline.schemas.columns import day, number, table, text

MEASURES = ("total", "gross", "net", "vat", "paid")

CONTROL_TOTALS = table(
    "control_totals",
    "Sums of a till's daily report: of all orders, per VAT rate, per payment method.",
    [
        day("business_day", "Day of the report."),
        text(
            "measure",
            "total (all orders, including tax), gross, net, vat (of a rate), paid (by a method).",
            checks=[pa.Check.isin(MEASURES)],
        ),
        text("of", "The rate in percent or the method's name; empty for total."),
        number("amount_cents", "cents", "Sum, signed."),
    ],
    unique=["business_day", "measure", "of"],
)
