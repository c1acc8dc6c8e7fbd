"""Orders to postings: sales by account and VAT rate, VAT by rate, the customer or takings to come.

One signed amount per order and target, so that a refund stands on the other side and is never netted against a
sale. VAT figures are vat.py; money received is payments.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kash_pipeline.accounting import vat as vat_rules
from kash_pipeline.accounting.chart import Answer, Chart, french_rate
from kash_pipeline.accounting.codes import Codes, dictionary, shared_codes
from kash_pipeline.accounting.errors import OrphanRows
from kash_pipeline.accounting.money import Cents, add_into, euros
from kash_pipeline.accounting.postings import (
    RANK_LIABILITY,
    RANK_OTHER,
    RANK_SALES,
    RANK_VAT,
    Batch,
    Collector,
    Remarks,
    Targets,
)
from kash_pipeline.accounting.window import Mask, Window
from kash_pipeline.schemas.facts import NATURES
from kash_pipeline.settings import bp_to_rate

SALE, VOUCHER_MULTI, VOUCHER_SINGLE, TIP, DEPOSIT, ROUNDING = range(len(NATURES))
TAXED_DEPOSIT = len(NATURES)  # a deposit on which the till itself charged VAT

RATES = 10_001


@dataclass(frozen=True)
class Part:
    """What one line of an order can be for the books: a nature, its rate, and the accounts it goes to."""

    nature: int
    rate_bp: int
    answers: tuple[Answer, ...]

    @property
    def taxed(self) -> bool:
        return self.rate_bp > 0 and self.nature in (SALE, VOUCHER_SINGLE, TAXED_DEPOSIT)


@dataclass
class _Lines:
    order: Codes
    rate: Codes
    total: Cents
    part: Codes
    vat: Cents | None
    vat_known: Mask | None


def sale_postings(
    window: Window, chart: Chart, targets: Targets, takings: int, customers: Codes, remarks: Remarks
) -> Batch:
    """Postings of the orders of the window.

    `takings` is the target R, `customers` the target of each customer code. Orders that cannot be posted are
    `remarks.held` with their register-day: order_without_lines, unbalanced_order, vat_mismatch.

    Raises OrphanRows when a line or a VAT row names an order that is not among the orders.
    """
    orders = window.orders
    included = chart.shop.shop.prices == "tax_included"
    lines, parts, listed = _read_lines(window, chart)
    size = len(orders)
    gross = np.zeros((len(parts), size), np.int64)
    np.add.at(gross.reshape(-1), lines.part * size + lines.order, lines.total)

    vat = _vat(window, chart, lines, parts, gross, remarks)
    net = gross - vat if included else gross
    inside = np.flatnonzero(orders.inside)
    everything_inside = len(inside) == size
    pick: slice | Codes = slice(None) if everything_inside else inside
    group = window.group(orders.day[pick], orders.register[pick])
    total = orders.total[pick]
    rest = total - net.sum(axis=0)[pick] - vat.sum(axis=0)[pick]
    rest = _explain_rest(window, chart, lines, parts, gross, listed, inside, group, rest, remarks)
    _undescribed_customers(window, chart, inside, group, remarks)

    collected = Collector()
    customer = orders.customer[pick]
    collected.add(group, inside, np.where(customer < 0, takings, customers[customer]), total)
    for number, target in _part_targets(parts, targets).items():
        if isinstance(target, int):
            collected.add(group, inside, target, -net[number][pick])
        else:
            _collect_rounding(collected, group, inside, target, net[number][pick], total)
    for rate in sorted({part.rate_bp for part in parts if part.taxed}):
        rows = [number for number, part in enumerate(parts) if part.taxed and part.rate_bp == rate]
        amounts = vat[rows[0]][pick] if len(rows) == 1 else vat[rows].sum(axis=0)[pick]
        target = targets.add(
            RANK_VAT,
            chart.vat(rate),
            rate=rate,
            debit_label=f"TVA {french_rate(rate)} sur avoirs",
            credit_label=f"TVA {french_rate(rate)}",
        )
        collected.add(group, inside, target, -amounts)
    if rest.any():
        _collect_rounding(collected, group, inside, _rounding_targets(chart, targets), rest, total)
    return Batch("V", "sale", *collected.arrays(), *_names(window))


def _undescribed_customers(window: Window, chart: Chart, inside: Codes, group: Codes, remarks: Remarks) -> None:
    """One notice per register-day and customer that the till's list lacks, where PennyLane needs it: no account can be
    found or made for them, so their entries wait there."""
    if chart.shop.pennylane is None or chart.shop.shop.named_customers != "own_account":
        return
    described = set(window.facts.customers["customer_id"].astype("str"))
    for code, customer_id in enumerate(window.customers.values):
        if customer_id in described:
            continue
        rows = np.flatnonzero(window.orders.customer[inside] == code)
        amounts = add_into(window.groups, group[rows], window.orders.total[inside[rows]])
        for item in np.unique(group[rows]).tolist():
            remarks.notice(
                item,
                "unknown_customer",
                f"orders of customer {customer_id!r}, whom the till's list of customers lacks: what names them cannot "
                "be sent; read the reference data again, or look the customer up in the till",
                int(amounts[item]),
            )


def _collect_rounding(
    collected: Collector, group: Codes, unit: Codes, target: tuple[int, int], amounts: Cents, total: Cents
) -> None:
    """Cents the customer pays more are a gain, less a loss; a refund takes its sale's account back, other side."""
    gain = (amounts * np.where(total < 0, -1, 1) > 0) | (total == 0)
    collected.add(group, unit, target[0], np.where(gain, -amounts, 0))
    collected.add(group, unit, target[1], np.where(gain, 0, -amounts))


