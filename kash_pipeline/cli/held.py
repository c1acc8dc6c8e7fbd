"""`kash-pipeline held`: the register-days that wait, by what a person has to do.

Only options and printing belong here; what holds a day is decided in accounting/, how days are grouped in
kash_pipeline/reference/release.py.
"""

from pathlib import Path

import click
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kash_pipeline.cli.console import console
from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.reference.release import held_reasons, next_steps, register_days


@click.command()
@shop_option
@click.option("--reason", help="Only what is held for this reason, such as unmapped_method.")
@click.option("--all", "--days", "every", is_flag=True, help="Every register-day with what holds it, not their number.")
def held(shop_path: Path | None, reason: str | None, every: bool) -> None:
    """Register-days that wait, by the next step that cures them, the oldest first.

    Exit code 0: nothing waits; 2: something does; 1: it could not work.
    """
    with opened(shop_path) as (shop, engine, _):
        found = held_reasons(engine, shop)
    out = console()
    own = found if reason is None else found[found["reason"] == reason]
    name = escape(shop.shop.name)
    if own.empty:
        others = ", ".join(sorted(set(found["reason"])))
        said = f" for {escape(reason)}" if reason else ""
        out.print(
            f"{name}: nothing is held{said}" + (f" (other reasons: {others})" if others else ""),
            highlight=False,
            soft_wrap=True,
        )
        return
    out.print(
        f"{name}: {_counted(register_days(own))} held, since {own['business_day'].min():%Y-%m-%d}", highlight=False
    )
    if every:
        _print_days(out, own)
    else:
        print_steps(out, own)
    out.print("after the mend [bold]kash-pipeline release[/bold] builds them, and no other days", highlight=False)
    raise SystemExit(2)


def print_steps(out: Console, found: pd.DataFrame) -> None:
    """Held reasons (`held_reasons`) by next step. No line is broken: many are to be copied into the shop file."""
    for step in next_steps(found):
        days = _counted(step.register_days)
        lines = [f"[yellow]{step.reason}[/yellow]: {days} held, since {step.oldest_day}"]
        lines += [f"  {escape(step.what)}", f"  → {escape(step.next_step)}"]
        if step.others:
            lines.append(f"  {step.others} others, of other days: held --reason {step.reason} --all")
        out.print("\n".join(lines), highlight=False, soft_wrap=True)


def _counted(days: int) -> str:
    return f"{days:,} register-day{'s' if days != 1 else ''}"


def _print_days(out: Console, found: pd.DataFrame) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("business day", "register", "reason", "what", "next step"):
        table.add_column(column, overflow="fold")
    for row in found.itertuples():
        cells = (f"{row.business_day:%Y-%m-%d}", row.register_id, row.reason, row.what, row.next_step)
        table.add_row(*(escape(str(cell)) for cell in cells))
    out.print(table, highlight=False)
