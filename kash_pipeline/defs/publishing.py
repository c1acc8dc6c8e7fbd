"""PennyLane's side as assets: its journals, accounts and customers by their ids, and the entries published to it.

Only the shells belong here: which days, in which order, and the report per day. Exactly-once is publisher.py's and the
publication ledger's, finding and creating is pennylane/reference.py's, when a run is asked for is sensors.py's.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from kash_pipeline.defs.accounting import entries_key
from kash_pipeline.defs.daily import Day, Progress, StepEvents, as_failure, run_by_month, table
from kash_pipeline.defs.jobs import published_key
from kash_pipeline.defs.partitions import business_days
from kash_pipeline.defs.reference import reference_key
from kash_pipeline.defs.resources import OpenPennylane
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.customers import InStep, keep_in_step, listed_at, stored_customers, sync_customers
from kash_pipeline.pennylane.errors import ReferenceMissing
from kash_pipeline.pennylane.publisher import Problem, Publisher, PublishReport
from kash_pipeline.reference import store
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger, Row
from kash_pipeline.warehouse.windows import sql_frame

GROUP = "pennylane"
COMPLETE = "nothing_missing"

# What the entries that wait name: only that has to exist in PennyLane, not all that the shop file could name.
_NAMED_BY_READY = """
select distinct l.account, l.customer_id, p.journal
from kash.publication as p
join kash.entry_lines as l on l.shop_id = p.shop_id and l.entry_key = p.base_key
where p.shop_id = :shop and p.state = 'ready'
"""

_STATES = {
    "verified": "verified",
    "superseded": "corrected",
    "ready": "waiting",
    "sending": "waiting",
    "sent": "waiting",
    "refused": "refused",
    "held": "held",
}


def pennylane_key(shop: ShopFile, name: str) -> dg.AssetKey:
    return dg.AssetKey([shop.shop.id, "pennylane", name])


def company_pool(shop: ShopFile) -> str:
    """Name of the pool that lets one step at a time publish to the shop's company."""
    return f"pennylane_{shop.shop.siren or shop.shop.id}"


def publishing_assets(shop: ShopFile) -> list[dg.AssetsDefinition]:
    """PennyLane's assets of a shop; none without [pennylane] in its file."""
    return [_company(shop), _published(shop)] if shop.pennylane else []


def _company(shop: ShopFile) -> dg.AssetsDefinition:
    def spec(name: str, description: str, deps: list[dg.AssetKey]) -> dg.AssetSpec:
        return dg.AssetSpec(
            pennylane_key(shop, name),
            deps=deps,
            description=description,
            group_name=GROUP,
            kinds={"python", "postgres"},
            owners=["team:accounting"],
            tags={"shop": shop.shop.id},
            metadata={"dagster/table_name": f"kash.pennylane_{name}"},
        )

    waiting = entries_key(shop)

    @dg.multi_asset(
        name=f"{shop.shop.id}__pennylane_company",
        specs=[
            spec("journals", "Journals of the company by code; a register's journal is found or made once.", [waiting]),
            spec("accounts", "Ledger accounts by number; those that waiting entries use are found or made.", [waiting]),
            spec(
                "customers",
                "Customers that waiting entries name, with their accounts; found or made once.",
                [waiting, reference_key(shop, "customers")],
            ),
        ],
        pool=company_pool(shop),
        # Customers are left out of the hourly look.
        can_subset=True,
        check_specs=[
            dg.AssetCheckSpec(
                COMPLETE,
                asset=pennylane_key(shop, "accounts"),
                description=(
                    "The company has every journal, account and customer that waiting entries name, and none is "
                    "disabled; entries that name another one wait, the others are sent."
                ),
            )
        ],
    )
    def company(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[sa.Engine],
        lake: dg.ResourceParam[Lake],
        pennylane: dg.ResourceParam[OpenPennylane],
    ) -> StepEvents:
        with warehouse.connect() as connection:
            named = sql_frame(connection, _NAMED_BY_READY, shop=shop.shop.id)
        try:
            with pennylane(warehouse) as client:
                me = client.me()
                sync = (client, warehouse, shop, me.company_id)
                own = [] if shop.shop.named_customers != "own_account" else named["customer_id"].dropna().unique()
                missing: list[ReferenceMissing] = []
                journals = _unless_missing(missing, reference.sync_journals, *sync, also=named["journal"].unique())
                # Named customers stand on accounts of their own, not on the account their lines name.
                numbers = named.loc[~named["customer_id"].isin(own), "account"].unique()
                accounts = _unless_missing(missing, reference.sync_accounts, *sync, also=numbers)
                today = store.business_day(shop, datetime.now(UTC))
                customers, in_step = {}, InStep()
                if pennylane_key(shop, "customers") in context.selected_asset_keys:
                    described = lake.read_reference("customers")
                    if shop.shop.named_customers == "own_account" and (len(own) or stored_customers(*sync[1:])):
                        # The whole list once a business day: a request per hundred customers.
                        listed = listed_at(*sync[1:])
                        due = listed is None or store.business_day(shop, listed) < today
                        in_step = keep_in_step(*sync, described, listing=due)
                    customers = _unless_missing(missing, sync_customers, *sync, described, own)
                years = reference.sync_fiscal_years(*sync)
                store.remember_company(warehouse, shop, me.company_id, today)
        except KashPipelineError as error:
            raise as_failure(error) from error
        counts = f"{len(journals)} journals, {len(accounts)} accounts, {len(customers)} customers"
        context.log.info("%s: %s in step", me.company_name, counts)
        results = [
            _found(shop, "journals", ("code", "id"), journals),
            _found(shop, "accounts", ("number", "id"), accounts),
            dg.MaterializeResult(
                asset_key=pennylane_key(shop, "customers"),
                # No names: personal data stays out of Dagster's records.
                metadata={
                    "named by waiting entries": len(customers),
                    "open fiscal years": sum(year.open for year in years),
                    **_told(in_step),
                },
            ),
        ]
        yield from (result for result in results if result.asset_key in context.selected_asset_keys)
        if not context.selected_asset_check_keys:
            return
        rows = [(error.message, error.next_step) for error in missing]
        yield dg.AssetCheckResult(
            check_name=COMPLETE,
            asset_key=pennylane_key(shop, "accounts"),
            passed=not missing,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"missing": table(("what", "next step"), rows)} if rows else {},
        )

    return company