def _names(window: Window) -> tuple[Callable[[int], tuple[str, ...]], Callable[[int], str]]:
    """Ids and label of one order's entry."""

    def ids(row: int) -> tuple[str, ...]:
        return (window.text("orders", "order_id", row),)

    def label(row: int) -> str:
        kind = "Avoir" if window.orders.total[row] < 0 else "Vente"
        return f"{kind} {_number(window, row)}"

    return ids, label


def _number(window: Window, row: int) -> str:
    return window.text("orders", "number", row)


def _rounding_targets(chart: Chart, targets: Targets) -> tuple[int, int]:
    gain = targets.add(
        RANK_OTHER,
        chart.everywhere(lambda period: period.rounding.gain),
        debit_label="Arrondi",
        credit_label="Arrondi en faveur du commerce",
    )
    loss = targets.add(
        RANK_OTHER,
        chart.everywhere(lambda period: period.rounding.loss),
        debit_label="Arrondi en faveur du client",
        credit_label="Arrondi",
    )
    return gain, loss


def _part_targets(parts: Sequence[Part], targets: Targets) -> dict[int, int | tuple[int, int]]:
    """The target of each part; of a rounding part two, gain and loss."""
    out: dict[int, int | tuple[int, int]] = {}
    for number, part in enumerate(parts):
        rate = french_rate(part.rate_bp)
        if part.nature == SALE:
            out[number] = targets.add(
                RANK_SALES,
                part.answers,
                rate=part.rate_bp,
                debit_label=f"Avoirs {rate}",
                credit_label=f"Ventes {rate}",
            )
        elif part.nature == ROUNDING:
            half = len(part.answers) // 2
            out[number] = (
                targets.add(RANK_OTHER, part.answers[:half], debit_label="Arrondi", credit_label="Arrondi"),
                targets.add(RANK_OTHER, part.answers[half:], debit_label="Arrondi", credit_label="Arrondi"),
            )
        else:
            word = {TIP: "Pourboires", DEPOSIT: "Acomptes", TAXED_DEPOSIT: f"Acomptes {rate}"}.get(
                part.nature, "Bons cadeaux" if part.nature == VOUCHER_MULTI else f"Bons cadeaux {rate}"
            )
            out[number] = targets.add(
                RANK_LIABILITY,
                part.answers,
                rate=part.rate_bp if part.taxed else -1,
                debit_label=f"{word} repris",
                credit_label=f"{word} reçus" if part.nature in (TIP, DEPOSIT, TAXED_DEPOSIT) else f"{word} vendus",
            )
    return out


# -- reading lines ---------------------------------------------------------------------------------------------------


def _orphans(window: Window, rows: Codes, table: str) -> None:
    if len(rows) and int(rows.min()) < 0:
        row = int(np.flatnonzero(rows < 0)[0])
        order = window.text(table, "order_id", row)
        raise OrphanRows(
            f"{table}, row {row + 1}: order {order!r} is not in orders",
            next_step=f"add the order to orders or leave the row out of {table}",
        )


def _nullable(series: pd.Series) -> tuple[Cents, Mask] | None:
    """Values and where they are known; None when none is."""
    missing = series.isna().to_numpy()
    if missing.all():
        return None
    return series.fillna(0).to_numpy(np.int64), ~missing


