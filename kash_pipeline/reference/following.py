"""Days built earlier that would come out otherwise now, because what the days before them leave behind changed.

Only finding them belongs here: nothing of the books is written. An order of an old day that came late, was paid or was
taken back changes what later days clear (accounting/carry.py); a run rebuilds the days it was asked for and no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.accounting import BuildResult, Carry
from kash_pipeline.reference.building import Builder
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import days_between
from kash_pipeline.warehouse.tables import CARRIED, ENTRIES, HELD


@dataclass(frozen=True)
class Followers:
    """How many later days were compared, and those that have to be built again, in order."""

    compared: int
    differing: list[date]


def note(connection: sa.Connection, shop: ShopFile, days: Sequence[date], carry: Carry) -> None:
    """Note in the caller's transaction that `days` (in order, without gap) are built after `carry`."""
    own = CARRIED.c.shop_id == shop.shop.id
    connection.execute(sa.delete(CARRIED).where(own, CARRIED.c.business_day.between(days[0], days[-1])))
    _put(connection, shop, days[0], carry)


def followers(engine: sa.Engine, shop: ShopFile, builder: Builder, last: date) -> Followers:
    """Compare the days built earlier with what they would be after `last`, the last day that `builder` built.

    Costs one query when the carry is the one these days were last found to agree with, which is nearly always; else
    they are built again in memory, month by month. A day may also differ because its own facts or the shop file
    changed since it was built: it has to be built again all the same.
    """
    following = date.fromordinal(last.toordinal() + 1)
    carry = builder.carry
    with engine.connect() as connection:
        known = connection.execute(
            sa.select(CARRIED.c.digest).where(CARRIED.c.shop_id == shop.shop.id, CARRIED.c.business_day == following)
        ).scalar()
        if known == carry.digest():
            return Followers(0, [])
        stored = _stored(connection, shop, last)
    if not stored:
        return Followers(0, [])
    differing = []
    for _, month in groupby(days_between(following, max(stored)), key=lambda day: (day.year, day.month)):
        days = list(month)
        _, built = builder.build(days, missing="skip")
        now = _said(built)
        differing += [day for day in days if day in stored and now.get(day, set()) != stored[day]]
    if not differing:
        with engine.begin() as connection:
            _put(connection, shop, following, carry)
    return Followers(len(stored), differing)


def _put(connection: sa.Connection, shop: ShopFile, day: date, carry: Carry) -> None:
    statement = insert(CARRIED).values(shop_id=shop.shop.id, business_day=day, digest=carry.digest())
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["shop_id", "business_day"], set_={"digest": statement.excluded.digest}
        )
    )


_Said = dict[date, set[tuple[str, str]]]


def _stored(connection: sa.Connection, shop: ShopFile, last: date) -> _Said:
    """Of each day built after `last`: entries with their digests, held registers with their reasons."""
    found: _Said = {}
    for query in (
        sa.select(ENTRIES.c.business_day, ENTRIES.c.entry_key, ENTRIES.c.digest),
        sa.select(HELD.c.business_day, HELD.c.register_id, HELD.c.reason),
    ):
        table = query.get_final_froms()[0]
        rows = connection.execute(query.where(table.c.shop_id == shop.shop.id, table.c.business_day > last))
        for day, name, what in rows:
            found.setdefault(day, set()).add((name, what))
    return found


def _said(built: BuildResult) -> _Said:
    found: _Said = {}
    for frame, name, what in ((built.entries, "entry_key", "digest"), (built.held, "register_id", "reason")):
        for day, of, said in zip(frame["business_day"], frame[name], frame[what], strict=True):
            found.setdefault(day.date(), set()).add((str(of), str(said)))
    return found
