"""Business days as instants: days of 23 and 25 hours, hours that come twice or never, windows without gap."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kash_pipeline.pos.kash_api.days import business_days, day_start, next_day, windows

PARIS = ZoneInfo("Europe/Paris")


def days_of(*instants: str, zone: ZoneInfo = PARIS, starts_at: time = time(4)) -> list[str]:
    moments = np.array([instant.removesuffix("Z") for instant in instants], dtype="datetime64[us]")
    return [str(day) for day in business_days(moments, zone, starts_at)]


@pytest.mark.parametrize(
    ("day", "starts_at", "hours"),
    [
        (date(2026, 3, 28), time(4), 23),  # begins 04:00 CET, ends 04:00 CEST
        (date(2026, 3, 29), time(4), 24),
        (date(2026, 3, 29), time(0), 23),
        (date(2026, 10, 24), time(4), 25),
        (date(2026, 10, 25), time(0), 25),
        (date(2026, 3, 29), time(2, 30), 23),  # 02:30 does not exist: it begins at 01:30 UTC, 03:30 summer time
        (date(2026, 10, 25), time(2, 30), 25),  # 02:30 comes twice: it begins the first time
    ],
)
def test_length_of_days_around_a_clock_change(day: date, starts_at: time, hours: int) -> None:
    length = day_start(next_day(day), PARIS, starts_at) - day_start(day, PARIS, starts_at)
    assert length == timedelta(hours=hours)


def test_sales_after_midnight_belong_to_the_day_before() -> None:
    assert days_of("2026-03-14T23:30:00Z", "2026-03-15T02:59:59Z", "2026-03-15T03:00:00Z") == [
        "2026-03-14",
        "2026-03-14",
        "2026-03-15",
    ]


def test_the_hour_that_comes_twice_stays_in_one_day() -> None:
    """With days that begin at 02:30 on 25 October, 02:15 of the second round is after the first 02:30."""
    first, second = "2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z"  # both 02:15 on the wall
    assert days_of(first, second, starts_at=time(2, 30)) == ["2026-10-24", "2026-10-25"]


def test_no_instant_gives_no_day() -> None:
    assert days_of() == []


@given(
    moments=st.lists(st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)), min_size=1, max_size=4),  # noqa: DTZ001
    zone=st.sampled_from(["Europe/Paris", "America/St_Johns", "Pacific/Apia", "Pacific/Kiritimati", "UTC"]),
    starts_at=st.times().map(lambda at: at.replace(microsecond=0)),
)
def test_every_instant_lies_between_the_start_of_its_day_and_of_the_next(
    moments: list[datetime], zone: str, starts_at: time
) -> None:
    """So a window never brings an order of a day that was not asked for, and never misses one."""
    place = ZoneInfo(zone)
    for moment, day in zip(
        moments, business_days(np.array(moments, dtype="datetime64[us]"), place, starts_at).tolist(), strict=True
    ):
        at = moment.replace(tzinfo=UTC)
        assert day_start(day, place, starts_at) <= at < day_start(next_day(day), place, starts_at)


@given(
    first=st.dates(date(2000, 1, 1), date(2030, 1, 1)),
    length=st.integers(0, 800),
    size=st.integers(1, 366),
)
def test_windows_cover_every_day_once(first: date, length: int, size: int) -> None:
    last = date.fromordinal(first.toordinal() + length)
    covered = [
        day for begin, end in windows(first, last, size) for day in range(begin.toordinal(), end.toordinal() + 1)
    ]
    assert covered == list(range(first.toordinal(), last.toordinal() + 1))
    assert all((end - begin).days < size for begin, end in windows(first, last, size))
