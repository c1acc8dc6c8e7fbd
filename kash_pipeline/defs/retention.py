"""The monthly deletion of raw answers that are older than the shop's policy, as a job of its own.

Only the shell and its clock time belong here; what is kept how long is warehouse/retention.py. It is on in production
only: elsewhere someone who copied a lake would lose vouchers by looking at it.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from kash_pipeline.defs.daily import as_failure
from kash_pipeline.defs.jobs import nightly_time, schedule_status
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.retention import retain

RETENTION = "retention"


def retention_jobs(
    shop: ShopFile, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> list[dg.JobDefinition]:
    """The job that deletes; what it deleted is in its log, and `kash-pipeline trace` goes on naming it."""

    @dg.op(description="Deletes raw answers older than raw_years of [source]; facts and entries stay.")
    def drop_old_answers(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
        try:
            found = retain(lake, shop, now(), drop=True)
        except KashPipelineError as error:
            raise as_failure(error) from error
        context.log.info(
            "%d raw answers (%d bytes) fetched before %s deleted; a record of each is kept",
            found.answers,
            found.size,
            found.before,
        )

    @dg.job(
        name=RETENTION,
        description="Deletes raw answers that the shop's policy (raw_years of [source]) keeps no longer.",
        executor_def=dg.in_process_executor,
        tags={"shop": shop.shop.id},
    )
    def retention() -> None:
        drop_old_answers()

    return [retention]


def retention_schedules(shop: ShopFile, deployment: str) -> list[dg.ScheduleDefinition]:
    """On the second of every month, three hours after the nightly run."""
    hour, minute = nightly_time(shop)
    return [
        dg.ScheduleDefinition(
            name="monthly_retention",
            job_name=RETENTION,
            cron_schedule=f"{minute} {(hour + 3) % 24} 2 * *",
            execution_timezone=shop.shop.timezone,
            default_status=schedule_status("monthly_retention", deployment),
            description="Every month: raw answers older than the shop keeps them (six years at least) are deleted.",
        )
    ]
