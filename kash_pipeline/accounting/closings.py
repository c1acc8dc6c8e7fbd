"""Closings to postings: takings cleared, differences per method, opening floats, cash movements; and the Z checked.

Reading A of french-pos-accounting.md, section 1: a closing touches no account of class 7 but the overage account and no
VAT account. What a closing clears is settled in window.py; sales and payments are sales.py and payments.py.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from kash_pipeline.accounting.carry import SESSIONS, UNCLEARED
from kash_pipeline.accounting.chart import Chart, in_sentence
from kash_pipeline.accounting.codes import Codes, Finder, day_numbers, instants
from kash_pipeline.accounting.errors import OrphanRows
from kash_pipeline.accounting.money import Cents, add_into, euros
from kash_pipeline.accounting.payments import order_number
from kash_pipeline.accounting.postings import (
    RANK_METHOD,
    RANK_OTHER,
    RANK_OVER,
    RANK_PAID,
    RANK_SHORT,
    RANK_TAKINGS,
    Batch,
    Collector,
    Remarks,
    Targets,
)
from kash_pipeline.accounting.window import NEVER, Window, day_series, in_order, stacked, to_date
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.schemas.facts import CASH_MOVEMENTS, CLOSINGS, MOVEMENT_KINDS

UNKNOWN_INSTANT = np.iinfo(np.int64).min


@dataclass
class Calendar:
    """Closings by register and day: rows inside the window in time order, and the next closing day from any day on."""

    rows: Codes
    group: Codes
    last_row: Codes
    next_day: Codes

    @classmethod
    def of(cls, window: Window) -> "Calendar":
        """`last_row[group]` is the day's last closing (-1: none); `next_day[day index, register]` a day index or -1."""
        inside = np.flatnonzero(window.is_inside_closing)
        table = window.facts.closings
        closed_at = instants(table["closed_at"])[inside]
        identity = np.argsort(
            np.argsort(table["closing_id"].astype("str").to_numpy(dtype=object)[inside], kind="stable")
        )
        group = window.group(window.closing_day[inside], window.closing_register[inside])
        order = np.lexsort((identity, closed_at, group))
        rows, group = inside[order], group[order]
        last_row = np.full(window.groups, -1, np.int64)
        last_row[group] = rows
        closed = (last_row >= 0).reshape(len(window.days), len(window.registers))
        marks = np.where(closed, np.arange(len(window.days))[:, None], NEVER)
        upcoming = np.minimum.accumulate(marks[::-1], axis=0)[::-1] if len(window.days) else marks
        return cls(rows, group, last_row, np.where(upcoming == NEVER, -1, upcoming))


@dataclass
class Clearing:
    """The closing entries, and the sums that wait for a later closing."""

    batch: Batch
    uncleared: pd.DataFrame


