"""The page a browser comes back to after the consent at PennyLane, and the consent at the sandbox without a browser.

Only HTTP, HTML and what a person reads there belong here. Checking the state, exchanging the code and keeping the
tokens is pennylane/auth.py's.

The page never redirects and shows nothing of the query, so it cannot send anybody anywhere; it takes one answer.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import jinja2
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from kash_pipeline.errors import KashPipelineError, SettingsError
from kash_pipeline.pennylane import connect, consent
from kash_pipeline.pennylane.auth import Connected, Consent, is_loopback, section_of
from kash_pipeline.pennylane.errors import ConnectAgain, StateMismatch
from kash_pipeline.pennylane.history import History, history_of
from kash_pipeline.reference.store import business_day
from kash_pipeline.sandbox.pennylane import approve
from kash_pipeline.sandbox.server import serving
from kash_pipeline.settings import Environment, ShopFile

_log = logging.getLogger(__name__)
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_PAGE = jinja2.Environment(autoescape=True).from_string(
    """<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}</style>
<h1>{{ title }}</h1>{% for line in lines %}<p>{{ line }}</p>{% endfor %}</html>"""
)


class Callback:
    """The one answer that the redirect address waits for: `app` serves it, `wait` gives what came of it.

    `next_steps` gives the lines that the page shows below a connection that was made.
    """

    def __init__(self, attempt: Consent, redirect_url: str, next_steps: Callable[[], list[str]] = list) -> None:
        self._attempt = attempt
        self._next_steps = next_steps
        self._ended = threading.Event()
        self._result: Connected | None = None
        self._error: KashPipelineError | None = None
        self.app = Starlette(routes=[Route(urlsplit(redirect_url).path or "/", self._answer)])

    def _answer(self, request: Request) -> Response:
        if self._ended.is_set():
            return _page("Already answered", ["You can close this page."], 409)
        try:
            self._result = self._attempt.finish(str(request.url))
        except StateMismatch as error:
            # Somebody else's link: the person who really consents may still come.
            return _page("Not connected", [error.message], 400)
        except KashPipelineError as error:
            self._error = error
        self._ended.set()
        if self._result is None:
            return _page("Not connected", [self._error.message if self._error else ""], 400)
        return _page("Connected", [*told(self._result), *self._next_steps(), "You can close this page."])

    def wait(self, seconds: float) -> Connected:
        """What the consent gave. Raises ConnectAgain when it failed or nobody answered in time."""
        if not self._ended.wait(seconds):
            raise ConnectAgain("nobody consented in time", next_step="start the login again")
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise ConnectAgain("PennyLane gave no consent", next_step="start the login again")
        return self._result


def _page(title: str, lines: list[str], status: int = 200) -> Response:
    return HTMLResponse(_PAGE.render(title=title, lines=lines), status, _HEADERS)


def told(connected: Connected) -> list[str]:
    """What a person wants to know of a new connection."""
    lines = [f"Connected to {connected.company_name} (company {connected.company_id})."]
    if connected.missing:
        lines.append(f"Not granted: {', '.join(connected.missing)}. What needs them will be refused.")
    return lines


def history_to_send(shop: ShopFile, engine: sa.Engine, env: Environment) -> History | None:
    """The days since the start of the open fiscal year; None when PennyLane could not be asked.

    A connection that was just made stands, whatever this answers.
    """
    try:
        with connect(shop, engine, env) as client:
            return history_of(client, engine, shop, business_day(shop, datetime.now(UTC)))
    except KashPipelineError as error:
        _log.warning("the fiscal years could not be asked: %s", error.message)
        return None


def next_steps(shop: ShopFile, history: History | None) -> list[str]:
    """What a person who has just connected does next, and what goes on without them."""
    if history is None:
        return [f"Next: kash-pipeline run --shop {shop.path} --from DAY --to DAY sends the days before today."]
    lines = history.told()
    if history.days_not_sent:
        command = f"kash-pipeline run --shop {shop.path} --from {history.first} --to {history.last}"
        lines.append(f"Next: send them. The terminal where you logged in offers it; later, or in a script: {command}")
    lines.append(
        "After that it runs by itself: every night, and whenever days are ready, where Dagster's daemon runs with "
        "KASH_DEPLOYMENT=production."
    )
    return lines


def connect_in_browser(
    shop: ShopFile, engine: sa.Engine, env: Environment, *, show: Callable[[str], None], seconds: float = 600
) -> Connected:
    """Serve the redirect address on this machine, hand the consent address to `show`, wait for the person.

    Raises SettingsError when `redirect_url` does not lead to this machine (then take `finish_with`), PortInUse.
    """
    redirect = section_of(shop).redirect_url
    parts = urlsplit(redirect)
    if not is_loopback(redirect) or parts.scheme != "http":
        raise SettingsError(
            f"redirect_url {redirect} is not served by this machine",
            next_step="consent with --paste and give the address the browser ends at",
        )
    with consent(shop, engine, env) as attempt:
        callback = Callback(attempt, redirect, lambda: next_steps(shop, history_to_send(shop, engine, env)))
        with serving(callback.app, host=parts.hostname or "127.0.0.1", port=parts.port or 80):
            show(attempt.url)
            return callback.wait(seconds)


def connect_sandbox(shop: ShopFile, engine: sa.Engine, env: Environment, *, company: str | None = None) -> Connected:
    """Consent at the sandbox as a person would, over HTTP: reads its page and presses the button.

    Raises SettingsError when [pennylane] url is not on this machine: the real PennyLane wants a real person.
    """
    url = section_of(shop).url
    if not is_loopback(url):
        raise SettingsError(
            f"{url} is not the sandbox: only a person can consent there",
            next_step=f"run: kash-pipeline pennylane login --shop {shop.path}",
        )
    with consent(shop, engine, env) as attempt:
        return attempt.finish(approve(attempt.url, company=company))
