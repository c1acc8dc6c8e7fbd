"""When publishing is asked for: a decision over the days that wait, and the sensor that carries it out.

Only the question "which days now, under which key" belongs here. What may be sent is the ledger's answer
(warehouse/ledger.py), how it is sent is pennylane/publisher.py.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

import dagster as dg
import sqlalchemy as sa

from kash_pipeline.defs.instance import OWNER_TAG
from kash_pipeline.defs.jobs import BUILD_ENTRIES, NIGHTLY, PUBLISH, publishing_jobs, range_tags
from kash_pipeline.defs.pos import pos_key
from kash_pipeline.pennylane.lettering import days_to_letter
from kash_pipeline.pos.kash_api.events import CLOSE
from kash_pipeline.reference.store import last_change
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger, ReadyDay, Row, owner_alive
from kash_pipeline.warehouse.wake_ups import Waiting, WakeUps

MAX_DAYS = 92
"""Days of one publishing run: at two registers and five requests a second it lasts about five minutes."""
MAX_ATTEMPTS = 3
"""After this many attempts without a clear answer a day is asked for once a day: PennyLane may answer tomorrow."""

NOTHING = "nothing to publish"

CONTENT = "kash/content"
"""Tag of a publishing run: the days it was asked for, with their content and what the company had."""
LONGEST_SEND = timedelta(minutes=10)
"""No publisher is longer at one entry: a request ends after some 65 s, looking for a lost one after 30 s more."""
RETRY, RETRY_AT_MOST = timedelta(minutes=5), timedelta(hours=1)
"""Pause after a run that failed before it could try an entry (PennyLane does not answer), doubled at every failure."""


@dataclass(frozen=True)
class Due:
    """Days that follow each other without a gap, to be published by one run."""

    first: date
    last: date
    run_key: str
    content: str


@dataclass(frozen=True)
class Decision:
    """What to ask for now, or why nothing; `given_up` are days that were tried too often, see `tried_too_often`."""

    due: Sequence[Due]
    given_up: Sequence[date]
    reason: str


def due(
    ready: Sequence[ReadyDay],
    *,
    busy: bool,
    world: str = "",
    key_for: Callable[[str], str | None] = lambda content: content,
    max_days: int = MAX_DAYS,
    max_attempts: int = MAX_ATTEMPTS,
) -> Decision:
    """Which days to publish, given the days with entries that may be sent.

    One range at a time: PennyLane's limit is per company, so a second run would only wait for the first. The run key
    holds days, content, attempt and `world` (what the company had), because a sensor's key never runs twice, not even
    after a failure. `key_for` makes it of these; None: they were tried, and only a change of them is worth a new try.
    Days that wait so, for an account to be enabled, do not keep the days after them waiting.
    """
    given_up = [day.business_day for day in ready if day.attempts >= max_attempts]
    waiting = sorted((day for day in ready if day.attempts < max_attempts), key=lambda day: day.business_day)
    if busy:
        return Decision((), given_up, "a publishing run is under way")
    if not waiting:
        left = f"; {len(given_up)} days were tried {max_attempts} times and wait for tomorrow" if given_up else ""
        return Decision((), given_up, f"{NOTHING}{left}")
    for together in _together(waiting, max_days):
        first, last = together[0].business_day, together[-1].business_day
        digest = sha256("".join([*(day.digest for day in together), world]).encode()).hexdigest()[:12]
        content = f"publish:{first}:{last}:{digest}:{max(day.attempts for day in together)}"
        key = key_for(content)
        if key is not None:
            return Decision((Due(first, last, key, content),), given_up, "")
    return Decision((), given_up, f"{len(waiting)} days wait; nothing changed since they were tried")


def _together(waiting: Sequence[ReadyDay], max_days: int) -> Iterator[list[ReadyDay]]:
    """Days in order, cut where a day is missing between two and after `max_days`."""
    together: list[ReadyDay] = []
    for day in waiting:
        follows = together and day.business_day.toordinal() == together[-1].business_day.toordinal() + 1
        if together and (not follows or len(together) == max_days):
            yield together
            together = []
        together.append(day)
    if together:
        yield together


def key_for(instance: dg.DagsterInstance, content: str, now: datetime) -> str | None:
    """The run key under which `content` may be asked for; None when it was, or failed just now.

    A run that failed is asked for again: PennyLane may answer by then. One that ended well, or was cancelled by a
    person, is not.
    """
    records = instance.get_run_records(dg.RunsFilter(tags={CONTENT: content}))
    if not records:
        return content
    if any(record.dagster_run.status is not dg.DagsterRunStatus.FAILURE for record in records):
        return None
    return f"{content}:again{len(records)}" if pause_is_over(records, now, failures=len(records)) else None


def pause_is_over(records: Sequence[dg.RunRecord], now: datetime, *, failures: int) -> bool:
    """Whether it is time to try again what failed so often, the last time with these runs."""
    ended: float = max(record.end_time or record.update_timestamp.timestamp() for record in records)
    pause = min(RETRY * (1 << (failures - 1)), RETRY_AT_MOST)
    return now - datetime.fromtimestamp(ended, UTC) >= pause


def publication_sensor(
    shop: ShopFile,
    default_status: dg.DefaultSensorStatus,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """Asks for a publishing run when the ledger has entries to send: one indexed query a minute, no remote call.

    When no ready day is due it also looks for what a killed publisher left unclear, not read back or not lettered, for
    sent entries whose facts changed, and once a day for what PennyLane gave no clear answer to. Days that wait for a
    person are asked for once, and again when their facts changed or the company's accounts, journals or customers did.
    """

    @dg.sensor(
        name="publish_when_ready",
        job_name=PUBLISH,
        minimum_interval_seconds=60,
        default_status=default_status,
        description="Asks for publishing runs over the days whose entries are ready in the publication ledger.",
    )
    def publish_when_ready(
        context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[sa.Engine]
    ) -> dg.SensorResult | dg.SkipReason:
        ledger = PublicationLedger(warehouse, shop.shop.id)
        busy = building_or_publishing(context.instance)
        # An account that is enabled or made by a person, or create_accounts: days that waited for it are tried.
        world = f"{last_change(warehouse, shop, 'pennylane')} {shop.pennylane}"
        reasons = []
        ready = ledger.ready_days()
        looks: tuple[Callable[[], Sequence[ReadyDay]], ...] = (
            lambda: ready,
            lambda: left_behind(ledger, now()),
            ledger.days_to_correct,
            ledger.days_not_read_back,
            lambda: days_to_letter(warehouse, shop),
            lambda: tried_too_often(ready, now().astimezone(shop.zone).date()),
        )
        for look in looks:
            decision = due(
                look(), busy=busy, world=world, key_for=lambda content: key_for(context.instance, content, now())
            )
            if decision.due:
                return dg.SensorResult(
                    run_requests=[
                        dg.RunRequest(
                            run_key=item.run_key, tags=range_tags(item.first, item.last) | {CONTENT: item.content}
                        )
                        for item in decision.due
                    ]
                )
            if decision.reason != NOTHING:
                reasons.append(decision.reason)
            if busy:
                break
        return dg.SkipReason("; ".join(reasons) or NOTHING)

    return publish_when_ready


QUIET = timedelta(hours=3)
"""Silence after a closing that ends a day although a register has not closed: longer than a midday break, over before
the nightly run."""


@dataclass(frozen=True)
class Wake:
    """A run for one day that a till's events are worth: its facts, or (`whole`) everything down to the ledger."""

    waiting: Waiting
    whole: bool
    run_key: str


