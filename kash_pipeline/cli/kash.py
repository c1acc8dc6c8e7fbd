"""`kash-pipeline kash login|logout|probe|retain|webhook`: an account of Kash.click from the first contact on.

Only talking to the person and writing the report belongs here; asking is pos/kash_api/, keeping the key credentials.py,
raw answers warehouse/lake.py.
"""

import json
import socket
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path

import click
import uvicorn
from rich.console import Console
from rich.table import Table

from kash_pipeline.cli.console import console
from kash_pipeline.cli.opening import shop_option
from kash_pipeline.cli.options import Day
from kash_pipeline.errors import SettingsError
from kash_pipeline.pos.kash_api import credentials, events, login, opening
from kash_pipeline.pos.kash_api.client import KashClient
from kash_pipeline.pos.kash_api.credentials import Credentials
from kash_pipeline.pos.kash_api.probe import Findings
from kash_pipeline.pos.kash_api.probe import probe as look_at
from kash_pipeline.settings import Environment, ShopFile, load_shop, secret
from kash_pipeline.warehouse import database, retention, server
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.web.webhook import create_app


@click.group()
def kash() -> None:
    """Log in to Kash.click, probe an account, keep or drop raw answers."""


def _loaded(shop_path: Path | None) -> tuple[ShopFile, Environment, str]:
    env = Environment.read()
    shop = load_shop(shop_path or env.shop_path)
    if shop.source.kind != "kash_api" or shop.source.url is None:
        raise SettingsError(
            f'{shop.path}: [source] is of kind "{shop.source.kind}"',
            next_step='write kind = "kash_api" and url = "https://kash.click/workers"',
        )
    return shop, env, shop.source.url


@kash.command("login")
@shop_option
@click.option("--otp", "otp_email", metavar="EMAIL", help="Have a one-time password sent to this address.")
@click.option("--account", metavar="ID", help="Which shop, with --otp, where the address has several.")
@click.option("--password", "password_email", metavar="EMAIL", help="Log in with the account's password.")
def log_in(shop_path: Path | None, otp_email: str | None, account: str | None, password_email: str | None) -> None:
    """Keep the shop's API key, encrypted. Without an option: the SHOPID and APIKEY that Kash.click shows under
    Configuration, Webservices."""
    shop, env, url = _loaded(shop_path)
    if otp_email and password_email:
        raise click.UsageError("--otp and --password are two ways: choose one")
    if account and not otp_email:
        raise click.UsageError("--account goes with --otp: a key and a password are of one shop")
    # Nothing secret is echoed; a key pasted into a command line would stay in the shell's history.
    if otp_email:
        login.send_otp(url, otp_email, account or login.only_account(url, otp_email))
        given = login.with_otp(url, otp_email, click.prompt(f"One-time password sent to {otp_email}", hide_input=True))
    elif password_email:
        given = login.with_password(url, password_email, click.prompt("Password", hide_input=True))
    else:
        given = Credentials(click.prompt("SHOPID"), click.prompt("APIKEY", hide_input=True).strip(), "the key given")
    with KashClient(url, given.shop_id, given.key, key_name=given.where) as client:
        client.read("getCashbox.php", {"format": "json"})
    path = credentials.save(env.home, shop.shop.id, given)
    click.echo(f"{shop.shop.name}: the key works and is kept encrypted in {path}")
    click.echo(f"  next: kash-pipeline kash probe --shop {shop.path} --day DAY")


@kash.command()
@shop_option
def logout(shop_path: Path | None) -> None:
    """Forget the key kept here. Kash.click documents no way to revoke it: change it in its Webservices page."""
    shop, env, _ = _loaded(shop_path)
    there = credentials.forget(env.home, shop.shop.id)
    click.echo("Forgotten here." if there else "There was no login.")


@kash.command(short_help="First contact: what answers, which settings fit.")
@shop_option
@click.option("--day", type=Day(), required=True, help="A business day with sales, already over.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the report.  [default: probe-DAY]")
def probe(shop_path: Path | None, day: date, out: Path | None) -> None:
    """First contact: what answers, which settings fit, whether orders match the daily report. Reads only.

    Exit code 0: the account can be read as the shop file says; 2: settings have to change or totals differ.
    """
    shop, env, url = _loaded(shop_path)
    running = events.day_of(datetime.now(UTC), shop.zone, shop.shop.day_starts_at)
    if day >= running:
        raise SettingsError(f"{day} is not over yet", next_step=f"give --day a day with sales before {running}")
    with opening.kash_client(shop, environment=env) as client:
        found = look_at(client, shop, day)
    folder = out or Path(f"probe-{day}")
    _write(found, shop, url, folder)
    _show(console(), found, folder, shop)
    raise SystemExit(0 if found.trusted and not set(found.settings) - {"control_totals"} else 2)


