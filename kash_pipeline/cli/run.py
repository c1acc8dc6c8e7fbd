"""`kash-pipeline run`: extract, build and publish a stretch of days as Dagster runs, and say what came of it.

Only options, progress and the exit code belong here; the runs are defs/runs.py, the tables cli/summary.py.
"""

import resource
import sys
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table

from kash_pipeline import pennylane
from kash_pipeline.cli import summary
from kash_pipeline.cli.console import console
from kash_pipeline.cli.held import print_steps
from kash_pipeline.cli.opening import shop_option
from kash_pipeline.cli.options import Day
from kash_pipeline.cli.progress import run_progress, say_problems
from kash_pipeline.errors import SettingsError
from kash_pipeline.settings import Environment, ShopFile, load_shop
from kash_pipeline.warehouse import database, server
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger
from kash_pipeline.warehouse.publication import IN_PENNYLANE

if TYPE_CHECKING:
    from kash_pipeline.defs.runs import DaysResult, StageResult


@click.command()
@shop_option
@click.option("--from", "first", type=Day(), required=True, help="First business day, YYYY-MM-DD.")
@click.option("--to", "last", type=Day(), required=True, help="Last business day, YYYY-MM-DD.")
@click.option("--verbose", is_flag=True, help="Show Dagster's log.")
def run(shop_path: Path | None, first: date, last: date, verbose: bool) -> None:
    """Reference sync, facts, entries and publishing of these days, as Dagster runs. Run again, it posts nothing.

    Exit code 0: everything is sent and verified; 2: some days are held or refused; 1: it could not work.
    """
    env = Environment.read()
    shop = load_shop(shop_path or env.shop_path)
    sys.exit(run_and_report(shop, env, first, last, verbose=verbose))


def run_and_report(shop: ShopFile, env: Environment, first: date, last: date, *, verbose: bool = False) -> int:
    """The whole chain for `first..last`, with progress, tables and the exit code; see `run`."""
    if last < first:
        raise SettingsError(f"--to {last} is before --from {first}", next_step="give the first day first")
    # Dagster takes two seconds to import: only now is it sure to be needed.
    from kash_pipeline.defs.instance import open_instance
    from kash_pipeline.defs.runs import run_days

    out = console()
    out.print(f"[bold]{shop.shop.name}[/bold]: {first} to {last}")
    with ExitStack() as stack:
        instance = stack.enter_context(open_instance(env))
        engine = database.open_engine(server.database_url(env))
        stack.callback(engine.dispose)
        ledger = PublicationLedger(engine, shop.shop.id)
        before = _posted(ledger, first, last)
        with run_progress(out) as progress:
            result = run_days(shop, first, last, instance=instance, environment=env, progress=progress, verbose=verbose)
        _print_stages(out, result.stages)
        say_problems(result)
        lake = Lake(env.lake_url, shop.shop.id)
        client = stack.enter_context(pennylane.connect(shop, engine, env)) if shop.pennylane and result.worked else None
        found = summary.read_summary(shop, engine, lake, client, first, last)
        posted = _posted(ledger, first, last) - before
    summary.print_days(out, found)
    if len(found.rates):
        summary.print_sums(out, found)
    print_steps(out, found.held)
    _print_outcome(out, shop, found, posted, worked=result.worked)
    to_correct = _print_corrections(out, shop, result)
    if not result.worked:
        return 1
    totals = found.days.sum()
    waits = totals["held"] or totals["refused"] or (shop.pennylane and (totals["waiting"] or to_correct))
    if not found.agrees:
        click.echo("kash-pipeline: till, entries and ledger do not agree, see DIFFERENT above", err=True)
        click.echo("  next step: compare the days above in PennyLane; nothing more is sent for them", err=True)
    return 2 if waits or not found.agrees else 0


def _print_corrections(out: Console, shop: ShopFile, result: "DaysResult") -> int:
    """What became of entries whose facts changed after sending; how many still wait for a person."""
    figures = result.stages[-1].figures.get("pennylane/published_entries", {})
    if corrected := figures.get("corrected_now", 0):
        out.print(
            f"{corrected} entries sent before were corrected, because their facts changed: a reversal and a new entry "
            "each, which name it"
        )
    waiting = figures.get("to_correct", 0)
    if waiting:
        out.print(
            f"{waiting} entries sent before are otherwise than the books now say, and wait for a person: "
            f"[bold]kash-pipeline plan --from {result.first} --to {result.last} --entries --shop {shop.path}[/bold] "
            "says why"
        )
    return waiting


def _posted(ledger: PublicationLedger, first: date, last: date) -> int:
    status = ledger.status_by_day(first, last)
    return int(status[status["state"].isin(IN_PENNYLANE)]["entries"].sum())


def _print_stages(console: Console, stages: "tuple[StageResult, ...]") -> None:
    table = Table(title="Dagster runs", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for name in ("stage", "run", "seconds", "result"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for stage in stages:
        failed = [check.check for check in stage.failed_checks]
        outcome = "done" if stage.worked else "FAILED"
        table.add_row(
            stage.stage,
            stage.run_id[:8],
            f"{stage.seconds:.1f}",
            outcome + (f"; checks: {', '.join(failed)}" if failed else ""),
        )
    console.print(table)
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 * 1024 if sys.platform == "darwin" else 1024)
    console.print(f"peak memory of this process: {peak} MiB")


def _print_outcome(console: Console, shop: ShopFile, found: summary.Summary, posted: int, *, worked: bool) -> None:
    totals = found.days.sum() if len(found.days) else None
    if shop.pennylane is None:
        console.print("no \\[pennylane] in the shop file: entries are built, nothing is sent")
    elif worked and posted == 0:
        console.print("[bold]nothing to post[/bold]: everything that can be sent is in PennyLane already")
    elif posted:
        console.print(f"[bold]{posted} entries posted and read back[/bold]")
    if totals is not None and totals["held"]:
        console.print(f"{int(totals['held'])} register-days wait: [bold]kash-pipeline held[/bold] lists them")
