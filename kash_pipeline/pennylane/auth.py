"""The connection to one PennyLane company: consent, token pair, refresh, end.

Who the access token is and how it stays alive belongs here; encryption at rest and the row lock are
warehouse/tokens.py's, the page a browser comes back to is web/connect.py's.

PennyLane's rules (its guide "OAuth 2.0 walkthrough", read 30 Sep 2026): access token 24 h, refresh token 90 days and
single use; using it ends the old pair at once, two concurrent refreshes end the connection. Hence: one refresh at a
time under a row lock, at 80 % of the life, and the new pair durable before it is used. Client id and secret go in the
form (`client_secret_post`).
"""

import hmac
import ipaddress
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from authlib.common.urls import url_encode
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.client import OAuth2Client
from sqlalchemy.exc import DBAPIError

from kash_pipeline.errors import SettingsError
from kash_pipeline.pennylane.client import TIMEOUT, Me
from kash_pipeline.pennylane.errors import (
    AnswerChanged,
    ConnectAgain,
    PennylaneError,
    Refused,
    ServerFailed,
    StateMismatch,
    error_of,
    error_of_transport,
)
from kash_pipeline.settings import PennylaneSection, ShopFile, secret
from kash_pipeline.warehouse.tokens import Connection, TokenPair, TokenStore

# A refresh at 80 % of the life leaves a fifth of a day for a PennyLane that is down.
REFRESH_AT = 0.8
# While a token is still good, a refresh that failed is tried again after this, not with every request.
PAUSE = timedelta(minutes=1)
# Errors of the token endpoint (RFC 6749 section 5.2) that say nothing about the pair; any other one ends it.
_OUR_FAULT = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_request"})
_LONGEST_LIFE = 10 * 366 * 86_400  # seconds; a date beyond is none
_PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_LOGIN = "connect again: kash-pipeline pennylane login --shop {shop}"
_log = logging.getLogger(__name__)


def scopes_for(shop: ShopFile) -> tuple[str, ...]:
    """The least that publishing this shop's entries needs, in the granular scopes of 2026."""
    section = section_of(shop)
    scopes = [
        "journals:all" if section.create_journals else "journals:readonly",
        "ledger_accounts:all" if section.create_accounts else "ledger_accounts:readonly",
        "ledger_entries:all",
        "fiscal_years:readonly",
    ]
    if shop.shop.named_customers == "own_account":
        scopes.append("customers:all")
    if section.attach_z:
        scopes.append("file_attachments:all")
    return tuple(scopes)


def missing_scopes(wanted: tuple[str, ...], granted: frozenset[str] | set[str]) -> tuple[str, ...]:
    """What was asked for and not granted; `x:all` holds `x:readonly`."""
    return tuple(
        scope for scope in wanted if scope not in granted and scope.replace(":readonly", ":all") not in granted
    )


def is_loopback(url: str) -> bool:
    """Whether an address leads to this machine and nowhere else."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def section_of(shop: ShopFile) -> PennylaneSection:
    """The shop's [pennylane]; raises SettingsError when it has none, or one that tokens would leave in clear."""
    section = shop.pennylane
    if section is None:
        raise SettingsError(
            f"{shop.path}: there is no [pennylane], so nothing is ever sent",
            next_step="add [pennylane] to the shop file",
        )
    for name, url in (("url", section.url), ("redirect_url", section.redirect_url)):
        if urlsplit(url).scheme != "https" and not is_loopback(url):
            raise SettingsError(
                f"{shop.path}: [pennylane] {name} {url} would carry tokens or codes over the network in clear",
                next_step="write https://; http:// is for addresses of this machine only",
            )
    return section


class CompanyToken:
    """A company API token from the environment: no refresh, and only a person can replace it."""

    def __init__(self, section: PennylaneSection) -> None:
        self._section = section

    def __repr__(self) -> str:
        return f"CompanyToken({self._section.token_env})"

    def access_token(self) -> str:
        """Raises SettingsError when the variable is not set or what it holds cannot be sent in a header."""
        token = secret(self._section.token_env, used_for="the PennyLane company API token")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise SettingsError(
                f"environment variable {self._section.token_env} holds no token: characters other than letters,"
                " digits and signs are in it",
                next_step="copy the token again, without quotes or line breaks",
            )
        return token

    def replace(self, rejected: str) -> str:
        current = self.access_token()
        if current != rejected:
            return current
        raise ConnectAgain(
            f"PennyLane rejects the company API token in {self._section.token_env}: expired or revoked",
            next_step="make a new one in PennyLane (company settings, Connectivity, Developers) and set it again",
        )