def _unless_missing(
    missing: list[ReferenceMissing], sync: Callable[..., dict[str, int]], *args: Any, **options: Any
) -> dict[str, int]:
    """What is in step; a missing one is noted and keeps only the entries that name it from being sent."""
    try:
        return sync(*args, **options)
    except ReferenceMissing as error:
        missing.append(error)
        return {}


def _told(in_step: InStep) -> dict[str, dg.MetadataValue]:
    """What became of customers already there, by the till's numbers."""
    told: dict[str, dg.MetadataValue] = {"changed in PennyLane": dg.MetadataValue.int(len(in_step.updated))}
    if in_step.listed is not None:
        told["customers of the company"] = dg.MetadataValue.int(in_step.listed)
    if in_step.left_alone:
        told["left alone"] = table(("customer", "why"), in_step.left_alone)
    for what, numbers in (("deleted in PennyLane", in_step.gone), ("under another id or account", in_step.moved)):
        if numbers:
            told[what] = dg.MetadataValue.text(", ".join(numbers[:100]))
    return told


def _found(shop: ShopFile, name: str, columns: tuple[str, str], ids: dict[str, int]) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        asset_key=pennylane_key(shop, name),
        metadata={"dagster/row_count": len(ids), "ids": table(columns, sorted(ids.items()))},
    )


def _published(shop: ShopFile) -> dg.AssetsDefinition:
    key = published_key(shop)

    @dg.asset(
        key=key,
        deps=[entries_key(shop), *(pennylane_key(shop, name) for name in ("journals", "accounts", "customers"))],
        partitions_def=business_days(shop),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=company_pool(shop),
        description=(
            "Entries of a business day as they stand in PennyLane: each posted once, read back, and compared line by "
            "line. What is held, refused or unclear is listed and waits; nothing of a person's is touched."
        ),
        group_name=GROUP,
        kinds={"python", "postgres"},
        owners=["team:accounting"],
        tags={"shop": shop.shop.id},
        metadata={"dagster/table_name": "kash.publication"},
        check_specs=[
            dg.AssetCheckSpec(
                "all_arrived",
                asset=key,
                description=(
                    "Every entry of these days that may be sent is in PennyLane; none of any other day is still "
                    "refused, held, or the missing half of a correction."
                ),
            ),
            dg.AssetCheckSpec(
                "ledger_as_sent", asset=key, description="What PennyLane holds equals what was sent, line by line."
            ),
        ],
    )
    def published_entries(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[sa.Engine],
        lake: dg.ResourceParam[Lake],
        pennylane: dg.ResourceParam[OpenPennylane],
        progress: dg.ResourceParam[Progress],
    ) -> StepEvents:
        ledger = PublicationLedger(warehouse, shop.shop.id)
        reports: list[PublishReport] = []
        first, last = (date.fromisoformat(pick(context.partition_keys)) for pick in (min, max))
        to_send = len(ledger.ready(first, last))
        before = 0

        def sent(done: int, _of: int) -> None:
            progress("pennylane/entries", min(before + done, to_send), to_send)

        try:
            with pennylane(warehouse) as client:
                customers = lake.read_reference("customers") if lake.has_reference("customers") else None
                publisher = Publisher(client, warehouse, shop, customers=customers, lake=lake)

                def one_month(days: list[date]) -> list[Day]:
                    nonlocal before
                    report = publisher.publish(days[0], days[-1], progress=sent)
                    reports.append(report)
                    before += report.posted + report.adopted + len(report.problems)
                    return _figures(days, report, ledger.status_by_day(days[0], days[-1]))

                yield from run_by_month(
                    context,
                    key,
                    one_month,
                    progress=progress,
                    contract=False,
                    checks=lambda: _checks(reports, ledger.rows(states=["refused", "held"])),
                    notes=lambda: _notes(reports),
                )
        except KashPipelineError as error:
            raise as_failure(error) from error

    return published_entries


