"""Entries as a daily asset: facts of the lake to entries, held days and ledger rows in PostgreSQL, month by month.

Only the shell belongs here: which days, which facts, one transaction per month, and the checks over what was built.
Every rule is in accounting/, what may be sent in warehouse/ledger.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from kash_pipeline import accounting, reconciliation
from kash_pipeline.accounting import proofs
from kash_pipeline.defs.daily import (
    CONTRACT,
    Day,
    Progress,
    StepEvents,
    as_failure,
    hold_to_contract,
    run_by_month,
    table,
)
from kash_pipeline.defs.partitions import business_days
from kash_pipeline.defs.pos import pos_key
from kash_pipeline.defs.reference import TABLES, reference_key
from kash_pipeline.defs.table_schema import table_schema
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.reference import following
from kash_pipeline.reference.building import BUILT, Builder
from kash_pipeline.reference.release import by_reason, held_reasons, next_steps, register_days, runs_of
from kash_pipeline.schemas.columns import business_day_of
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES, HELD, NOTICES
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ShopFile, bp_to_rate
from kash_pipeline.warehouse import windows
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger

GROUP = "accounting"

MENDED_BY_MAPPING = {
    "methods_mapped": ("unmapped_method", "unknown_method"),
    "rates_mapped": ("unmapped_vat", "unmapped_sales"),
    "registers_mapped": ("unknown_register",),
    "movements_mapped": ("unmapped_cash_movement",),
}
"""Checks, and the reasons of held days each is for: after the mend `kash-pipeline release` builds these days."""

FACTS_AGREE = "facts_agree"
"""Check of every other reason: what the till says does not add up, which no line of the shop file mends."""


def entries_key(shop: ShopFile) -> dg.AssetKey:
    return dg.AssetKey([shop.shop.id, "accounting", "entries"])


def accounting_assets(shop: ShopFile) -> list[dg.AssetsDefinition]:
    """accounting/entries of one shop."""
    key = entries_key(shop)

    def check(name: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(name, asset=key, description=description, blocking=blocking)

    @dg.asset(
        key=key,
        deps=[
            *(pos_key(shop, name) for name in ("sales", "payments", "closings")),
            *(reference_key(shop, name) for name in TABLES),
        ],
        partitions_def=business_days(shop),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=(
            "Balanced entries of a business day with their lines, the register-days that are held with reason and next "
            "step, and what may be sent: entries, lines, held days, notices and the publication ledger change in one "
            "transaction."
        ),
        group_name=GROUP,
        kinds={"python", "postgres"},
        owners=["team:accounting"],
        tags={"shop": shop.shop.id},
        metadata={
            "dagster/column_schema": table_schema(ENTRIES, ENTRY_LINES, HELD, NOTICES),
            "dagster/table_name": "kash.entries",
        },
        check_specs=[
            check(CONTRACT, "Columns, types and units are those of kash_pipeline/schemas/entries.py.", blocking=True),
            check("no_held_days", "No register-day of the shop waits for a cure; otherwise each with its next step."),
            *(
                check(name, f"No register-day waits for {', '.join(found)}.")
                for name, found in MENDED_BY_MAPPING.items()
            ),
            check(FACTS_AGREE, "No register-day waits because what the till says does not add up."),
            check("entries_balance", "Debits equal credits in every entry, and its lines sum to its totals."),
            check(
                "entries_equal_facts",
                "Takings per day, register and method, net sales and VAT per rate: entries equal the till's facts.",
            ),
            check(
                "clearing_accounts_zero",
                "The clearing accounts of counter orders (R and S) hold nothing but the open items listed as notices.",
            ),
            check(
                "later_days_follow",
                "Days built earlier still follow from what the days of this run leave open; others have to be built "
                "again.",
            ),
        ],
    )
    def entries(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[sa.Engine],
        lake: dg.ResourceParam[Lake],
        progress: dg.ResourceParam[Progress],
    ) -> StepEvents:
        ledger = PublicationLedger(warehouse, shop.shop.id)
        proof = Proof(shop)
        first, last = (date.fromisoformat(pick(context.partition_keys)) for pick in (min, max))
        try:
            builder = Builder(warehouse, lake, shop, first)
        except KashPipelineError as error:
            raise as_failure(error) from error

        def one_month(days: list[date]) -> list[Day]:
            carry = builder.carry
            facts, built = builder.build(days)
            frames = {name: getattr(built, name) for name in BUILT}
            hold_to_contract({name: (frames[name], schema) for name, schema in BUILT.items()})
            with warehouse.begin() as connection:
                windows.replace_entries(connection, shop.shop.id, days, **frames)
                following.note(connection, shop, days, carry)
                synced = ledger.sync(connection, built.entries, built.held, days)
            proof.add(facts, built, len(synced.changed_after_sending))
            return _figures(days, frames)

        def checks() -> Iterator[dg.AssetCheckResult]:
            yield from _checks(warehouse, shop, proof)
            yield _later_days(following.followers(warehouse, shop, builder, last))

        yield from run_by_month(
            context,
            key,
            one_month,
            progress=progress,
            checks=checks,
            notes=lambda: {"to correct in the ledger": dg.MetadataValue.int(proof.to_correct)},
        )

    return [entries]


def _figures(days: list[date], frames: Mapping[str, pd.DataFrame]) -> list[Day]:
    entries, held, notices = (frames[name] for name in ("entries", "held", "notices"))
    per_day = entries.groupby(entries["business_day"].dt.date).agg(
        entries=("entry_key", "size"), lines=("lines", "sum"), debit_cents=("debit_cents", "sum")
    )
    registers = held[["business_day", "register_id"]].drop_duplicates()
    counts = per_day.join(registers["business_day"].dt.date.value_counts().rename("held_registers"), how="outer")
    counts = counts.join(notices["business_day"].dt.date.value_counts().rename("notices"), how="outer")
    counts = counts.reindex(days).fillna(0).astype("int64")
    return [
        Day(day, int(row["entries"]), {str(name): int(value) for name, value in row.items()})
        for day, (_, row) in zip(days, counts.iterrows(), strict=True)
    ]


OPEN_ITEMS = ("unpaid_order", "paid_earlier", "late_payment", "early_payment")
"""Notices whose amounts are what R and S hold together (accounting/closings.py)."""


@dataclass
class Proof:
    """What the months built so far prove, kept as the rows that fail and the number of those compared."""

    shop: ShopFile
    to_correct: int = 0
    entries: int = 0
    unbalanced: list[Sequence[object]] = field(default_factory=list)
    sums: int = 0
    differences: list[Sequence[object]] = field(default_factory=list)
    days: int = 0
    not_listed: list[Sequence[object]] = field(default_factory=list)
    listed_cents: int = 0

    def add(self, facts: Facts, built: accounting.BuildResult, to_correct: int) -> None:
        """Compare one month: entries with their lines, with the till's facts, and R and S with what is listed."""
        self.to_correct += to_correct
        entries, lines, held = built.entries, built.entry_lines, built.held
        self.entries += len(entries)
        failing: dict[str, Sequence[object]] = {}
        for what, found in (
            ("debits are not credits", proofs.unbalanced(lines)),
            ("a line with both sides or none", proofs.two_sided(lines)),
            ("its totals are not those of its lines", proofs.not_as_told(entries, lines)),
        ):
            for row in found.itertuples(index=False):
                failing.setdefault(str(row.entry_key), (row.entry_key, what, row.debit_cents, row.credit_cents))
        self.unbalanced += failing.values()
        self._takings(proofs.takings(facts, entries, lines, held), len(facts.payments))
        self._rates(facts, built)
        self._clearing(built)

    def _takings(self, differing: pd.DataFrame, compared: int) -> None:
        self.sums += compared
        for row in differing.itertuples(index=False):
            of = f"{row.register_id}, method {row.method_id}"
            self.differences.append((f"{row.business_day:%Y-%m-%d}", of, "takings", row.till_cents, row.books_cents))

    def _rates(self, facts: Facts, built: accounting.BuildResult) -> None:
        """Net and VAT per rate, where the till says them; a till that does not has nothing to compare with."""
        orders = _not_held(facts.orders, built.held)
        lines = facts.order_lines[facts.order_lines["order_id"].isin(orders["order_id"])]
        told = reconciliation.till_by_rate(orders, lines, facts.order_vat)
        if told.empty:
            return
        booked = reconciliation.entries_by_rate(built.entries, built.entry_lines)
        sides = reconciliation.side_by_side(
            told[["vat_rate_bp", "net_cents", "vat_cents"]], booked, None, "vat_rate_bp"
        )
        self.sums += 2 * len(sides)
        month = f"{facts.orders['business_day'].min():%Y-%m}"
        for row in sides[~sides["agree"]].itertuples(index=False):
            of = f"VAT rate {bp_to_rate(row.vat_rate_bp)}"
            for figure in ("net_cents", "vat_cents"):
                till, books = getattr(row, f"till_{figure}"), getattr(row, f"entries_{figure}")
                if till != books:
                    self.differences.append((month, of, figure.removesuffix("_cents"), till, books))

    def _clearing(self, built: accounting.BuildResult) -> None:
        """Day by day, R and S together move by what that day's notices list. A day with a held register is left out:
        an order and its payment may stand on two registers."""
        accounts = {account for period in self.shop.chart for account in (period.takings_to_come, period.takings_paid)}
        lines = built.entry_lines
        lines = lines[lines["account"].astype("str").isin(accounts) & lines["customer_id"].isna()]
        days = business_day_of(lines["entry_key"], built.entries, "entry_key")
        moved = (lines["debit_cents"] - lines["credit_cents"]).groupby(days).sum()
        open_items = built.notices[built.notices["code"].isin(OPEN_ITEMS)]
        listed = open_items.groupby("business_day")["amount_cents"].sum()
        both = pd.DataFrame({"moved": moved, "listed": listed}).fillna(0).astype("int64")
        both = both[~both.index.isin(built.held["business_day"])]
        self.days += built.entries["business_day"].nunique()
        self.listed_cents += int(both["listed"].sum())
        for day, row in both[both["moved"] != both["listed"]].iterrows():
            self.not_listed.append((f"{day:%Y-%m-%d}", int(row["moved"]), int(row["listed"])))


