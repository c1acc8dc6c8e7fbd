"""`kash-pipeline release`: builds exactly the held days whose reasons are cured.

Only options and printing belong here; which days are cured is kash_pipeline/reference/release.py, runs are
defs/runs.py.
"""

import sys
from pathlib import Path

import click

from kash_pipeline.cli.console import console
from kash_pipeline.reference.release import by_reason, outlook, runs_of
from kash_pipeline.settings import Environment, load_shop
from kash_pipeline.warehouse import database, server
from kash_pipeline.warehouse.lake import Lake


@click.command()
@click.option("--shop", "shop_path", type=click.Path(path_type=Path), help="Shop file.  [default: KASH_SHOP]")
@click.option("--publish", is_flag=True, help="Send these days as well; without it the next run or sensor does.")
@click.option("--dry-run", is_flag=True, help="Only say which days would be built.")
def release(shop_path: Path | None, publish: bool, dry_run: bool) -> None:
    """Build the held days whose reasons are cured by now, and no others.

    Exit code 0: nothing waits any more; 2: some days still do; 1: it could not work.
    """
    env = Environment.read()
    shop = load_shop(shop_path or env.shop_path)
    engine = database.open_engine(server.database_url(env))
    try:
        database.upgrade(engine)
        found = outlook(engine, shop, Lake(env.lake_url, shop.shop.id))
    finally:
        engine.dispose()
    out = console()
    stretches = runs_of(found.cured)
    shown = ", ".join(f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}" for days in stretches)
    out.print(f"{shop.shop.name}: {len(found.cured)} days are cured" + (f": {shown}" if shown else ""), highlight=False)
    if stretches and not dry_run:
        from kash_pipeline.defs.instance import open_instance
        from kash_pipeline.defs.runs import run_days

        stages = ("entries", "publish") if publish else ("entries",)
        with open_instance(env) as instance:
            for days in stretches:
                result = run_days(shop, days[0], days[-1], instance=instance, environment=env, stages=stages)
                for problem in (problem for stage in result.stages for problem in stage.problems):
                    click.echo(f"kash-pipeline: {problem.message}\n  next step: {problem.next_step}", err=True)
                if not result.worked:
                    sys.exit(1)
        out.print("built and sent" if publish else "built; the next publishing run sends them (or release --publish)")
    for row in by_reason(found.still_held).itertuples():
        out.print(f"  still waits: {row.register_days} register-days for {row.reason}, since {row.oldest_day:%Y-%m-%d}")
    if len(found.still_held):
        out.print("[bold]kash-pipeline held[/bold] lists them with the next step")
        sys.exit(2)
