"""Business days as Dagster partitions, and how a range of them is cut into months.

Only the partition set and its arithmetic belong here; which day an order belongs to is decided by the till's adapter
(pos/). Days come from partition keys and are stepped by ordinals: a day may have 23 or 25 hours.
"""

from collections.abc import Iterable
from datetime import date, datetime
from itertools import groupby
from zoneinfo import ZoneInfo

import dagster as dg

from kash_pipeline.settings import ShopFile


def business_days(shop: ShopFile) -> dg.DailyPartitionsDefinition:
    """Business days of the shop, from the start of its first [[chart]] to today.

    No entry can be built before the first chart applies, so that is where its days begin. Today belongs to them: a day
    may be read as soon as a till has closed.
    """
    return dg.DailyPartitionsDefinition(
        start_date=shop.chart[0].start.isoformat(), timezone=shop.shop.timezone, end_offset=1
    )


def as_day(key: str) -> date:
    return date.fromisoformat(key)


def by_month(keys: Iterable[str]) -> list[list[date]]:
    """Partition keys as days, in order, one list per calendar month: what is worked on at a time."""
    days = sorted(map(as_day, keys))
    return [list(month) for _, month in groupby(days, key=lambda day: (day.year, day.month))]


def day_before(day: date) -> date:
    return date.fromordinal(day.toordinal() - 1)


def yesterday(instant: datetime, zone: ZoneInfo) -> date:
    """The calendar day before the one that `instant` falls on in the shop's time zone."""
    return day_before(instant.astimezone(zone).date())
