"""`kash-pipeline fec`: entries of a period as a FEC file, from a folder of facts or of entries.

Only reading, one call, the checks and writing. The columns and the checks are accounting/fec.py.
"""

import os
import tempfile
from datetime import date
from pathlib import Path

import click
import pandas as pd

from kash_pipeline import accounting
from kash_pipeline.accounting import fec as fec_file
from kash_pipeline.accounting.errors import AccountingError
from kash_pipeline.cli.build import summary
from kash_pipeline.cli.options import Day, ordered
from kash_pipeline.pos.errors import FilesError, Problem
from kash_pipeline.pos.files import read_folder, read_results
from kash_pipeline.schemas.facts import REFERENCE, Facts
from kash_pipeline.settings import ShopFile, load_shop


@click.command()
@click.option("--shop", "shop_path", type=click.Path(path_type=Path), required=True, help="Shop file with a siren.")
@click.option("--from", "first", type=Day(), required=True, help="First accounting date.")
@click.option("--to", "last", type=Day(), required=True, help="Last accounting date, in the same fiscal year.")
@click.option("--files", type=click.Path(path_type=Path), help="Folder of facts: entries are built from it.")
@click.option(
    "--entries", "built", type=click.Path(path_type=Path), help="Folder that build wrote; --files only names."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File, or folder for SIRENFECyyyymmdd.txt.")
@click.option("--encoding", type=click.Choice(list(fec_file.ENCODINGS)), default="iso8859-15", show_default=True)
@click.option("--separator", type=click.Choice(list(fec_file.SEPARATORS)), default="tab", show_default=True)
@click.option("--first-number", type=click.IntRange(1), default=1, show_default=True, help="First EcritureNum.")
@click.option("--validated-on", type=Day(), help="ValidDate of all entries; default: each entry's accounting date.")
def fec(
    shop_path: Path,
    first: date,
    last: date,
    files: Path | None,
    built: Path | None,
    out: Path,
    encoding: str,
    separator: str,
    first_number: int,
    validated_on: date | None,
) -> None:
    """Write entries as a French FEC file (18 columns, article A47 A-1 LPF).

    The entries come from --files (facts, built here and now) or from --entries (the --out folder of `build`). With
    both, the entries are those of --entries and --files gives the names of registers and customers.

    A till's FEC covers the till only: it is an import file in FEC form, not the company's FEC. EcritureNum runs without
    gap over the period; --first-number continues an earlier file of the same fiscal year.

    Exit code 0: written. 2: written, and some register-days are held and not in it. 1: nothing is written.
    """
    ordered(first, last)
    if files is None and built is None:
        raise click.UsageError("give --files (facts) or --entries (what build wrote)")
    shop = load_shop(shop_path)
    name = _name(shop, first, last)
    facts = Facts() if files is None else read_folder(files, tables=list(REFERENCE) if built else None)
    if built is None:
        result = accounting.build(facts, shop, first=first, last=last)
        tables = {
            "entries": result.entries,
            "entry_lines": result.entry_lines,
            "held": result.held,
            "notices": result.notices,
        }
    else:
        tables = read_results(built)
    tables = _within(tables, first, last)
    lines = fec_file.fec_lines(
        tables["entries"],
        tables["entry_lines"],
        shop,
        registers=facts.registers,
        payment_methods=facts.payment_methods,
        customers=facts.customers,
        first_number=first_number,
        validated_on=validated_on,
    )
    text = fec_file.fec_text(lines, fec_file.SEPARATORS[separator])
    if findings := fec_file.check_fec(text):
        raise AccountingError(
            "the FEC would be refused:" + "".join(f"\n  - {finding}" for finding in findings[:20]),
            next_step="correct what is named in the shop file, in the till's chapters or in --entries",
        )
    content, replaced = fec_file.encode(text, encoding)
    target = out / name if out.is_dir() or not out.suffix else out
    _write(target, content)
    click.echo(summary(shop.shop.name, tables["entries"], tables["entry_lines"], tables["held"], tables["notices"]))
    if replaced:
        click.echo(f"{replaced} characters that {encoding} lacks were written in their plain form")
    click.echo(f"written to {target}")
    if len(tables["held"]):
        raise SystemExit(2)


def _name(shop: ShopFile, first: date, last: date) -> str:
    year = shop.fiscal_year_of(first)
    if last > year[1]:
        raise AccountingError(
            f"{first} to {last} is more than the fiscal year {year[0]} to {year[1]}, and a FEC holds one",
            next_step=f"write one file to {year[1]} and another from the day after",
        )
    return fec_file.file_name(shop, first)


def _within(tables: dict[str, pd.DataFrame], first: date, last: date) -> dict[str, pd.DataFrame]:
    """Entries dated in the period with their lines, and what is held or to be known of its days."""
    low, high = pd.Timestamp(first), pd.Timestamp(last)
    entries = tables["entries"]
    kept = entries[entries["date"].between(low, high)]
    lines = tables["entry_lines"]
    return {
        "entries": kept,
        "entry_lines": lines[lines["entry_key"].isin(kept["entry_key"])],
        "held": tables["held"][tables["held"]["business_day"].between(low, high)],
        "notices": tables["notices"][tables["notices"]["business_day"].between(low, high)],
    }


def _write(target: Path, content: bytes) -> None:
    """The whole file or none: written beside its place, put on the disk, then renamed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as stream:
            try:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
                Path(stream.name).chmod(0o644)
                os.replace(stream.name, target)
            except OSError:
                Path(stream.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise FilesError(target, [Problem(target.name, what, "choose another place with --out")]) from error