def wakes(waiting: Sequence[Waiting], registers: int, now: datetime) -> list[Wake]:
    """One run per day with news: orders are read; and all is done when the day's registers closed.

    Before that a day's entries would be sent with half its sales, and corrected at every ticket. A closing event names
    no register, so closings are counted: as many as there are registers, or at least one and nothing heard for QUIET (a
    register that was not used closes on no day). Until then a closing waits. A day that is never woken waits for the
    nightly run.
    """
    found = []
    for day in waiting:
        closed = CLOSE in day.kinds and (day.closings >= registers or now - day.last_heard >= QUIET)
        if closed or set(day.kinds) != {CLOSE}:
            kind = "all" if closed else "facts"
            # The time of asking: what was asked for is in the database, and a key used twice would start no run.
            found.append(Wake(day, closed, f"wake:{kind}:{day.business_day}:{now.isoformat()}"))
    return found


def days_to_wake(waiting: Sequence[Waiting], first: date, today: date) -> tuple[list[Waiting], list[Waiting]]:
    """The days a run can be asked for, and those that never can be: before the shop's first chart.

    A value date may lie in the future (documented): such a day waits until it has come.
    """
    come = [day for day in waiting if day.business_day <= today]
    return [day for day in come if day.business_day >= first], [day for day in come if day.business_day < first]


