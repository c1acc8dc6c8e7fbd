"""Facts to entries: `build`, `carry_before` and `trial_balance`, the whole engine for its callers.

Only the order of the steps belongs here. Each step is a module of its own: window.py, sales.py, payments.py,
closings.py, entries.py.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from kash_pipeline.accounting.carry import Carry
from kash_pipeline.accounting.chart import Chart
from kash_pipeline.accounting.closings import (
    Calendar,
    clearing_postings,
    closing_chain,
    difference_postings,
    hold_impossible_counts,
    last_closings,
    movement_postings,
    open_item_notices,
    z_notices,
)
from kash_pipeline.accounting.codes import Codes, instants
from kash_pipeline.accounting.duplicates import hold_duplicates, in_fixed_order
from kash_pipeline.accounting.entries import Assembly, assemble
from kash_pipeline.accounting.payments import method_targets, payment_postings
from kash_pipeline.accounting.postings import RANK_CUSTOMER, RANK_PAID, RANK_TAKINGS, Remarks, Targets
from kash_pipeline.accounting.sales import sale_postings
from kash_pipeline.accounting.window import (
    Window,
    day_range,
    day_series,
    open_orders_after,
    open_window,
    to_number,
)
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES, HELD, NOTICES, TRIAL_BALANCE
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ShopFile


@dataclass(frozen=True)
class BuildResult:
    """What the books say of some days: frames of schemas/entries.py, and the carry for the day after."""

    entries: pd.DataFrame
    entry_lines: pd.DataFrame
    held: pd.DataFrame
    notices: pd.DataFrame
    carry: Carry


def build(
    facts: Facts,
    shop: ShopFile,
    *,
    first: date | None = None,
    last: date | None = None,
    carry: Carry | None = None,
) -> BuildResult:
    """The entries of the business days `first..last` (default: all days of the facts).

    `facts` may hold more days. Days before `first` only feed the carry when none is given; a carry given is what
    earlier days left, and earlier rows are then ignored. Orders of later days are known to exist (a payment may
    precede its order). Text columns may be `str` or `category`, rows may come in any order: the bytes are the same.

    A register-day that cannot be built writes no entry and is listed in `held`, one row per reason. Raises
    OrphanRows when a line, a VAT row or a count belongs to no order or closing at all.
    """
    facts = in_fixed_order(facts)
    span = day_range(facts)
    if span is None and (first is None or last is None):
        return BuildResult(empty(ENTRIES), empty(ENTRY_LINES), empty(HELD), empty(NOTICES), carry or Carry())
    low, high = span if span is not None else (0, 0)
    start = low if first is None else to_number(first)
    end = high if last is None else to_number(last)
    if carry is None:
        carry = _carry_at(facts, shop, start)
    window = open_window(facts, carry, start, end)
    chart = Chart(shop, facts)
    remarks = Remarks()
    targets = Targets()
    takings = targets.add(
        RANK_TAKINGS,
        chart.everywhere(lambda period: period.takings_to_come),
        debit_label="Recettes de caisse à centraliser",
        credit_label="Avoirs de caisse à centraliser",
    )
    paid = targets.add(
        RANK_PAID,
        chart.everywhere(lambda period: period.takings_paid),
        debit_label="Remboursements au comptant à centraliser",
        credit_label="Ventes au comptant à centraliser",
        clears_with=takings,
    )
    customers = _customer_targets(window, chart, targets)
    methods = method_targets(window, chart, targets)
    calendar = Calendar.of(window)
    sales = sale_postings(window, chart, targets, takings, customers, remarks)
    by_order = shop.shop.granularity == "order"
    payments = payment_postings(window, methods, paid, customers, remarks, by_order=by_order)
    clearing = clearing_postings(window, chart, targets, calendar, by_closing=by_order)
    if by_order:
        place = _places(window)
        sales.sequence = place
        payments.sequence = _payment_places(window, place)
    hold_duplicates(window, remarks)
    hold_impossible_counts(window, chart, remarks)
    chain = closing_chain(window, calendar)
    batches = [
        sales,
        payments,
        movement_postings(window, chart, targets),
        clearing.batch,
        *difference_postings(window, chart, targets, methods, chain),
    ]
    open_item_notices(window, remarks)
    sessions = z_notices(window, calendar, chain, remarks)
    entries, entry_lines, _ = assemble(Assembly(window, chart, targets, batches, remarks))
    return BuildResult(
        entries,
        entry_lines,
        _held_frame(window, remarks),
        _notices_frame(window, remarks),
        _carry_after(window, calendar, clearing.uncleared, sessions.frame),
    )


def carry_before(
    facts: Facts, shop: ShopFile, day: date, *, first: date | None = None, carry: Carry | None = None
) -> Carry:
    """What the days before `day` leave behind, from their facts; nothing is built.

    Needs orders, payments, closings, cash_movements and payment_methods of these days; lines are not looked at. With
    `first` the facts before it are ignored: `carry` is what those days left.
    """
    begin = None if first is None else to_number(first)
    return _carry_at(in_fixed_order(facts), shop, to_number(day), begin, carry)


def trial_balance(entry_lines: pd.DataFrame) -> pd.DataFrame:
    """Sums of debit and credit per account and customer, and the balance (debit less credit), in cents."""
    if entry_lines.empty:
        return empty(TRIAL_BALANCE)
    keys = ["account", "customer_id"]
    sums = (
        entry_lines[[*keys, "debit_cents", "credit_cents"]]
        .groupby(keys, dropna=False, observed=True, as_index=False)[["debit_cents", "credit_cents"]]
        .sum()
    )
    sums["balance_cents"] = sums["debit_cents"] - sums["credit_cents"]
    plain = conform(sums.astype({"account": "str", "customer_id": "str"}), TRIAL_BALANCE)
    return plain.sort_values(keys, na_position="first", ignore_index=True)


def _carry_at(facts: Facts, shop: ShopFile, start: int, first: int | None = None, carry: Carry | None = None) -> Carry:
    carry = carry or Carry()
    span = day_range(facts)
    if span is None or span[0] >= start:
        return carry
    window = open_window(facts, carry, span[0] if first is None else first, start - 1)
    calendar = Calendar.of(window)
    chart = Chart(shop, facts)
    clearing = clearing_postings(window, chart, Targets(), calendar, by_closing=False)
    sessions = z_notices(window, calendar, closing_chain(window, calendar), Remarks())
    return _carry_after(window, calendar, clearing.uncleared, sessions.frame)


def _carry_after(window: Window, calendar: Calendar, uncleared: pd.DataFrame, sessions: pd.DataFrame) -> Carry:
    orders, payments = open_orders_after(window)
    closings, movements = last_closings(window, calendar)
    return Carry(orders, payments, uncleared, sessions, closings, movements)


def _customer_targets(window: Window, chart: Chart, targets: Targets) -> Codes:
    numbers = [
        targets.add(
            RANK_CUSTOMER,
            chart.customer(customer_id),
            customer=code,
            debit_label=f"Client {customer_id}",
            credit_label=f"Client {customer_id}",
        )
        for code, customer_id in enumerate(window.customers.values)
    ]
    return np.array(numbers or [-1], np.int64)


def _places(window: Window) -> Codes:
    """Place of each order on the till's roll: by time, then number."""
    orders = window.facts.orders
    number = orders["number"].astype("str").rank(method="dense").to_numpy(np.int64)
    identity = orders["order_id"].astype("str").rank(method="dense").to_numpy(np.int64)
    at = instants(orders["validated_at"])
    order = np.lexsort((identity, number, at))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def _payment_places(window: Window, place: Codes) -> Codes:
    """A payment stands behind its order where that is of the same register-day, else behind all orders."""
    payments, orders = window.payments, window.orders
    out = np.full(len(payments.day), len(place), np.int64)
    own = np.flatnonzero((payments.order >= 0) & (payments.order < len(place)))
    order = payments.order[own]
    same = (orders.day[order] == payments.day[own]) & (orders.register[order] == payments.register[own])
    out[own[same]] = place[order[same]]
    return out


def _held_frame(window: Window, remarks: Remarks) -> pd.DataFrame:
    rows = sorted(set(remarks.held))
    if not rows:
        return empty(HELD)
    groups = np.array([row[0] for row in rows], np.int64)
    return conform(
        pd.DataFrame(
            {
                "business_day": day_series(window.days[groups // len(window.registers)]),
                "register_id": [window.register_of(group) for group in groups.tolist()],
                "reason": [row[1] for row in rows],
                "what": [row[2] for row in rows],
                "next_step": [row[3] for row in rows],
            }
        ),
        HELD,
    )


def _notices_frame(window: Window, remarks: Remarks) -> pd.DataFrame:
    rows = sorted(remarks.notices)
    if not rows:
        return empty(NOTICES)
    groups = np.array([row[0] for row in rows], np.int64)
    return conform(
        pd.DataFrame(
            {
                "business_day": day_series(window.days[groups // len(window.registers)]),
                "register_id": [window.register_of(group) for group in groups.tolist()],
                "code": [row[1] for row in rows],
                "what": [row[2] for row in rows],
                "amount_cents": [row[3] for row in rows],
            }
        ),
        NOTICES,
    )