def clearing_postings(
    window: Window, chart: Chart, targets: Targets, calendar: Calendar, *, by_closing: bool
) -> Clearing:
    """One pair per register-day with a closing (or per closing): S against R for the counter orders paid in full.

    Each side names the account of the chart of its own day, so a chart that changes in between still ends at zero.
    One account for both sides gives no line.
    """
    orders = window.orders
    settled_here = (window.settled >= window.first) & (window.settled <= window.last) & (orders.customer < 0)
    rows = np.flatnonzero(settled_here)
    registers = len(window.registers)
    day_at = window.day_index(window.settled[rows])
    clear_day = calendar.next_day[day_at, orders.register[rows]]
    done = clear_day >= 0

    recorded = _Side.of(chart, [period.takings_to_come for period in chart.periods])
    paid = _Side.of(chart, [period.takings_paid for period in chart.periods])
    # R before S, so that in a Z entry an account of S can melt into that of R.
    accounts = [*sorted(recorded.accounts), *sorted(paid.accounts - recorded.accounts)]
    numbers: dict[str, int] = {}
    for account in accounts:
        takings = account in recorded.accounts
        melts = None if takings else numbers[recorded.by_period[paid.by_period.index(account)]]
        words = "Recettes de caisse" if takings else "Ventes de caisse au comptant, TTC"
        numbers[account] = targets.add(
            RANK_TAKINGS if takings else RANK_PAID,
            chart.everywhere(lambda _, account=account: account),  # type: ignore[misc]
            debit_label=words,
            credit_label=words,
            clears_with=melts,
        )
    clearing = np.array([numbers[account] for account in accounts], np.int64)
    spot = {account: index for index, account in enumerate(accounts)}

    unit = np.full(len(rows), -1, np.int64)
    unit[done] = calendar.last_row[clear_day[done] * registers + orders.register[rows[done]]]
    if by_closing:
        _by_instant(window, calendar, rows, unit)
    closings = len(window.facts.closings)
    sums = np.zeros(closings * len(accounts), np.int64)

    def book(units: Codes, accounts_at: Codes, amounts: Cents) -> None:
        np.add.at(sums, units * len(accounts) + accounts_at, amounts)

    book(unit[done], recorded.at(window, orders.day[rows[done]], spot), -orders.total[rows[done]])
    waiting = bool((~done).any())
    left: list[tuple[str, Codes, Codes, Cents]] = []
    if len(paid.accounts) == 1 and not waiting:
        book(unit, paid.at(window, orders.day[rows], spot), orders.total[rows])
    else:
        unit_of_order = np.full(len(orders), -2, np.int64)
        unit_of_order[rows] = unit
        paid_order, paid_day, paid_amount = _payments_of_settled(window)
        unit_of_payment = unit_of_order[paid_order]
        here = unit_of_payment >= 0
        book(unit_of_payment[here], paid.at(window, paid_day[here], spot), paid_amount[here])
        rest = unit_of_payment == -1
        left.append(("S", orders.register[paid_order[rest]], paid_day[rest], paid_amount[rest]))
        left.append(("R", orders.register[rows[~done]], orders.day[rows[~done]], orders.total[rows[~done]]))

    carried = window.carry.uncleared
    if len(carried):
        register = np.array([window.registers.code(str(name)) for name in carried["register_id"]], np.int64)
        day = day_numbers(carried["business_day"])
        amount = carried["amount_cents"].to_numpy(np.int64)
        is_paid = (carried["side"].astype("str") == "S").to_numpy()
        next_day = calendar.next_day[0, register] if len(window.days) else np.full(len(register), -1)
        cleared = next_day >= 0
        units = np.full(len(register), -1, np.int64)
        units[cleared] = _first_row(calendar, by_closing)[next_day[cleared] * registers + register[cleared]]
        for side, mask in ((recorded, cleared & ~is_paid), (paid, cleared & is_paid)):
            sign = 1 if side is paid else -1
            book(units[mask], side.at(window, day[mask], spot), sign * amount[mask])
        for code, mask in (("R", ~cleared & ~is_paid), ("S", ~cleared & is_paid)):
            left.append((code, register[mask], day[mask], amount[mask]))

    found = np.flatnonzero(sums)
    unit_found = found // len(accounts)
    group = window.group(window.closing_day[unit_found], window.closing_register[unit_found]) if len(found) else found

    def ids(row: int) -> tuple[str, ...]:
        return (window.text("closings", "closing_id", row),)

    def label(row: int) -> str:
        return f"Clôture {in_sentence(chart.register_name(window.text('closings', 'register_id', row)))}"

    batch = Batch("C", "closing", group, unit_found, clearing[found % len(accounts)], sums[found], ids, label)
    return Clearing(batch, _uncleared(window, left))


@dataclass
class _Side:
    """R or S: its account in each dated chart."""

    by_period: list[str]
    chart: Chart

    @classmethod
    def of(cls, chart: Chart, by_period: list[str]) -> "_Side":
        return cls(by_period, chart)

    @property
    def accounts(self) -> set[str]:
        return set(self.by_period)

    def at(self, window: Window, day: Codes, spot: dict[str, int]) -> Codes:
        """Position of the account on each day."""
        if len(self.accounts) == 1:
            return np.full(len(day), spot[self.by_period[0]], np.int64)
        periods, places = np.unique(day, return_inverse=True)
        accounts = [spot[self.by_period[max(0, self.chart.period_of(to_date(number)))]] for number in periods]
        return np.array(accounts, np.int64)[places]


