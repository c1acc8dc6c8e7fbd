"""Postings to entries and entry lines: grouped by granularity, labelled, keyed, split, digested.

Everything here treats all kinds of posting alike. What is posted is sales.py, payments.py, closings.py; which
frames come out is schemas/entries.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as arrow
from numpy.typing import NDArray

from kash_pipeline.accounting.chart import Chart, Missing, french_day, in_sentence
from kash_pipeline.accounting.codes import Codes
from kash_pipeline.accounting.errors import KeyCollision, UnbalancedEntry
from kash_pipeline.accounting.keys import entry_key, line_digests
from kash_pipeline.accounting.money import Cents, add_into
from kash_pipeline.accounting.postings import Batch, Remarks, Targets
from kash_pipeline.accounting.window import Window, day_series
from kash_pipeline.schemas.columns import empty
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES

LINE_LIMIT = 1_000  # PennyLane takes at most this many lines in one entry (pennylane-api.md)
DENSE = 4_000_000

DAY_LABELS = {"V": "Ventes", "E": "Encaissements", "C": "Clôture", "M": "Mouvements de caisse", "Z": "Z"}


@dataclass
class Draft:
    """Lines of one kind of entry, summed: `amount` above zero is a debit. Sorted by nothing yet."""

    batch: int
    unit: Codes
    group: Codes
    target: Codes
    amount: Cents


def _summed(key: Codes, size: int, amount: Cents) -> tuple[Codes, Cents]:
    """Sums per key, zero sums left out, keys ascending."""
    if len(key) == 0:
        return key, amount
    if size <= max(DENSE, 4 * len(key)):
        sums = add_into(size, key, amount)
        found = np.flatnonzero(sums)
        return found, sums[found]
    found, place = np.unique(key, return_inverse=True)
    sums = add_into(len(found), place, amount)
    kept = np.flatnonzero(sums)
    return found[kept], sums[kept]


def _draft(number: int, batch: Batch, targets: int, groups: int, granularity: str) -> Draft:
    """One entry per register-day (or per unit), debits and credits of a target kept apart."""
    by_unit = granularity == "order" or batch.own_entries
    unit = batch.unit if by_unit else batch.group
    units = int(unit.max()) + 1 if len(unit) else 0
    key = (unit * targets + batch.target) * 2 + (batch.amount < 0)
    found, sums = _summed(key, max(units, 0 if by_unit else groups) * targets * 2, batch.amount)
    rest = found // 2
    unit_found, target = rest // targets, rest % targets
    if by_unit:
        group_of_unit = np.zeros(units, np.int64)
        group_of_unit[batch.unit] = batch.group
        group = group_of_unit[unit_found]
    else:
        group = unit_found
    return Draft(number, unit_found, group, target, sums)


def _draft_z(batches: Sequence[Batch], targets: Targets, groups: int) -> Draft:
    """Reading B: one entry per register-day; what a Z prints net stands net, R and S melt into what is unpaid.

    Shortages and overages stay one line per method and closing, for accounts may not be netted.
    """
    melted = np.array(targets.clears_with or [0], np.int64)
    group = np.concatenate([batch.group for batch in batches])
    target = melted[np.concatenate([batch.target for batch in batches])]
    amount = np.concatenate([batch.amount for batch in batches])
    found, sums = _summed(group * len(targets) + target, groups * len(targets), amount)
    return Draft(0, found // len(targets), found // len(targets), found % len(targets), sums)


@dataclass
class Assembly:
    """What the frames are made from."""

    window: Window
    chart: Chart
    targets: Targets
    batches: list[Batch]
    remarks: Remarks


def assemble(assembly: Assembly) -> tuple[pd.DataFrame, pd.DataFrame, set[int]]:
    """`entries`, `entry_lines` and the held groups.

    Adds to the remarks what has no account or journal. Raises UnbalancedEntry or KeyCollision, which are defects.
    """
    window, chart, targets = assembly.window, assembly.chart, assembly.targets
    granularity = chart.shop.shop.granularity
    if granularity == "z":
        batches = [_z_batch()]
        drafts = [_draft_z(assembly.batches, targets, window.groups)] if len(targets) else []
    else:
        batches = assembly.batches
        drafts = [
            _draft(number, batch, len(targets), window.groups, granularity) for number, batch in enumerate(batches)
        ]
    batch_of = np.concatenate([np.full(len(draft.unit), draft.batch) for draft in drafts] or [np.zeros(0, np.int64)])
    unit, group, target, amount = (
        np.concatenate([getattr(draft, name) for draft in drafts] or [np.zeros(0, np.int64)])
        for name in ("unit", "group", "target", "amount")
    )
    period_of_day = np.array(
        [chart.period_of(window.day_of(i * len(window.registers))) for i in range(len(window.days))]
    )
    period = period_of_day[group // max(len(window.registers), 1)] if len(group) else group
    table, accounts, missing = targets.accounts(len(chart.periods))
    account = table[target, period] if len(group) else group
    _hold_missing(assembly, missing, group, target, period, account)
    held = {item[0] for item in assembly.remarks.held}
    journals = _journals(assembly, group, held)
    held = {item[0] for item in assembly.remarks.held}
    if held:
        waits = np.zeros(window.groups, np.bool_)
        waits[list(held)] = True
        keep = np.flatnonzero(~waits[group])
        batch_of, unit, group, target, amount, account = (
            array[keep] for array in (batch_of, unit, group, target, amount, account)
        )
    if len(unit) == 0:
        return empty(ENTRIES), empty(ENTRY_LINES), held
    return (
        *_frames(assembly, batches, batch_of, unit, group, target, amount, account, accounts, journals),
        held,
    )


def _z_batch() -> Batch:
    none = np.zeros(0, np.int64)
    return Batch("Z", "z", none, none, none, none, lambda _: (), lambda _: "")


def _hold_missing(
    assembly: Assembly,
    missing: dict[tuple[int, int], Missing],
    group: Codes,
    target: Codes,
    period: Codes,
    account: Codes,
) -> None:
    """Amounts without an account hold their register-day, each lack said once."""
    said: set[tuple[int, int]] = set()
    chart, window = assembly.chart, assembly.window
    for item in np.flatnonzero(account < 0).tolist():
        key = (int(group[item]), int(target[item]))
        if period[item] < 0:
            key = (key[0], -1)
        if key in said:
            continue
        said.add(key)
        if period[item] < 0:
            day = window.day_of(key[0])
            assembly.remarks.hold(
                key[0],
                "no_chart",
                f"no [[chart]] applies on {day}: the first one starts on {chart.periods[0].start}",
                f'in the first [[chart]] write: from = "{day}"',
            )
        else:
            lack = missing[key[1], int(period[item])]
            assembly.remarks.hold(key[0], lack.reason, lack.what, lack.next_step)


def _journals(assembly: Assembly, group: Codes, held: set[int]) -> list[str]:
    """Journal of each register; a register without one holds its days."""
    window, chart = assembly.window, assembly.chart
    answers = [chart.journal(register) for register in window.registers.values]
    bad = [code for code, answer in enumerate(answers) if not isinstance(answer, str)]
    if bad:
        used = set(np.unique(group).tolist()) | held
        for item in sorted(used):
            answer = answers[item % len(window.registers)]
            if not isinstance(answer, str):
                assembly.remarks.hold(item, answer.reason, answer.what, answer.next_step)
    return [answer if isinstance(answer, str) else "" for answer in answers]


def _frames(
    assembly: Assembly,
    batches: list[Batch],
    batch_of: Codes,
    unit: Codes,
    group: Codes,
    target: Codes,
    amount: Cents,
    account: Codes,
    accounts: list[str],
    journals: list[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    window, targets = assembly.window, assembly.targets
    rank = np.array(targets.rank, np.int64)[target]
    sequence = _sequence(assembly, batches, batch_of, unit)
    place = _unit_places(assembly, batches, batch_of, unit)
    order = np.lexsort((amount < 0, target, rank, place, batch_of, sequence, group))
    batch_of, unit, group, target, amount, account = (
        array[order] for array in (batch_of, unit, group, target, amount, account)
    )
    starts = np.flatnonzero(
        np.append(True, (unit[1:] != unit[:-1]) | (batch_of[1:] != batch_of[:-1]) | (group[1:] != group[:-1]))
    )
    count = np.diff(np.append(starts, len(unit)))
    parts = np.ones(len(starts), np.int64)
    if int(count.max()) > LINE_LIMIT:
        source, amount, starts, parts, part_no = _split(starts, amount)
        batch_of, unit, group, target, account = (array[source] for array in (batch_of, unit, group, target, account))
        count = np.diff(np.append(starts, len(unit)))
    else:
        part_no = parts
    debit, credit = np.where(amount > 0, amount, 0), np.where(amount < 0, -amount, 0)
    debits, credits = np.add.reduceat(debit, starts), np.add.reduceat(credit, starts)
    if (debits != credits).any():
        bad = int(np.flatnonzero(debits != credits)[0])
        raise UnbalancedEntry(
            f"entry of {window.day_of(int(group[starts[bad]]))}, register "
            f"{window.register_of(int(group[starts[bad]]))} is out of balance by {debits[bad] - credits[bad]} cents",
            next_step="this is a defect of the engine: report it with the facts of that register-day",
        )
    heads = list(
        zip(
            batch_of[starts].tolist(),
            unit[starts].tolist(),
            group[starts].tolist(),
            part_no.tolist(),
            parts.tolist(),
            strict=True,
        )
    )
    keys, labels, kinds = _heads(assembly, batches, heads)
    entry = np.repeat(np.arange(len(starts)), count)
    by_order = assembly.chart.shop.shop.granularity == "order"
    own = np.array([by_order or batch.own_entries for batch in batches], np.bool_)[batch_of]
    lines = _lines_frame(assembly, entry, keys, labels, own, starts, target, amount, account, accounts, debit, credit)
    digests = _digests(assembly, target, account, accounts, debit, credit, starts)
    day_index = group[starts] // len(window.registers)
    register = (group[starts] % len(window.registers)).tolist()
    days = day_series(window.days[day_index])
    entries = pd.DataFrame(
        {
            "entry_key": pd.array(keys, dtype="str"),
            "kind": pd.array(kinds, dtype="str"),
            "business_day": days,
            "register_id": pd.array([window.registers.values[code] for code in register], dtype="str"),
            "journal": pd.array([journals[code] for code in register], dtype="str"),
            "date": days,
            "label": pd.array(labels, dtype="str"),
            "lines": count,
            "debit_cents": debits,
            "credit_cents": credits,
            "digest": pd.array(digests, dtype="str"),
        }
    )
    return entries, lines


def _sequence(assembly: Assembly, batches: list[Batch], batch_of: Codes, unit: Codes) -> Codes:
    """Place of an entry inside its register-day: an order, its payments, at last closings, as on a till's roll."""
    if assembly.chart.shop.shop.granularity != "order":
        return np.zeros(len(unit), np.int64)
    place = np.zeros(len(unit), np.int64)
    for number, batch in enumerate(batches):
        if batch.sequence is None:
            place[batch_of == number] = np.iinfo(np.int64).max
        else:
            mine = batch_of == number
            place[mine] = batch.sequence[unit[mine]]
    return place


