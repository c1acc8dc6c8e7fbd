"""`kash-pipeline trace KEY`: from an entry or one of its lines to orders and raw answers, and from these back.

Only telling what KEY is and printing belongs here; following it is warehouse/tracing.py.
"""

import re
from pathlib import Path

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from kash_pipeline.cli.console import console
from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.pos.kash_api import report
from kash_pipeline.warehouse import tracing
from kash_pipeline.warehouse.errors import TraceError
from kash_pipeline.warehouse.lake import Lake

SHOWN = 20
"""Rows of a table printed; their number is always exact."""


@click.command()
@click.argument("key")
@shop_option
@click.option("--out", type=click.Path(path_type=Path), help="Write the raw answers into this folder.")
def trace(key: str, shop_path: Path | None, out: Path | None) -> None:
    """Follow KEY: an entry (BOULANGERIE-K1-260314-V), a line of one (…-V#3), an order's id or number, or the hash of a
    raw answer."""
    with opened(shop_path) as (shop, engine, env):
        lake = Lake(env.lake_url, shop.shop.id)
        with engine.connect() as connection:
            entry_key, hash_sign, line = key.partition("#")
            if hash_sign and not line.isdecimal():
                raise TraceError(f"{line!r} is no line number", next_step=f"write {entry_key}#3, in quotes in a shell")
            if tracing.is_entry(connection, shop.shop.id, entry_key):
                found = tracing.trace_entry(connection, lake, shop.shop.id, entry_key, int(line) if line else None)
                reports = tracing.filed_under(lake, report.CALL, found.entry["business_day"].date())
                _show_entry(console(), found, reports)
                _write(lake, [*found.documents, *reports], out)
            elif re.fullmatch(r"[0-9a-f]{12,64}", key):
                document, orders, keys = tracing.trace_document(connection, lake, shop.shop.id, key)
                _show_documents(console(), [document])
                if document.dropped_at is None:
                    _show_back(console(), orders, keys)
                _write(lake, [document], out)
            else:
                orders, keys = tracing.trace_order(connection, lake, shop.shop.id, key)
                day = orders["business_day"].iloc[0].date()
                documents = tracing.documents_of(lake, day, orders["order_id"].tolist())
                _show_back(console(), orders, keys)
                _show_documents(console(), documents)
                _write(lake, documents, out)


def _show_entry(out: Console, found: tracing.Trace, reports: list[tracing.Document]) -> None:
    entry = found.entry
    out.print(
        f"{entry['entry_key']}: {entry['label']}, {entry['business_day']:%Y-%m-%d}, register {entry['register_id']}"
    )
    _frame(out, "lines", found.lines)
    for name, frame in found.facts.items():
        _frame(out, name, frame)
    for source, cents in found.sums.items():
        if source != "lines":
            agree = "as do" if cents == found.sums["lines"] else f"NOT to the {_euros(found.sums['lines'])} of"
            out.print(f"these {source} sum to {_euros(cents)}, {agree} the lines of this rate or method and side")
    _show_documents(out, found.documents)
    if reports:
        _show_documents(out, reports, of="report of its day")


def _show_back(out: Console, orders: pd.DataFrame, keys: list[str]) -> None:
    _frame(out, "orders", orders)
    out.print("entries: " + (", ".join(keys[:SHOWN]) if keys else "none: the day is held or not built"), markup=False)


def _show_documents(out: Console, documents: list[tracing.Document], *, of: str | None = None) -> None:
    if not documents:
        out.print("raw answers: none kept")
    for document in documents[:SHOWN]:
        if of is not None:
            what = of
        elif document.dropped_at is None:
            what = f"{len(document.ids)} of these in it"
        else:
            what = f"dropped under retention on {document.dropped_at[:10]}: what stood in it is not kept"
        out.print(f"raw {document.call}, fetched {document.fetched_at}, {what}", markup=False, soft_wrap=True)
        out.print(f"    sha256 {document.sha256}", markup=False)
        out.print(f"    {document.url}", markup=False, soft_wrap=True)
    if len(documents) > SHOWN:
        out.print(f"and {len(documents) - SHOWN} more raw answers")


def _frame(out: Console, title: str, frame: pd.DataFrame) -> None:
    table = Table(title=f"{title}: {len(frame)}")
    columns = [name for name in frame.columns if frame[name].notna().any()]
    for name in columns:
        table.add_column(name.removesuffix("_cents"), justify="right" if name.endswith("_cents") else "left")
    for row in frame[columns].head(SHOWN).to_dict("records"):
        table.add_row(*(_cell(name, row[name]) for name in columns))
    out.print(table)


def _cell(name: str, value: object) -> str:
    if pd.isna(value):
        return ""
    if name.endswith("_cents"):
        return _euros(int(str(value)))
    return f"{value:%Y-%m-%d}" if name == "business_day" else str(value)


def _euros(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _write(lake: Lake, documents: list[tracing.Document], out: Path | None) -> None:
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    there = [document for document in documents if document.dropped_at is None]
    for document in there:
        (out / document.path.replace("/", "_")).write_bytes(lake.read_raw(document.path))
    click.echo(f"{len(there)} raw answers written to {out}")