class OneToken:
    """An access token fresh from a consent, for the first look at whose it is."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __repr__(self) -> str:
        return "OneToken()"

    def access_token(self) -> str:
        return self._token

    def replace(self, rejected: str) -> str:
        del rejected
        raise ConnectAgain(
            "PennyLane rejects the access token it has just given", next_step=_LOGIN.format(shop="SHOP.toml")
        )


class _Session:
    """What authlib needs of an HTTP session, on httpx: one form POST, its failures in our own words."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def post(
        self, url: str, data: dict[str, str], headers: dict[str, str], auth: ClientAuth, **_: object
    ) -> httpx.Response:
        url, headers, body = auth.prepare("POST", url, dict(headers), url_encode(data.items()))
        try:
            response = self._http.post(url, content=body, headers=headers)
        except httpx.RequestError as error:
            raise error_of_transport(error, "asking for a token") from None
        if response.status_code == 429 or response.status_code >= 500:
            raise _failure(response)
        return response


def _failure(response: httpx.Response) -> PennylaneError:
    """The error of an answer of the token endpoint, by its status alone: what it says might hold a token."""
    silent = httpx.Response(response.status_code, headers=response.headers)
    return error_of(silent, "asking for a token") or AnswerChanged("PennyLane: no token")


class OAuthServer:
    """PennyLane's three OAuth endpoints, through authlib, for one registered application."""

    def __init__(self, shop: ShopFile, http: httpx.Client | None = None) -> None:
        section = section_of(shop)
        self.url = section.url.rstrip("/")
        self._section = section
        self._http = http or httpx.Client(timeout=TIMEOUT, follow_redirects=False)

    def close(self) -> None:
        self._http.close()

    def _client(self) -> OAuth2Client:
        # No scope here: authlib would add it to the token form, and PennyLane refuses unknown fields.
        return OAuth2Client(
            _Session(self._http),
            client_id=secret(self._section.client_id_env, used_for="the client id of our PennyLane application"),
            client_secret=secret(self._section.client_secret_env, used_for="the secret of our PennyLane application"),
            token_endpoint_auth_method="client_secret_post",
            revocation_endpoint_auth_method="client_secret_post",
            redirect_uri=self._section.redirect_url,
            code_challenge_method="S256",
        )

    def speaks_pkce(self) -> bool:
        """Whether the server's metadata offer PKCE with S256 (RFC 8414); PennyLane's guide is silent about it."""
        try:
            answer = self._http.get(f"{self.url}/.well-known/oauth-authorization-server")
            methods = answer.json().get("code_challenge_methods_supported", []) if answer.is_success else []
        except (httpx.RequestError, ValueError, AttributeError):
            return False  # no metadata, no PKCE: both are optional for the server
        return isinstance(methods, list) and "S256" in methods

    def authorize_url(self, scopes: tuple[str, ...], state: str, verifier: str | None) -> str:
        url, _ = self._client().create_authorization_url(
            f"{self.url}/oauth/authorize", state=state, code_verifier=verifier, scope=" ".join(scopes)
        )
        return str(url)

    def exchange(self, code: str, verifier: str | None) -> TokenPair:
        """A code for a pair. Raises ConnectAgain for a code that is used, expired or not ours."""
        extra = {"code_verifier": verifier} if verifier else {}
        return self._pair(
            lambda client: client.fetch_token(f"{self.url}/oauth/token", code=code, **extra), "the code was refused"
        )

    def refresh(self, refresh_token: str) -> TokenPair:
        """A new pair for the refresh token, which is dead from then on. Raises ConnectAgain when it already was."""
        return self._pair(
            lambda client: client.refresh_token(f"{self.url}/oauth/token", refresh_token=refresh_token),
            "the refresh token was refused",
        )

    def revoke(self, token: str) -> None:
        """End the pair that `token` (either of the two) belongs to."""
        response = self._client().revoke_token(f"{self.url}/oauth/revoke", token=token)
        error = error_of(response, "ending the connection")
        if error is not None:
            raise error

    def _pair(self, ask: Callable[[Any], Any], refused: str) -> TokenPair:
        asked_at = datetime.now(UTC)
        try:
            token = ask(self._client())
        except OAuth2Error as error:
            word = error.error if isinstance(error.error, str) else "unknown error"
            if word in _OUR_FAULT:
                # Ours to mend in the environment: the pair itself is as good as before.
                raise Refused(
                    f"PennyLane does not take what our application asks ({word})",
                    next_step=f"check {self._section.client_id_env} and {self._section.client_secret_env}",
                ) from None
            if word in _PASSING:
                raise ServerFailed(f"PennyLane gives no token now ({word})", next_step="run again later") from None
            raise ConnectAgain(
                f"PennyLane: {refused} ({word[:60]})", next_step=_LOGIN.format(shop="SHOP.toml")
            ) from None
        except httpx.HTTPStatusError as error:
            raise _failure(error.response) from None
        except ValueError:
            raise AnswerChanged("PennyLane: the answer of the token endpoint is not understood") from None
        access, refresh, life = (token.get(name) for name in ("access_token", "refresh_token", "expires_in"))
        good = all(isinstance(one, str) and one for one in (access, refresh))
        if not good or not isinstance(life, int | float) or not 0 < life < _LONGEST_LIFE:
            raise AnswerChanged("PennyLane: the answer of the token endpoint lacks a token or its life")
        return TokenPair(access, refresh, asked_at + timedelta(seconds=life))


