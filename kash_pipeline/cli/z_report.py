"""`kash-pipeline z-report`: the Z report of a register's day as a PDF, as publishing attaches it to the closing entry.

Only options and the file; the report is evidence/, sending it with an entry pennylane/attaching.py.
"""

from datetime import date
from pathlib import Path

import click

from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.cli.options import Day
from kash_pipeline.errors import SettingsError
from kash_pipeline.evidence.errors import NoSuchEntry
from kash_pipeline.evidence.reading import Piece, ZReports
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger


@click.command("z-report")
@shop_option
@click.option("--day", type=Day(), required=True, help="Business day.")
@click.option("--register", "register_id", required=True, help="The till's id of the register, such as K1.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The PDF to write.")
@click.option("--entry", help="Piece number it belongs to; default: that of the day's closing entry.")
def z_report(shop_path: Path | None, day: date, register_id: str, out: Path, entry: str | None) -> None:
    """The Z report of a register's day: sales per VAT rate, takings, counts, differences, hash of the till's facts.

    The same bytes as are attached to the entry in PennyLane, as long as the facts are those it was sent with.
    """
    with opened(shop_path) as (shop, engine, env):
        reports = ZReports(engine, Lake(env.lake_url, shop.shop.id), shop)
        built = reports.pieces(day, register_id)
        piece = built[0] if built else None
        if entry is not None:
            # The publication ledger has the entries that were built, and what took their place since.
            row = PublicationLedger(engine, shop.shop.id).row(entry)
            if row is None or (row.business_day, row.register_id) != (day, register_id):
                raise NoSuchEntry(
                    f"register {register_id} has no entry {entry} on {day}",
                    next_step=f"its closing entries: {', '.join(one.key for one in built) or 'none'}",
                )
            piece = Piece(row.key, row.label, row.amount_cents)
        pdf = reports.pdf(day, register_id, piece)
        facts = reports.figures(day, register_id).sha256
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(pdf)
    except OSError as error:
        raise SettingsError(
            f"{out} cannot be written ({error.strerror or error})", next_step="choose another place with --out"
        ) from error
    belongs = f"for {piece.key}" if piece else "for no entry: the day has none that closes it"
    click.echo(f"{out}: register {register_id} on {day}, {belongs}; sha256 of its facts {facts}")
    for other in built:
        if piece is None or other.key != piece.key:
            click.echo(f"the same for {other.key}: --entry {other.key}")