def _not_held(rows: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """Rows of register-days that have entries."""
    if held.empty:
        return rows
    keys = ["business_day", "register_id"]
    waiting = held[keys].astype({"register_id": "str"}).drop_duplicates().assign(waits=True)
    marked = rows[keys].astype({"register_id": "str"}).merge(waiting, on=keys, how="left")
    return rows[marked["waits"].isna().to_numpy()]


def _checks(warehouse: sa.Engine, shop: ShopFile, proof: Proof) -> Iterator[dg.AssetCheckResult]:
    """The business rules: none of them stops a run, each names what a person has to look at."""
    held = held_reasons(warehouse, shop)
    rows = [
        (f"{row.business_day:%Y-%m-%d}", row.register_id, row.reason, row.what, row.next_step)
        for row in held.itertuples()
    ]
    reasons = [(row.reason, row.register_days, f"{row.oldest_day:%Y-%m-%d}") for row in by_reason(held).itertuples()]
    # One check a reason for what a line in the shop file mends: each has its own history of passing and failing.
    mended = [reason for found in MENDED_BY_MAPPING.values() for reason in found]
    for name, found in MENDED_BY_MAPPING.items():
        yield _waiting(name, held[held["reason"].isin(found)])
    yield _waiting(FACTS_AGREE, held[~held["reason"].isin(mended)])
    yield dg.AssetCheckResult(
        check_name="no_held_days",
        passed=held.empty,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "held register-days": register_days(held),
            **({"by reason": table(("reason", "register-days", "oldest day"), reasons)} if reasons else {}),
            **({"held": table(("day", "register", "reason", "what", "next step"), rows)} if rows else {}),
        },
    )
    yield _result("entries_balance", proof.entries, ("entry", "what", "debit_cents", "credit_cents"), proof.unbalanced)
    yield _result("entries_equal_facts", proof.sums, ("when", "of", "figure", "till", "entries"), proof.differences)
    yield _result(
        "clearing_accounts_zero",
        proof.days,
        ("day", "moved_cents", "listed_cents"),
        proof.not_listed,
        listed_cents=proof.listed_cents,
    )