def _read_lines(window: Window, chart: Chart) -> tuple[_Lines, list[Part], Mask]:
    """Lines of the window's orders with their part; which orders have a line at all.

    An order without lines but with a VAT table of the till (a source of totals only) gets one line per rate.
    """
    facts = window.facts
    table = facts.order_lines
    order = window.line_finder.rows(table["order_id"])
    _orphans(window, order, "order_lines")
    inside = window.orders.inside[order]
    keep = None if inside.all() else np.flatnonzero(inside)

    def column(name: str) -> Codes:
        values: Codes = table[name].to_numpy(np.int64)
        return values if keep is None else values[keep]

    order = order if keep is None else order[keep]
    rate, total = column("vat_rate_bp"), column("total_cents")
    nature_codes, nature_values = dictionary(table["nature"])
    nature_table = np.array([*(NATURES.index(value) for value in nature_values.to_pylist()), SALE], np.int64)
    nature = nature_table[nature_codes if keep is None else nature_codes[keep]]
    vat_column = _nullable(table["vat_cents"])
    vat = vat_known = None
    if vat_column is not None:
        vat, vat_known = vat_column if keep is None else (vat_column[0][keep], vat_column[1][keep])
        nature = np.where((nature == DEPOSIT) & (vat != 0), TAXED_DEPOSIT, nature)
    by_department = chart.shop.shop.accounting_chapters or any(p.sales_by_department for p in chart.periods)
    departments: list[str] = []
    department = np.zeros(0, np.int64)
    if by_department:
        names, (department,) = shared_codes([table["department_id"]])
        departments = names.values
        department = (department if keep is None else department[keep]) + 1

    listed = np.zeros(len(window.orders), np.bool_)
    listed[order] = True
    extra = _lines_from_vat_tables(window, listed, chart.shop.shop.prices == "tax_included")
    if extra is not None:
        extra_order, extra_rate, extra_total = extra
        count = len(extra_order)
        order = np.concatenate([order, extra_order])
        rate = np.concatenate([rate, extra_rate])
        total = np.concatenate([total, extra_total])
        nature = np.concatenate([nature, np.full(count, SALE)])
        if by_department:
            department = np.concatenate([department, np.zeros(count, np.int64)])
        if vat is not None and vat_known is not None:
            vat = np.concatenate([vat, np.zeros(count, np.int64)])
            vat_known = np.concatenate([vat_known, np.zeros(count, np.bool_)])
        listed[extra_order] = True

    part, parts = _parts(chart, rate, nature, department if by_department else None, departments)
    return _Lines(order, rate, total, part, vat, vat_known), parts, listed


def _lines_from_vat_tables(window: Window, listed: Mask, included: bool) -> tuple[Codes, Codes, Cents] | None:
    table = window.facts.order_vat
    if len(table) == 0 or listed[window.orders.inside].all():
        return None
    row = window.line_finder.rows(table["order_id"])
    _orphans(window, row, "order_vat")
    use = np.flatnonzero(window.orders.inside[row] & ~listed[row])
    if len(use) == 0:
        return None
    total = table["net_cents"].to_numpy(np.int64)[use]
    if included:
        total = total + table["vat_cents"].to_numpy(np.int64)[use]
    return row[use], table["vat_rate_bp"].to_numpy(np.int64)[use], total


def _parts(
    chart: Chart, rate: Codes, nature: Codes, department: Codes | None, departments: list[str]
) -> tuple[Codes, list[Part]]:
    """The part of each line, and the parts in an order that depends on the chart only."""
    present = np.zeros(RATES, np.bool_)
    present[rate] = True
    rates = np.flatnonzero(present)
    rate_code = np.zeros(RATES, np.int64)
    rate_code[rates] = np.arange(len(rates))
    natures = len(NATURES) + 1
    combination = rate_code[rate] * natures + nature
    span = len(departments) + 1
    if department is not None:
        combination = combination * span + department
    else:
        span = 1
    seen = np.zeros(max(len(rates), 1) * natures * span, np.bool_)
    seen[combination] = True
    parts_of: dict[int, Part] = {}
    for code in np.flatnonzero(seen).tolist():
        rest, department_code = divmod(code, span)
        rate_index, nature_code = divmod(rest, natures)
        name = departments[department_code - 1] if department_code else None
        parts_of[code] = _part(chart, nature_code, int(rates[rate_index]), name)
    parts = sorted(set(parts_of.values()), key=lambda part: (part.nature, part.rate_bp, str(part.answers)))
    number = {part: index for index, part in enumerate(parts)}
    table = np.zeros(len(seen), np.int64)
    for code, part in parts_of.items():
        table[code] = number[part]
    return table[combination], parts


