"""Events that a till pushed, as rows that wait until somebody asked for the runs they are worth.

Only keeping them belongs here: receiving is web/webhook.py, which runs they lead to is defs/sensors.py. The event
itself is a raw answer in the lake.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.warehouse.tables import WAKE_UPS

_W = WAKE_UPS.c


@dataclass(frozen=True)
class Waiting:
    """Events of a business day nobody asked a run for yet: how many, of which kinds, and the last one's time (UTC).

    closings     closings pushed for the day so far, those that a run was asked for included
    last_heard   time (UTC) of the day's last event, those that a run was asked for included
    """

    business_day: date
    events: int
    kinds: tuple[str, ...]
    last_received: datetime
    closings: int
    last_heard: datetime


class WakeUps:
    """The events of one shop."""

    def __init__(self, engine: sa.Engine, shop_id: str) -> None:
        self._engine, self._shop_id = engine, shop_id

    def note(self, event: str, kind: str, business_day: date, received_at: datetime, sha256: str) -> bool:
        """Keep an event once; False when it was there already."""
        statement = (
            insert(WAKE_UPS)
            .values(
                shop_id=self._shop_id,
                event=event,
                kind=kind,
                business_day=business_day,
                received_at=received_at,
                sha256=sha256,
            )
            .on_conflict_do_nothing()
            .returning(_W.event)
        )
        with self._engine.begin() as connection:
            return connection.execute(statement).first() is not None

    def waiting(self, closing_kind: str) -> list[Waiting]:
        """Days with events that no run was asked for, in order."""
        unasked = _W.asked_at.is_(None)
        statement = (
            sa.select(
                _W.business_day,
                sa.func.count().filter(unasked),
                sa.func.array_agg(sa.distinct(_W.kind)).filter(unasked),
                sa.func.max(_W.received_at).filter(unasked),
                sa.func.count().filter(_W.kind == closing_kind),
                sa.func.max(_W.received_at),
            )
            .where(_W.shop_id == self._shop_id)
            .group_by(_W.business_day)
            .having(sa.func.count().filter(unasked) > 0)
            .order_by(_W.business_day)
        )
        with self._engine.connect() as connection:
            return [
                Waiting(day, events, tuple(sorted(kinds)), last, closings, heard)
                for day, events, kinds, last, closings, heard in connection.execute(statement)
            ]

    def asked(self, days: Sequence[Waiting], *, leave: str | None = None) -> None:
        """A run was asked for these days; events that came in since wait on, and so do those of the kind `leave`."""
        with self._engine.begin() as connection:
            for day in days:
                connection.execute(
                    sa.update(WAKE_UPS)
                    .where(
                        _W.shop_id == self._shop_id,
                        _W.business_day == day.business_day,
                        _W.received_at <= day.last_received,
                        _W.asked_at.is_(None),
                        _W.kind != leave if leave is not None else sa.true(),
                    )
                    .values(asked_at=sa.func.now())
                )
