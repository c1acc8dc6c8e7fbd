"""What publishing would do, as an asset: the table of `kash-pipeline plan` where the graph is looked at.

Only the shell belongs here: which days, and the report. Comparing is pennylane/planning.py; nothing is written to
PennyLane, and applying a plan is the command's.
"""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from kash_pipeline.defs.accounting import entries_key
from kash_pipeline.defs.daily import as_failure, table
from kash_pipeline.defs.jobs import plan_key
from kash_pipeline.defs.partitions import as_day
from kash_pipeline.defs.publishing import GROUP, company_pool
from kash_pipeline.defs.resources import OpenPennylane
from kash_pipeline.errors import KashPipelineError, SettingsError
from kash_pipeline.pennylane.planning import ACTIONS, Plan, euros_text, make_plan
from kash_pipeline.reference.store import business_day
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger

DAYS_WHEN_NOTHING_WAITS = timedelta(days=7)


class PlannedDays(dg.Config):
    """Business days YYYY-MM-DD; both empty: from the oldest to the newest day that publishing has work for."""

    first: str = ""
    last: str = ""


def planning_assets(shop: ShopFile) -> list[dg.AssetsDefinition]:
    """The plan of a shop; none without [pennylane] in its file."""
    return [_plan(shop)] if shop.pennylane else []


def _plan(shop: ShopFile) -> dg.AssetsDefinition:
    @dg.asset(
        # Not partitioned by day: a plan is one table over days, and 53 ms of events per day would be its longest part.
        key=plan_key(shop),
        deps=[entries_key(shop)],
        pool=company_pool(shop),
        description=(
            "What publishing would do, per business day with amounts, against what PennyLane really holds: entries "
            "added, adopted, left, corrected, held, refused, left to a person. Writes nothing to PennyLane."
        ),
        group_name=GROUP,
        kinds={"python"},
        owners=["team:accounting"],
        tags={"shop": shop.shop.id},
    )
    def publication_plan(
        context: dg.AssetExecutionContext,
        config: PlannedDays,
        warehouse: dg.ResourceParam[sa.Engine],
        lake: dg.ResourceParam[Lake],
        pennylane: dg.ResourceParam[OpenPennylane],
    ) -> dg.MaterializeResult[None]:
        try:
            first, last = _days(config, PublicationLedger(warehouse, shop.shop.id), shop)
            with pennylane(warehouse) as client:
                made = make_plan(client, warehouse, shop, lake, first, last)
        except KashPipelineError as error:
            raise as_failure(error) from error
        context.log.info("plan %s of %s to %s: %s", made.id, first, last, dict(_counts(made)))
        return dg.MaterializeResult(metadata=_shown(made))

    return publication_plan


def _days(config: PlannedDays, ledger: PublicationLedger, shop: ShopFile) -> tuple[date, date]:
    work = [day.business_day for day in (*ledger.ready_days(), *ledger.days_to_correct())]
    work += [intent.row.business_day for intent in ledger.doubtful()]
    today = business_day(shop, datetime.now(UTC))
    try:
        first = as_day(config.first) if config.first else min(work, default=today - DAYS_WHEN_NOTHING_WAITS)
        last = as_day(config.last) if config.last else max(work, default=today)
    except ValueError as error:
        raise SettingsError(f"no day: {error}", next_step="write first and last as YYYY-MM-DD") from error
    if last < first:
        raise SettingsError(f"last {last} is before first {first}", next_step="give first and last in this order")
    return first, last


def _counts(made: Plan) -> Counter[str]:
    return Counter(ACTIONS[step.action] for step in made.steps)


def _shown(made: Plan) -> dict[str, dg.MetadataValue | str | int]:
    """The plan as metadata. Why an entry is held or left shows what persons typed: only the command says that."""
    window = f"--from {made.first} --to {made.last}"
    shown: dict[str, dg.MetadataValue | str | int] = {
        "plan": dg.MetadataValue.md(made.markdown()),
        "company": made.company,
        "days": f"{made.first} to {made.last}",
        "dagster/row_count": len(made.steps),
    }
    for action, words in ACTIONS.items():
        cents = [step.amount_cents for step in made.steps if step.action == action]
        if cents:
            shown[words] = f"{len(cents)} entries, {euros_text(sum(cents))}"
    if made.held_sales:
        shown["held register-days"] = f"{len(made.held_sales)}, sales {euros_text(sum(made.held_sales.values()))}"
    acting = [step for step in made.steps if step.action != "leave"]
    if acting:
        rows = [
            (step.business_day, step.register_id, step.key, ACTIONS[step.action], euros_text(step.amount_cents))
            for step in acting
        ]
        shown["entries"] = table(("day", "register", "entry", "what", "amount"), rows)
        shown["why each"] = f"kash-pipeline plan {window} --entries"
    shown["next step"] = (
        "nothing to post"
        if made.changes_nothing
        else f"to do exactly this: kash-pipeline plan {window}, which has id {made.id} as long as nothing changes, "
        f"then kash-pipeline apply {made.id}; or let the publish job run"
    )
    return shown
