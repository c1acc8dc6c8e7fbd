"""Facts of the lake and the reference data of their days to entries: for the entries asset, and for release to try out.

Only reading and the order of the steps belongs here: every rule is in accounting/ and pos/control.py, writing the
result is defs/accounting.py's.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import groupby

import pandas as pd
import sqlalchemy as sa

from kash_pipeline import accounting
from kash_pipeline.accounting import BuildResult
from kash_pipeline.pos import control
from kash_pipeline.reference.store import Dated
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES, HELD, NOTICES
from kash_pipeline.schemas.facts import DAILY, Facts
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake, days_between

BUILT = {"entries": ENTRIES, "entry_lines": ENTRY_LINES, "held": HELD, "notices": NOTICES}
"""Frames of a build by name, with their schemas."""

# What earlier days leave behind follows from these columns alone; the others stay on disk.
_CARRIED = {
    "orders": ("order_id", "number", "register_id", "business_day", "customer_id", "total_cents"),
    "payments": tuple(DAILY["payments"].columns),
    "closings": tuple(DAILY["closings"].columns),
    "closing_counts": tuple(DAILY["closing_counts"].columns),
    "cash_movements": tuple(DAILY["cash_movements"].columns),
}

BY_CHAPTER = ("unmapped_sales", "unmapped_vat", "unmapped_method", "unknown_register")
"""Reasons that an accounting chapter of the till mends."""

_NEEDED = ("payment_methods", "registers")
"""Reference data that every till has; entries built without it would hold every day, for the wrong reason."""

NUMBERED_NEARBY = 35
"""Days around a window whose orders' numbers are looked at: that of a back-dated order stands among later ones."""