def _unit_places(assembly: Assembly, batches: list[Batch], batch_of: Codes, unit: Codes) -> Codes:
    """Order of entries of one kind inside a register-day: by their ids, never by the rows they came in."""
    by_order = assembly.chart.shop.shop.granularity == "order"
    place = unit.copy()
    for number, batch in enumerate(batches):
        if not (by_order or batch.own_entries):
            continue
        mine = np.flatnonzero(batch_of == number)
        units, which = np.unique(unit[mine], return_inverse=True)
        names = [batch.ids(item) for item in units.tolist()]
        rank = np.empty(len(units), np.int64)
        rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(units))
        place[mine] = rank[which]
    return place


def _heads(
    assembly: Assembly, batches: list[Batch], heads: list[tuple[int, int, int, int, int]]
) -> tuple[list[str], list[str], list[str]]:
    window, chart = assembly.window, assembly.chart
    shop_id = chart.shop.shop.id
    registers = window.registers.values
    count = len(registers)
    names = [in_sentence(chart.register_name(register)) for register in registers]
    days = [window.day_of(index * count) for index in range(len(window.days))]
    french = [french_day(day) for day in days]
    own = [chart.shop.shop.granularity == "order" or batch.own_entries for batch in batches]
    keys, labels = [], []
    for number, unit, group, part, parts in heads:
        batch = batches[number]
        day, register = divmod(group, count)
        code = batch.code if part == 1 else f"{batch.code}{part}"
        if own[number]:
            keys.append(entry_key(shop_id, registers[register], days[day], code, *batch.ids(unit)))
            label = batch.label(unit)
        else:
            keys.append(entry_key(shop_id, registers[register], days[day], code))
            label = f"{DAY_LABELS[batch.code]} {names[register]} du {french[day]}"
        labels.append(label if parts == 1 else f"{label} ({part}/{parts})")
    kinds = [batches[head[0]].kind for head in heads]
    if len(set(keys)) != len(keys):
        twice = sorted(key for key in set(keys) if keys.count(key) > 1)[0]
        raise KeyCollision(
            f"two entries would get the key {twice}", next_step="two ids of the source differ only in spelling"
        )
    return keys, labels, kinds


