"""The tables of entries: what the books say, and what could not be said.

One pandera schema per output table of docs/files-interface.md ("What comes out"), in cents. The entry's
balance and the digest are rules over several rows: accounting/proofs.py.
"""

import pandera.pandas as pa

from kash_pipeline.schemas.columns import day, number, table, text

ENTRY_KINDS = ("sale", "payment", "closing", "cash_movement", "z")
_not_negative = pa.Check.ge(0)

ENTRIES = table(
    "entries",
    "One row per accounting entry.",
    [
        text(
            "entry_key",
            "Piece number: a pure function of shop, register, day and kind; A-Z 0-9 -, at most 30.",
            checks=[pa.Check.str_matches(r"^[A-Z0-9-]{1,30}$")],
        ),
        text("kind", "sale, payment, closing, cash_movement or z.", checks=[pa.Check.isin(ENTRY_KINDS)]),
        day("business_day", "Business day of the facts."),
        text("register_id", "Register."),
        text("journal", "Journal code."),
        day("date", "Accounting date."),
        text("label", "Label of the entry."),
        number("lines", "int", "Number of lines.", checks=[pa.Check.ge(2)]),
        number("debit_cents", "cents", "Sum of debits.", checks=[_not_negative]),
        number("credit_cents", "cents", "Sum of credits.", checks=[_not_negative]),
        text("digest", "sha256 over the sorted lines."),
    ],
    unique=["entry_key"],
)

ENTRY_LINES = table(
    "entry_lines",
    "One row per line of an entry: exactly one of debit and credit is above zero.",
    [
        text("entry_key", "Entry."),
        number("line_no", "int", "Position, from 1.", checks=[pa.Check.ge(1)]),
        text("account", "Account number."),
        text("customer_id", "Auxiliary: the named customer.", nullable=True),
        number("vat_rate_bp", "bp", "VAT rate of a sales or VAT line.", nullable=True),
        text("method_id", "Payment method of a payment line.", nullable=True),
        number("debit_cents", "cents", "Debit.", checks=[_not_negative]),
        number("credit_cents", "cents", "Credit.", checks=[_not_negative]),
        text("label", "Label of the line."),
    ],
    unique=["entry_key", "line_no"],
)

HELD = table(
    "held",
    "Register-days that wait, with the reason and the cure.",
    [
        day("business_day", "Business day held."),
        text("register_id", "Register held."),
        text("reason", "Stable code, such as unmapped_method."),
        text("what", "The value, the order, the row."),
        text("next_step", "The very line to add, or the thing to look at."),
    ],
)

NOTICES = table(
    "notices",
    "Things to know that hold nothing: unpaid orders, a day without closing, Z against orders.",
    [
        day("business_day", "Business day."),
        text("register_id", "Register."),
        text("code", "Stable code, such as unpaid_order."),
        text("what", "The order, the closing, the value."),
        number("amount_cents", "cents", "Amount concerned, signed."),
    ],
)

TRIAL_BALANCE = table(
    "trial_balance",
    "Sums per account and customer.",
    [
        text("account", "Account number."),
        text("customer_id", "Auxiliary.", nullable=True),
        number("debit_cents", "cents", "Sum of debits."),
        number("credit_cents", "cents", "Sum of credits."),
        number("balance_cents", "cents", "Debit minus credit."),
    ],
)
