"""What the five daily assets have in common: months one after the other, days recorded one by one, one line of log.

Only bookkeeping of runs belongs here: no table is read or written, no rule is applied. A failure in the seventh month
leaves the six before it written *and* recorded, which Dagster alone would not do (it records a step's days at its end).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias

import dagster as dg
import pandas as pd
import pandera.errors
import pandera.pandas as pa

from kash_pipeline.defs.partitions import by_month
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.reference.personal import shown

CONTRACT = "contract"
"""Name of the check that a table is what its schema says."""

ROW_COUNT = "dagster/partition_row_count"
SAMPLE = 20
"""How many rows a check shows; their number is always exact."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with an asset's name (`pos/sales`), days done and days asked for, after every month."""

StepEvents: TypeAlias = Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]


def no_progress(_asset: str, _done: int, _asked: int) -> None:
    """For runs nobody watches from a terminal."""


@dataclass(frozen=True)
class Day:
    """What one partition holds: rows of its main table, and counts and totals by name (`gross_cents`: cents)."""

    day: date
    rows: int
    figures: Mapping[str, int] = field(default_factory=dict)


class ContractBroken(KashPipelineError):
    """A table is not what its schema says. `cases` are rows of (table, column, rule, how many, example)."""

    def __init__(self, message: str, *, cases: Sequence[tuple[str, str, str, int, str]]) -> None:
        super().__init__(
            message, next_step="nothing of this month was written; report it with the cases of the contract check"
        )
        self.cases = cases


def hold_to_contract(frames: Mapping[str, tuple[pd.DataFrame, pa.DataFrameSchema]]) -> None:
    """Validate frames by name against their schemas. Raises ContractBroken with every broken rule of every table."""
    cases: list[tuple[str, str, str, int, str]] = []
    for name, (frame, schema) in frames.items():
        unique = (schema.metadata or {}).get("unique", [])
        try:
            schema.validate(frame, lazy=True)
        except pandera.errors.SchemaErrors as error:
            found = error.failure_cases.fillna({"column": "", "check": ""})
            for (column, check), rows in found.groupby(["column", "check"], sort=True):
                example = shown(name, str(column), rows["failure_case"].iloc[0])
                cases.append((name, str(column), str(check), len(rows), example))
        else:
            repeated = frame.duplicated(unique) if unique else pd.Series(dtype=bool)
            if repeated.any():
                example = frame.loc[repeated, unique].iloc[0].tolist()
                cases.append((name, ", ".join(unique), "unique", int(repeated.sum()), str(example)))
    if cases:
        table, column, check, count, example = cases[0]
        raise ContractBroken(
            f"{table}.{column}: {check} broken by {count} rows, such as {example}"
            + (f"; {len(cases) - 1} more rules broken" if len(cases) > 1 else ""),
            cases=cases,
        )


def run_by_month(
    context: dg.AssetExecutionContext,
    key: dg.AssetKey,
    work: Callable[[list[date]], Sequence[Day]],
    *,
    progress: Progress = no_progress,
    contract: bool = True,
    checks: Callable[[], Iterable[dg.AssetCheckResult]] = tuple,
    notes: Callable[[], Mapping[str, dg.MetadataValue]] = dict,
) -> StepEvents:
    """The body of a daily asset: `work` does one month, given its days, and says what each of them holds.

    Ends with the contract check (of an asset that has one: `contract`), `checks`, and the materialization of every
    day with its own figures. When a month fails, the days before it are recorded at once and the log names the day
    from which to go on.
    """
    name = "/".join(key.path[1:])
    asked = len(context.partition_keys)
    done: list[Day] = []
    try:
        for days in by_month(context.partition_keys):
            done += work(days)
            progress(name, len(done), asked)
    except BaseException as error:  # whatever ends the step, a kill by the user too: what is written must be on record
        _record_before_failing(context, key, done, by_month(context.partition_keys))
        if isinstance(error, ContractBroken):
            yield dg.AssetCheckResult(
                check_name=CONTRACT, passed=False, metadata={"broken rules": table(_CASES, error.cases)}
            )
        if isinstance(error, KashPipelineError):
            raise as_failure(error) from error
        raise

    totals: Counter[str] = Counter()
    for day in done:
        totals.update(day.figures)
        context.add_asset_metadata({ROW_COUNT: day.rows, **day.figures}, partition_key=day.day.isoformat())
    said = ", ".join(f"{figure} {total:,}" for figure, total in totals.items())
    context.log.info("%s: %d days, %s to %s: %s", name, len(done), done[0].day, done[-1].day, said)
    if contract:
        yield dg.AssetCheckResult(check_name=CONTRACT, passed=True, metadata={"rows": sum(day.rows for day in done)})
    yield from checks()
    yield dg.MaterializeResult(metadata=dict(notes()))


_CASES = ("table", "column", "rule", "rows", "example")


def _record_before_failing(
    context: dg.AssetExecutionContext, key: dg.AssetKey, done: Sequence[Day], months: Sequence[Sequence[date]]
) -> None:
    for day in done:
        context.log_event(
            dg.AssetMaterialization(
                asset_key=key, partition=day.day.isoformat(), metadata={ROW_COUNT: day.rows, **day.figures}
            )
        )
    resume = next((days[0] for days in months if not done or days[0] > done[-1].day), None)
    kept = f"{done[0].day} to {done[-1].day} are written and recorded; " if done else ""
    context.log.error("%s stopped: %sgo on from %s", "/".join(key.path[1:]), kept, resume)


def as_failure(error: KashPipelineError) -> dg.Failure:
    """An error meant for the user as Dagster shows it: message and next step, and no retry, which would not help."""
    metadata = {"next step": error.next_step} if error.next_step else {}
    return dg.Failure(description=str(error), metadata=metadata, allow_retries=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MetadataValue:
    """Rows as Markdown, at most `SAMPLE` of them, with the number of those left out."""
    listed = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    lines += [f"| {' | '.join(row)} |" for row in listed[:SAMPLE]]
    if len(listed) > SAMPLE:
        lines.append(f"\nand {len(listed) - SAMPLE} more")
    return dg.MetadataValue.md("\n".join(lines))
