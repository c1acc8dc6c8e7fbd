"""A stretch of days from till to ledger as Dagster runs in this process: what `kash-pipeline run` does.

Only starting runs and reporting what came of them belongs here; printing is the command's business (cli/run.py).
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from kash_pipeline.defs.assembly import build_definitions
from kash_pipeline.defs.daily import ROW_COUNT, no_progress
from kash_pipeline.defs.instance import OWNER_TAG
from kash_pipeline.defs.jobs import BUILD_ENTRIES, EXTRACT, PUBLISH, REFERENCE_SYNC, range_tags
from kash_pipeline.defs.partitions import as_day, business_days
from kash_pipeline.defs.reference import TABLES, reference_key
from kash_pipeline.errors import SettingsError
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.ledger import this_process

STAGES = {"reference": REFERENCE_SYNC, "facts": EXTRACT, "entries": BUILD_ENTRIES, "publish": PUBLISH}
"""Stages in their order, and the job of each."""

RunProgress = Callable[[str, str, int, int], None]
"""Called with stage, asset (`pos/sales`), days done and days asked for."""


@dataclass(frozen=True)
class Problem:
    """Why a step failed: the message, what to do about it, and the asset or step it happened in."""

    step: str
    message: str
    next_step: str


@dataclass(frozen=True)
class FailedCheck:
    """A check that found something; `detail` is its metadata as text, by label."""

    asset: str
    check: str
    blocking: bool
    detail: dict[str, str]


@dataclass(frozen=True)
class StageResult:
    """One Dagster run. `figures`: sums over the days of each asset (`pos/sales` -> `gross_cents`)."""

    stage: str
    run_id: str
    seconds: float
    problems: tuple[Problem, ...]
    failed_checks: tuple[FailedCheck, ...]
    figures: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def worked(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class DaysResult:
    """The stages that ran, in order; after one that did not work no other is started."""

    first: date
    last: date
    stages: tuple[StageResult, ...]

    @property
    def worked(self) -> bool:
        return all(stage.worked for stage in self.stages)


def run_days(
    shop: ShopFile,
    first: date,
    last: date,
    *,
    instance: dg.DagsterInstance,
    environment: Environment | None = None,
    progress: RunProgress | None = None,
    stages: Sequence[str] = tuple(STAGES),
    verbose: bool = False,
    **resource_overrides: Any,
) -> DaysResult:
    """Reference sync, facts, entries and marts, publishing, for `first..last`: one Dagster run each, in this order.

    A shop without [pennylane] has no last stage. Failures are data (`StageResult.problems`), not exceptions; only days
    that the shop does not have (before its first [[chart]], after today) raise SettingsError.
    """
    _within_business_days(shop, first, last)
    now = ""

    def told(asset: str, done: int, asked: int) -> None:
        if progress:
            progress(now, asset, done, asked)

    definitions = build_definitions(
        shop, environment=environment, **({"progress": told if progress else no_progress} | resource_overrides)
    )
    results = []
    for now in stages:
        if now == "publish" and not shop.pennylane:
            continue
        result = _run_stage(shop, definitions, now, first, last, instance, verbose=verbose)
        results.append(result)
        if not result.worked:
            break
    return DaysResult(first, last, tuple(results))


def _within_business_days(shop: ShopFile, first: date, last: date) -> None:
    """Dagster would run the days that exist and say nothing of the others."""
    days = business_days(shop)
    begin, end = (as_day(str(key)) for key in (days.get_first_partition_key(), days.get_last_partition_key()))
    if first < begin:
        raise SettingsError(
            f"{first} is before the first chart of {shop.path}, which starts on {begin}",
            next_step=f"begin on {begin}, or write a [[chart]] with from = {first.isoformat()}",
        )
    if last > end:
        raise SettingsError(f"{last} has not come yet", next_step=f"end on {end} or earlier")


def _run_stage(
    shop: ShopFile,
    definitions: dg.Definitions,
    stage: str,
    first: date,
    last: date,
    instance: dg.DagsterInstance,
    *,
    verbose: bool,
) -> StageResult:
    job = definitions.resolve_job_def(STAGES[stage])
    tags = {OWNER_TAG: this_process()} | (range_tags(first, last) if job.partitions_def else {})
    started = time.monotonic()
    result = job.execute_in_process(
        instance=instance,
        # Not PennyLane's side: a PennyLane that does not answer must not keep facts and entries from being made.
        asset_selection=[reference_key(shop, name) for name in TABLES] if stage == "reference" else None,
        raise_on_error=False,
        tags=tags,
        run_config={"loggers": {"console": {"config": {"log_level": "INFO" if verbose else "CRITICAL"}}}},
    )
    return StageResult(
        stage=stage,
        run_id=result.run_id,
        seconds=time.monotonic() - started,
        problems=tuple(_problems(result)),
        failed_checks=tuple(_failed_checks(result)),
        figures=_figures(result),
    )


def _problems(result: dg.ExecuteInProcessResult) -> list[Problem]:
    problems = []
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            told = data.user_failure_data
            text = told.description if told is not None and told.description else _told(data.error)
            problems.append(_problem(event.step_key or "", text, result.run_id))
    if not problems and not result.success:
        # A resource that did not open, or a run that could not start, has no failing step.
        failure = next((event for event in result.all_events if event.is_run_failure), None)
        problems.append(_problem("", _told(failure.job_failure_data.error if failure else None), result.run_id))
    return problems


_NEXT_STEP = "\n  next step: "


def _told(error: SerializableErrorInfo | None) -> str:
    """What to say of a chain of errors: the first one made for a user, else the deepest, which is where it began."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.cause or error.context
    if not chain:
        return "the run failed"
    chosen = next((item for item in chain if _NEXT_STEP in item.message), chain[-1])
    return chosen.message.strip().removeprefix(f"{chosen.cls_name}: ")


def _problem(step: str, text: str, run_id: str) -> Problem:
    message, _, next_step = text.partition(_NEXT_STEP)
    # The class of an error that was made for a user tells them nothing.
    message = re.sub(r"^kash_pipeline[\w.]*: ", "", message.strip())
    return Problem(step, message, next_step.strip() or f"see run {run_id} in Dagster's UI")


def _failed_checks(result: dg.ExecuteInProcessResult) -> list[FailedCheck]:
    failed = []
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed:
            failed.append(
                FailedCheck(
                    asset="/".join(evaluation.asset_key.path[1:]),
                    check=evaluation.check_name,
                    blocking=bool(evaluation.blocking),
                    detail={name: str(value.value) for name, value in evaluation.metadata.items()},
                )
            )
    return failed


def _figures(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, int]]:
    sums: dict[str, Counter[str]] = {}
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            materialization = event.step_materialization_data.materialization
            mine = sums.setdefault("/".join(materialization.asset_key.path[1:]), Counter())
            for name, value in materialization.metadata.items():
                if name != ROW_COUNT and isinstance(value, dg.IntMetadataValue) and value.value is not None:
                    mine[name] += value.value
    return {asset: dict(counts) for asset, counts in sums.items()}
