"""`kash-pipeline release`: builds exactly the held days whose reasons are cured.

Only options and printing belong here; which days are cured is kash_pipeline/reference/release.py, runs are
defs/runs.py.
"""

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import click
import sqlalchemy as sa
from rich.console import Console
from rich.markup import escape

from kash_pipeline.cli.console import console
from kash_pipeline.cli.held import print_steps
from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.cli.progress import run_progress, say_problems
from kash_pipeline.reference.release import Outlook, held_reasons, outlook, runs_of
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger

SHOWN = 12
"""How many stretches of days are printed; their number is always exact."""


@click.command()
@shop_option
@click.option("--publish", is_flag=True, help="Send these days as well; without it the next run or sensor does.")
@click.option("--dry-run", is_flag=True, help="Only say which days would be built.")
def release(shop_path: Path | None, publish: bool, dry_run: bool) -> None:
    """Build the held days whose reasons are cured by now, and no others.

    Exit code 0: nothing waits any more (with --dry-run: nothing would); 2: something still does; 1: it could not work.
    """
    out = console()
    with opened(shop_path) as (shop, engine, env):
        with run_progress(out) as progress:
            found = outlook(
                engine,
                shop,
                Lake(env.lake_url, shop.shop.id),
                progress=lambda done, of: progress("release", "held days tried", done, of),
            )
        stretches = runs_of(found.cured)
        _say_cured(out, shop, found, stretches, "would be built" if dry_run else "cured")
        waiting = False
        if stretches and not dry_run:
            if not _build(out, shop, env, stretches, publish=publish):
                sys.exit(1)
            waiting = publish and _say_sent(out, shop, engine, stretches)
        # What the runs left, not what was foreseen: facts may have come in between.
        still = found.still_held if dry_run else held_reasons(engine, shop)
    if len(still):
        out.print("still held:")
        print_steps(out, still)
    sys.exit(2 if waiting or len(still) else 0)


def _say_cured(out: Console, shop: ShopFile, found: Outlook, stretches: Sequence[Sequence[date]], verb: str) -> None:
    name = f"[bold]{escape(shop.shop.name)}[/bold]"
    if not stretches:
        waits = "nothing waits" if found.still_held.empty else "none of the days that wait is cured"
        out.print(f"{name}: {waits}", highlight=False)
        return
    shown = [f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}" for days in stretches]
    more = f" and {len(shown) - SHOWN} more stretches" if len(shown) > SHOWN else ""
    number = f"{len(found.cured)} day" + ("" if len(found.cured) == 1 else "s")
    out.print(f"{name}: {number} {verb}: {', '.join(shown[:SHOWN])}{more}", highlight=False)


def _build(
    out: Console, shop: ShopFile, env: Environment, stretches: Sequence[Sequence[date]], *, publish: bool
) -> bool:
    """One run a stretch; False, with what to do on standard error, when one did not work."""
    # Dagster takes two seconds to import: only now is it sure to be needed.
    from kash_pipeline.defs.instance import open_instance
    from kash_pipeline.defs.runs import run_days

    stages = ("entries", "publish") if publish else ("entries",)
    total = sum(len(days) for days in stretches)
    before = 0
    with open_instance(env) as instance, run_progress(out) as progress:

        def told(stage: str, asset: str, done: int, asked: int) -> None:
            if asset == "accounting/entries":
                progress("release", "days built", before + done, total)
            elif asset == "pennylane/entries" and asked:
                progress(stage, f"entries sent of {days[0]}", done, asked)

        for days in stretches:
            result = run_days(shop, days[0], days[-1], instance=instance, environment=env, stages=stages, progress=told)
            say_problems(result, f"{days[0]} to {days[-1]}")
            if not result.worked:
                return False
            before += len(days)
    if not publish and shop.pennylane is not None:
        out.print("the next publishing run sends them (or: release --publish)")
    return True


def _say_sent(out: Console, shop: ShopFile, engine: sa.Engine, stretches: Sequence[Sequence[date]]) -> bool:
    """Print what became of the entries of these days; True when some are not in PennyLane."""
    if shop.pennylane is None:
        return False
    ledger = PublicationLedger(engine, shop.shop.id)
    counts: dict[str, int] = {}
    for days in stretches:
        for row in ledger.status_by_day(days[0], days[-1]).itertuples():
            counts[str(row.state)] = counts.get(str(row.state), 0) + int(row.entries)
    arrived = sum(counts.get(state, 0) for state in ("verified", "superseded"))
    out.print(f"{arrived} entries of these days stand in PennyLane")
    others = {state: number for state, number in counts.items() if state not in ("verified", "superseded", "held")}
    if others:
        told = ", ".join(f"{number} {state}" for state, number in sorted(others.items()))
        out.print(f"  not sent: {told}; [bold]kash-pipeline plan[/bold] says why")
    return bool(others)
