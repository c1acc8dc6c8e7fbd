"""`kash-pipeline held`: the register-days that wait, by what a person has to do, and entries PennyLane did not take.

Only options and printing belong here; what holds a day is decided in accounting/, how days are grouped in
kash_pipeline/reference/release.py, what becomes of an entry in pennylane/publisher.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kash_pipeline.cli.console import console
from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.pennylane.correcting import half_told
from kash_pipeline.reference.release import held_reasons, next_steps, register_days
from kash_pipeline.warehouse.ledger import PublicationLedger, Row


@click.command()
@shop_option
@click.option("--reason", help="Only what is held for this reason, such as unmapped_method.")
@click.option("--all", "--days", "every", is_flag=True, help="Every register-day with what holds it, not their number.")
def held(shop_path: Path | None, reason: str | None, every: bool) -> None:
    """Register-days that wait, by the next step that cures them, the oldest first; then entries refused by PennyLane.

    Exit code 0: nothing waits; 2: something does; 1: it could not work.
    """
    with opened(shop_path) as (shop, engine, _):
        found = held_reasons(engine, shop)
        ledger = PublicationLedger(engine, shop.shop.id)
        halves = {missing.key: standing for missing, standing in ledger.half_corrected()}
        aside = [] if reason is not None else ledger.rows(states=["refused", "held"])
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
        _print_entries(out, aside, halves)
        if aside:
            raise SystemExit(2)
        return
    out.print(
        f"{name}: {_counted(register_days(own))} held, since {own['business_day'].min():%Y-%m-%d}", highlight=False
    )
    if every:
        _print_days(out, own)
    else:
        print_steps(out, own)
    out.print("after the mend [bold]kash-pipeline release[/bold] builds them, and no other days", highlight=False)
    _print_entries(out, aside, halves)
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


def _print_entries(out: Console, rows: Sequence[Row], halves: Mapping[str, Row]) -> None:
    """What nobody sends before a person acted; `halves` has the other entry of a correction that stands by half."""
    for row in rows:
        why = row.error or row.state
        told = half_told(row, halves[row.key], why) if row.key in halves else why
        out.print(
            f"{row.business_day} {row.key} [yellow]{row.state}[/yellow]: {escape(told)}",
            highlight=False,
            soft_wrap=True,
        )
    if rows:
        first, last = (pick(row.business_day for row in rows) for pick in (min, max))
        out.print(
            f"after the mend [bold]kash-pipeline pennylane retry --from {first} --to {last}[/bold] lets them be sent",
            highlight=False,
            soft_wrap=True,
        )


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
