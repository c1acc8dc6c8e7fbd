"""Held days whose reasons are cured, and the days that were never sent.

Only reading and trying out belongs here: nothing is written. Building the days found is a run's business (defs/), and
what holds a day is decided by accounting/.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.reference.building import Builder
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.publication import IN_PENNYLANE
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


def register_days(held: pd.DataFrame) -> int:
    """Number of different register-days in a frame of held reasons."""
    return len(held[["business_day", "register_id"]].drop_duplicates())


def by_reason(held: pd.DataFrame) -> pd.DataFrame:
    """`reason`, `register_days`, `oldest_day` of a frame of held reasons, by reason."""
    days = held.drop_duplicates(["business_day", "register_id", "reason"])
    found = days.groupby("reason", as_index=False).agg(
        register_days=("business_day", "size"), oldest_day=("business_day", "min")
    )
    return found.sort_values("reason", ignore_index=True)


def outlook(
    engine: sa.Engine, shop: ShopFile, lake: Lake, *, progress: Callable[[int, int], None] | None = None
) -> Outlook:
    """Try out the held days with the shop file and the reference data of now; nothing is written.

    A day is cured when at least one of its held register-days would be built. Only held days are built, a month at most
    at a time; of the days between, what they leave behind is worked out (Builder). `progress(done, of)` counts
    held days. Raises LakeError when facts of held days are gone.
    """
    held = held_reasons(engine, shop)
    if held.empty:
        return Outlook([], held)
    days = sorted({day.date() for day in held["business_day"]})
    builder = Builder(engine, lake, shop, days[0])
    still: list[pd.DataFrame] = []
    done = 0
    for stretch in runs_of(days):
        for _, month in groupby(stretch, key=lambda day: (day.year, day.month)):
            tried = list(month)
            _, built = builder.build(tried)
            still.append(built.held)
            done += len(tried)
            if progress:
                progress(done, len(days))
    remaining = pd.concat(still, ignore_index=True)
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


@dataclass(frozen=True)
class NextStep:
    """What a person has to do for some held register-days: `what` and `next_step` are those of the oldest day.

    others   further next steps of the same reason, where a reason has so many that each day has its own
    """

    reason: str
    register_days: int
    oldest_day: date
    what: str
    next_step: str
    others: int = 0


STEPS_SHOWN = 3
"""Next steps of one reason told one by one; more are days to look at, each for itself."""


def waiting_days(engine: sa.Engine, shop: ShopFile) -> list[date] | None:
    """Days of which something is not in PennyLane yet, in order; None when no day was ever built."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select business_day, true as waits from kash.held where shop_id = :shop union"
                " select business_day, state <> all(:arrived) from kash.publication"
                " where shop_id = :shop order by 1"
            ),
            {"shop": shop.shop.id, "arrived": sorted(IN_PENNYLANE)},
        ).all()
    return [day for day, waits in rows if waits] if rows else None


def next_steps(held: pd.DataFrame) -> list[NextStep]:
    """A frame of held reasons by next step, the oldest first: what a person does once cures all its days."""
    found = []
    for reason, rows in held.sort_values(["business_day", "register_id"], kind="stable").groupby("reason"):
        steps = [own for _, own in rows.groupby("next_step", sort=False)]
        shown = steps if len(steps) <= STEPS_SHOWN else [rows]
        for own in shown:
            first = own.iloc[0]
            found.append(
                NextStep(
                    str(reason),
                    register_days(own),
                    first["business_day"].date(),
                    str(first["what"]),
                    str(first["next_step"]),
                    others=len(steps) - len(shown),
                )
            )
    return sorted(found, key=lambda step: (step.oldest_day, step.reason))
