"""Held days whose reasons are cured, and the days that were never sent.

Only reading and trying out belongs here: nothing is written. Building the days found is a run's business (defs/), and
what holds a day is decided by accounting/.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.reference.building import Builder
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake, days_between
from kash_pipeline.warehouse.windows import sql_frame


@dataclass(frozen=True)
class Outlook:
    """What a build would do now: days with a register-day that is no longer held, and what still holds others."""

    cured: list[date]
    still_held: pd.DataFrame


def held_reasons(engine: sa.Engine, shop: ShopFile) -> pd.DataFrame:
    """`business_day`, `register_id`, `reason`, `what`, `next_step` of every held register-day, oldest first."""
    with engine.connect() as connection:
        return sql_frame(
            connection,
            "select business_day, register_id, reason, what, next_step from kash.held where shop_id = :shop"
            " order by business_day, register_id, reason, what",
            shop=shop.shop.id,
        )


def by_reason(held: pd.DataFrame) -> pd.DataFrame:
    """`reason`, `register_days`, `oldest_day` of a frame of held reasons, by reason."""
    days = held.drop_duplicates(["business_day", "register_id", "reason"])
    found = days.groupby("reason", as_index=False).agg(
        register_days=("business_day", "size"), oldest_day=("business_day", "min")
    )
    return found.sort_values("reason", ignore_index=True)


def outlook(engine: sa.Engine, shop: ShopFile, lake: Lake) -> Outlook:
    """Try out the held days with the shop file and the reference data of now; nothing is written.

    A day is cured when at least one of its held register-days would be built. Raises LakeError when facts of held days
    are gone.
    """
    held = held_reasons(engine, shop)
    if held.empty:
        return Outlook([], held)
    days = sorted({day.date() for day in held["business_day"]})
    builder = Builder(engine, lake, shop, days[0], missing="skip")
    # One pass from the first held day to the last: what a day leaves behind is known without reading all before again.
    span = days_between(days[0], days[-1])
    still = []
    for _, month in groupby(span, key=lambda day: (day.year, day.month)):
        _, built = builder.build(list(month))
        still.append(built.held)
    remaining = pd.concat(still, ignore_index=True)
    remaining = remaining[remaining["business_day"].isin([pd.Timestamp(day) for day in days])]
    cured = _pairs(held) - _pairs(remaining)
    return Outlook(sorted({day for day, _ in cured}), remaining)


def _pairs(held: pd.DataFrame) -> set[tuple[date, str]]:
    return {
        (day.date(), str(register)) for day, register in zip(held["business_day"], held["register_id"], strict=True)
    }


def runs_of(days: Iterable[date]) -> list[list[date]]:
    """Days (in order) as stretches without a gap: each is one run."""
    stretches: list[list[date]] = []
    for day in days:
        if not stretches or day.toordinal() != stretches[-1][-1].toordinal() + 1:
            stretches.append([])
        stretches[-1].append(day)
    return stretches


def unsent_days(engine: sa.Engine, shop: ShopFile) -> list[date]:
    """Days with a held register-day or with an entry that was never sent, in order: what a change may still alter.

    A correction that waits is of a day already sent and not among them.
    """
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select business_day from kash.held where shop_id = :shop union"
                " select business_day from kash.publication"
                " where shop_id = :shop and role = 'original' and sent_at is null"
                " and state in ('ready', 'refused', 'held')"
                " order by 1"
            ),
            {"shop": shop.shop.id},
        )
        return [day for (day,) in rows]


def next_steps(held: pd.DataFrame) -> Sequence[tuple[str, int, str, str]]:
    """(reason, register-days, oldest day, next step) once per different next step, the oldest first."""
    found = (
        held.drop_duplicates(["business_day", "register_id", "reason", "next_step"])
        .groupby(["reason", "next_step"], as_index=False)
        .agg(register_days=("business_day", "size"), oldest=("business_day", "min"))
        .sort_values(["oldest", "reason"])
    )
    return [
        (str(row.reason), int(row.register_days), f"{row.oldest:%Y-%m-%d}", str(row.next_step))
        for row in found.itertuples()
    ]
