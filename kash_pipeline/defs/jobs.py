"""Jobs and schedules of a shop, and what may run by itself where.

Only selections of assets and clock times belong here; the sensor that asks for publishing is in sensors.py. Every job
runs in one process: steps take seconds, and Dagster's default executor costs each of them 17 times that.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from kash_pipeline.defs.partitions import yesterday
from kash_pipeline.defs.reference import LIGHT, reference_key
from kash_pipeline.errors import SettingsError
from kash_pipeline.settings import ShopFile

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

REFERENCE_SYNC = "reference_sync"
REFERENCE_CHECK = "reference_check"
EXTRACT = "extract"
BUILD_ENTRIES = "build_entries"
PUBLISH = "publish"
NIGHTLY = "nightly"
PLAN = "plan"
WATCH = "watch"

HANDS = "untouched_by_others"
"""Name of the check that tells what persons did in PennyLane to entries we sent."""

DEPLOYMENTS = ("local", "staging", "production")

# What runs by itself, by deployment (KASH_DEPLOYMENT); elsewhere it stands in the UI, switched off. There is no
# default: a name missing here is an error when the code is loaded. Only production sends to a ledger unasked.
RUNS_IN: Mapping[str, frozenset[str]] = {
    "nightly": frozenset({"production"}),
    "nightly_reference": frozenset({"staging", "production"}),
    "hourly_reference": frozenset({"staging", "production"}),
    "rebuild_after_change": frozenset({"staging", "production"}),
    "publish_when_ready": frozenset({"production"}),
    "wake_up": frozenset({"production"}),
    "daily_watch": frozenset({"staging", "production"}),
    "monthly_keep_alive": frozenset({"staging", "production"}),
    "monthly_retention": frozenset({"production"}),
}


def runs_by_itself(name: str, deployment: str) -> bool:
    """Whether the schedule or sensor `name` is on when `deployment` starts. Raises KeyError for an undeclared name."""
    if deployment not in DEPLOYMENTS:
        raise SettingsError(
            f"KASH_DEPLOYMENT is {deployment!r}", next_step=f"write one of {', '.join(DEPLOYMENTS)}, or unset it"
        )
    return deployment in RUNS_IN[name]


def schedule_status(name: str, deployment: str) -> dg.DefaultScheduleStatus:
    """`runs_by_itself` as Dagster says it of a schedule."""
    return dg.DefaultScheduleStatus.RUNNING if runs_by_itself(name, deployment) else dg.DefaultScheduleStatus.STOPPED


def publishing_jobs() -> frozenset[str]:
    """Jobs that send to PennyLane."""
    return frozenset({PUBLISH, NIGHTLY})


def range_tags(first: date, last: date) -> dict[str, str]:
    """Run tags that ask for all days from `first` to `last` in one run."""
    return {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }


def shop_jobs(shop: ShopFile) -> "list[UnresolvedAssetJobDefinition]":
    """The jobs of a shop; those that publish only when the shop has a [pennylane] section."""

    def layer(name: str) -> dg.AssetSelection:
        return dg.AssetSelection.key_prefixes([shop.shop.id, name])

    marts = layer("marts")
    reference = layer("reference")
    light = dg.AssetSelection.assets(*(reference_key(shop, name) for name in LIGHT))
    everything = reference | layer("pos") | layer("accounting") | marts
    selections: dict[str, tuple[dg.AssetSelection, str]] = {
        REFERENCE_SYNC: (reference, "Reads the till's reference data."),
        REFERENCE_CHECK: (light, "Reads the till's reference data but its customers."),
        EXTRACT: (layer("pos"), "Reads the till's facts of the days asked for."),
        BUILD_ENTRIES: (layer("accounting") | marts, "Builds the entries of the days asked for, then the marts."),
    }
    if shop.pennylane:
        # The plan is made when somebody asks; the watch has a clock of its own, and costs requests.
        watch = dg.AssetSelection.checks(dg.AssetCheckKey(published_key(shop), HANDS))
        remote = layer("pennylane") - dg.AssetSelection.keys(plan_key(shop)) - watch
        published = dg.AssetSelection.keys(published_key(shop))
        # With the models that they name: in a new database nobody has built these yet.
        ledger_marts = (published.downstream() & marts).upstream() & marts
        everything = everything | remote
        selections[REFERENCE_SYNC] = (
            reference | (remote - published),
            "Reads the till's reference data and brings PennyLane's journals, accounts and customers in step.",
        )
        selections[REFERENCE_CHECK] = (
            light | dg.AssetSelection.assets(*([shop.shop.id, "pennylane", name] for name in ("journals", "accounts"))),
            "Reads the till's reference data and PennyLane's journals and accounts; customers wait for the night.",
        )
        selections[PUBLISH] = (
            remote | ledger_marts,
            "Brings PennyLane's journals, accounts and customers in step, sends what is ready and reads it back.",
        )
        selections[PLAN] = (
            dg.AssetSelection.keys(plan_key(shop)),
            "Says per day what publishing would add, leave, correct and hold; writes nothing to PennyLane.",
        )
        selections[WATCH] = (watch, "Looks for entries of ours that persons changed in PennyLane; changes nothing.")
    selections[NIGHTLY] = (everything, "Everything for the days asked for; every night for the day before.")
    return [
        dg.define_asset_job(
            name,
            selection=selection,
            description=description,
            executor_def=dg.in_process_executor,
            tags={"shop": shop.shop.id},
        )
        for name, (selection, description) in selections.items()
    ]


def published_key(shop: ShopFile) -> dg.AssetKey:
    return dg.AssetKey([shop.shop.id, "pennylane", "published_entries"])


def plan_key(shop: ShopFile) -> dg.AssetKey:
    return dg.AssetKey([shop.shop.id, "pennylane", "publication_plan"])


def looked_back(shop: ShopFile, day: date) -> date:
    """First day that is read again with `day`: offline sales come late, value dates may lie in the past.

    Only an API tells what changed; a folder of files is read as it was given.
    """
    days = shop.source.look_back_days if shop.source.kind == "kash_api" else 0
    return max(date.fromordinal(day.toordinal() - days), min(shop.chart[0].start, day))


def nightly_time(shop: ShopFile) -> tuple[int, int]:
    """Hour and minute of the nightly run: after the business day has ended, and never between 02:00 and 03:00.

    On the day clocks go forward that hour does not exist, on the day they go back it comes twice.
    """
    hour = max(shop.shop.day_starts_at.hour + 1, 4)
    return (hour, 30) if hour < 24 else (23, 59)


def schedules(shop: ShopFile, deployment: str) -> Sequence[dg.ScheduleDefinition]:
    """Reference data every night and, the short lists of it, every hour; then the nightly run for the day before."""
    hour, minute = nightly_time(shop)

    @dg.schedule(
        name="nightly",
        job_name=NIGHTLY,
        cron_schedule=f"{minute} {hour} * * *",
        execution_timezone=shop.shop.timezone,
        default_status=schedule_status("nightly", deployment),
        description="Every night for the business day that has ended, and the days before it that are read again.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = yesterday(context.scheduled_execution_time, shop.zone)
        first = looked_back(shop, day)
        if first < day:
            return dg.RunRequest(run_key=f"nightly:{first}:{day}", tags=range_tags(first, day))
        return dg.RunRequest(run_key=f"nightly:{day}", partition_key=day.isoformat())

    @dg.schedule(
        name="nightly_reference",
        job_name=REFERENCE_SYNC,
        # 40 minutes before the nightly run: 5,000 customers take 17 at PennyLane's 25 requests in 5 seconds.
        cron_schedule=f"{(minute + 20) % 60} {hour - 1 if minute < 40 else hour} * * *",
        execution_timezone=shop.shop.timezone,
        default_status=schedule_status("nightly_reference", deployment),
        description="All reference data of both systems, customers too, before the nightly run needs them.",
    )
    def nightly_reference(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest()

    @dg.schedule(
        name="hourly_reference",
        job_name=REFERENCE_CHECK,
        # Minute 7 of every hour but that of the clock change.
        cron_schedule="7 0-1,3-23 * * *",
        execution_timezone=shop.shop.timezone,
        default_status=schedule_status("hourly_reference", deployment),
        description="A new payment method, rate, register or account is known within the hour: nine requests.",
    )
    def hourly_reference(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest()

    return [nightly, nightly_reference, hourly_reference]
