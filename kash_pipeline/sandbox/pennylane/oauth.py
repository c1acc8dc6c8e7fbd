"""OAuth 2.0: consent page, codes, rotating tokens, revocation; and who a bearer token speaks for.

Only authorisation belongs here. Which scope an operation needs stands in the contract and is enforced by app.py.
Facts: pennylane-api.md section 3; every status of a refused grant is a guess there and here.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import jinja2
from sqlalchemy import Connection

from kash_pipeline import contracts
from kash_pipeline.sandbox.pennylane.answers import Json, Problem, error
from kash_pipeline.sandbox.pennylane.call import Identity
from kash_pipeline.sandbox.pennylane.store import sha256

CODE_LIFE = timedelta(minutes=10)
ACCESS_LIFE = timedelta(hours=24)
REFRESH_LIFE = timedelta(days=90)

_REQUEST_FIELDS = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)

# Accepted in a request, opens nothing since July 2026 (section 2.1).
DEAD_SCOPE = "ledger"


@dataclass(frozen=True, repr=False)
class TokenPair:
    """What `/oauth/token` answers. No repr: tokens must not end up in a failure message."""

    access_token: str
    refresh_token: str
    expires_in: int


@dataclass(frozen=True)
class Page:
    """An HTML page, or a way back to the application (`location`)."""

    html: str = ""
    location: str = ""


@cache
def known_scopes() -> dict[str, str]:
    """Every scope with its description, from the contract."""
    flows = contracts.load("pennylane")["components"]["securitySchemes"]["oauth2"]["flows"]
    scopes: dict[str, str] = flows["authorizationCode"]["scopes"]
    return scopes


def working_scopes(wanted: str | None = None) -> list[str]:
    """The scopes named in `wanted` (all, if None) that open something."""
    names = known_scopes() if wanted is None else dict.fromkeys(wanted.split(" "))
    return [name for name in names if name != DEAD_SCOPE]


# Consent ------------------------------------------------------------------------------------------------------------


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "", ""), autoescape=True, undefined=jinja2.StrictUndefined
    )


def authorize(connection: Connection, query: Mapping[str, str]) -> Page:
    """The consent page, a page that says what is wrong, or the way back with an error.

    An unknown client or a redirect that is not registered, byte for byte, never leads away: whoever made the link
    must not be able to choose where the code goes. The contract declares 200 and 302 only, so that page is a 200.
    """
    client = _client(connection, query.get("client_id", ""))
    if client is None:
        return refusal("The application that sent you here is not known (client_id).")
    if query.get("redirect_uri", "") not in client.redirect_uris:
        return refusal("The address to return to is not registered for this application (redirect_uri).")
    problem = _request_problem(query)
    if problem:
        return Page(location=_way_back(query, error=problem))
    companies = connection.exec_driver_sql("select id, name from companies order by id").all()
    scopes = [(name, known_scopes()[name]) for name in working_scopes(query["scope"])]
    html = (
        _templates()
        .get_template("consent.html")
        .render(
            client=client.id,
            scopes=scopes,
            companies=companies,
            fields={name: query[name] for name in _REQUEST_FIELDS if name in query},
        )
    )
    return Page(html=html)


def decide(connection: Connection, form: Mapping[str, str], now: datetime) -> Page:
    """What follows when the person presses a button of the consent page."""
    client = _client(connection, form.get("client_id", ""))
    if client is None or form.get("redirect_uri", "") not in client.redirect_uris or _request_problem(form):
        return refusal("This request does not come from a consent page.")
    if form.get("decision") != "approve":
        return Page(location=_way_back(form, error="access_denied"))
    company = connection.exec_driver_sql(
        "select id from companies where id::text = %(id)s", {"id": form.get("company", "")}
    ).scalar()
    if company is None:
        return refusal("There is no such company.")
    grant = new_grant(connection, company, client.id, working_scopes(form["scope"]), now)
    code = secrets.token_urlsafe(32)
    connection.exec_driver_sql(
        "insert into codes (sha256, grant_id, redirect_uri, challenge, expires_at)"
        " values (%(code)s, %(grant)s, %(uri)s, %(challenge)s, %(expires)s)",
        {
            "code": sha256(code),
            "grant": grant,
            "uri": form["redirect_uri"],
            "challenge": form.get("code_challenge") or None,
            "expires": now + CODE_LIFE,
        },
    )
    return Page(location=_way_back(form, code=code))


def _client(connection: Connection, identifier: str) -> Any:
    return connection.exec_driver_sql(
        "select id, secret_sha256, redirect_uris from clients where id = %(id)s", {"id": identifier}
    ).one_or_none()


def _request_problem(query: Mapping[str, str]) -> str:
    """The OAuth error word for a request of a known client, or an empty string. PKCE, when sent, must be S256."""
    if query.get("response_type") != "code":
        return "unsupported_response_type"
    scopes = query.get("scope", "")
    if not scopes or not set(scopes.split(" ")) <= known_scopes().keys():
        return "invalid_scope"
    if "code_challenge" in query and query.get("code_challenge_method") != "S256":
        return "invalid_request"
    return ""


def _way_back(query: Mapping[str, str], **answer: str) -> str:
    if "state" in query:
        answer["state"] = query["state"]
    parts = urlsplit(query["redirect_uri"])
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(answer))))))


def refusal(text: str) -> Page:
    return Page(html=_templates().get_template("refused.html").render(text=text))


# Tokens -------------------------------------------------------------------------------------------------------------


def new_grant(connection: Connection, company: int, client: str | None, scopes: list[str], now: datetime) -> int:
    """A consent (or, without a client, a company API token) with its scopes; returns its id."""
    grant: int = connection.exec_driver_sql(
        "insert into grants (company_id, client_id, scopes, created_at)"
        " values (%(company)s, %(client)s, %(scopes)s, %(now)s) returning id",
        {"company": company, "client": client, "scopes": scopes, "now": now},
    ).scalar_one()
    return grant


def new_pair(
    connection: Connection, grant: int, now: datetime, *, access_life: timedelta, refresh_life: timedelta
) -> TokenPair:
    pair = TokenPair(secrets.token_urlsafe(32), secrets.token_urlsafe(32), int(access_life.total_seconds()))
    connection.exec_driver_sql(
        "insert into tokens (grant_id, access_sha256, refresh_sha256, access_expires_at, refresh_expires_at)"
        " values (%(grant)s, %(access)s, %(refresh)s, %(access_end)s, %(refresh_end)s)",
        {
            "grant": grant,
            "access": sha256(pair.access_token),
            "refresh": sha256(pair.refresh_token),
            "access_end": now + access_life,
            "refresh_end": now + refresh_life,
        },
    )
    return pair


def new_company_token(connection: Connection, grant: int, expires_at: datetime | None) -> str:
    """43 URL-safe characters, as the real ones are said to be (section 3.2)."""
    token = secrets.token_urlsafe(32)
    connection.exec_driver_sql(
        "insert into tokens (grant_id, access_sha256, access_expires_at) values (%(grant)s, %(access)s, %(end)s)",
        {"grant": grant, "access": sha256(token), "end": expires_at},
    )
    return token


def token(
    connection: Connection,
    form: Mapping[str, str],
    now: datetime,
    *,
    access_life: timedelta,
    refresh_life: timedelta,
) -> Json:
    """The token pair for a code or a refresh token; raises an OAuth error as Problem."""
    _authenticate(connection, form)
    grants = {"authorization_code": _grant_of_code, "refresh_token": _grant_of_refresh_token}
    kind = form.get("grant_type", "")
    if not kind:
        raise _oauth_error(400, "invalid_request", "grant_type is missing")
    if kind not in grants:
        raise _oauth_error(400, "unsupported_grant_type", "use authorization_code or refresh_token")
    grant = grants[kind](connection, form, now)
    pair = new_pair(connection, grant, now, access_life=access_life, refresh_life=refresh_life)
    return {
        "access_token": pair.access_token,
        "token_type": "Bearer",
        "expires_in": pair.expires_in,
        "refresh_token": pair.refresh_token,
    }


def revoke(connection: Connection, form: Mapping[str, str], now: datetime) -> None:
    """End the consent an access or refresh token belongs to. An unknown token is no error (RFC 7009)."""
    _authenticate(connection, form)
    connection.exec_driver_sql(
        "update grants set revoked_at = coalesce(revoked_at, %(now)s) where client_id = %(client)s and id in"
        " (select grant_id from tokens where access_sha256 = %(token)s or refresh_sha256 = %(token)s)",
        {"now": now, "client": form["client_id"], "token": sha256(form.get("token", ""))},
    )


def _oauth_error(status: int, word: str, text: str, *, keep: bool = False) -> Problem:
    return Problem(status, {"error": word, "error_description": text}, keep=keep)


def _authenticate(connection: Connection, form: Mapping[str, str]) -> None:
    """Client id and secret from the body only: the guide knows no other way (section 3.1, trap 17)."""
    client = _client(connection, form.get("client_id", ""))
    given = sha256(form.get("client_secret", ""))
    if client is None or not hmac.compare_digest(given, bytes(client.secret_sha256)):
        raise _oauth_error(401, "invalid_client", "client_id and client_secret are wanted in the body")


def _grant_of_code(connection: Connection, form: Mapping[str, str], now: datetime) -> int:
    row = connection.exec_driver_sql(
        "select c.grant_id, c.redirect_uri, c.challenge, c.expires_at, c.used_at, g.client_id, g.revoked_at"
        " from codes c join grants g on g.id = c.grant_id where c.sha256 = %(code)s for update",
        {"code": sha256(form.get("code", ""))},
    ).one_or_none()
    if row is None or row.client_id != form["client_id"]:
        raise _oauth_error(400, "invalid_grant", "this code was never given out")
    if row.used_at is not None:
        # A code seen twice may have been stolen: what was given for it ends (RFC 6749 section 4.1.2).
        _end_grant(connection, row.grant_id, now)
        raise _oauth_error(400, "invalid_grant", "this code was used before", keep=True)
    if row.expires_at <= now or row.revoked_at is not None:
        raise _oauth_error(400, "invalid_grant", "this code has expired")
    if row.redirect_uri != form.get("redirect_uri"):
        raise _oauth_error(400, "invalid_grant", "redirect_uri is not the one of the authorisation request")
    if row.challenge is not None and not _verifies(form.get("code_verifier", ""), row.challenge):
        raise _oauth_error(400, "invalid_grant", "code_verifier does not fit the code_challenge")
    connection.exec_driver_sql(
        "update codes set used_at = %(now)s where sha256 = %(code)s", {"now": now, "code": sha256(form["code"])}
    )
    return int(row.grant_id)


def _verifies(verifier: str, challenge: str) -> bool:
    digest = hashlib.sha256(verifier.encode("ascii", "replace")).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), challenge.rstrip("="))


def _grant_of_refresh_token(connection: Connection, form: Mapping[str, str], now: datetime) -> int:
    """Use up a refresh token: it and its access token stop at once.

    A second use ends the whole connection: "concurrent refreshes break the link" (section 3.1, trap 16).
    """
    row = connection.exec_driver_sql(
        "select t.id, t.grant_id, t.refresh_expires_at, t.ended_at, g.client_id, g.revoked_at from tokens t"
        " join grants g on g.id = t.grant_id where t.refresh_sha256 = %(token)s for update",
        {"token": sha256(form.get("refresh_token", ""))},
    ).one_or_none()
    if row is None or row.client_id != form["client_id"]:
        raise _oauth_error(401, "invalid_grant", "this refresh token was never given out")
    if row.ended_at is not None:
        _end_grant(connection, row.grant_id, now)
        raise _oauth_error(401, "invalid_grant", "this refresh token was used before", keep=True)
    if row.revoked_at is not None or row.refresh_expires_at <= now:
        raise _oauth_error(401, "invalid_grant", "this refresh token has expired or was revoked")
    connection.exec_driver_sql("update tokens set ended_at = %(now)s where id = %(id)s", {"now": now, "id": row.id})
    return int(row.grant_id)


def _end_grant(connection: Connection, grant: int, now: datetime) -> None:
    connection.exec_driver_sql(
        "update grants set revoked_at = coalesce(revoked_at, %(now)s) where id = %(id)s", {"now": now, "id": grant}
    )


def identify(connection: Connection, bearer: str | None, now: datetime) -> Identity:
    """Who the token speaks for; raises the 401 every dead, unknown or missing token gets."""
    row = connection.exec_driver_sql(
        "select g.id, g.company_id, g.client_id, g.scopes, c.name, c.reg_no from tokens t"
        " join grants g on g.id = t.grant_id join companies c on c.id = g.company_id"
        " where t.access_sha256 = %(token)s and t.ended_at is null and g.revoked_at is null"
        " and (t.access_expires_at is null or t.access_expires_at > %(now)s)",
        {"token": sha256(bearer or ""), "now": now},
    ).one_or_none()
    if row is None:
        raise error(401, "The access token is invalid")
    return Identity(
        grant_id=row.id,
        company_id=row.company_id,
        company_name=row.name,
        reg_no=row.reg_no,
        scopes=tuple(row.scopes),
        user=row.client_id is not None,
    )
