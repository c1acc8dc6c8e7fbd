"""The days to build as arrays: who is who (codes), which rows count, which orders are settled and when.

Everything later kernels share is worked out here once. No account is chosen here (chart.py) and no amount is posted
(sales.py, payments.py, closings.py).
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kash_pipeline.accounting.carry import OPEN_ORDERS, OPEN_PAYMENTS, Carry
from kash_pipeline.accounting.codes import Codes, Finder, Names, day_numbers, repeated_rows, shared_codes
from kash_pipeline.accounting.money import Cents, add_into
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.schemas.facts import Facts

Mask = NDArray[np.bool_]
NEVER = np.iinfo(np.int64).max
EPOCH = date(1970, 1, 1)


def to_date(number: int) -> date:
    return EPOCH + timedelta(days=int(number))


def to_number(day: date) -> int:
    return (day - EPOCH).days


def day_series(numbers: Codes) -> Any:
    """Day numbers as the `datetime64[ms]` of frames."""
    return numbers.astype("datetime64[D]").astype("datetime64[ms]")


@dataclass
class Orders:
    """Orders as arrays: the rows of `facts.orders`, then those carried from earlier days."""

    day: Codes
    register: Codes
    customer: Codes
    total: Cents
    inside: Mask
    carried: int

    def __len__(self) -> int:
        return len(self.day)


@dataclass
class Payments:
    """The rows of `facts.payments`; `order` is a row of `Orders` or -1, `unknown` marks an order that is not open."""

    day: Codes
    register: Codes
    method: Codes
    customer: Codes
    amount: Cents
    order: Codes
    inside: Mask
    unknown: Mask
    overpaid: Mask


@dataclass
class Window:
    """One stretch of business days, ready for the kernels.

    A register-day is a group: `group = day index * registers + register`. `days` are the days on which anything
    happened, ascending, as day numbers.
    """

    facts: Facts
    first: int
    last: int
    registers: Names
    methods: Names
    customers: Names
    days: Codes
    orders: Orders
    payments: Payments
    takes_money: Mask
    settled: Codes
    closing_day: Codes
    closing_register: Codes
    movement_day: Codes
    movement_register: Codes
    count_method: Codes
    carry: Carry
    carried_payment_day: Codes
    carried_payment_order: Codes
    line_finder: Finder

    @property
    def groups(self) -> int:
        return len(self.days) * len(self.registers)

    def group(self, day: Codes, register: Codes) -> Codes:
        """Group of rows whose day lies in the window."""
        return self.day_index(day) * len(self.registers) + register

    def day_index(self, day: Codes) -> Codes:
        return self._day_table()[day - self.days[0]] if len(self.days) else day

    def _day_table(self) -> Codes:
        table: Codes | None = self.__dict__.get("_table")
        if table is None:
            table = np.full(int(self.days[-1] - self.days[0]) + 1, -1, np.int64)
            table[self.days - self.days[0]] = np.arange(len(self.days))
            self.__dict__["_table"] = table
        return table

    def text(self, table: str, column: str, row: int) -> str:
        """Text of one row of the facts, for keys, labels and messages."""
        texts: dict[tuple[str, str], list[str]] = self.__dict__.setdefault("_texts", {})
        if (table, column) not in texts:
            # One list for all rows: reading a Series cell by cell costs ten times as much.
            texts[table, column] = getattr(self.facts, table)[column].tolist()
        return str(texts[table, column][row])

    def group_of(self, day: Codes, register: Codes, row: int) -> int:
        """Group of one row."""
        return int(self.group(day[row : row + 1], register[row : row + 1])[0])

    def day_of(self, group: int) -> date:
        return to_date(self.days[group // len(self.registers)])

    def register_of(self, group: int) -> str:
        return self.registers.values[group % len(self.registers)]

    @property
    def is_inside_closing(self) -> Mask:
        return (self.closing_day >= self.first) & (self.closing_day <= self.last)

    @property
    def is_inside_movement(self) -> Mask:
        return (self.movement_day >= self.first) & (self.movement_day <= self.last)


def _distinct(days: list[Codes]) -> Codes:
    """Sorted distinct day numbers; marks instead of sorting a million rows."""
    filled = [item for item in days if len(item)]
    if not filled:
        return np.zeros(0, np.int64)
    low = min(int(item.min()) for item in filled)
    high = max(int(item.max()) for item in filled)
    seen = np.zeros(high - low + 1, np.bool_)
    for item in filled:
        seen[item - low] = True
    return np.flatnonzero(seen).astype(np.int64) + low


def day_range(facts: Facts) -> tuple[int, int] | None:
    """First and last business day of the facts; None without any."""
    lows, highs = [], []
    for frame in (facts.orders, facts.payments, facts.closings, facts.cash_movements):
        if len(frame):
            numbers = day_numbers(frame["business_day"])
            lows.append(int(numbers.min()))
            highs.append(int(numbers.max()))
    return (min(lows), max(highs)) if lows else None


def _joined(left: Codes, right: Codes) -> Codes:
    return np.concatenate([left, right]) if len(right) else left


def _within(day: Codes, first: int, last: int) -> Mask:
    return (day >= first) & (day <= last)


def open_window(facts: Facts, carry: Carry, first: int, last: int) -> Window:
    """Code the facts of `first..last` (day numbers) and settle orders against payments, day by day."""
    orders, payments = facts.orders, facts.payments
    closings, movements, counts = facts.closings, facts.cash_movements, facts.closing_counts
    registers, register_codes = shared_codes(
        [
            orders["register_id"],
            payments["register_id"],
            closings["register_id"],
            movements["register_id"],
            carry.orders["register_id"],
            carry.uncleared["register_id"],
            carry.sessions["register_id"],
            carry.closings["register_id"],
        ]
    )
    methods, (method, count_method) = shared_codes([payments["method_id"], counts["method_id"]])
    customers, (order_customer, payment_customer, carried_customer) = shared_codes(
        [orders["customer_id"], payments["customer_id"], carry.orders["customer_id"]]
    )
    on_account = set(facts.payment_methods.loc[facts.payment_methods["kind"] == "on_account", "method_id"].astype(str))
    takes_money = np.array([name not in on_account for name in methods.values] or [True], np.bool_)

    order_day = day_numbers(orders["business_day"])
    findable = order_day >= first
    finder = Finder(orders["order_id"], None if findable.all() else findable)
    carried_finder = Finder(carry.orders["order_id"])
    everything = Orders(
        day=_joined(order_day, day_numbers(carry.orders["business_day"])),
        register=_joined(register_codes[0], register_codes[4]),
        customer=_joined(order_customer, carried_customer),
        total=_joined(orders["total_cents"].to_numpy(np.int64), carry.orders["total_cents"].to_numpy(np.int64)),
        inside=_within(order_day, first, last),
        carried=len(carry.orders),
    )
    # Of rows with one id only the first is an order; the others hold their day (duplicates.py) and open nothing.
    everything.inside[repeated_rows(orders["order_id"])] = False
    everything.inside = np.concatenate([everything.inside, np.zeros(len(carry.orders), np.bool_)])

    def find(ids: pd.Series) -> Codes:
        rows = finder.rows(ids)
        if len(carry.orders):
            carried_rows = carried_finder.rows(ids)
            rows = np.where((rows < 0) & (carried_rows >= 0), carried_rows + len(orders), rows)
        return rows

    payment_day = day_numbers(payments["business_day"])
    payment_order = find(payments["order_id"])
    inside = _within(payment_day, first, last)
    paid = Payments(
        day=payment_day,
        register=register_codes[1],
        method=method,
        customer=payment_customer,
        amount=payments["amount_cents"].to_numpy(np.int64),
        order=payment_order,
        inside=inside,
        unknown=inside & (payment_order < 0) & payments["order_id"].notna().to_numpy(),
        overpaid=np.zeros(len(payments), np.bool_),
    )
    carried_payment_day = day_numbers(carry.payments["business_day"])
    carried_payment_order = find(carry.payments["order_id"])
    closing_day = day_numbers(closings["business_day"])
    movement_day = day_numbers(movements["business_day"])
    days = _distinct(
        [
            order_day[_within(order_day, first, last)],
            payment_day[inside],
            closing_day[_within(closing_day, first, last)],
            movement_day[_within(movement_day, first, last)],
        ]
    )
    window = Window(
        facts=facts,
        first=first,
        last=last,
        registers=registers,
        methods=methods,
        customers=customers,
        days=days,
        orders=everything,
        payments=paid,
        takes_money=takes_money,
        settled=np.zeros(0, np.int64),
        closing_day=closing_day,
        closing_register=register_codes[2],
        movement_day=movement_day,
        movement_register=register_codes[3],
        count_method=count_method,
        carry=carry,
        carried_payment_day=carried_payment_day,
        carried_payment_order=carried_payment_order,
        line_finder=finder if findable.all() else Finder(orders["order_id"]),
    )
    window.settled = _settle(window)
    return window


def _reached(paid: Cents, total: Cents, named: Mask) -> Mask:
    """Paid in full: to the cent at the counter, at least in full by a named customer (more is a credit of theirs)."""
    at_least = np.where(total >= 0, paid >= total, paid <= total)
    return np.where(named, at_least, paid == total)


def _beyond(paid: Cents, total: Cents) -> Mask:
    return ((total >= 0) & (paid > total)) | ((total <= 0) & (paid < total))


def _settle(window: Window) -> Codes:
    """The day on which each order became fully paid; NEVER while it is open.

    Sums are taken at the end of each business day, so what happens inside a day (change given as a payment of its
    own, a wrong method taken back) does not matter. A payment made before its order is recorded counts from that
    day on. Once settled an order takes no payment on a later day: `payments.unknown`, as it would be if only the
    days since were known.
    """
    orders, payments = window.orders, window.payments
    size = len(orders)
    if size == 0:
        return np.zeros(0, np.int64)
    named = orders.customer >= 0
    # A named customer's order "paid" on account is still owed.
    with_order = payments.inside & (payments.order >= 0)
    counted = with_order & (window.takes_money[payments.method] | ~named[payments.order])
    where = payments.order[counted]
    amount = payments.amount[counted]
    paid = add_into(size, where, amount)

    odd = np.zeros(size, np.bool_)
    other_day = payments.day[counted] != orders.day[where]
    odd[where[other_day]] = True
    odd[window.carried_payment_order[window.carried_payment_order >= 0]] = True
    odd[size - orders.carried :] = True

    plain = orders.inside & ~odd
    settled = np.where(plain & _reached(paid, orders.total, named), orders.day, NEVER)
    too_much = plain & ~named & _beyond(paid, orders.total)
    if too_much.any():
        payments.overpaid |= counted & too_much[payments.order]
    if odd.any():
        _settle_odd(window, odd, counted, settled, named)
    # A settled order of an earlier day takes no further payment.
    late = with_order & (payments.day > settled[payments.order])
    if late.any():
        payments.unknown |= late
        payments.overpaid &= ~late
    return settled


def _settle_odd(window: Window, odd: Mask, counted: Mask, settled: Codes, named: Mask) -> None:
    """Orders paid on other days than their own: running sums per order and day."""
    orders, payments = window.orders, window.payments
    mine = np.flatnonzero(counted & odd[payments.order])
    carried = np.flatnonzero(window.carried_payment_order >= 0)
    starts = np.flatnonzero(odd & (orders.day <= window.last))
    order = np.concatenate([payments.order[mine], window.carried_payment_order[carried], starts])
    day = np.concatenate([payments.day[mine], window.carried_payment_day[carried], orders.day[starts]])
    amount = np.concatenate(
        [
            payments.amount[mine],
            window.carry.payments["amount_cents"].to_numpy(np.int64)[carried],
            np.zeros(len(starts), np.int64),
        ]
    )
    # From the day of the order on: is it paid?
    keys, day_of_key, sums = _running(order, np.maximum(day, orders.day[order]), amount)
    reached = _reached(sums, orders.total[keys], named[keys]) & (day_of_key <= window.last)
    hit, first_hit = np.unique(keys[reached], return_index=True)
    settled[hit] = day_of_key[reached][first_hit]

    # On the day of the payment: is it too much?
    keys, day_of_key, sums = _running(order, day, amount)
    too_much = ~named[keys] & _beyond(sums, orders.total[keys]) & (day_of_key <= settled[keys])
    if too_much.any():
        flagged = set(zip(keys[too_much].tolist(), day_of_key[too_much].tolist(), strict=True))
        for row in mine.tolist():
            if (int(payments.order[row]), int(payments.day[row])) in flagged:
                payments.overpaid[row] = True


def _running(order: Codes, day: Codes, amount: Cents) -> tuple[Codes, Codes, Cents]:
    """Per order and day (ascending): the sum of all amounts up to the end of that day."""
    sequence = np.lexsort((day, order))
    order, day, amount = order[sequence], day[sequence], amount[sequence]
    total = np.cumsum(amount)
    first_of_order = np.flatnonzero(np.append(True, order[1:] != order[:-1]))
    before = np.append(0, total[first_of_order[1:] - 1])
    length = np.diff(np.append(first_of_order, len(order)))
    total = total - np.repeat(before, length)
    last_of_day = np.append((order[1:] != order[:-1]) | (day[1:] != day[:-1]), True)
    return order[last_of_day], day[last_of_day], total[last_of_day]


def open_orders_after(window: Window) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Orders still open after the window and the payments that belong to them or to orders not yet recorded."""
    orders, payments = window.orders, window.payments
    facts = window.facts
    still = (window.settled == NEVER) & (orders.day <= window.last)
    still[: len(facts.orders)] &= orders.inside[: len(facts.orders)]
    fresh, old = np.flatnonzero(still[: len(facts.orders)]), np.flatnonzero(still[len(facts.orders) :])
    columns = list(OPEN_ORDERS.columns)
    open_orders = stacked([window.carry.orders.iloc[old], facts.orders.iloc[fresh][columns]], OPEN_ORDERS)

    # A payment stays as long as its order has not swallowed it by being settled.
    named = orders.customer >= 0
    known = payments.order >= 0
    swallowed = np.zeros(len(payments.day), np.bool_)
    swallowed[known] = payments.day[known] <= window.settled[payments.order[known]]
    swallowed[known] &= window.settled[payments.order[known]] != NEVER
    on_account = np.zeros(len(payments.day), np.bool_)
    on_account[known] = named[payments.order[known]] & ~window.takes_money[payments.method[known]]
    keep = payments.inside & facts.payments["order_id"].notna().to_numpy() & ~swallowed & ~on_account
    carried_known = window.carried_payment_order >= 0
    carried_done = np.zeros(len(window.carried_payment_day), np.bool_)
    carried_done[carried_known] = window.settled[window.carried_payment_order[carried_known]] != NEVER
    open_payments = stacked(
        [
            window.carry.payments.iloc[np.flatnonzero(~carried_done)],
            facts.payments.iloc[np.flatnonzero(keep)][list(OPEN_PAYMENTS.columns)],
        ],
        OPEN_PAYMENTS,
    )
    return (
        in_order(open_orders, ["business_day", "order_id"]),
        in_order(open_payments, ["business_day", "payment_id"]),
    )


def in_order(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Sorted; nothing to do for up to one row, which is most of what small windows carry."""
    return frame if len(frame) < 2 else frame.sort_values(columns, ignore_index=True)


def stacked(frames: list[pd.DataFrame], schema: Any) -> pd.DataFrame:
    """Rows one under the other, text as plain text whatever the inputs had."""
    filled = [plain_text(frame) for frame in frames if len(frame)]
    if not filled:
        return empty(schema)
    return conform(filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True), schema)


def plain_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Dictionary-coded text as plain text."""
    coded = [name for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(coded, "str")) if coded else frame
