"""Kash.click as a source of the port: business days in, frames of facts out.

Which calls are made for which days belongs here. How a call is made is client.py, what its answer means is mapping.py.
Only what Kash.click's reads are believed to hold is offered: closings need a script named in the shop file, for no
documented call reads them.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from kash_pipeline.pos.errors import SourceChanged, SourceRefused
from kash_pipeline.pos.kash_api import mapping
from kash_pipeline.pos.kash_api.client import KashClient
from kash_pipeline.pos.kash_api.days import day_start, next_day, windows
from kash_pipeline.pos.port import Capabilities, DayOfClosings, DayOfSales
from kash_pipeline.schemas import facts

WINDOW_DAYS = 7
"""Days asked for at once: no paging and no limit is documented, so the answers are kept small."""

UNCONFIRMED = (
    "every field of every answer (nothing is documented)",
    "that getOrders.php returns lines, VAT and payments with each order",
    "that window bounds are included and read with their offset (UTC)",
    "that amounts include tax and refunds are negative",
)


class KashApiSource:
    """`Source` over a `KashClient`. The client is the caller's to close.

    window_days       business days per call of getOrders.php and of the closings script
    closings_script   script asked for closings; None: the source has none
    """

    def __init__(
        self,
        client: KashClient,
        *,
        zone: ZoneInfo,
        day_starts_at: time,
        window_days: int = WINDOW_DAYS,
        closings_script: str | None = None,
    ) -> None:
        self._client, self._window_days, self._closings_script = client, window_days, closings_script
        self._clock = mapping.Clock(zone, day_starts_at)
        self._drift = mapping.Drift()

    @property
    def capabilities(self) -> Capabilities:
        has_closings = self._closings_script is not None
        return Capabilities(
            name="kash_api",
            payments=True,
            closings=has_closings,
            cash_movements=has_closings,
            till_vat=True,
            customers=True,
            unconfirmed=UNCONFIRMED,
        )

    @property
    def unknown_fields(self) -> dict[str, list[str]]:
        """Fields and codes met so far that mapping.py does not declare, by call; they are in the raw answers only."""
        return {call: sorted(names) for call, names in sorted(self._drift.unknown.items())}

    def reference(self) -> dict[str, pd.DataFrame]:
        """The six reference tables as they stand now."""
        drift = self._drift
        tables = {
            "payment_methods": mapping.payment_methods(self._list(mapping.PAYMENT_MODE), drift),
            "vat_rates": mapping.vat_rates(self._list(mapping.VAT), drift),
            "registers": mapping.plain(self._list(mapping.CASHBOX), mapping.CASHBOX, facts.REGISTERS, drift),
            "departments": mapping.plain(self._list(mapping.DEPARTMENT), mapping.DEPARTMENT, facts.DEPARTMENTS, drift),
            "department_groups": mapping.plain(
                self._list(mapping.DEPARTMENT_GROUP), mapping.DEPARTMENT_GROUP, facts.DEPARTMENT_GROUPS, drift
            ),
            "customers": mapping.customers(self._list(mapping.CLIENT), drift),
        }
        for name, frame in tables.items():
            (key,) = (facts.REFERENCE[name].metadata or {})["unique"]
            _unique(frame, key, name)
        return tables

    def _list(self, shape: mapping.Shape) -> Any:
        return self._client.read(shape.call, {"format": "json"})

    def sales(self, first: date, last: date) -> Iterator[DayOfSales]:
        """Validated orders by value date, a window of days per call."""
        for begin, end in windows(first, last, self._window_days):
            body = self._read_window("getOrders.php", begin, end, {"validatedOrders": "true"})
            frames = mapping.sales(body, self._drift, self._clock)
            _within(frames["orders"], "order_id", begin, end, "getOrders.php")
            _unique(frames["payments"], "payment_id", "getOrders.php")
            for day, parts in _by_day(frames, "orders", "order_id", begin, end):
                yield DayOfSales(day=day, **parts)

    def closings(self, first: date, last: date) -> Iterator[DayOfClosings]:
        """Closings and cash movements by the time they were made.

        Raises SourceRefused where no script is configured: none is not the same as not readable.
        """
        script = self._closings_script
        if script is None:
            raise SourceRefused(
                "Kash.click documents no call that reads closings, and the shop file names none",
                next_step="go without closing entries, or name a script as closings_script in [source]",
            )
        for begin, end in windows(first, last, self._window_days):
            frames = mapping.closings(self._read_window(script, begin, end, {}), self._drift, self._clock, script)
            _within(frames["closings"], "closing_id", begin, end, script)
            _within(frames["cash_movements"], "movement_id", begin, end, script)
            moved = dict(_by_day({"cash_movements": frames.pop("cash_movements")}, "cash_movements", "", begin, end))
            for day, parts in _by_day(frames, "closings", "closing_id", begin, end):
                yield DayOfClosings(day=day, **parts, **moved[day])

    def _read_window(self, script: str, begin: date, end: date, more: dict[str, str]) -> Any:
        start = day_start(begin, self._clock.zone, self._clock.day_starts_at)
        # Both bounds are taken for included; a till's grain is the second.
        stop = day_start(next_day(end), self._clock.zone, self._clock.day_starts_at) - timedelta(seconds=1)
        bounds = {"from_date_ISO8601": _iso(start), "to_date_ISO8601": _iso(stop)}
        return self._client.read(script, {**bounds, **more}, day=begin)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _within(frame: pd.DataFrame, key: str, begin: date, end: date, call: str) -> None:
    """Every row lies in the window, and none came twice: a shift of hours would lose the sales at the other edge."""
    outside = frame[(frame["business_day"] < pd.Timestamp(begin)) | (frame["business_day"] > pd.Timestamp(end))]
    if len(outside):
        row = outside.iloc[0]
        raise SourceChanged(
            f"{call}: {key.removesuffix('_id')} {row[key]} of {row['business_day']:%Y-%m-%d} lies outside the "
            f"days asked for ({begin} to {end}); the server reads dates by another time zone than this adapter",
            next_step="compare timezone and day_starts_at in [shop] with the settings of the till",
        )
    _unique(frame, key, call)


def _unique(frame: pd.DataFrame, key: str, call: str) -> None:
    twice = frame.loc[frame[key].duplicated(), key]
    if len(twice):
        raise SourceChanged(
            f"{call}: {key.removesuffix('_id')} {twice.iloc[0]} is there twice",
            next_step="look at the kept raw answer; nothing was replaced",
        )


def _by_day(
    frames: dict[str, pd.DataFrame], head: str, key: str, begin: date, end: date
) -> Iterator[tuple[date, dict[str, pd.DataFrame]]]:
    """Cut `head` and the frames that follow it by `key` into days, days without a row included."""
    heads = frames[head].sort_values("business_day", kind="stable", ignore_index=True)
    days = heads["business_day"].to_numpy()
    position = pd.Series(heads.index, index=heads[key]) if key else None
    sorted_frames: dict[str, tuple[pd.DataFrame, Any]] = {head: (heads, days)}
    for name, frame in frames.items():
        if name != head and position is not None:
            at = frame[key].map(position).to_numpy(dtype=np.int64)
            order = np.argsort(at, kind="stable")
            sorted_frames[name] = (frame.take(order), days[at[order]])
    day = begin
    while day <= end:
        parts = {}
        for name, (frame, of) in sorted_frames.items():
            low, high = (
                np.searchsorted(of, np.datetime64(day), "left"),
                np.searchsorted(of, np.datetime64(day), "right"),
            )
            parts[name] = frame.iloc[low:high].reset_index(drop=True)
        yield day, parts
        day = next_day(day)