def _write(found: Findings, shop: ShopFile, url: str, folder: Path) -> None:
    """report.md for people, report.json for programs, samples/ for tests."""
    samples = folder / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    for call, body in found.samples.items():
        page = body[:1] not in (b"{", b"[")
        (samples / f"{call.removesuffix('.php')}.{'txt' if page else 'json'}").write_bytes(body)
    plain = asdict(found)
    plain.pop("samples")
    for answer in plain["answers"]:
        answer.pop("body")
    (folder / "report.json").write_text(json.dumps(plain, indent=1, default=str, ensure_ascii=False) + "\n")
    lines = [f"# Kash.click probe of {shop.shop.name}, {found.day}", "", f"Address {url}. Samples are redacted.", ""]
    lines += ["## Settings that fit", "", "```toml", "[source]", *_settings(found), "```", ""]
    lines += ["## Findings", "", *(f"- {note}" for note in found.notes), ""]
    lines += ["## Control totals", "", *(f"- {line}" for line in _totals(found)), ""]
    lines += ["## Calls", "", "| call | for | ms | bytes | records | outcome | missing | unknown |", "| --- " * 8 + "|"]
    for answer in found.answers:
        records = "" if answer.records is None else answer.records
        cells = (answer.call, answer.purpose, answer.milliseconds, answer.size, records)
        rest = (answer.outcome, ", ".join(answer.missing), ", ".join(answer.unknown))
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in (*cells, *rest)) + " |")
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _settings(found: Findings) -> list[str]:
    known = {"dialect": found.dialect, "time_rule": found.time_rule, "order_detail": found.order_detail}
    lines = [
        f"{name} = {json.dumps(value)}" + ("   # change this" if name in found.settings else "")
        for name, value in known.items()
        if value is not None
    ]
    return lines + (
        [f"control_totals = {found.settings['control_totals']}"] if "control_totals" in found.settings else []
    )


def _totals(found: Findings) -> list[str]:
    if not found.compared:
        return ["not compared"]
    return found.differences or [f"{found.compared} sums of the daily report equal those of the orders, to the cent"]


def _show(out: Console, found: Findings, folder: Path, shop: ShopFile) -> None:
    table = Table(title=f"Calls for {found.day}")
    for name in ("call", "for", "ms", "bytes", "records", "outcome"):
        table.add_column(name, overflow="fold", justify="right" if name in ("ms", "bytes", "records") else "left")
    for answer in found.answers:
        records = "" if answer.records is None else str(answer.records)
        drift = [f"missing: {', '.join(answer.missing)}"] if answer.missing else []
        drift += [f"unknown: {', '.join(answer.unknown)}"] if answer.unknown else []
        outcome = "; ".join([answer.outcome, *drift])
        table.add_row(answer.call, answer.purpose, str(answer.milliseconds), str(answer.size), records, outcome)
    out.print(table)
    for note in [*found.notes, *_totals(found)]:
        out.print(f"- {note}", markup=False)
    if found.settings:
        out.print("write in [source] of the shop file, then probe again:", markup=False)
        for name, value in found.settings.items():
            out.print(f"    {name} = {value}", markup=False)
    elif found.trusted:
        out.print("the settings of the shop file fit")
        out.print(
            f"next: kash-pipeline run --shop {shop.path} --from {found.day} --to {found.day}",
            markup=False,
            soft_wrap=True,
        )
    out.print(f"report: {folder / 'report.md'}", markup=False)


@kash.command(short_help="Receive Kash.click's webhook until Ctrl-C.")
@shop_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, behind a TLS proxy.")
@click.option("--port", default=8790, show_default=True, type=click.IntRange(1, 65535))
def webhook(shop_path: Path | None, host: str, port: int) -> None:
    """Receive Kash.click's webhook at /kash/SECRET until Ctrl-C; the secret is in the variable the shop file names."""
    shop, env, _ = _loaded(shop_path)
    secret_path = secret(shop.source.webhook_secret_env, used_for="the secret part of the webhook's address")
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise SettingsError(
            f"{host}:{port} cannot be listened on: {error.strerror}", next_step="choose another --port or --host"
        ) from None
    engine = database.open_engine(server.database_url(env))
    try:
        database.upgrade(engine)
        app = create_app(shop, engine, Lake(env.lake_url, shop.shop.id), secret=secret_path)
        click.echo(f"{shop.shop.name}: receiving at http://{host}:{port}/kash/...; Ctrl-C stops")
        # No access log: the path is the secret.
        uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning")).run(sockets=[listener])
    finally:
        listener.close()
        engine.dispose()


@kash.command(short_help="Raw answers past their keeping time.")
@shop_option
@click.option("--drop", is_flag=True, help="Delete them; without it, they are only counted.")
def retain(shop_path: Path | None, drop: bool) -> None:
    """Raw answers older than raw_years of [source], counted or deleted. Facts, entries and a record of what was deleted
    stay. In production the schedule monthly_retention does it."""
    env = Environment.read()
    shop = load_shop(shop_path or env.shop_path)
    found = retention.retain(Lake(env.lake_url, shop.shop.id), shop, datetime.now(UTC), drop=drop)
    what = "deleted" if drop else "would be deleted with --drop"
    click.echo(
        f"{shop.shop.name}: {found.answers} raw answers ({found.size} bytes) fetched before {found.before} {what}"
    )
