"""What the PennyLane sandbox promises about who may ask, how often: OAuth, scopes, rate limit."""

import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
import sqlalchemy as sa

from kash_pipeline.sandbox.errors import SandboxError
from kash_pipeline.sandbox.pennylane import approve
from kash_pipeline.sandbox.pennylane.limiter import Limiter, Mode
from kash_pipeline_tests.sandboxes import PennylaneHandle

SCOPES = "journals:readonly ledger_entries:all"


def _authorize_url(sandbox: PennylaneHandle, **changes: str) -> str:
    query = {
        "client_id": sandbox.client_id,
        "redirect_uri": sandbox.redirect_uri,
        "response_type": "code",
        "scope": SCOPES,
        "state": "s/t&a=te",
    }
    return f"{sandbox.url}/oauth/authorize?{urlencode(query | changes)}"


def _answer_of(location: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def _token(sandbox: PennylaneHandle, **fields: str) -> httpx.Response:
    body = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret} | fields
    return httpx.post(f"{sandbox.url}/oauth/token", data=body)


def _exchange(sandbox: PennylaneHandle, code: str, **fields: str) -> httpx.Response:
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": sandbox.redirect_uri} | fields
    return _token(sandbox, **body)


def _refresh(sandbox: PennylaneHandle, refresh_token: str) -> httpx.Response:
    return _token(sandbox, grant_type="refresh_token", refresh_token=refresh_token)


def _status(sandbox: PennylaneHandle, token: str, path: str = "/me") -> int:
    with sandbox.client(token) as http:
        return http.get(path).status_code


# Consent ------------------------------------------------------------------------------------------------------------


def test_consent_gives_a_working_pair_with_the_scopes_shown(pennylane_sandbox: PennylaneHandle) -> None:
    location = approve(_authorize_url(pennylane_sandbox))
    answer = _answer_of(location)
    assert location.startswith(f"{pennylane_sandbox.redirect_uri}?")
    assert answer["state"] == "s/t&a=te"
    pair = _exchange(pennylane_sandbox, answer["code"]).json()
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 86400)
    with pennylane_sandbox.client(pair["access_token"]) as http:
        me = http.get("/me").json()
    assert me["scopes"] == SCOPES.split(" ")
    assert me["company"]["name"] == "Boulangerie du Port"
    assert me["user"]["email"]


def test_the_person_chooses_the_company(pennylane_sandbox: PennylaneHandle) -> None:
    pennylane_sandbox.admin.add_company("Autre Société")
    code = _answer_of(approve(_authorize_url(pennylane_sandbox), company="Autre Société"))["code"]
    token = _exchange(pennylane_sandbox, code).json()["access_token"]
    with pennylane_sandbox.client(token) as http:
        assert http.get("/me").json()["company"]["name"] == "Autre Société"


def test_refusing_sends_back_without_a_code(pennylane_sandbox: PennylaneHandle) -> None:
    answer = _answer_of(approve(_authorize_url(pennylane_sandbox), decision="refuse"))
    assert answer == {"error": "access_denied", "state": "s/t&a=te"}


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "http://127.0.0.1:8799/pennylane/callback/"},
        {"redirect_uri": "http://127.0.0.1:8799/pennylane/callback?next=http://evil.example"},
        {"redirect_uri": "http://evil.example/"},
        {"client_id": "somebody"},
    ],
)
def test_nothing_leads_to_an_address_that_is_not_registered(
    pennylane_sandbox: PennylaneHandle, changes: dict[str, str]
) -> None:
    url = _authorize_url(pennylane_sandbox, **changes)
    answer = httpx.get(url)
    assert (answer.status_code, "location" in answer.headers, "<form" in answer.text) == (200, False, False)
    with pytest.raises(SandboxError, match="offers no consent"):
        approve(url)


def test_the_consent_page_escapes_what_it_shows(pennylane_sandbox: PennylaneHandle) -> None:
    page = httpx.get(_authorize_url(pennylane_sandbox, state='"><script>alert(1)</script>')).text
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"scope": "journals:everything"}, "invalid_scope"),
        ({"code_challenge": "abc", "code_challenge_method": "plain"}, "invalid_request"),
    ],
)
def test_bad_requests_of_a_known_client_go_back_with_the_error(
    pennylane_sandbox: PennylaneHandle, changes: dict[str, str], word: str
) -> None:
    answer = _answer_of(approve(_authorize_url(pennylane_sandbox, **changes)))
    assert answer == {"error": word, "state": "s/t&a=te"}


