"""`kash-pipeline build`: facts in a folder to entries in a folder, without server, database or network.

Only reading, one call of the engine, writing and the printed summary. What the entries are is accounting/, what the
files look like is pos/files.py.
"""

from datetime import date
from pathlib import Path

import click
import pandas as pd

from kash_pipeline import accounting
from kash_pipeline.cli.options import Day, ordered
from kash_pipeline.pos.files import read_folder, write_results
from kash_pipeline.settings import load_shop

HELD_SHOWN = 20


@click.command()
@click.option("--shop", "shop_path", type=click.Path(path_type=Path), required=True, help="Shop file (TOML).")
@click.option("--files", type=click.Path(path_type=Path), required=True, help="Folder of facts: orders.csv, ...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option("--from", "first", type=Day(), help="First business day; default: the first of the facts.")
@click.option("--to", "last", type=Day(), help="Last business day; default: the last of the facts.")
def build(shop_path: Path, files: Path, out: Path, first: date | None, last: date | None) -> None:
    """Facts in a folder to entries in a folder; no server, database or network needed.

    Reads the tables of --files (CSV, CSV.gz or Parquet, as docs/files-interface.md has them) and writes entries.csv,
    entry_lines.csv, held.csv, notices.csv and trial_balance.csv to --out, all of them or none.

    Exit code 0: every day is built. 2: some register-days are held and stand in held.csv with the next step; the
    others are written. 1: the input cannot be read, and nothing is written.
    """
    ordered(first, last)
    if out.absolute() == files.absolute():
        raise click.BadParameter("must be another folder than --files", param_hint="--out")
    shop = load_shop(shop_path)
    facts = read_folder(files)
    result = accounting.build(facts, shop, first=first, last=last)
    write_results(
        {
            "entries": result.entries,
            "entry_lines": result.entry_lines,
            "held": result.held,
            "notices": result.notices,
            "trial_balance": accounting.trial_balance(result.entry_lines),
        },
        out,
    )
    click.echo(summary(shop.shop.name, result.entries, result.entry_lines, result.held, result.notices))
    click.echo(f"written to {out}")
    if len(result.held):
        raise SystemExit(2)


def summary(
    name: str, entries: pd.DataFrame, entry_lines: pd.DataFrame, held: pd.DataFrame, notices: pd.DataFrame
) -> str:
    """What was built, what is held and why, what else to know: lines of at most a screen's height."""
    total = int(entries["debit_cents"].sum())
    rows = [f"{name}: {_period(entries)}"]
    rows.append(f"  {len(entries)} entries, {len(entry_lines)} lines, {_euros(total)} debit and credit")
    if len(held):
        days = len(held[["business_day", "register_id"]].drop_duplicates())
        rows.append(f"held: {days} register-day{'s' if days > 1 else ''} without entries")
        groups = held.groupby("reason", sort=True, observed=True)
        for reason, group in list(groups)[:HELD_SHOWN]:
            first = group.iloc[0]
            where = f"{first['business_day']:%Y-%m-%d} {first['register_id']}"
            more = f" (and {len(group) - 1} more)" if len(group) > 1 else ""
            rows.append(f"  {reason}: {where}: {first['what']}{more}")
            rows.append(f"    next step: {first['next_step']}")
    for code, count in notices["code"].value_counts(sort=False).sort_index().items():
        rows.append(f"notice {code}: {count}")
    return "\n".join(rows)


def _period(entries: pd.DataFrame) -> str:
    if entries.empty:
        return "no entries"
    days = entries["business_day"]
    count = days.nunique()
    return f"{days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}, {count} day{'s' if count > 1 else ''} with entries"


def _euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
