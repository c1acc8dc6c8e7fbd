"""Where a business day begins and ends, as instants: the one place of this adapter that knows of clock changes.

Days are counted on the calendar, never by adding 24 hours: a day of a clock change has 23 or 25. Which date of an order
decides is mapping.py.
"""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as arrow
import pyarrow.compute as pc

from kash_pipeline.pos import cells

Instants = npt.NDArray[np.datetime64]


def next_day(day: date) -> date:
    """The calendar day after."""
    return date.fromordinal(day.toordinal() + 1)


def day_start(day: date, zone: ZoneInfo, starts_at: time) -> datetime:
    """The instant (UTC) at which the business day begins.

    Where the clocks show the hour twice it is the first time; where they skip it, the instant the skipped hour would
    have had by the offset before the change.
    """
    return datetime.combine(day, starts_at, tzinfo=zone).astimezone(UTC)


def from_wall_clock(texts: arrow.Array, zone: ZoneInfo) -> cells.Cells:
    """Instants (UTC) of dates and times written on the zone's clock, without an offset; null stays null.

    An hour that the clocks show twice is read as the first; one they skip, as the instant it would have been.
    """
    written = pc.match_substring_regex(texts, r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d$")
    parsed = cells.parse(pc.if_else(written, pc.binary_join_element_wise(texts, "Z", ""), texts), "instant")
    offset_given = np.flatnonzero(pc.invert(written).fill_null(False).to_numpy(zero_copy_only=False))
    bad = np.union1d(parsed.bad, offset_given)
    wall = pd.Series(parsed.values.cast(arrow.timestamp("us")).to_numpy(zero_copy_only=False))
    local = wall.dt.tz_localize(zone, ambiguous=np.ones(len(wall), bool), nonexistent="shift_forward")
    return cells.Cells(arrow.array(local.dt.tz_convert("UTC"), arrow.timestamp("us", tz="UTC")), bad)


def windows(first: date, last: date, size: int) -> list[tuple[date, date]]:
    """`first`..`last` cut into runs of at most `size` days, without gap or overlap."""
    cuts = range(first.toordinal(), last.toordinal() + 1, size)
    return [(date.fromordinal(cut), date.fromordinal(min(cut + size - 1, last.toordinal()))) for cut in cuts]


def business_days(instants: Instants, zone: ZoneInfo, starts_at: time) -> npt.NDArray[np.datetime64]:
    """The business day (datetime64[D]) of each UTC instant (datetime64[us], none missing): the last day begun by then.

    Looked up among the day starts themselves, so that it agrees with the windows asked for on every day of the year.
    """
    if len(instants) == 0:
        return np.array([], dtype="datetime64[D]")
    # A local day is at most 26 hours away from the UTC day of the same name: two days on either side are enough.
    low = instants.min().astype("datetime64[D]").astype(int) - 2
    high = instants.max().astype("datetime64[D]").astype(int) + 2
    days = np.arange(low, high + 1).astype("datetime64[D]")
    starts = np.array(
        [day_start(day, zone, starts_at).replace(tzinfo=None) for day in days.tolist()], dtype="datetime64[us]"
    )
    return days[np.searchsorted(starts, instants, side="right") - 1]