def _waiting(name: str, held: pd.DataFrame) -> dg.AssetCheckResult:
    """Passes when no register-day of the shop is held for the reasons of `held`, whichever days were built."""
    steps = [
        (step.reason, step.register_days, step.oldest_day, step.what, step.next_step, step.others or "")
        for step in next_steps(held)
    ]
    columns = ("reason", "register-days", "oldest day", "what", "next step", "others")
    return dg.AssetCheckResult(
        check_name=name,
        passed=held.empty,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={}
        if held.empty
        else {
            "register-days": register_days(held),
            "oldest day": f"{held['business_day'].min():%Y-%m-%d}",
            "next steps": table(columns, steps),
        },
    )


def _later_days(found: following.Followers) -> dg.AssetCheckResult:
    stretches = [(days[0], days[-1], len(days)) for days in runs_of(found.differing)]
    return dg.AssetCheckResult(
        check_name="later_days_follow",
        passed=not stretches,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "compared": found.compared,
            "failing": len(found.differing),
            **(
                {
                    "which": table(("from", "to", "days"), stretches),
                    "next step": "materialize accounting/entries of these days, or kash-pipeline run --from --to",
                }
                if stretches
                else {}
            ),
        },
    )


def _result(
    name: str, compared: int, columns: Sequence[str], failing: Sequence[Sequence[object]], **figures: int
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=not failing,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "compared": compared,
            **figures,
            "failing": len(failing),
            **({"which": table(columns, failing)} if failing else {}),
        },
    )