def _figures(days: list[date], report: PublishReport, status: pd.DataFrame) -> list[Day]:
    """Entries of each day by what became of them.

    `posted` and `corrected_now` are those of this run; `to_correct` stand there and in `verified`, but the books now
    say otherwise and a person or the shop file decides.
    """
    counts = status.assign(business_day=status["business_day"].dt.date, to=status["state"].map(_STATES))
    table_ = counts.pivot_table(index="business_day", columns="to", values="entries", aggfunc="sum", fill_value=0)
    names = list(dict.fromkeys(_STATES.values()))
    table_ = table_.reindex(index=days, columns=names, fill_value=0).astype("int64")
    corrected, to_correct = (
        Counter(problem.business_day for problem in found) for found in (report.corrections, report.to_correct)
    )
    return [
        Day(
            day,
            sum(row),
            {
                "posted": report.posted_by_day[day],
                "corrected_now": corrected[day],
                "to_correct": to_correct[day],
                **dict(zip(names, row, strict=True)),
            },
        )
        for day, row in zip(days, table_.to_numpy().tolist(), strict=True)
    ]


def _notes(reports: list[PublishReport]) -> dict[str, dg.MetadataValue]:
    posted, corrected, requests = (
        sum(getattr(report, name) for report in reports) for name in ("posted", "corrected", "requests")
    )
    notes: dict[str, dg.MetadataValue] = {
        "requests": dg.MetadataValue.int(requests),
        "entries corrected": dg.MetadataValue.int(corrected),
        "groups of customers' lines lettered": dg.MetadataValue.int(sum(report.lettering.groups for report in reports)),
        "seconds publishing": dg.MetadataValue.float(round(sum(report.seconds for report in reports), 1)),
    }
    if attached := sum(report.attached for report in reports):
        notes["entries posted with Z evidence"] = dg.MetadataValue.int(attached)
    if unclosed := sum(report.unclosed for report in reports):
        notes["register-days without a closing entry for Z evidence"] = dg.MetadataValue.int(unclosed)
    corrections = sorted(
        (problem.business_day, problem.register_id, problem.key, problem.why)
        for report in reports
        for problem in report.corrections
    )
    if corrections:
        notes["corrections"] = table(("day", "register", "entry", "corrected by"), corrections)
    if posted:
        notes["requests per entry posted"] = dg.MetadataValue.float(round(requests / posted, 3))
    return notes


def _checks(reports: list[PublishReport], aside: list[Row]) -> Iterator[dg.AssetCheckResult]:
    """`aside` are the ledger's rows of all days that nobody sends before a person acted: told until then, not once."""
    missing = {
        what: [problem for report in reports for problem in getattr(report, what)]
        for what in ("half_corrected", "refused", "held", "blocked", "waiting", "to_correct")
    }
    told = {problem.key for problems in missing.values() for problem in problems}
    missing["from an earlier run"] = [
        Problem(row.key, row.business_day, row.register_id, why, why)
        for row in aside
        if row.key not in told
        for why in [f"{row.state}: {row.error}; mend it, then kash-pipeline pennylane retry"]
    ]
    yield _check("all_arrived", missing)
    yield _check("ledger_as_sent", {"differing": [problem for report in reports for problem in report.differing]})


def _check(name: str, problems: dict[str, list[Problem]]) -> dg.AssetCheckResult:
    rows = [
        (problem.business_day, problem.register_id, problem.key, what, problem.on_record)
        for what, found in problems.items()
        for problem in found
    ]
    columns = ("day", "register", "entry", "what", "why")
    return dg.AssetCheckResult(
        check_name=name,
        passed=not rows,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"entries": len(rows), **({"which": table(columns, sorted(rows))} if rows else {})},
    )