def _split(starts: Codes, amount: Cents) -> tuple[Codes, Cents, Codes, Codes, Codes]:
    """Entries of more than LINE_LIMIT lines in parts that balance each.

    Debits and credits are laid end to end on one axis of cents; a part is a stretch of it that begins and ends where a
    line ends, so a cut divides at most one line and the sum per account stays. Returns the source line of each
    line, amounts, starts, number of parts of its entry and part number, per entry.
    """
    source: list[int] = []
    amounts: list[int] = []
    new_starts: list[int] = []
    parts: list[int] = []
    part_no: list[int] = []
    bounds = [*starts.tolist(), len(amount)]
    for begin, end in pairwise(bounds):
        pieces = [list(range(begin, end))] if end - begin <= LINE_LIMIT else None
        cut = (
            [[(row, int(amount[row])) for row in pieces[0]]]
            if pieces is not None
            else _cut([(row, int(amount[row])) for row in range(begin, end)])
        )
        for number, part in enumerate(cut, start=1):
            new_starts.append(len(source))
            parts.append(len(cut))
            part_no.append(number)
            for row, cents in part:
                source.append(row)
                amounts.append(cents)
    return (
        np.array(source, np.int64),
        np.array(amounts, np.int64),
        np.array(new_starts, np.int64),
        np.array(parts, np.int64),
        np.array(part_no, np.int64),
    )