def _part(chart: Chart, nature: int, rate_bp: int, department: str | None) -> Part:
    if nature == SALE:
        return Part(nature, rate_bp, chart.sales(rate_bp, department))
    if nature in (VOUCHER_MULTI, VOUCHER_SINGLE):
        answers = chart.everywhere(lambda period: period.vouchers)
    elif nature == TIP:
        answers = chart.everywhere(lambda period: period.tips)
    elif nature in (DEPOSIT, TAXED_DEPOSIT):
        answers = chart.everywhere(lambda period: period.deposits)
    else:
        answers = (
            *chart.everywhere(lambda period: period.rounding.gain),
            *chart.everywhere(lambda period: period.rounding.loss),
        )
    return Part(nature, rate_bp if nature in (VOUCHER_SINGLE, TAXED_DEPOSIT) else 0, answers)


# -- VAT -------------------------------------------------------------------------------------------------------------


def _vat(window: Window, chart: Chart, lines: _Lines, parts: list[Part], gross: Cents, remarks: Remarks) -> Cents:
    """VAT per part and order, in the precedence of docs/files-interface.md."""
    included = chart.shop.shop.prices == "tax_included"
    size = len(window.orders)
    vat = np.zeros_like(gross)
    by_rate: dict[int, list[int]] = {}
    for number, part in enumerate(parts):
        if part.taxed:
            by_rate.setdefault(part.rate_bp, []).append(number)
            vat[number] = vat_rules.computed(gross[number], part.rate_bp, tax_included=included)
    for rate, numbers in by_rate.items():
        sales = [number for number in numbers if parts[number].nature == SALE]
        if len(sales) > 1:
            totals = vat_rules.computed(gross[sales].sum(axis=0), rate, tax_included=included)
            vat[sales] = vat_rules.share(totals, vat[sales], gross[sales], rate, tax_included=included)
    per_order = vat
    line_wise = chart.shop.shop.vat_rounding == "line"
    if lines.vat is not None or line_wise:
        taxed = np.array([part.taxed for part in parts] or [False], np.bool_)[lines.part]
        of_line = np.where(taxed, vat_rules.computed_per_line(lines.total, lines.rate, tax_included=included), 0)
        by_line = np.ones(size, np.bool_)
        if lines.vat is not None and lines.vat_known is not None:
            of_line = np.where(lines.vat_known & taxed, lines.vat, of_line)
            if not line_wise:
                by_line[:] = False
                by_line[lines.order[lines.vat_known]] = True
        summed = add_into(gross.size, lines.part * size + lines.order, of_line).reshape(gross.shape)
        vat = np.where(by_line, summed, vat)
        if lines.vat is not None:
            _warn(window, by_rate, vat, per_order, remarks)
    if len(window.facts.order_vat):
        vat = _follow_vat_tables(window, chart, lines, by_rate, gross, vat, per_order, remarks)
    return vat


def _warn(window: Window, by_rate: dict[int, list[int]], vat: Cents, per_order: Cents, remarks: Remarks) -> None:
    """One notice per register-day and rate where the till's VAT of lines is not what an order's total gives."""
    orders = window.orders
    for rate, numbers in by_rate.items():
        difference = (vat[numbers].sum(axis=0) - per_order[numbers].sum(axis=0)) * orders.inside
        rows = np.flatnonzero(difference)
        if len(rows) == 0:
            continue
        group = window.group(orders.day[rows], orders.register[rows])
        sums = add_into(window.groups, group, difference[rows])
        counts = add_into(window.groups, group, np.ones(len(rows), np.int64))
        for item in np.flatnonzero(counts).tolist():
            remarks.notice(
                item,
                "vat_not_as_computed",
                f"the till's VAT at {bp_to_rate(rate)} % differs from half up per order in {counts[item]} orders; "
                "the till is followed",
                int(sums[item]),
            )


