"""What needs a look at PennyLane although nothing is published: persons' hands on our entries, an idle connection.

Only shells and clock times belong here; finding is pennylane/watching.py, tokens are pennylane/auth.py. Nothing is
changed in PennyLane's books.
"""

import dagster as dg
import sqlalchemy as sa

from kash_pipeline.defs.daily import as_failure, table
from kash_pipeline.defs.jobs import HANDS, WATCH, nightly_time, published_key, schedule_status
from kash_pipeline.defs.resources import OpenPennylane
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.pennylane.watching import hands
from kash_pipeline.settings import ShopFile

KEEP_ALIVE = "keep_alive"


def watch_checks(shop: ShopFile) -> list[dg.AssetChecksDefinition]:
    """The check of the accountant's hand; none without [pennylane] in the shop file."""
    return [_untouched(shop)] if shop.pennylane else []


def _untouched(shop: ShopFile) -> dg.AssetChecksDefinition:
    # A step of its own with a job of its own: it must look on nights when nothing is published, and a PennyLane that
    # does not answer it must not be a failure of publishing.
    @dg.asset_check(
        name=HANDS,
        asset=published_key(shop),
        description=(
            "No entry that we sent was edited, moved or deleted in PennyLane in the last four weeks, which is as long "
            "as PennyLane tells. Lettered ones are listed, but are no difference. Nothing is ever undone."
        ),
    )
    def untouched_by_others(
        context: dg.AssetCheckExecutionContext,
        warehouse: dg.ResourceParam[sa.Engine],
        pennylane: dg.ResourceParam[OpenPennylane],
    ) -> dg.AssetCheckResult:
        try:
            with pennylane(warehouse) as client:
                found = hands(client, warehouse, shop)
        except KashPipelineError as error:
            context.log.warning("PennyLane could not be asked: %s", error.message)
            return dg.AssetCheckResult(
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                description="PennyLane could not be asked",
                metadata={"why": error.message, "next step": error.next_step},
            )
        differing = [hand for hand in found if hand.differs]
        rows = [(hand.business_day, hand.register_id, hand.key, hand.what, hand.on_record) for hand in found]
        metadata: dict[str, dg.MetadataValue | int] = {
            "entries that differ": len({hand.key for hand in differing}),
            "entries lettered": len(found) - len(differing),
        }
        if rows:
            metadata["which"] = table(("day", "register", "entry", "what", "why"), rows)
            metadata["next step"] = dg.MetadataValue.text(
                "kash-pipeline pennylane touched shows both versions whole; ask the accountant, nothing is undone"
            )
        return dg.AssetCheckResult(passed=not differing, severity=dg.AssetCheckSeverity.WARN, metadata=metadata)

    return untouched_by_others


def keep_alive_jobs(shop: ShopFile) -> list[dg.JobDefinition]:
    """The job that keeps an OAuth connection alive; none for a company API token, which nothing refreshes."""
    if shop.pennylane is None or shop.pennylane.auth != "oauth":
        return []

    @dg.op(description="Asks PennyLane who we are, which refreshes the tokens when they are due.")
    def who_are_we(
        context: dg.OpExecutionContext,
        warehouse: dg.ResourceParam[sa.Engine],
        pennylane: dg.ResourceParam[OpenPennylane],
    ) -> None:
        try:
            with pennylane(warehouse) as client:
                me = client.me()
        except KashPipelineError as error:
            raise as_failure(error) from error
        context.log.info("connected to %s (company %s)", me.company_name, me.company_id)

    @dg.job(
        name=KEEP_ALIVE,
        description="Keeps the connection to PennyLane alive: a refresh token that nobody uses ends after 90 days.",
        executor_def=dg.in_process_executor,
        tags={"shop": shop.shop.id},
    )
    def keep_alive() -> None:
        who_are_we()

    return [keep_alive]


def watch_schedules(shop: ShopFile, deployment: str) -> list[dg.ScheduleDefinition]:
    """The daily look for persons' hands, and the monthly one that keeps the connection. Clock times of the shop."""
    if shop.pennylane is None:
        return []
    hour, minute = nightly_time(shop)

    def schedule(name: str, job: str, cron: str, description: str) -> dg.ScheduleDefinition:
        return dg.ScheduleDefinition(
            name=name,
            job_name=job,
            cron_schedule=cron,
            execution_timezone=shop.shop.timezone,
            default_status=schedule_status(name, deployment),
            description=description,
        )

    found = [
        schedule(
            "daily_watch",
            WATCH,
            f"{minute} {(hour + 2) % 24} * * *",
            "Every morning, published or not: entries of ours that persons changed in PennyLane.",
        )
    ]
    if keep_alive_jobs(shop):
        found.append(
            schedule(
                "monthly_keep_alive",
                KEEP_ALIVE,
                f"{minute} {(hour + 1) % 24} 1 * *",
                "On the first of the month: an idle connection would end after 90 days.",
            )
        )
    return found
