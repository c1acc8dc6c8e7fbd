"""`kash-pipeline pennylane login|status|logout|touched|retry`: a shop and its PennyLane company.

Only talking to the person belongs here: consent, tokens and revocation are pennylane/auth.py's, what a person did in
PennyLane is found by pennylane/watching.py, sending again is decided in pennylane/publisher.py.
"""

import sys
import webbrowser
from datetime import date
from pathlib import Path

import click

from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.cli.options import Day, ordered
from kash_pipeline.cli.run import run_and_report
from kash_pipeline.pennylane import connect, consent, disconnect
from kash_pipeline.pennylane.auth import missing_scopes, scopes_for, section_of
from kash_pipeline.pennylane.publisher import reconsider
from kash_pipeline.pennylane.watching import hands
from kash_pipeline.warehouse.tokens import TokenStore
from kash_pipeline.web.connect import connect_in_browser, connect_sandbox, history_to_send, next_steps, told


@click.group()
def pennylane() -> None:
    """Connect, show or end the connection to PennyLane."""


@pennylane.command(short_help="Connect the shop to a PennyLane company.")
@shop_option
@click.option("--paste", is_flag=True, help="Consent anywhere; then paste the address the browser ended at.")
@click.option("--sandbox", "at_sandbox", is_flag=True, help="Consent at the sandbox without a browser.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option(
    "--history/--no-history",
    default=None,
    help="Send the days since the start of the fiscal year, or not. By default a terminal asks, a script does not.",
)
def login(shop_path: Path | None, paste: bool, at_sandbox: bool, no_browser: bool, history: bool | None) -> None:
    """Connect the shop to a PennyLane company, and offer to send the history of its open fiscal year.

    Exit code 0; with the history, that of `kash-pipeline run`.
    """
    with opened(shop_path) as (shop, engine, env):
        if section_of(shop).auth == "token":
            lines = [f"{shop.path} uses a company API token ({section_of(shop).token_env}): nothing to log in to"]
        elif at_sandbox:
            lines = told(connect_sandbox(shop, engine, env))
        elif paste:
            with consent(shop, engine, env) as attempt:
                click.echo(f"Consent here:\n\n  {attempt.url}\n")
                # Hidden: the address holds a code that is worth a token until it is used.
                answer = click.prompt("Then paste the address the browser ended at", hide_input=True)
                lines = told(attempt.finish(answer))
        else:
            lines = told(
                connect_in_browser(shop, engine, env, show=lambda url: _show(url, open_browser=not no_browser))
            )
        found = history_to_send(shop, engine, env)
        for line in [*lines, *next_steps(shop, found)]:
            click.echo(line)
    if found is None or found.first is None or found.last is None or not found.days_not_sent:
        return
    if history is None and sys.stdin.isatty():
        history = click.confirm(f"Send history from {found.first}?", default=False)
    if history:
        raise SystemExit(run_and_report(shop, env, found.first, found.last))


def _show(url: str, *, open_browser: bool) -> None:
    click.echo(f"Consent here:\n\n  {url}\n")
    if open_browser:
        webbrowser.open(url)


@pennylane.command(short_help="Which company is connected, with which scopes.")
@shop_option
def status(shop_path: Path | None) -> None:
    """Which company the shop is connected to, with which scopes; asks PennyLane.

    Asking refreshes the tokens when they are due: once a month keeps an idle connection alive (PennyLane ends it after
    90 days).

    Exit code 1 when it is not connected or a scope is missing.
    """
    with opened(shop_path) as (shop, engine, env):
        with connect(shop, engine, env) as client:
            me = client.me()
        click.echo(f"{shop.shop.name}: connected to {me.company_name} (company {me.company_id}, {me.reg_no})")
        if section_of(shop).auth == "oauth":
            known = TokenStore.open(engine, env.home).get(shop.shop.id)
            if known.pair is not None:
                click.echo(f"  access token until {known.pair.expires_at:%Y-%m-%d %H:%M} UTC, refreshed by itself")
        missing = missing_scopes(scopes_for(shop), me.scopes)
        if missing:
            click.echo(f"  not granted: {', '.join(missing)}\n  next step: kash-pipeline pennylane login")
            raise SystemExit(1)


@pennylane.command()
@shop_option
@click.option("--forget", is_flag=True, help="Forget the tokens here even when PennyLane cannot be told.")
def logout(shop_path: Path | None, forget: bool) -> None:
    """Revoke the connection at PennyLane and forget it."""
    with opened(shop_path) as (shop, engine, env):
        if forget:
            TokenStore.open(engine, env.home).forget(shop.shop.id)
            click.echo("Forgotten here. PennyLane was not told: revoke the application there too.")
        elif disconnect(shop, engine, env):
            click.echo("Disconnected, and PennyLane was told.")
        else:
            click.echo("There was no connection.")


@pennylane.command(short_help="Sent entries that somebody changed since.")
@shop_option
def touched(shop_path: Path | None) -> None:
    """Entries we sent that somebody edited, moved, deleted or lettered in PennyLane in the last four weeks.

    Exit code 0 when there are none (lettering aside), 2 otherwise. Nothing is changed.
    """
    with opened(shop_path) as (shop, engine, env), connect(shop, engine, env) as client:
        found = hands(client, engine, shop)
    for hand in found:
        click.echo(f"{hand.business_day} {hand.key} {hand.what}: {hand.why}")
    differing = [hand for hand in found if hand.differs]
    click.echo(f"{len(differing)} entries are no longer as we sent them")
    if differing:
        raise SystemExit(2)


@pennylane.command(short_help="Let refused and held entries be sent again.")
@shop_option
@click.option("--from", "first", type=Day(), required=True, help="First business day.")
@click.option("--to", "last", type=Day(), required=True, help="Last business day.")
def retry(shop_path: Path | None, first: date, last: date) -> None:
    """Let refused and held entries be sent again, after their cause was mended (a year reopened, an account enabled).

    Nothing is sent now: plan, run or the sensor does. What is in PennyLane already is found there first.
    """
    ordered(first, last)
    with opened(shop_path) as (shop, engine, _):
        count = reconsider(engine, shop, first, last)
    click.echo(f"{count} entries may be sent again")