def _follow_vat_tables(
    window: Window,
    chart: Chart,
    lines: _Lines,
    by_rate: dict[int, list[int]],
    gross: Cents,
    vat: Cents,
    per_order: Cents,
    remarks: Remarks,
) -> Cents:
    """`order_vat` wins; more than one cent away from every way of computing it, it holds the register-day."""
    orders, table = window.orders, window.facts.order_vat
    included = chart.shop.shop.prices == "tax_included"
    row = window.line_finder.rows(table["order_id"])
    _orphans(window, row, "order_vat")
    rate_column = table["vat_rate_bp"].to_numpy(np.int64)
    use = orders.inside[row]
    row, rate_column = row[use], rate_column[use]
    net_given = table["net_cents"].to_numpy(np.int64)[use]
    vat_given = table["vat_cents"].to_numpy(np.int64)[use]
    has_table = np.zeros(len(orders), np.bool_)
    has_table[row] = True
    vat = vat.copy()
    bad: dict[int, str] = {}

    for rate in sorted({*by_rate, *(int(rate) for rate in np.unique(rate_column))}):
        here = rate_column == rate
        given = add_into(len(orders), row[here], vat_given[here])
        given_net = add_into(len(orders), row[here], net_given[here])
        numbers = by_rate.get(rate, [])
        amounts = gross[numbers].sum(axis=0) if numbers else np.zeros(len(orders), np.int64)
        own = vat[numbers].sum(axis=0) if numbers else np.zeros(len(orders), np.int64)
        base = amounts - given - given_net if included else amounts - given_net
        off = has_table & (np.abs(base) > vat_rules.CENT)
        far = has_table & (np.abs(given - own) > vat_rules.CENT)
        if far.any() and numbers:
            computed = per_order[numbers].sum(axis=0)
            far &= ~_as_rounded(lines, numbers, far, given, np.stack([own, computed]), included)
        if not numbers:
            # Without a taxed line there is no VAT; a net alone (a voucher the till lists) contradicts nothing.
            off, far = np.zeros(len(orders), np.bool_), given != 0
        for item in np.flatnonzero(off | far).tolist():
            bad.setdefault(
                item,
                f"order {_number(window, item)}: at {bp_to_rate(rate)} % the till's VAT table says net "
                f"{euros(given_net[item])} and VAT {euros(given[item])}, its lines say "
                f"{'total' if included else 'net'} {euros(amounts[item])} and VAT {euros(own[item])}",
            )
        good = np.flatnonzero(has_table & ~off & ~far)
        if numbers and len(good):
            cells = np.ix_(np.array(numbers), good)
            vat[cells] = vat_rules.share(given[good], vat[cells], gross[cells], rate, tax_included=included)
    for item, what in bad.items():
        group = window.group_of(orders.day, orders.register, item)
        remarks.hold(group, "vat_mismatch", what, "compare the order with its ticket: lines and VAT table must agree")
    return vat


def _as_rounded(lines: _Lines, numbers: list[int], far: Mask, given: Cents, known: Cents, included: bool) -> Mask:
    """Orders whose given VAT lies within a cent of the range that the lawful ways of rounding span.

    `known` has the VAT of the lines and the VAT per order, one row each; the sum of lines rounded each is added.
    """
    chosen = np.flatnonzero(far[lines.order] & np.isin(lines.part, numbers))
    of_line = vat_rules.computed_per_line(lines.total[chosen], lines.rate[chosen], tax_included=included)
    per_line = add_into(len(far), lines.order[chosen], of_line)
    low, high = np.minimum(known.min(axis=0), per_line), np.maximum(known.max(axis=0), per_line)
    fits: Mask = (given >= low - vat_rules.CENT) & (given <= high + vat_rules.CENT)
    return fits


def _explain_rest(
    window: Window,
    chart: Chart,
    lines: _Lines,
    parts: list[Part],
    gross: Cents,
    listed: Mask,
    inside: Codes,
    group: Codes,
    rest: Cents,
    remarks: Remarks,
) -> Cents:
    """Cents between an order's total and its parts: a rounding cent (tax excluded, VAT computed by us), else a hold."""
    odd = np.flatnonzero(rest)
    allowed = np.zeros_like(rest)
    if len(odd) and chart.shop.shop.prices == "tax_excluded":
        told = np.zeros(len(window.orders), np.bool_)
        if lines.vat_known is not None:
            told[lines.order[lines.vat_known]] = True
        if len(window.facts.order_vat):
            told[window.line_finder.rows(window.facts.order_vat["order_id"])] = True
        rates = np.zeros(len(window.orders), np.int64)
        for rate in {part.rate_bp for part in parts if part.taxed}:
            numbers = [number for number, part in enumerate(parts) if part.taxed and part.rate_bp == rate]
            rates += (gross[numbers] != 0).any(axis=0)
        fits = (np.abs(rest) <= rates[inside]) & ~told[inside]
        allowed = np.where(fits, rest, 0)
    for item in np.flatnonzero(rest - allowed).tolist():
        row = int(inside[item])
        number, total = _number(window, row), int(window.orders.total[row])
        if listed[row]:
            remarks.hold(
                int(group[item]),
                "unbalanced_order",
                f"order {number}: total {euros(total)}, but its lines give {euros(total - int(rest[item]))}",
                "compare the order with its ticket: a line, a discount or the total is wrong in the facts",
            )
        else:
            remarks.hold(
                int(group[item]),
                "order_without_lines",
                f"order {number}: total {euros(total)}, and no line says what was sold",
                "fetch the order's lines again from the source",
            )
    return allowed