class OAuthConnection:
    """The access token of a connection, kept alive. Safe in any number of threads and processes.

    `now` can be passed in. The pair is cached in this object; that another process refreshed it meanwhile is noticed
    by the 401 that follows, and its pair is taken over.
    """

    def __init__(
        self,
        shop: ShopFile,
        store: TokenStore,
        server: OAuthServer,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._shop = shop
        self._store = store
        self._server = server
        self._now = now
        self._known: Connection | None = None
        self._paused_until: datetime | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"OAuthConnection({self._shop.shop.id!r})"

    def access_token(self) -> str:
        with self._lock:
            if self._known is None:
                self._known = self._store.get(self._shop.shop.id)
            pair = self._usable(self._known)
            if self._due(self._known) and not (self._paused_until and self._now() < self._paused_until):
                pair = self._refreshed_early(self._known, pair)
            return pair.access_token

    def replace(self, rejected: str) -> str:
        with self._lock:
            pair = self._known.pair if self._known else None
            if pair is None or pair.access_token == rejected:
                pair = self._refreshed(rejected)
            return pair.access_token

    def _refreshed_early(self, known: Connection, pair: TokenPair) -> TokenPair:
        """A new pair, or the one at hand while PennyLane gives none and it is still good."""
        try:
            return self._refreshed(pair.access_token)
        except PennylaneError as error:
            if not error.retry or self._now() >= pair.expires_at:
                raise
            _log.warning("the PennyLane token is used on: %s", type(error).__name__)
            self._known, self._paused_until = known, self._now() + PAUSE
            return pair

    def _due(self, known: Connection) -> bool:
        if known.pair is None or known.refreshed_at is None:
            return True
        return self._now() >= known.refreshed_at + (known.pair.expires_at - known.refreshed_at) * REFRESH_AT

    def _usable(self, known: Connection) -> TokenPair:
        if known.pair is None:
            raise self._gone(known.broken or f"{self._shop.shop.id} is not connected to PennyLane")
        return known.pair

    def _gone(self, why: str) -> ConnectAgain:
        return ConnectAgain(why, next_step=_LOGIN.format(shop=self._shop.path))

    def _refreshed(self, used_up: str) -> TokenPair:
        """The pair of whoever refreshed first: we, under the row lock, or the one before us.

        `used_up` is the access token that is not to be used any more.
        """
        refused: ConnectAgain | None = None
        current: TokenPair | None = None
        pair: TokenPair | None = None
        try:
            with self._store.locked(self._shop.shop.id) as row:
                current = self._usable(row.connection)
                if current.access_token != used_up and not self._due(row.connection):
                    self._known = row.connection
                    return current
                try:
                    pair = self._ask(current)
                except ConnectAgain as error:
                    row.break_off(error.message)
                    refused = self._gone(error.message)
                else:
                    row.save(pair)
        except DBAPIError:
            if pair is None:
                raise
            self._rescue(current, pair)
        # The lock is over and the new pair durable: only now may it be used.
        self._known = None
        if refused is not None:
            raise refused
        self._known = self._store.get(self._shop.shop.id)
        return self._usable(self._known)

    def _rescue(self, used_up: TokenPair | None, pair: TokenPair) -> None:
        """Save a new pair whose database connection broke: without it only a person could connect again."""
        with self._store.locked(self._shop.shop.id) as row:
            # Somebody else's pair, or the end of the connection, came after ours and stays.
            if row.connection.pair == used_up:
                row.save(pair)

    def _ask(self, current: TokenPair) -> TokenPair:
        if current.refresh_token is None:
            raise self._gone("the connection has no refresh token")
        try:
            return self._server.refresh(current.refresh_token)
        except PennylaneError as error:
            if not error.retry:
                raise
            # A lost answer may mean that the pair is dead. Asking again tells: a live refresh token works, a used
            # one is refused, and then only a person can help.
            _log.warning("refresh of the PennyLane connection: %s; asking once more", type(error).__name__)
            return self._server.refresh(current.refresh_token)


@dataclass(frozen=True)
class Connected:
    """What a consent gave: the company, and scopes that were asked for but not granted."""

    company_id: int
    company_name: str
    missing: tuple[str, ...]


class Consent:
    """One attempt to connect. `url` is where the person consents; `finish` takes the address they came back to.

    The state is compared in constant time and good for one answer, so a forged or replayed callback stores nothing.
    """

    def __init__(self, shop: ShopFile, store: TokenStore, server: OAuthServer, who: Callable[[str], Me]) -> None:
        store.get(shop.shop.id)  # a key that does not fit is told before anybody consents
        self._shop = shop
        self._store = store
        self._server = server
        self._who = who
        self._state: str | None = secrets.token_urlsafe(32)
        self._verifier = secrets.token_urlsafe(48) if server.speaks_pkce() else None
        self._lock = threading.Lock()
        self.scopes = scopes_for(shop)
        self.url = server.authorize_url(self.scopes, self._state, self._verifier)

    def finish(self, callback_url: str) -> Connected:
        """Exchange the code, store the pair, ask `/me` for company and scopes.

        Raises ConnectAgain when the person declined, the state is not ours or was used, or the code is refused.
        """
        try:
            query = {name: values[0] for name, values in parse_qs(urlsplit(callback_url).query).items()}
        except ValueError:  # no address at all, pasted by hand
            query = {}
        with self._lock:
            expected = self._state
            # As bytes: of text, compare_digest takes ASCII only and fails on anything else.
            if expected is None or not hmac.compare_digest(query.get("state", "").encode(), expected.encode()):
                raise StateMismatch(
                    "the answer from PennyLane does not belong to this attempt (state)",
                    next_step=_LOGIN.format(shop=self._shop.path),
                )
            self._state = None
        if "code" not in query:
            reason = query.get("error", "no code")[:60]
            raise ConnectAgain(f"PennyLane gave no consent ({reason})", next_step=_LOGIN.format(shop=self._shop.path))
        pair = self._server.exchange(query["code"], self._verifier)
        with self._store.locked(self._shop.shop.id) as row:
            row.save(pair)
        me = self._who(pair.access_token)
        with self._store.locked(self._shop.shop.id) as row:
            row.save(
                row.connection.pair or pair,
                scopes=sorted(me.scopes),
                company_id=me.company_id,
                company_name=me.company_name,
            )
        return Connected(me.company_id, me.company_name, missing_scopes(self.scopes, me.scopes))