def _cut(lines: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    debits = [(row, cents) for row, cents in lines if cents > 0]
    credits = [(row, -cents) for row, cents in lines if cents < 0]
    parts: list[list[tuple[int, int]]] = []
    part: dict[int, int] = {}
    d = c = 0
    left_d, left_c = debits[0][1], credits[0][1]
    while d < len(debits) and c < len(credits):
        # One step adds at most two lines to the part.
        if len(part) + 2 > LINE_LIMIT:
            parts.append(sorted(part.items()))
            part = {}
        step = min(left_d, left_c)
        part[debits[d][0]] = part.get(debits[d][0], 0) + step
        part[credits[c][0]] = part.get(credits[c][0], 0) - step
        left_d -= step
        left_c -= step
        if left_d == 0:
            d += 1
            left_d = debits[d][1] if d < len(debits) else 0
        if left_c == 0:
            c += 1
            left_c = credits[c][1] if c < len(credits) else 0
    parts.append(sorted(part.items()))
    return parts


def _category(codes: NDArray[np.int64], values: Sequence[str]) -> pd.Categorical:
    """Text as a dictionary-coded column without unused values."""
    used = np.zeros(len(values) + 1, np.bool_)
    used[codes] = True
    used = used[:-1]
    compact = np.cumsum(used) - 1
    chosen = np.flatnonzero(used)
    return pd.Categorical.from_codes(
        np.where(codes < 0, -1, compact[codes] if len(values) else -1),
        categories=pd.Index([values[code] for code in chosen.tolist()], dtype="str"),
    )


def _lines_frame(
    assembly: Assembly,
    entry: Codes,
    keys: list[str],
    entry_labels: list[str],
    own: NDArray[np.bool_],
    starts: Codes,
    target: Codes,
    amount: Cents,
    account: Codes,
    accounts: list[str],
    debit: Cents,
    credit: Cents,
) -> pd.DataFrame:
    window, targets = assembly.window, assembly.targets
    rate = np.array(targets.rate, np.int64)[target]
    sides = [text for pair in zip(targets.debit_label, targets.credit_label, strict=True) for text in pair]
    label_values = [*sides, *entry_labels]
    # An entry of one fact says the same on every line; an entry of a day says what each line sums up.
    label_codes = np.where(own, len(sides) + entry, target * 2 + (amount < 0))
    values = sorted(set(label_values))
    position = {text: code for code, text in enumerate(values)}
    label = _category(np.array([position[text] for text in label_values], np.int64)[label_codes], values)
    return pd.DataFrame(
        {
            "entry_key": pd.Categorical.from_codes(entry, categories=pd.Index(keys, dtype="str")),
            "line_no": np.arange(len(entry)) - starts[entry] + 1,
            "account": _category(account, accounts),
            "customer_id": _category(np.array(targets.customer, np.int64)[target], window.customers.values),
            "vat_rate_bp": pd.arrays.IntegerArray(np.maximum(rate, 0), rate < 0),
            "method_id": _category(np.array(targets.method, np.int64)[target], window.methods.values),
            "debit_cents": debit,
            "credit_cents": credit,
            "label": label,
        }
    )


def _digests(
    assembly: Assembly,
    target: Codes,
    account: Codes,
    accounts: list[str],
    debit: Cents,
    credit: Cents,
    starts: Codes,
) -> list[str]:
    """Labels are left out: a register renamed is no reason to reverse a year of entries."""
    window, targets = assembly.window, assembly.targets

    def text(values: Sequence[str | None], codes: Codes) -> arrow.Array:
        return arrow.array(values, arrow.string()).take(arrow.array(codes))

    customers = [*window.customers.values, None]
    methods = [*window.methods.values, None]
    rate = np.array(targets.rate, np.int64)
    return line_digests(
        [
            text(accounts, account),
            text([None if code < 0 else customers[code] for code in targets.customer], target),
            text([None if number < 0 else str(number) for number in rate.tolist()], target),
            text([None if code < 0 else methods[code] for code in targets.method], target),
            arrow.array(debit).cast(arrow.string()),
            arrow.array(credit).cast(arrow.string()),
        ],
        starts,
    )
