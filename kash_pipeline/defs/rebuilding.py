"""When days are built again unasked: the sensor that looks for changes of reference data and of the shop file.

Only the question "which days, for which change" belongs here: what counts as a change is reference/history.py's, how
days are built accounting.py's. Days already sent are never asked for; the words of a run, reference.py and `mapping
diff` report them.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from hashlib import sha256

import dagster as dg
import sqlalchemy as sa

from kash_pipeline.defs.jobs import BUILD_ENTRIES, range_tags
from kash_pipeline.defs.sensors import MAX_ATTEMPTS, building_or_publishing, pause_is_over
from kash_pipeline.errors import SettingsError
from kash_pipeline.reference.release import runs_of, unsent_days
from kash_pipeline.reference.sent import booked_otherwise
from kash_pipeline.reference.store import last_change
from kash_pipeline.settings import ShopFile, load_shop

MAX_RUNS = 20
"""Stretches of days asked for at once; the others follow when these are built. A year held but for Sundays is 52."""

SENT_TOLD = 3
"""Items told of in the words of a run, of what is sent already; `mapping diff` tells all of them."""

BECAUSE = "kash/because"
"""Tag of a run that says in words which change it was asked for."""
CHANGE = "kash/change"
"""Tag of a run that says which change it was asked for, and at which attempt."""


@dataclass(frozen=True)
class World:
    """What entries are made of besides facts: when the till's reference data last changed, and the shop file's hash."""

    reference: str
    shop_file: str


def world(engine: sa.Engine, shop: ShopFile) -> World:
    """One query and a hash of what is written in the file, comments apart; [pennylane] says nothing of an entry."""
    changed = last_change(engine, shop, "till")
    file = shop.model_dump_json(exclude={"pennylane"}, exclude_unset=True)
    return World(changed.isoformat() if changed else "", sha256(file.encode()).hexdigest()[:16])


@dataclass(frozen=True)
class Asked:
    """The sensor's cursor, kept in Dagster's database: what of the world was acted on.

    started   when the first look was
    changes   how many changes there were since; with `started` it makes run keys that never repeat, even when a shop
              file is changed back to what it was
    attempt   how often this change was asked for: again when a run of it failed
    through   the last day asked for, while days of this change are left to ask for
    """

    world: World
    started: str
    changes: int = 0
    attempt: int = 1
    through: str | None = None

    @property
    def change(self) -> str:
        return f"{self.started}:{self.changes}:{self.attempt}"

    def to_cursor(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Asked | None":
        """None before the first look, and for a cursor that a person emptied or wrote."""
        try:
            stored = json.loads(cursor or "")
            return cls(**{**stored, "world": World(**stored["world"])})
        except (ValueError, TypeError, KeyError):
            return None


def rebuild_sensor(
    shop: ShopFile,
    default_status: dg.DefaultSensorStatus,
    *,
    reread: Callable[[], ShopFile] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """Asks for runs over the days never sent when what they are made of has changed: two small queries a minute.

    `reread` gives the shop file of now (by default from its path): the process that ticks read it when it started. The
    first look only remembers; a change is asked for once, whether the rebuild alters anything or not, and again when a
    run of it failed, `MAX_ATTEMPTS` times at most.
    """

    def as_it_is() -> ShopFile:
        return reread() if reread else load_shop(shop.path or "")

    @dg.sensor(
        name="rebuild_after_change",
        job_name=BUILD_ENTRIES,
        minimum_interval_seconds=60,
        default_status=default_status,
        description=(
            "Builds held days and days never sent again when the till's reference data or the shop file changed; what "
            "is sent stays."
        ),
    )
    def rebuild_after_change(
        context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[sa.Engine]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            file = as_it_is()
        except SettingsError as error:
            return dg.SkipReason(f"the shop file cannot be used: {error}")
        found = world(warehouse, file)
        asked = Asked.from_cursor(context.cursor)
        if asked is None:
            first = Asked(found, started=now().isoformat())
            return dg.SensorResult(
                skip_reason="first look: what changes from now on is asked for", cursor=first.to_cursor()
            )
        failed = _failed(context.instance, asked, now())
        if found == asked.world and asked.through is None and not failed:
            return dg.SkipReason("neither the till's reference data nor the shop file changed")
        if building_or_publishing(context.instance):
            return dg.SkipReason("something changed; a run that builds or publishes is under way")
        because = _because(asked.world, found) or "the rest of an earlier change"
        if found != asked.world:
            asked = Asked(found, asked.started, asked.changes + 1)
            because = "; ".join([because, *_sent(warehouse, file)])
        elif asked.through is None:
            because = "a run of an earlier change failed"
            asked = replace(asked, attempt=asked.attempt + 1)
        begin = max(shop.chart[0].start, file.chart[0].start)
        after = date.fromisoformat(asked.through) if asked.through else date.min
        stretches = runs_of(day for day in unsent_days(warehouse, file) if day >= begin and day > after)
        these, more = stretches[:MAX_RUNS], stretches[MAX_RUNS:]
        asked = replace(asked, through=these[-1][-1].isoformat() if these and more else None)
        if not these:
            return dg.SensorResult(
                skip_reason=f"nothing to build, every day is sent; {because}", cursor=asked.to_cursor()
            )
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"rebuild:{days[0]}:{days[-1]}:{asked.change}",
                    tags=range_tags(days[0], days[-1]) | {BECAUSE: because, CHANGE: asked.change},
                )
                for days in these
            ],
            cursor=asked.to_cursor(),
        )

    return rebuild_after_change


def _sent(engine: sa.Engine, shop: ShopFile) -> list[str]:
    """What is sent and would be booked otherwise now: a person has to know before these days are built again."""
    found = booked_otherwise(engine, shop)
    told = [f"sent already: {item.what}, {item.said}" for item in found[:SENT_TOLD]]
    return told + ([f"{len(found) - SENT_TOLD} more by `mapping diff`"] if len(found) > SENT_TOLD else [])


def _because(before: World, after: World) -> str:
    said = [
        words
        for words, differs in (
            ("the till's reference data changed", before.reference != after.reference),
            ("the shop file changed", before.shop_file != after.shop_file),
        )
        if differs
    ]
    return " and ".join(said)


def _failed(instance: dg.DagsterInstance, asked: Asked, now: datetime) -> bool:
    """Whether a run of the last change failed and may be tried again by now."""
    if asked.attempt >= MAX_ATTEMPTS:
        return False
    failed = dg.RunsFilter(tags={CHANGE: asked.change}, statuses=[dg.DagsterRunStatus.FAILURE])
    records = instance.get_run_records(failed)
    return bool(records) and pause_is_over(records, now, failures=asked.attempt)
