"""Ids that are there more than once: their register-days are held, for nobody knows which row is the true one.

Only ids of facts with a business day. Two lines of one order that say the same are no duplicates: a till prints them.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from kash_pipeline.accounting.codes import Codes, Finder, repeated_rows
from kash_pipeline.accounting.postings import Remarks
from kash_pipeline.accounting.window import Mask, Window
from kash_pipeline.schemas.facts import Facts


def in_fixed_order(facts: Facts) -> Facts:
    """The facts with rows sorted where an id is repeated: which of them counts must not depend on their order."""
    fixed = {}
    for table, column in (("orders", "order_id"), ("closings", "closing_id")):
        frame = getattr(facts, table)
        if len(repeated_rows(frame[column])):
            text = frame.astype("str").fillna("")
            fixed[table] = frame.iloc[text.sort_values(list(text.columns)).index.to_numpy()].reset_index(drop=True)
    return replace(facts, **fixed) if fixed else facts


def hold_duplicates(window: Window, remarks: Remarks) -> None:
    """Holds, with the day of every row concerned: duplicate_order, duplicate_payment, duplicate_closing,
    duplicate_cash_movement, duplicate_count.
    """
    facts = window.facts
    orders, payments = window.orders, window.payments
    own = len(facts.orders)
    day = orders.day[:own]
    in_range = (day >= window.first) & (day <= window.last)
    _hold(window, remarks, "orders", "order_id", "order", day, orders.register[:own], in_range)
    _hold(window, remarks, "payments", "payment_id", "payment", payments.day, payments.register, payments.inside)
    closing = (window.closing_day, window.closing_register, window.is_inside_closing)
    _hold(window, remarks, "closings", "closing_id", "closing", *closing)
    movement = (window.movement_day, window.movement_register, window.is_inside_movement)
    _hold(window, remarks, "cash_movements", "movement_id", "cash_movement", *movement)
    _hold_counts(window, remarks)


def _hold(
    window: Window, remarks: Remarks, table: str, column: str, word: str, day: Codes, register: Codes, inside: Mask
) -> None:
    ids = getattr(window.facts, table)[column]
    again = repeated_rows(ids)
    if len(again) == 0:
        return
    concerned = ids.isin(ids.iloc[again].unique()).to_numpy() & inside
    for row in np.flatnonzero(concerned).tolist():
        remarks.hold(
            window.group_of(day, register, row),
            f"duplicate_{word}",
            f"{word.replace('_', ' ')} {window.text(table, column, row)} is there more than once",
            f"look at the source: {column} must be unique",
        )


def _hold_counts(window: Window, remarks: Remarks) -> None:
    counts, closings = window.facts.closing_counts, window.facts.closings
    if len(counts) < 2:
        return
    again = counts.astype({"closing_id": "str", "method_id": "str"}).duplicated(["closing_id", "method_id"])
    for row in np.flatnonzero(again.to_numpy()).tolist():
        closing = int(Finder(closings["closing_id"]).rows(pd.Series([counts["closing_id"].iloc[row]], dtype="str"))[0])
        if closing >= 0 and window.is_inside_closing[closing]:
            remarks.hold(
                window.group_of(window.closing_day, window.closing_register, closing),
                "duplicate_count",
                f"closing {counts['closing_id'].iloc[row]} counts method {counts['method_id'].iloc[row]} twice",
                "look at the source: one count per closing and method",
            )
