"""Payments to postings: the method's account against takings paid, or against the named customer.

A payment is posted on its own business day and register, whatever the day of its order. Orders themselves are
sales.py; the clearing of takings is closings.py.
"""

import numpy as np

from kash_pipeline.accounting.chart import Chart
from kash_pipeline.accounting.codes import Codes
from kash_pipeline.accounting.money import add_into, euros
from kash_pipeline.accounting.postings import RANK_METHOD, Batch, Collector, Remarks, Targets
from kash_pipeline.accounting.window import Window, to_date


def method_targets(window: Window, chart: Chart, targets: Targets) -> Codes:
    """One target per payment method of the window."""
    numbers = [
        targets.add(
            RANK_METHOD,
            chart.method_account(method_id),
            method=code,
            debit_label=f"Encaissements {chart.method(method_id).name}",
            credit_label=f"Remboursements {chart.method(method_id).name}",
        )
        for code, method_id in enumerate(window.methods.values)
    ]
    return np.array(numbers or [-1], np.int64)


def payment_postings(
    window: Window, methods: Codes, paid: int, customers: Codes, remarks: Remarks, *, by_order: bool
) -> Batch:
    """Postings of the payments of the window; `by_order` makes those of one order and register-day one unit.

    `paid` is the target S. Held with their register-day: unknown_order, paid_more_than_total, payment_without_customer,
    on_account_without_customer.
    """
    payments, orders = window.payments, window.orders
    _hold(window, remarks)
    with_order = payments.order >= 0
    order_customer = np.where(with_order, orders.customer[payments.order], -1) if len(orders) else payments.order
    takes_money = window.takes_money[payments.method]
    # The order says who owes; the payment's own customer only where no order does, or where a counter order is
    # put on somebody's account.
    customer = np.where(with_order & takes_money, order_customer, payments.customer)
    posted = payments.inside & ~payments.unknown & (takes_money | (with_order & (order_customer < 0)))
    rows = np.flatnonzero(posted)
    group = window.group(payments.day[rows], payments.register[rows])
    amount = payments.amount[rows]
    debit = np.where(
        takes_money[rows], methods[payments.method[rows]], customers[np.where(customer[rows] < 0, 0, customer[rows])]
    )
    to_customer = takes_money[rows] & (customer[rows] >= 0)
    credit = np.where(to_customer, customers[np.where(customer[rows] < 0, 0, customer[rows])], paid)
    # Payments of one order on one register and day are one entry, as in example T3: its first row names it.
    unit = rows
    if by_order:
        paired = np.flatnonzero(with_order[rows])
        pair = payments.order[rows[paired]] * max(window.groups, 1) + group[paired]
        _, first_of_pair, which = np.unique(pair, return_index=True, return_inverse=True)
        unit = rows.copy()
        unit[paired] = rows[paired[first_of_pair]][which]
    collected = Collector()
    collected.add(group, unit, debit, amount)
    collected.add(group, unit, credit, -amount)
    received = add_into(len(payments.day), unit, amount) if by_order else payments.amount

    def ids(row: int) -> tuple[str, ...]:
        order = int(payments.order[row])
        if order < 0:
            return "P", window.text("payments", "payment_id", row)
        return (order_id(window, order),)

    def label(row: int) -> str:
        word = "Remboursement" if received[row] < 0 else "Encaissement"
        order = int(payments.order[row])
        if order < 0:
            return f"{word} client {window.customers.values[payments.customer[row]]}"
        return f"{word} {order_number(window, order)}"

    return Batch("E", "payment", *collected.arrays(), ids, label)


def order_id(window: Window, row: int) -> str:
    own = len(window.facts.orders)
    if row < own:
        return window.text("orders", "order_id", row)
    return str(window.carry.orders["order_id"].iloc[row - own])


def order_number(window: Window, row: int) -> str:
    """Number on the ticket of an order, of the facts or carried."""
    own = len(window.facts.orders)
    return window.text("orders", "number", row) if row < own else str(window.carry.orders["number"].iloc[row - own])


def _hold(window: Window, remarks: Remarks) -> None:
    payments, orders = window.payments, window.orders

    def group_of(row: int) -> int:
        return window.group_of(payments.day, payments.register, row)

    def named(row: int) -> str:
        return f"payment {window.text('payments', 'payment_id', row)} of {euros(payments.amount[row])}"

    for row in np.flatnonzero(payments.unknown).tolist():
        remarks.hold(
            group_of(row),
            "unknown_order",
            f"{named(row)} names order {window.text('payments', 'order_id', row)}, which is neither recorded on "
            f"{to_date(payments.day[row])} nor still open from an earlier day",
            "add the order to the facts, or clear order_id and name the customer who pays an old debt",
        )
    for row in np.flatnonzero(payments.overpaid).tolist():
        order = int(payments.order[row])
        remarks.hold(
            group_of(row),
            "paid_more_than_total",
            f"{named(row)}: the payments of order {order_number(window, order)} come to more than its total of "
            f"{euros(orders.total[order])}",
            "check the payment's amount (net of change) and that no payment is there twice",
        )
    without = payments.inside & (payments.order < 0) & ~payments.unknown & (payments.customer < 0)
    without &= window.takes_money[payments.method] & (payments.amount != 0)
    for row in np.flatnonzero(without).tolist():
        remarks.hold(
            group_of(row),
            "payment_without_customer",
            f"{named(row)} names neither an order nor a customer",
            "give the payment its order_id, or the customer_id of the customer who settles an account",
        )
    known = payments.inside & (payments.order >= 0) & ~payments.unknown
    if len(orders):
        nobody = known & ~window.takes_money[payments.method] & (orders.customer[payments.order] < 0)
        nobody &= (payments.customer < 0) & (payments.amount != 0)
        for row in np.flatnonzero(nobody).tolist():
            remarks.hold(
                group_of(row),
                "on_account_without_customer",
                f"{named(row)} puts order {order_number(window, int(payments.order[row]))} on account, "
                "but neither names a customer",
                "give the order or the payment its customer_id",
            )