def test_the_dead_scope_opens_nothing(pennylane_sandbox: PennylaneHandle) -> None:
    code = _answer_of(approve(_authorize_url(pennylane_sandbox, scope="ledger")))["code"]
    token = _exchange(pennylane_sandbox, code).json()["access_token"]
    assert _status(pennylane_sandbox, token, "/ledger_entries") == 403


# Codes --------------------------------------------------------------------------------------------------------------


def test_a_replayed_code_ends_what_it_gave(pennylane_sandbox: PennylaneHandle) -> None:
    code = _answer_of(approve(_authorize_url(pennylane_sandbox)))["code"]
    pair = _exchange(pennylane_sandbox, code).json()
    again = _exchange(pennylane_sandbox, code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert _status(pennylane_sandbox, pair["access_token"]) == 401


def test_a_code_is_bound_to_its_redirect_and_lives_ten_minutes(
    make_pennylane_sandbox: Callable[..., PennylaneHandle],
) -> None:
    moment = [datetime.now(UTC)]
    sandbox = make_pennylane_sandbox(limiter=None, clock=lambda: moment[0])
    code = _answer_of(approve(_authorize_url(sandbox)))["code"]
    assert _exchange(sandbox, code, redirect_uri="http://127.0.0.1:8799/other").json()["error"] == "invalid_grant"
    moment[0] += timedelta(minutes=11)
    assert _exchange(sandbox, code).json()["error"] == "invalid_grant"


def test_pkce_is_honoured_when_sent(pennylane_sandbox: PennylaneHandle) -> None:
    verifier = "v" * 64
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    url = _authorize_url(pennylane_sandbox, code_challenge=challenge, code_challenge_method="S256")
    codes = [_answer_of(approve(url))["code"] for _ in range(3)]
    assert _exchange(pennylane_sandbox, codes[0]).json()["error"] == "invalid_grant"
    assert _exchange(pennylane_sandbox, codes[1], code_verifier="x" * 64).json()["error"] == "invalid_grant"
    assert _exchange(pennylane_sandbox, codes[2], code_verifier=verifier).status_code == 200


def test_credentials_count_in_the_body_only(pennylane_sandbox: PennylaneHandle) -> None:
    """authlib's default, HTTP Basic, is refused (trap 17)."""
    code = _answer_of(approve(_authorize_url(pennylane_sandbox)))["code"]
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": pennylane_sandbox.redirect_uri}
    with pennylane_sandbox.contract.bad_requests_expected():
        basic = httpx.post(
            f"{pennylane_sandbox.url}/oauth/token",
            data=body,
            auth=(pennylane_sandbox.client_id, pennylane_sandbox.client_secret),
        )
    wrong = _exchange(pennylane_sandbox, code, client_secret="guess")
    assert [(answer.status_code, answer.json()["error"]) for answer in (basic, wrong)] == [(401, "invalid_client")] * 2


# Rotation -----------------------------------------------------------------------------------------------------------


def test_a_refresh_kills_the_old_pair_at_once(pennylane_sandbox: PennylaneHandle) -> None:
    old = pennylane_sandbox.admin.connect(pennylane_sandbox.client_id)
    new = _refresh(pennylane_sandbox, old.refresh_token).json()
    assert new["refresh_token"] != old.refresh_token
    assert _status(pennylane_sandbox, old.access_token) == 401
    assert _status(pennylane_sandbox, new["access_token"]) == 200


def test_a_second_use_of_a_refresh_token_ends_the_connection(pennylane_sandbox: PennylaneHandle) -> None:
    old = pennylane_sandbox.admin.connect(pennylane_sandbox.client_id)
    new = _refresh(pennylane_sandbox, old.refresh_token).json()
    again = _refresh(pennylane_sandbox, old.refresh_token)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_grant")
    assert _status(pennylane_sandbox, new["access_token"]) == 401
    assert _refresh(pennylane_sandbox, new["refresh_token"]).status_code == 401


def test_of_concurrent_refreshes_one_gets_a_pair(pennylane_sandbox: PennylaneHandle) -> None:
    old = pennylane_sandbox.admin.connect(pennylane_sandbox.client_id)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _refresh(pennylane_sandbox, old.refresh_token).status_code, range(8)))
    assert sorted(answers) == [200, *[401] * 7]
    assert pennylane_sandbox.requests.refreshes() == 8