def wake_up_sensor(
    shop: ShopFile,
    default_status: dg.DefaultSensorStatus,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """Turns events of the webhook into runs within a minute: one indexed query every 30 s, no remote call."""
    facts = [pos_key(shop, name) for name in ("sales", "payments", "closings")]

    @dg.sensor(
        name="wake_up",
        job_name=NIGHTLY,
        minimum_interval_seconds=30,
        default_status=default_status,
        description="Reads a day again when the webhook told of an order; does all of it when its tills closed.",
    )
    def wake_up(
        context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[sa.Engine], lake: dg.ResourceParam[Lake]
    ) -> dg.SensorResult | dg.SkipReason:
        events = WakeUps(warehouse, shop.shop.id)
        at = now()
        waiting, never = days_to_wake(events.waiting(CLOSE), shop.chart[0].start, at.astimezone(shop.zone).date())
        if never:
            days = ", ".join(str(day.business_day) for day in never)
            context.log.warning("the till told of %s, before the first [[chart]] of the shop: not read", days)
            events.asked(never)
        if not waiting:
            return dg.SkipReason("the till told of nothing new")
        if publishing_is_under_way(context.instance):
            # Events wait on: the next tick finds these and what came in since.
            return dg.SkipReason("a run over the till's days is under way")
        registers = len(lake.read_reference("registers")) if lake.has_reference("registers") else 1
        due = wakes(waiting, registers, at)
        if not due:
            return dg.SkipReason("a register closed; others have not, and it is not quiet yet")
        for wake in due:
            events.asked([wake.waiting], leave=None if wake.whole else CLOSE)
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=wake.run_key,
                    tags=range_tags(wake.waiting.business_day, wake.waiting.business_day),
                    asset_selection=None if wake.whole else facts,
                )
                for wake in due
            ]
        )

    return wake_up


def left_behind(ledger: PublicationLedger, now: datetime) -> list[ReadyDay]:
    """Days with entries that a publisher was sending when it died: a run has to look whether they arrived.

    Of one on another machine (a container has a new name at every start) nobody knows whether it lives: then age tells.
    """

    def died(row: Row) -> bool:
        alive = owner_alive(row.owner)
        return alive is False or (alive is None and row.sending_at is not None and now - row.sending_at > LONGEST_SEND)

    return [
        ReadyDay(intent.row.business_day, 1, 0, f"{intent.row.key} {intent.row.sending_at}")
        for intent in ledger.doubtful()
        if died(intent.row)
    ][:1]


def tried_too_often(ready: Sequence[ReadyDay], today: date) -> list[ReadyDay]:
    """The days that `due` gives up, as something to ask for once on `today`."""
    return [replace(day, attempts=0, digest=f"{day.digest} {today}") for day in ready if day.attempts >= MAX_ATTEMPTS]


def publishing_is_under_way(instance: dg.DagsterInstance) -> bool:
    """Whether a run that publishes is queued or running."""
    return _under_way(instance, publishing_jobs())


def building_or_publishing(instance: dg.DagsterInstance) -> bool:
    """Whether a run that builds entries or publishes them is queued or running: one works on what the other makes."""
    return _under_way(instance, publishing_jobs() | {BUILD_ENTRIES})


def _under_way(instance: dg.DagsterInstance, jobs: Collection[str]) -> bool:
    active = instance.get_runs(dg.RunsFilter(statuses=[*NOT_FINISHED]), limit=100)
    # A killed command leaves its run as started until the next command puts the records in order.
    return any(run.job_name in jobs and owner_alive(run.tags.get(OWNER_TAG)) is not False for run in active)


NOT_FINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
