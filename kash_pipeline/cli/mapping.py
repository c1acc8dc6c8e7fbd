"""`kash-pipeline mapping propose|check|diff`: the [[chart]] of a shop file against both systems.

Only options and printing belong here; what is looked for is kash_pipeline/reference/.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kash_pipeline.cli.console import console
from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.cli.options import Day, ordered
from kash_pipeline.reference import store
from kash_pipeline.reference.changes import Line, report
from kash_pipeline.reference.mapping import LEVELS
from kash_pipeline.reference.mapping import check as look_for
from kash_pipeline.reference.proposal import propose as proposal
from kash_pipeline.reference.release import waiting_days
from kash_pipeline.reference.sent import booked_otherwise
from kash_pipeline.reference.sides import gather, read_company, read_till
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake

F = TypeVar("F", bound=Callable[..., None])


@click.group()
def mapping() -> None:
    """Accounts, journals and rates of the shop file against the till and PennyLane."""


def _options(command: F) -> F:
    fresh = click.option("--fresh", is_flag=True, help="Read both systems now, instead of what was last stored.")
    return shop_option(fresh(command))


@mapping.command(short_help="Write a complete [[chart]] from both systems.")
@_options
@click.option("--from", "start", type=Day(), help="First day of the chart.  [default: that of the shop file's last]")
@click.option(
    "--direct", is_flag=True, help="Cards, cheques, vouchers to 511, transfers to 512, not PennyLane's 411..."
)
@click.option("--anew", is_flag=True, help="Keep nothing of what the shop file names already.")
def propose(shop_path: Path | None, fresh: bool, start: date | None, direct: bool, anew: bool) -> None:
    """A complete [[chart]] with [journals] from both systems' reference data, as TOML, for the shop file.

    What the file names already is kept; each entry says where it comes from. Exit code 2: something in it is for a
    person to decide.
    """
    with opened(shop_path) as (shop, engine, env):
        begin = start or shop.chart[-1].start
        today = _today(shop)
        sides = gather(engine, shop, env, today, today, fresh=fresh)
        proposed = proposal(shop, sides.listings[-1], sides.company, begin, direct=direct, anew=anew)
    click.echo(proposed.text, nl=False)
    raise SystemExit(2 if proposed.undecided else 0)


@mapping.command(short_help="What is missing or odd in the charts of a period.")
@_options
@click.option("--from", "first", type=Day(), help="First day.  [default: that of the fiscal year]")
@click.option("--to", "last", type=Day(), help="Last day.  [default: today]")
def check(shop_path: Path | None, fresh: bool, first: date | None, last: date | None) -> None:
    """What is missing or odd in the charts of a period, against the till and the company's real chart.

    Exit code 0: nothing is missing; 2: days would be held or refused.
    """
    with opened(shop_path) as (shop, engine, env):
        end = last or _today(shop)
        begin = first or min(shop.fiscal_year_of(end)[0], end)
        ordered(begin, end)
        sides = gather(engine, shop, env, begin, end, fresh=fresh)
        findings = look_for(shop, sides.listings, sides.company, begin, end, waiting=waiting_days(engine, shop))
    out = console()
    seen = f"; PennyLane as of {sides.seen_at:%Y-%m-%d %H:%M} UTC (--fresh reads it now)" if sides.seen_at else ""
    out.print(f"[bold]{escape(shop.shop.name)}[/bold], {begin} to {end}{seen}", highlight=False)
    counts = {level: sum(item.level == level for item in findings) for level in LEVELS}
    for item in findings:
        style = {"missing": "bold red", "odd": "yellow", "note": "dim"}[item.level]
        step = f"\n{'':8} [dim]→ {escape(item.next_step)}[/dim]" if item.next_step else ""
        # No line is broken: many are to be copied into the shop file.
        text = f"[{style}]{item.level:<8}[/{style}] {escape(item.what)}{step}"
        out.print(text, highlight=False, soft_wrap=True)
    if counts["missing"] or counts["odd"]:
        out.print(f"{counts['missing']} missing (days would wait), {counts['odd']} odd (ask the accountant)")
    else:
        out.print("the mapping is complete: every method, rate and register has its account and journal")
    raise SystemExit(2 if counts["missing"] else 0)


@mapping.command(short_help="What changed in either system, and what it concerns.")
@_options
@click.option("--since", type=Day(), help="First day of the changes.  [default: 30 days ago]")
def diff(shop_path: Path | None, fresh: bool, since: date | None) -> None:
    """What changed in the till or in PennyLane since a day, and which sent entries use what changed; then the sent
    entries that the shop file, as it is now, would book otherwise.

    Exit code 0 also when something changed: a change is no fault.
    """
    with opened(shop_path) as (shop, engine, env):
        today = _today(shop)
        begin = since or date.fromordinal(today.toordinal() - 30)
        if fresh:
            read_till(engine, shop, Lake(env.lake_url, shop.shop.id))
            if shop.pennylane is not None:
                read_company(engine, shop, env)
        lines = report(engine, shop, begin)
        otherwise = booked_otherwise(engine, shop)
    out = console()
    if lines:
        _print_changes(out, lines, begin)
    else:
        out.print(f"{escape(shop.shop.name)}: nothing changed in either system since {begin}", highlight=False)
    if otherwise:
        out.print("[yellow]sent already, and booked otherwise by the shop file as it is now[/yellow]:")
        for item in otherwise:
            out.print(f"  {escape(item.what)}\n    {escape(item.said)}", highlight=False, soft_wrap=True)
        out.print(
            "  → nothing is changed before these days are built again; then they are corrected, or wait with\n"
            '    correct = "hold". To keep them, take the line back and write it in a \\[\\[chart]] with a later from',
            highlight=False,
            soft_wrap=True,
        )


def _print_changes(out: Console, lines: Sequence[Line], begin: date) -> None:
    table = Table(title=f"Changes since {begin}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("noticed", "where", "what", "already sent"):
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(f"{line.day}", line.where, escape(line.what), line.sent)
    out.print(table, highlight=False)


def _today(shop: ShopFile) -> date:
    return store.business_day(shop, datetime.now(UTC))