def test_tokens_die_of_age(make_pennylane_sandbox: Callable[..., PennylaneHandle]) -> None:
    moment = [datetime.now(UTC)]
    sandbox = make_pennylane_sandbox(limiter=None, clock=lambda: moment[0])
    pair = sandbox.admin.connect(sandbox.client_id)
    moment[0] += timedelta(hours=23)
    assert _status(sandbox, pair.access_token) == 200
    moment[0] += timedelta(hours=2)
    assert _status(sandbox, pair.access_token) == 401
    moment[0] += timedelta(days=90)
    assert _refresh(sandbox, pair.refresh_token).status_code == 401


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_revoking_either_token_ends_the_connection(pennylane_sandbox: PennylaneHandle, which: str) -> None:
    pair = pennylane_sandbox.admin.connect(pennylane_sandbox.client_id)
    body = {"client_id": pennylane_sandbox.client_id, "client_secret": pennylane_sandbox.client_secret}
    answer = httpx.post(f"{pennylane_sandbox.url}/oauth/revoke", data=body | {"token": getattr(pair, which)})
    assert (answer.status_code, answer.content) == (200, b"")
    assert _status(pennylane_sandbox, pair.access_token) == 401
    assert _refresh(pennylane_sandbox, pair.refresh_token).status_code == 401


def test_a_withdrawn_consent_stops_the_tokens(pennylane_sandbox: PennylaneHandle) -> None:
    pair = pennylane_sandbox.admin.connect(pennylane_sandbox.client_id)
    pennylane_sandbox.admin.withdraw_consent(pennylane_sandbox.client_id)
    assert _status(pennylane_sandbox, pair.access_token) == 401
    assert _refresh(pennylane_sandbox, pair.refresh_token).status_code == 401


def test_no_secret_lies_in_the_database(pennylane_sandbox: PennylaneHandle) -> None:
    """Whoever dumps the sandbox's tables finds hashes only."""
    code = _answer_of(approve(_authorize_url(pennylane_sandbox)))["code"]
    pair = _exchange(pennylane_sandbox, code).json()
    secrets = [code, pair["access_token"], pair["refresh_token"], pennylane_sandbox.client_secret]
    with pennylane_sandbox.engine.begin() as connection:
        tables = sa.inspect(connection).get_table_names("sandbox_pennylane")
        dump = "".join(
            str(connection.exec_driver_sql(f'select * from sandbox_pennylane."{table}"').all()) for table in tables
        )
    assert pennylane_sandbox.client_id in dump
    assert [secret for secret in [*secrets, pennylane_sandbox.token] if secret in dump] == []


def test_the_metadata_names_the_endpoints_and_s256(pennylane_sandbox: PennylaneHandle) -> None:
    metadata = httpx.get(f"{pennylane_sandbox.url}/.well-known/oauth-authorization-server").json()
    assert metadata["token_endpoint"] == f"{pennylane_sandbox.url}/oauth/token"
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["token_endpoint_auth_methods_supported"] == ["client_secret_post"]


# Scopes -------------------------------------------------------------------------------------------------------------


def test_a_missing_scope_is_named(pennylane_sandbox: PennylaneHandle) -> None:
    token = pennylane_sandbox.admin.company_token(["ledger_entries:readonly"])
    with pennylane_sandbox.client(token) as http:
        assert http.get("/ledger_entries").status_code == 200
        write = http.post("/journals", json={"code": "POS1", "label": "Caisse 1"})
        journals = http.get("/journals")
    assert (write.status_code, journals.status_code) == (403, 403)
    assert "journals:all" in write.json()["error"]
    assert "journals:readonly" in journals.json()["error"]


