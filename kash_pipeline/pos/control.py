"""Orders held against the till's own daily report, the sequence of their numbers, and what was read of them before.

Pure: frames in and out.

What differs becomes rows of schemas.entries.HELD, which hold the day; nothing is corrected here. How a report is read
is the adapter's business (kash_api/report.py), what a held day means the engine's.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import pandas as pd

from kash_pipeline.schemas.columns import business_day_of, conform, empty
from kash_pipeline.schemas.control import CONTROL_TOTALS
from kash_pipeline.schemas.entries import HELD
from kash_pipeline.settings import bp_to_rate

DIFFERS = "control_total_differs"
MISSING_NUMBER = "missing_number"
ORDER_GONE = "order_gone"

LONGEST_GAP = 1000
"""A jump of more numbers than this is another series (a prefix with year and month, say), not lost orders."""
_RESTART = re.compile(r"(^|\D)0*1$|00+1$")
"""1, 001, 2026-0001, 202604001: the first number of a series."""


def till_totals(
    orders: pd.DataFrame, order_vat: pd.DataFrame, payments: pd.DataFrame, payment_methods: pd.DataFrame
) -> pd.DataFrame:
    """`schemas.control.CONTROL_TOTALS` of facts: orders and their VAT by their day, payments by the day they were made.

    Methods are summed by name, as reports do; a method without a name in `payment_methods` goes by its id.
    """
    rates = order_vat.assign(business_day=business_day_of(order_vat["order_id"], orders, "order_id"))
    by_rate = rates.groupby(["business_day", "vat_rate_bp"], observed=True)[["net_cents", "vat_cents"]].sum()
    by_rate["gross_cents"] = by_rate["net_cents"] + by_rate["vat_cents"]
    by_rate = by_rate.reset_index()
    of_rate = by_rate["vat_rate_bp"].map(bp_to_rate) if len(by_rate) else pd.Series(dtype="str")
    name_of = dict(zip(payment_methods["method_id"].astype("str"), payment_methods["name"].astype("str"), strict=True))
    methods = payments["method_id"].astype("str")
    paid = payments.assign(of=methods.map(name_of).fillna(methods))
    by_method = paid.groupby(["business_day", "of"], observed=True, as_index=False)["amount_cents"].sum()
    total = orders.groupby("business_day", as_index=False)["total_cents"].sum()
    parts = [
        pd.DataFrame(
            {"business_day": total["business_day"], "measure": "total", "of": "", "amount_cents": total["total_cents"]}
        ),
        *(
            pd.DataFrame(
                {
                    "business_day": by_rate["business_day"],
                    "measure": measure,
                    "of": of_rate,
                    "amount_cents": by_rate[f"{measure}_cents"],
                }
            )
            for measure in ("gross", "net", "vat")
        ),
        by_method.assign(measure="paid"),
    ]
    return conform(pd.concat([part for part in parts if len(part)] or [empty(CONTROL_TOTALS)]), CONTROL_TOTALS)


def compare(till: pd.DataFrame, report: pd.DataFrame) -> pd.DataFrame:
    """Where two tables of control totals differ on the days that `report` has: `business_day`, `measure`, `of`,
    `till_cents`, `report_cents`. A sum that one of them lacks counts as zero."""
    keys = ["business_day", "measure", "of"]
    told = till[till["business_day"].isin(report["business_day"])]
    both = (
        told.set_index(keys)["amount_cents"]
        .rename("till_cents")
        .to_frame()
        .join(report.set_index(keys)["amount_cents"].rename("report_cents"), how="outer")
        .fillna(0)
        .astype("int64")
    )
    return both[both["till_cents"] != both["report_cents"]].reset_index().sort_values(keys, ignore_index=True)


def held_by_report(
    orders: pd.DataFrame,
    order_vat: pd.DataFrame,
    payments: pd.DataFrame,
    payment_methods: pd.DataFrame,
    registers: pd.DataFrame,
    report: pd.DataFrame,
) -> pd.DataFrame:
    """`schemas.entries.HELD`: a row per difference and register of its day. A report is of the whole shop, so every
    register that sold or was paid on the day waits; all of `registers` when none did."""
    found = compare(till_totals(orders, order_vat, payments, payment_methods), report)
    active: dict[pd.Timestamp, set[str]] = {}
    for frame in (orders, payments):
        pairs = frame[["business_day", "register_id"]].drop_duplicates()
        for at, register in zip(pairs["business_day"], pairs["register_id"].astype("str"), strict=True):
            active.setdefault(at, set()).add(register)
    everyone = set(registers["register_id"].astype("str"))
    words = {"total": "total of all orders", "gross": "sales at", "net": "net at", "vat": "VAT at", "paid": "paid by"}
    rows = []
    for row in found.itertuples():
        what = words[row.measure] + (f" {row.of}" + ("" if row.measure == "paid" else " %") if row.of else "")
        day = f"{row.business_day:%Y-%m-%d}"
        next_step = f"read {day} again; if it stays, compare the day in Kash.click with the kept report"
        if row.measure == "paid":
            # A till lists orders by their own day: a payment of an old one comes only when that day is read again.
            next_step += f"; an older order may have been paid then: read the day of that order again, then {day}"
        for register in sorted(active.get(row.business_day) or everyone):
            rows.append(
                {
                    "business_day": row.business_day,
                    "register_id": register,
                    "reason": DIFFERS,
                    "what": f"{what}: orders {_euros(row.till_cents)}, daily report {_euros(row.report_cents)}",
                    "next_step": next_step,
                }
            )
    return conform(pd.DataFrame(rows), HELD) if rows else empty(HELD)


@dataclass(frozen=True)
class Gap:
    """Numbers that no order has, `first` to `last` as they would be written, between two orders by position."""

    first: str
    last: str
    before: int
    after: int


def gaps(numbers: pd.Series) -> Iterator[Gap]:
    """Missing numbers within each series (same text before the digits), in order.

    A jump to a first number (1, 0001, 202604001) or over more than LONGEST_GAP numbers begins another series: nobody
    documents whether numbers run per shop, per year or per month.
    """
    series: dict[str, list[tuple[int, int]]] = {}
    texts = numbers.astype("str").tolist()
    for position, written in enumerate(texts):
        match = re.fullmatch(r"(.*?)(\d{1,18})", written)
        if match is not None:
            series.setdefault(match[1], []).append((int(match[2]), position))
    for prefix in sorted(series):
        run = sorted(series[prefix])
        for (low, before), (high, after) in pairwise(run):
            lost = high - low - 1
            if lost < 1 or lost > LONGEST_GAP or _RESTART.search(texts[after]):
                continue
            width = len(texts[before]) - len(prefix)
            yield Gap(f"{prefix}{low + 1:0{width}d}", f"{prefix}{high - 1:0{width}d}", before, after)


def held_by_numbers(orders: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    """`schemas.entries.HELD`: the days from `first` to `last` that may lack an order, by the sequence of numbers.

    `orders` (number, business_day, register_id) may hold more days; more are better, for the number of a back-dated
    order stands among later ones. Held are the register-days of the two orders around a gap.
    """
    rows = []
    days = orders["business_day"].tolist()
    registers = orders["register_id"].astype("str").tolist()
    numbers = orders["number"].astype("str").tolist()
    for gap in gaps(orders["number"]):
        lost = f"number {gap.first} is" if gap.first == gap.last else f"numbers {gap.first} to {gap.last} are"
        for at in (gap.before, gap.after):
            if first <= days[at].date() <= last:
                rows.append(
                    {
                        "business_day": days[at],
                        "register_id": registers[at],
                        "reason": MISSING_NUMBER,
                        "what": f"{lost} missing between {numbers[gap.before]} and {numbers[gap.after]}",
                        "next_step": f"look up {gap.first} in Kash.click and read the day of its value date again; "
                        'number_gaps = "ignore" in [source] where the sequence has gaps by itself',
                    }
                )
    held = conform(pd.DataFrame(rows), HELD) if rows else empty(HELD)
    return held.drop_duplicates(ignore_index=True).sort_values(list(held.columns), ignore_index=True)


def gone(before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """The orders of `before` (schemas.facts.ORDERS), once each, that are not in `now`."""
    return before[~before["order_id"].isin(now["order_id"])].drop_duplicates("order_id", ignore_index=True)


def held_by_gone(orders: pd.DataFrame) -> pd.DataFrame:
    """`schemas.entries.HELD`: a row per register-day of orders that were read and that the till gives no more.

    A till may not delete a sale. An answer without it is more likely cut, or of days that the account has archived.
    """
    rows = []
    for (day, register), lost in orders.groupby(["business_day", "register_id"], observed=True):
        file = f"facts/gone_orders/{day:%Y-%m-%d}.parquet"
        told = [
            f"{number} ({_euros(total)})"
            for number, total in zip(lost["number"].head(3), lost["total_cents"].head(3), strict=True)
        ]
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        rows.append(
            {
                "business_day": day,
                "register_id": register,
                "reason": ORDER_GONE,
                "what": f"orders read before are not in the till's answer any more: {', '.join(told)}{more}",
                "next_step": f"look {lost['number'].iloc[0]} up in Kash.click and read the day of its value date "
                f"again; if it is truly gone, delete {file} in the shop's lake and build the day again",
            }
        )
    return conform(pd.DataFrame(rows), HELD) if rows else empty(HELD)


def withhold(frames: Mapping[str, pd.DataFrame], held: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`entries`, `entry_lines`, `held`, `notices` with further held rows: their register-days have no entries then."""
    out = dict(frames)
    if held.empty:
        return out
    entries = out["entries"]
    waiting = set(zip(held["business_day"], held["register_id"].astype("str"), strict=True))
    kept = [
        pair not in waiting for pair in zip(entries["business_day"], entries["register_id"].astype("str"), strict=True)
    ]
    out["entries"] = entries[pd.Series(kept, index=entries.index, dtype=bool)].reset_index(drop=True)
    lines = out["entry_lines"]
    out["entry_lines"] = lines[lines["entry_key"].isin(out["entries"]["entry_key"])].reset_index(drop=True)
    both = pd.concat([out["held"], held], ignore_index=True).drop_duplicates()
    out["held"] = conform(both.sort_values(list(both.columns)), HELD)
    return out


def _euros(cents: int) -> str:
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(int(cents)) // 100}.{abs(int(cents)) % 100:02d}"