def _first_row(calendar: Calendar, by_closing: bool) -> Codes:
    """The closing that takes what earlier days left: the day's first one, or its only entry."""
    if not by_closing:
        return calendar.last_row
    first = np.full(len(calendar.last_row), -1, np.int64)
    first[calendar.group[::-1]] = calendar.rows[::-1]
    return first


def _payments_of_settled(window: Window) -> tuple[Codes, Codes, Cents]:
    """Payments that settled a counter order in the window: order row, day, amount."""
    payments, orders = window.payments, window.orders
    rows = np.flatnonzero(payments.inside & (payments.order >= 0) & ~payments.unknown)
    rows = rows[orders.customer[payments.order[rows]] < 0]
    old = np.flatnonzero(window.carried_payment_order >= 0)
    order = np.concatenate([payments.order[rows], window.carried_payment_order[old]])
    day = np.concatenate([payments.day[rows], window.carried_payment_day[old]])
    carried_amount = window.carry.payments["amount_cents"].to_numpy(np.int64)
    amount = np.concatenate([payments.amount[rows], carried_amount[old]])
    return order, day, amount


def _by_instant(window: Window, calendar: Calendar, rows: Codes, unit: Codes) -> None:
    """With several closings a day: the first one after the order was both recorded and paid; days before, the first."""
    orders, payments = window.orders, window.payments
    counts = np.bincount(calendar.group, minlength=window.groups)
    if not (counts > 1).any() or len(rows) == 0:
        return
    own = len(window.facts.orders)
    moment = np.full(len(orders), UNKNOWN_INSTANT, np.int64)
    moment[:own] = instants(window.facts.orders["validated_at"])
    paid_at = instants(window.facts.payments["paid_at"])
    mine = np.flatnonzero(payments.inside & (payments.order >= 0) & ~payments.unknown)
    np.maximum.at(moment, payments.order[mine], paid_at[mine])
    closed_at = instants(window.facts.closings["closed_at"])
    for group in np.flatnonzero(counts > 1).tolist():
        closings = calendar.rows[calendar.group == group]
        chosen = np.flatnonzero(unit == calendar.last_row[group])
        same_day = window.settled[rows[chosen]] == window.days[group // len(window.registers)]
        place = np.searchsorted(closed_at[closings], moment[rows[chosen]], side="left")
        place = np.minimum(place, len(closings) - 1)
        place = np.where(moment[rows[chosen]] == UNKNOWN_INSTANT, len(closings) - 1, place)
        unit[chosen] = closings[np.where(same_day, place, 0)]


def _uncleared(window: Window, left: list[tuple[str, Codes, Codes, Cents]]) -> pd.DataFrame:
    pieces = [
        pd.DataFrame(
            {
                "register_id": [window.registers.values[code] for code in register.tolist()],
                "side": side,
                "business_day": day_series(day),
                "amount_cents": amount,
            }
        )
        for side, register, day, amount in left
        if len(day)
    ]
    if not pieces:
        return empty(UNCLEARED)
    sums = pd.concat(pieces).groupby(["register_id", "side", "business_day"], as_index=False)["amount_cents"].sum()
    return conform(sums[sums["amount_cents"] != 0], UNCLEARED)


# -- one closing after another ---------------------------------------------------------------------------------------


class Closed(NamedTuple):
    """A closing as the next one looks back on it; None and UNKNOWN_INSTANT where the till does not say."""

    row: int
    register: int
    opened_at: int
    closed_at: int
    opening_float: int | None
    closing_float: int | None
    total: int | None
    perpetual: int | None


Chain = list[tuple[Closed | None, Closed]]
"""Closings of a window, each behind the one before it on its register."""


def _closed(table: pd.DataFrame, register: Codes, rows: list[int]) -> list[Closed]:
    part = table.iloc[rows]

    def cents(name: str) -> list[int | None]:
        values, missing = part[name].fillna(0).to_numpy(np.int64).tolist(), part[name].isna().tolist()
        return [None if unknown else value for value, unknown in zip(values, missing, strict=True)]

    return list(
        map(
            Closed,
            rows,
            register[rows].tolist(),
            instants(part["opened_at"]).tolist(),
            instants(part["closed_at"]).tolist(),
            cents("opening_float_cents"),
            cents("closing_float_cents"),
            cents("total_cents"),
            cents("perpetual_total_cents"),
        )
    )


def closing_chain(window: Window, calendar: Calendar) -> Chain:
    """Each closing of the window behind the one before it on the same register, if there is one."""
    carried = window.carry.closings
    register = np.array([window.registers.code(str(name)) for name in carried["register_id"]], np.int64)
    before = {item.register: item for item in _closed(carried, register, list(range(len(carried))))}
    chain = []
    for item in _closed(window.facts.closings, window.closing_register, calendar.rows.tolist()):
        chain.append((before.get(item.register), item))
        before[item.register] = item
    return chain


# -- differences -----------------------------------------------------------------------------------------------------


def difference_postings(window: Window, chart: Chart, targets: Targets, methods: Codes, chain: Chain) -> list[Batch]:
    """Counted against expected, per method and closing; the float found against the float left. Never netted."""
    return [
        _counted(window, chart, targets, methods),
        _floats(window, chart, targets, chain),
    ]


def hold_impossible_counts(window: Window, chart: Chart, remarks: Remarks) -> None:
    """Holds the day of a drawer that holds less than nothing; a card terminal's total can be, on a day of refunds."""
    counts, closings = window.facts.closing_counts, window.facts.closings
    below = np.flatnonzero(counts["counted_cents"].to_numpy(np.int64) < 0)
    closing = Finder(closings["closing_id"]).rows(counts["closing_id"].iloc[below])
    for row, of in zip(below.tolist(), closing.tolist(), strict=True):
        method = chart.method(window.text("closing_counts", "method_id", row))
        if method.kind == "cash" and of >= 0 and window.is_inside_closing[of]:
            cents = int(counts["counted_cents"].iloc[row])
            remarks.hold(
                window.group_of(window.closing_day, window.closing_register, of),
                "cash_below_zero",
                f"closing {window.text('closings', 'closing_id', of)} counts {euros(cents)} of {method.name}",
                "what lies in a drawer is zero or more: correct the count where it was made, then read the day again",
            )


def _loss_and_gain(chart: Chart, targets: Targets, label: str) -> tuple[int, int]:
    """Targets of a shortage and an overage."""
    return (
        targets.add(
            RANK_SHORT, chart.everywhere(lambda period: period.cash_short), debit_label=label, credit_label=label
        ),
        targets.add(
            RANK_OVER, chart.everywhere(lambda period: period.cash_over), debit_label=label, credit_label=label
        ),
    )


def _counted(window: Window, chart: Chart, targets: Targets, methods: Codes) -> Batch:
    counts, closings = window.facts.closing_counts, window.facts.closings
    closing = Finder(closings["closing_id"]).rows(counts["closing_id"])
    if len(closing) and int(closing.min()) < 0:
        row = int(np.flatnonzero(closing < 0)[0])
        raise OrphanRows(
            f"closing_counts, row {row + 1}: closing {window.text('closing_counts', 'closing_id', row)!r} "
            "is not in closings",
            next_step="add the closing to closings or leave the row out of closing_counts",
        )
    difference = counts["counted_cents"].to_numpy(np.int64) - counts["expected_cents"].to_numpy(np.int64)
    use = window.is_inside_closing[closing] & (difference != 0) & window.takes_money[window.count_method]
    rows = np.flatnonzero(use)
    group = window.group(window.closing_day[closing[rows]], window.closing_register[closing[rows]])
    amount, method = difference[rows], window.count_method[rows]

    def label_of(method_id: str) -> str:
        known = chart.method(method_id)
        return f"Ecart {'de caisse ' if known.kind == 'cash' else ''}{in_sentence(known.name)}"

    pairs = np.full((len(window.methods) + 1, 2), -1, np.int64)
    for code in np.unique(method).tolist():
        pairs[code] = _loss_and_gain(chart, targets, label_of(window.methods.values[code]))
    collected = Collector()
    collected.add(group, rows, methods[method], amount)
    collected.add(group, rows, np.where(amount < 0, pairs[method, 0], pairs[method, 1]), -amount)

    def ids(row: int) -> tuple[str, ...]:
        return window.text("closing_counts", "closing_id", row), window.text("closing_counts", "method_id", row)

    def label(row: int) -> str:
        return label_of(window.text("closing_counts", "method_id", row))

    return Batch("D", "closing", *collected.arrays(), ids, label, own_entries=True)


def _floats(window: Window, chart: Chart, targets: Targets, chain: Chain) -> Batch:
    """Cash found at opening against cash left at the closing before, movements in between taken into account."""
    collected = Collector()
    words = "Ecart de fonds de caisse à l'ouverture"
    drawer = short = over = -1
    for previous, item in chain:
        if previous is None or previous.closing_float is None or item.opening_float is None:
            continue
        moved = 0 if item.opened_at == UNKNOWN_INSTANT else _moved_between(window, previous, item.opened_at)
        difference = item.opening_float - previous.closing_float - moved
        if difference == 0:
            continue
        if drawer < 0:
            drawer = cash_target(chart, targets)
            short, over = _loss_and_gain(chart, targets, words)
        at = slice(item.row, item.row + 1)
        group = window.group(window.closing_day[at], window.closing_register[at])
        unit, amount = np.array([item.row]), np.array([difference])
        collected.add(group, unit, drawer, amount)
        collected.add(group, unit, short if difference < 0 else over, -amount)

    def ids(row: int) -> tuple[str, ...]:
        return (window.text("closings", "closing_id", row),)

    return Batch("F", "closing", *collected.arrays(), ids, lambda _: words, own_entries=True)


def cash_target(chart: Chart, targets: Targets) -> int:
    """The drawer."""
    return targets.add(RANK_METHOD, chart.cash(), debit_label="Entrée d'espèces", credit_label="Sortie d'espèces")


def _moved_between(window: Window, previous: Closed, opened_at: int) -> int:
    total = 0
    for table, register in (
        (window.facts.cash_movements, window.movement_register),
        (
            window.carry.cash_movements,
            np.array(
                [window.registers.code(str(name)) for name in window.carry.cash_movements["register_id"]], np.int64
            ),
        ),
    ):
        if len(table) == 0:
            continue
        at = instants(table["moved_at"])
        use = (register == previous.register) & (at > previous.closed_at) & (at <= opened_at)
        if table is window.facts.cash_movements:
            use &= window.is_inside_movement
        total += int(table["amount_cents"].to_numpy(np.int64)[use].sum())
    return total


# -- cash movements --------------------------------------------------------------------------------------------------


def movement_postings(window: Window, chart: Chart, targets: Targets) -> Batch:
    """Cash put into or taken out of a drawer: cash account against the account of the kind of movement."""
    table = window.facts.cash_movements
    rows = np.flatnonzero(window.is_inside_movement)
    collected = Collector()
    if len(rows):
        drawer = cash_target(chart, targets)
        words = {
            "withdrawal": "Prélèvement d'espèces",
            "deposit": "Apport d'espèces",
            "expense": "Dépense payée en caisse",
            "float": "Fonds de caisse",
        }
        kinds = table["kind"].astype("str").to_numpy(dtype=object)[rows]
        present = [kind for kind in MOVEMENT_KINDS if (kinds == kind).any()]
        numbers = {
            kind: targets.add(RANK_OTHER, chart.movement(kind), debit_label=words[kind], credit_label=words[kind])
            for kind in present
        }
        group = window.group(window.movement_day[rows], window.movement_register[rows])
        amount = table["amount_cents"].to_numpy(np.int64)[rows]
        collected.add(group, rows, drawer, amount)
        collected.add(group, rows, np.array([numbers[kind] for kind in kinds], np.int64), -amount)

    def ids(row: int) -> tuple[str, ...]:
        return (window.text("cash_movements", "movement_id", row),)

    def label(row: int) -> str:
        reason = table["label"].iloc[row]
        return f"Mouvement de caisse {window.text('cash_movements', 'movement_id', row) if pd.isna(reason) else reason}"

    return Batch("M", "cash_movement", *collected.arrays(), ids, label)


# -- what to know ----------------------------------------------------------------------------------------------------


def open_item_notices(window: Window, remarks: Remarks) -> None:
    """Counter orders whose payments of the day are not their total, and payments of orders of other days.

    The amounts of unpaid_order, paid_earlier, late_payment and early_payment add up to the balance of R and S.
    """
    orders, payments = window.orders, window.payments
    if len(orders) == 0:
        return
    mine = np.flatnonzero(payments.inside & (payments.order >= 0) & ~payments.unknown)
    mine = mine[orders.customer[payments.order[mine]] < 0]
    same_day = payments.day[mine] == orders.day[payments.order[mine]]
    paid = add_into(len(orders), payments.order[mine[same_day]], payments.amount[mine[same_day]])
    rest = np.where(orders.inside & (orders.customer < 0), orders.total - paid, 0)
    for row in np.flatnonzero(rest).tolist():
        group = window.group_of(orders.day, orders.register, row)
        code = "paid_earlier" if window.settled[row] == orders.day[row] else "unpaid_order"
        remarks.notice(
            group,
            code,
            f"order {order_number(window, row)}: total {euros(orders.total[row])}, paid that day {euros(paid[row])}",
            int(rest[row]),
        )
    for row in mine[~same_day].tolist():
        group = window.group_of(payments.day, payments.register, row)
        order = int(payments.order[row])
        late = payments.day[row] > orders.day[order]
        remarks.notice(
            group,
            "late_payment" if late else "early_payment",
            f"payment {window.text('payments', 'payment_id', row)} of order {order_number(window, order)} "
            f"of {to_date(orders.day[order])}",
            -int(payments.amount[row]),
        )


@dataclass
class Sessions:
    """Sums by register-day since the last closing, and the comparison with the Z."""

    frame: pd.DataFrame


def z_notices(window: Window, calendar: Calendar, chain: Chain, remarks: Remarks) -> Sessions:
    """Z totals against orders, with what explains each euro: orders not paid, payments of other orders.

    A Z may count orders (value date) or money (payment date). Notices: z_total_differs (Z less orders), then
    z_unpaid_orders and z_other_payments as far as they explain it, z_unexplained for the rest; no_closing for a
    register-day of counter sales without closing; perpetual_total_gap where grand totals do not follow each other.
    """
    orders, payments = window.orders, window.payments
    registers, days = len(window.registers), len(window.days)
    inside = np.flatnonzero(orders.inside)
    order_group = window.group(orders.day[inside], orders.register[inside])
    recorded = add_into(window.groups, order_group, orders.total[inside])
    taken_rows = np.flatnonzero(payments.inside)
    payment_group = window.group(payments.day[taken_rows], payments.register[taken_rows])
    taken = add_into(window.groups, payment_group, payments.amount[taken_rows])
    own = np.zeros(len(taken_rows), np.bool_)
    if len(orders):
        order = payments.order[taken_rows]
        own = (
            (order >= 0)
            & (orders.day[order] == payments.day[taken_rows])
            & (orders.register[order] == payments.register[taken_rows])
        )
    same = add_into(window.groups, payment_group[own], payments.amount[taken_rows[own]])
    at_counter = orders.customer[inside] < 0
    waits_for_closing = np.zeros(window.groups, np.bool_)
    waits_for_closing[order_group[at_counter]] = True
    takings = add_into(window.groups, order_group[at_counter], orders.total[inside[at_counter]])
    if len(orders):
        order = payments.order[taken_rows]
        # A payment of an order already settled is held as unknown; it must not be known here, or windows would differ.
        placed = (order >= 0) & ~payments.unknown[taken_rows]
        waits_for_closing[payment_group[placed & (orders.customer[order] < 0)]] = True

    z_of_group: dict[int, int | None] = {}
    for (_, item), group in zip(chain, calendar.group.tolist(), strict=True):
        so_far = z_of_group.get(group, 0)
        z_of_group[group] = None if so_far is None or item.total is None else so_far + item.total

    since = np.zeros((registers, 3), np.int64)
    carried = window.carry.sessions
    for row in range(len(carried)):
        register = window.registers.code(str(carried["register_id"].iloc[row]))
        since[register] += [
            int(carried[name].iloc[row]) for name in ("orders_cents", "same_day_cents", "payments_cents")
        ]
    by_day = np.stack([recorded, same, taken], axis=1).reshape(days, registers, 3)
    closed = (calendar.last_row >= 0).reshape(days, registers)
    for day in range(days):
        since = since + by_day[day]
        for register in np.flatnonzero(closed[day]).tolist():
            group = day * registers + register
            _compare(remarks, group, z_of_group[group], since[register].tolist())
            since[register] = 0
    for group in np.flatnonzero(waits_for_closing & (calendar.last_row < 0)).tolist():
        remarks.notice(
            group,
            "no_closing",
            f"register {window.register_of(group)} has counter sales or their payments and no closing that day",
            int(takings[group]),
        )
    for (previous, item), group in zip(chain, calendar.group.tolist(), strict=True):
        if previous is None or previous.perpetual is None or item.perpetual is None or item.total is None:
            continue
        gap = item.perpetual - previous.perpetual - item.total
        if gap:
            remarks.notice(
                group,
                "perpetual_total_gap",
                f"closing {window.text('closings', 'closing_id', item.row)}: the grand total moved by "
                f"{euros(item.perpetual - previous.perpetual)}, the Z says {euros(item.total)}",
                gap,
            )
    return Sessions(_open_sessions(window, calendar, by_day))


def _compare(remarks: Remarks, group: int, z: int | None, sums: list[int]) -> None:
    recorded, same, taken = sums
    if z is None or z == recorded:
        return
    difference = z - recorded
    unpaid, other = same - recorded, taken - same
    remarks.notice(group, "z_total_differs", f"Z {euros(z)}, orders {euros(recorded)}", difference)
    explained = 0
    for code, amount, words in (
        ("z_unpaid_orders", unpaid, "orders of the period not paid on their day and register"),
        ("z_other_payments", other, "payments of orders of other days or registers, or of accounts"),
    ):
        # Only a Z by payment date is explained by payments: both reasons together, or neither.
        if amount and z == taken:
            remarks.notice(group, code, words, amount)
            explained += amount
    if difference != explained:
        remarks.notice(group, "z_unexplained", "look at the till's journal for this closing", difference - explained)


def _open_sessions(window: Window, calendar: Calendar, by_day: Cents) -> pd.DataFrame:
    registers, days = len(window.registers), len(window.days)
    last_closed = np.full(registers, -1, np.int64)
    closed = (calendar.last_row >= 0).reshape(days, registers)
    for day in range(days):
        last_closed[closed[day]] = day
    still = (np.arange(days)[:, None] > last_closed[None, :]) & by_day.any(axis=2)
    day_at, register_at = np.nonzero(still)
    fresh = pd.DataFrame(
        {
            "register_id": [window.registers.values[code] for code in register_at.tolist()],
            "business_day": day_series(window.days[day_at]),
            "orders_cents": by_day[day_at, register_at, 0],
            "same_day_cents": by_day[day_at, register_at, 1],
            "payments_cents": by_day[day_at, register_at, 2],
        }
    )
    old = window.carry.sessions
    names = old["register_id"].astype("str").tolist()
    waiting = [last_closed[window.registers.code(name)] < 0 for name in names]
    pieces = [piece for piece in (old[waiting], fresh) if len(piece)]
    if not pieces:
        return empty(SESSIONS)
    return conform(pd.concat(pieces, ignore_index=True), SESSIONS).sort_values(
        ["register_id", "business_day"], ignore_index=True
    )


def last_closings(window: Window, calendar: Calendar) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last closing of each register after the window, and the cash movements since."""
    last: dict[int, int] = {int(window.closing_register[row]): row for row in calendar.rows.tolist()}
    old = window.carry.closings
    kept = [window.registers.code(str(name)) not in last for name in old["register_id"]]
    closings = stacked([old[kept], window.facts.closings.iloc[sorted(last.values())]], CLOSINGS)
    closings = in_order(closings, ["register_id"])
    inside = window.facts.cash_movements.iloc[np.flatnonzero(window.is_inside_movement)]
    movements = stacked([window.carry.cash_movements, inside], CASH_MOVEMENTS)
    if closings.empty or movements.empty:
        return closings, empty(CASH_MOVEMENTS)
    closed_at = dict(zip(closings["register_id"], instants(closings["closed_at"]).tolist(), strict=True))
    since = [
        at > closed_at.get(register, NEVER)
        for register, at in zip(movements["register_id"], instants(movements["moved_at"]).tolist(), strict=True)
    ]
    return closings, in_order(movements[since].reset_index(drop=True), ["business_day", "movement_id"])