def test_reading_scopes_do_not_write(pennylane_sandbox: PennylaneHandle) -> None:
    token = pennylane_sandbox.admin.company_token(["journals:readonly"])
    with pennylane_sandbox.client(token) as http:
        assert http.post("/journals", json={"code": "POS1", "label": "Caisse 1"}).status_code == 403
        assert "POS1" not in http.get("/journals").text


def test_a_company_token_has_43_characters_and_no_user(pennylane_sandbox: PennylaneHandle) -> None:
    assert len(pennylane_sandbox.token) == 43
    with pennylane_sandbox.client() as http:
        assert http.get("/me").json()["user"] is None


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}])
def test_without_a_good_token_everything_is_401(pennylane_sandbox: PennylaneHandle, headers: dict[str, str]) -> None:
    with pennylane_sandbox.contract.bad_requests_expected():
        answer = httpx.get(f"{pennylane_sandbox.url}/api/external/v2/me", headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "The access token is invalid", "status": 401})


def test_every_answer_has_a_request_id(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        ids = [http.get(path).headers["x-request-id"] for path in ("/me", "/me", "/journals/1")]
    assert len(set(ids)) == 3


# Rate limit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["token", "sliding", "fixed"])
def test_the_26th_request_is_refused_in_plain_text(
    make_pennylane_sandbox: Callable[..., PennylaneHandle], mode: Mode
) -> None:
    moment = [datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)]
    sandbox = make_pennylane_sandbox(limiter=mode, clock=lambda: moment[0])
    with sandbox.client() as http:
        answers = [http.get("/me") for _ in range(26)]
        remaining = [int(answer.headers["ratelimit-remaining"]) for answer in answers]
        assert [answer.status_code for answer in answers] == [200] * 25 + [429]
        assert remaining == [*range(24, -1, -1), 0]
        last = answers[-1]
        assert last.headers["content-type"].startswith("text/plain")
        wait = int(last.headers["retry-after"])
        assert last.text == f"Rate limit exceeded. Please retry in {wait} second{'' if wait == 1 else 's'}.\n"
        assert last.headers["ratelimit-limit"] == "25"
        assert int(last.headers["ratelimit-reset"]) > moment[0].timestamp()
        moment[0] += timedelta(seconds=wait)
        assert http.get("/me").status_code == 200


def test_each_token_has_its_own_count(make_pennylane_sandbox: Callable[..., PennylaneHandle]) -> None:
    moment = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
    sandbox = make_pennylane_sandbox(limiter="sliding", clock=lambda: moment)
    other = sandbox.admin.company_token()
    with sandbox.client() as first, sandbox.client(other) as second:
        assert {first.get("/me").status_code for _ in range(25)} == {200}
        assert (first.get("/me").status_code, second.get("/me").status_code) == (429, 200)


def test_a_refused_write_has_not_happened(make_pennylane_sandbox: Callable[..., PennylaneHandle]) -> None:
    moment = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
    sandbox = make_pennylane_sandbox(limiter="fixed", clock=lambda: moment)
    with sandbox.client() as http:
        for _ in range(25):
            http.get("/me")
        assert http.post("/journals", json={"code": "POS1", "label": "Caisse 1"}).status_code == 429
    with pytest.raises(SandboxError):
        sandbox.admin.journal_id("POS1")


def _accepted(mode: Mode, arrivals: list[float]) -> list[float]:
    limiter = Limiter(mode)
    return [moment for moment in arrivals if limiter.take("token", moment).allowed]


def test_the_three_ways_of_counting_differ_where_they_must() -> None:
    """25 at the end of one window and 25 at the start of the next: only the sliding window sees 50 in 2 s.

    The bucket has refilled by 5 a second meanwhile.
    """
    burst = [103.9 + number / 1000 for number in range(25)] + [105.0 + number / 1000 for number in range(25)]
    accepted: dict[Any, int] = {mode: len(_accepted(mode, burst)) for mode in ("token", "sliding", "fixed")}
    assert accepted == {"fixed": 50, "sliding": 25, "token": 30}


@pytest.mark.parametrize("mode", ["token", "sliding", "fixed"])
def test_just_under_five_a_second_always_pass(mode: Mode) -> None:
    arrivals = [1000 + number * 0.201 for number in range(300)]
    assert len(_accepted(mode, arrivals)) == 300