class Builder:
    """Builds stretches of days one after the other, from `first` on; nothing is written.

    Raises LakeError when the till's reference data was never read.
    """

    def __init__(self, engine: sa.Engine, lake: Lake, shop: ShopFile, first: date) -> None:
        for name in _NEEDED:
            lake.read_reference(name)
        self._lake = lake
        self._shop = shop
        self._dated = Dated(engine, shop)
        self._carry = accounting.Carry()
        self._next = min(lake.days("orders"), default=first)
        self.skip_to(first)

    def skip_to(self, day: date) -> None:
        """Build on from `day`: the days up to it are not built, only what they leave behind is worked out.

        Month by month, as building is: a year of earlier days takes no more memory than a month.
        """
        if day <= self._next:
            return
        last = date.fromordinal(day.toordinal() - 1)
        for _, month in groupby(days_between(self._next, last), key=lambda each: (each.year, each.month)):
            days = list(month)
            tables = {
                name: self._lake.read_days(name, days[0], days[-1], columns, categories=True, missing="skip")
                for name, columns in _CARRIED.items()
            }
            read = Facts(**tables, payment_methods=self._lake.read_reference("payment_methods"))
            for window in self._dated.windows(days):
                facts = self._dated.on(read, window[0])
                following = date.fromordinal(window[-1].toordinal() + 1)
                self._carry = accounting.carry_before(facts, self._shop, following, first=window[0], carry=self._carry)
        self._next = day

    @property
    def carry(self) -> accounting.Carry:
        """What the days built so far, and those before them, leave behind."""
        return self._carry

    def build(self, days: Sequence[date], *, missing: str = "raise") -> tuple[Facts, BuildResult]:
        """The facts of `days` (in order, after those built before) and what the books say of them; days between are
        skipped.

        Each day is built with the reference data that held on it: a renaming in mid-month leaves the days before it as
        they were. Raises MissingDays for days that were never read; with `missing="skip"` they are as days without
        sales.
        """
        self.skip_to(days[0])
        read = self._lake.read_facts(days[0], days[-1], categories=True, missing=missing)
        pieces: list[dict[str, pd.DataFrame]] = []
        facts = read
        for window in self._dated.windows(days):
            facts, built = self._built(read, window)
            self._carry = built.carry
            frames = {name: getattr(built, name) for name in BUILT}
            pieces.append(control.withhold(frames, self._held_by_the_till(facts, window)))
        self._next = date.fromordinal(days[-1].toordinal() + 1)
        whole = {
            name: pieces[0][name]
            if len(pieces) == 1
            else conform(pd.concat([piece[name] for piece in pieces], ignore_index=True), schema)
            for name, schema in BUILT.items()
        }
        return facts, replace(built, **whole)

    def _built(self, read: Facts, window: Sequence[date]) -> tuple[Facts, BuildResult]:
        """The days of one window with the reference data that held on them.

        Where a chapter of the till that was blank or no number then holds a register-day, that register-day takes the
        first later one that is usable: it was never booked, and nobody can name a chapter for the past in the till.
        """
        facts = self._dated.on(read, window[0])
        built = accounting.build(facts, self._shop, first=window[0], last=window[-1], carry=self._carry)
        waiting = built.held[built.held["reason"].isin(BY_CHAPTER)]
        mended = self._dated.mended(facts, window[0]) if self._shop.shop.accounting_chapters and len(waiting) else None
        if mended is None:
            return facts, built
        again = accounting.build(mended, self._shop, first=window[0], last=window[-1], carry=self._carry)
        return facts, replace(built, **_with(built, again, waiting))

    def _held_by_the_till(self, facts: Facts, days: Sequence[date]) -> pd.DataFrame:
        """Register-days whose orders differ from the till's daily report, lack a number of its sequence, or lack one
        that was read before."""
        first, last = days[0], days[-1]

        def within(frame: pd.DataFrame) -> pd.DataFrame:
            return frame[frame["business_day"].between(pd.Timestamp(first), pd.Timestamp(last))]

        orders = within(facts.orders)
        report = self._lake.read_days("control_totals", first, last, missing="skip")
        held = control.held_by_report(
            orders,
            facts.order_vat[facts.order_vat["order_id"].isin(orders["order_id"])],
            within(facts.payments),
            facts.payment_methods,
            facts.registers,
            report,
        )
        if len(gone := self._lake.read_days("gone_orders", first, last, missing="skip")):
            known = self._lake.days("orders")
            moved = self._lake.read_days("orders", known[0], known[-1], ("order_id",), missing="skip")
            held = pd.concat([held, control.held_by_gone(control.gone(gone, moved))], ignore_index=True)
        if self._shop.source.kind == "kash_api" and self._shop.source.number_gaps == "hold":
            begin, end = (
                date.fromordinal(day.toordinal() + step)
                for day, step in ((first, -NUMBERED_NEARBY), (last, NUMBERED_NEARBY))
            )
            columns = ("number", "business_day", "register_id")
            numbered = self._lake.read_days("orders", begin, end, columns, missing="skip")
            held = pd.concat([held, control.held_by_numbers(numbered, first, last)], ignore_index=True)
        return held


def _with(built: BuildResult, again: BuildResult, register_days: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The frames of `built`, but these register-days as in `again`."""
    keys = ["business_day", "register_id"]
    chosen = set(zip(register_days["business_day"], register_days["register_id"].astype("str"), strict=True))

    def taken(frame: pd.DataFrame) -> pd.Series:
        pairs = zip(frame["business_day"], frame["register_id"].astype("str"), strict=True)
        return pd.Series([pair in chosen for pair in pairs], index=frame.index, dtype=bool)

    frames = {}
    for name in ("entries", "held", "notices"):
        before, after = getattr(built, name), getattr(again, name)
        both = pd.concat([before[~taken(before)], after[taken(after)]], ignore_index=True)
        frames[name] = conform(both.sort_values(keys, kind="stable"), BUILT[name])
    # Nothing of a register-day that waits has lines in `built`, so what stands there stays.
    chosen_keys = again.entries.loc[taken(again.entries), "entry_key"]
    more = again.entry_lines[again.entry_lines["entry_key"].isin(chosen_keys)]
    frames["entry_lines"] = conform(pd.concat([built.entry_lines, more], ignore_index=True), ENTRY_LINES)
    return frames
