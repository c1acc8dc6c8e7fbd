"""Whole reads over the nights the clocks change: the right business days, no order lost, doubled or out of order."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd
import pytest

from kash_pipeline.pos import control
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import FACTS
from kash_pipeline_tests.unit.pos.kash_till import PARIS, Till, kash_till, tables

SPRING = (date(2026, 3, 27), date(2026, 3, 30))  # 02:00 becomes 03:00 on the 29th
AUTUMN = (date(2026, 10, 23), date(2026, 10, 26))  # 03:00 becomes 02:00 on the 25th
SECOND_ROUND = (datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 10, 25, 2, tzinfo=UTC))


def business_day(moment: datetime) -> date:
    """By the wall clock alone, for a shop whose day begins at four: another way than the adapter's."""
    wall = moment.astimezone(PARIS)
    return wall.date() if wall.time() >= time(4) else wall.date() - timedelta(days=1)


def open_all_night() -> Dataset:
    """A ticket every 20 minutes from four to four over both changes, paid at once; a till closes every hour."""
    bakery = datasets.load("bakery")
    moments = [
        moment
        for first, last in (SPRING, AUTUMN)
        for moment in pd.date_range(
            datetime.combine(first, time(4), PARIS).astimezone(UTC),
            datetime.combine(last + timedelta(days=1), time(4), PARIS).astimezone(UTC),
            freq="20min",
            inclusive="left",
        )
    ]
    facts = bakery.facts
    orders = facts.orders[facts.orders["customer_id"].isna() & facts.orders["refund_of"].isna()].head(len(moments))
    timed = {"business_day": pd.to_datetime([business_day(moment) for moment in moments]), "validated_at": moments}
    orders = orders.reset_index(drop=True).assign(number=[f"{at + 1:06d}" for at in range(len(orders))], **timed)
    of_order = orders.set_index("order_id")

    def kept(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["order_id"].isin(of_order.index)].reset_index(drop=True)

    paid = kept(facts.payments)
    paid = paid.assign(
        business_day=paid["order_id"].map(of_order["business_day"]),
        paid_at=paid["order_id"].map(of_order["validated_at"]),
    )
    closed = orders.iloc[::3].reset_index(drop=True)
    closings = pd.DataFrame(
        {
            "closing_id": "Z" + closed["number"],
            "register_id": "K1",
            "business_day": closed["business_day"],
            "closed_at": closed["validated_at"],
        }
    )
    frames = {"orders": orders, "payments": paid, "closings": closings}
    frames |= {name: kept(getattr(facts, name)) for name in ("order_lines", "order_vat")}
    frames |= {name: getattr(facts, name).head(0) for name in ("closing_counts", "cash_movements")}
    made = {name: conform(frame, FACTS[name]) for name, frame in frames.items()}
    return replace(bakery, facts=replace(facts, **made))


@pytest.fixture(scope="module")
def night() -> Dataset:
    return open_all_night()


@pytest.fixture(scope="module", params=["utc", "local"])
def till(night: Dataset, request: pytest.FixtureRequest) -> Iterator[Till]:
    with kash_till(night, time_rule=request.param) as served:
        yield served


def read(till: Till, first: date, last: date) -> dict[str, pd.DataFrame]:
    """Two days a call, so that windows begin and end within the change."""
    with till.source(window_days=2, control_totals=True) as source:
        days = list(source.sales(first, last))
        found = tables(days) | {"report": pd.concat([day.control for day in days], ignore_index=True)}
        found["as they came"] = pd.concat([day.orders for day in days], ignore_index=True)
        found["closings"] = pd.concat([day.closings for day in source.closings(first, last)], ignore_index=True)
        return found


@pytest.mark.parametrize(("first", "last", "hours"), [(*SPRING, [24, 23, 24, 24]), (*AUTUMN, [24, 25, 24, 24])])
def test_every_order_of_the_night_is_on_its_day_once(
    till: Till, night: Dataset, first: date, last: date, hours: list[int]
) -> None:
    """The night belongs to the day before it: Saturday has 23 hours in spring and 25 in autumn."""
    got = read(till, first, last)
    for name in ("orders", "payments", "closings"):
        expected = getattr(night.facts, name)
        expected = expected[expected["business_day"].between(pd.Timestamp(first), pd.Timestamp(last))]
        key = FACTS[name].metadata["unique"][0]
        days = got[name].set_index(key)["business_day"]
        assert days.to_dict() == expected.set_index(key)["business_day"].to_dict()
        assert days.index.is_unique
    assert got["orders"].groupby("business_day").size().tolist() == [3 * length for length in hours]
    assert got["as they came"]["number"].is_monotonic_increasing
    till_totals = control.till_totals(got["orders"], got["order_vat"], got["payments"], night.facts.payment_methods)
    assert control.compare(till_totals, got["report"]).empty


def test_of_the_hour_that_comes_twice_both_rounds_are_kept_in_order(till: Till, night: Dataset) -> None:
    """With their offset the instants are exact. A wall clock does not tell the rounds apart: both read as the first,
    on the same day, and the order of their numbers stands."""
    got = read(till, *AUTUMN)["as they came"]
    true = night.facts.orders.set_index("order_id").loc[got["order_id"], "validated_at"].reset_index(drop=True)
    second = true.between(*SECOND_ROUND, inclusive="left")
    assert second.sum() == 3
    early = true - got["validated_at"]
    assert (early[~second] == pd.Timedelta(0)).all()
    assert (early[second] == pd.Timedelta(hours=0 if till.time_rule == "utc" else 1)).all()
    twice = got[true.between(SECOND_ROUND[0] - timedelta(hours=1), SECOND_ROUND[1], inclusive="left")]
    assert twice["number"].astype(int).diff().dropna().tolist() == [1.0] * 5
    assert twice["business_day"].nunique() == 1
