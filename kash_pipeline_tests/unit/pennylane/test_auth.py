"""The connection to PennyLane: made by one person's consent, kept alive by one refresh at a time, never shown."""

import json
import logging
import multiprocessing
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet

from kash_pipeline.cli.pennylane import pennylane as command
from kash_pipeline.errors import SettingsError
from kash_pipeline.pennylane import consent, disconnect
from kash_pipeline.pennylane.auth import (
    CompanyToken,
    OAuthConnection,
    OAuthServer,
    missing_scopes,
    scopes_for,
    section_of,
)
from kash_pipeline.pennylane.errors import (
    AnswerChanged,
    ConnectAgain,
    NoToken,
    PennylaneError,
    RateLimited,
    Refused,
    ScopeMissing,
    ServerFailed,
    StateMismatch,
)
from kash_pipeline.pennylane.publisher import PublishingStopped
from kash_pipeline.sandbox.pennylane import Fault, approve
from kash_pipeline.sandbox.server import serving
from kash_pipeline.warehouse.errors import SecretKeyError
from kash_pipeline.warehouse.tokens import TokenPair, TokenStore
from kash_pipeline.web.connect import Callback, connect_in_browser, connect_sandbox
from kash_pipeline_tests.sandboxes import CLIENT_ID, CLIENT_SECRET
from kash_pipeline_tests.unit.pennylane import refresher
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books, shop_file

TOKEN = {"method": "POST", "path": "/oauth/token"}


@pytest.fixture
def here(make_pennylane: Callable[..., World]) -> World:
    """A shop that is to be connected by OAuth."""
    return make_pennylane(auth="oauth")


def pair_of(here: World) -> TokenPair:
    pair = TokenStore.open(here.engine, here.env.home).get("shop").pair
    assert pair is not None
    return pair


def token_at(here: World, hours: float) -> str:
    """The access token that a process would use so many hours from now."""
    with closing(OAuthServer(here.shop)) as server:
        store = TokenStore.open(here.engine, here.env.home)
        return OAuthConnection(
            here.shop, store, server, now=lambda: datetime.now(UTC) + timedelta(hours=hours)
        ).access_token()


# --- consent ----------------------------------------------------------------------------------------------------------


def test_a_consent_stores_the_company_and_the_minimal_scopes(here: World) -> None:
    connected = connect_sandbox(here.shop, here.engine, here.env)
    assert connected.company_name == "Boulangerie du Port"
    assert connected.missing == ()
    stored = TokenStore.open(here.engine, here.env.home).get("shop")
    assert (stored.company_id, stored.company_name) == (connected.company_id, "Boulangerie du Port")
    assert set(stored.scopes) == set(scopes_for(here.shop))
    with here.client() as client:
        assert client.me().company_id == connected.company_id


def test_scopes_are_the_least_that_the_shop_file_needs() -> None:
    assert scopes_for(shop_file("http://127.0.0.1", create_journals=False, create_accounts=False)) == (
        "journals:readonly",
        "ledger_accounts:readonly",
        "ledger_entries:all",
        "fiscal_years:readonly",
        "customers:all",
    )
    collective = scopes_for(shop_file("http://127.0.0.1", shop={"named_customers": "collective"}, attach_z=True))
    assert "customers:all" not in collective
    assert "file_attachments:all" in collective
    assert missing_scopes(("journals:readonly", "customers:all"), {"journals:all", "customers:readonly"}) == (
        "customers:all",
    )


def test_state_and_pkce_are_sent_and_secrets_are_not_in_the_address(here: World) -> None:
    with consent(here.shop, here.engine, here.env) as attempt:
        query = parse_qs(urlsplit(attempt.url).query)
    assert len(query["state"][0]) >= 32
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"] == [" ".join(scopes_for(here.shop))]
    assert CLIENT_SECRET not in attempt.url


def test_a_forged_state_stores_nothing_and_the_right_person_may_still_come(here: World) -> None:
    with consent(here.shop, here.engine, here.env) as attempt:
        genuine = approve(attempt.url)
        state = parse_qs(urlsplit(genuine).query)["state"][0]
        for forged in (
            genuine.replace(state, "x" * len(state)),
            genuine.replace("state=", "stat="),
            genuine.replace(state, "%C3%A9%F0%9F%94%91"),
            "http://x/?code=1",
            "http://[ pasted in haste",
        ):
            with pytest.raises(StateMismatch):
                attempt.finish(forged)
        assert TokenStore.open(here.engine, here.env.home).get("shop").pair is None
        attempt.finish(genuine)
    assert pair_of(here)


def test_a_replayed_callback_is_refused(here: World) -> None:
    with consent(here.shop, here.engine, here.env) as attempt:
        answer = approve(attempt.url)
        attempt.finish(answer)
        before = pair_of(here)
        with pytest.raises(StateMismatch):
            attempt.finish(answer)
    assert pair_of(here) == before


def test_a_code_that_was_used_elsewhere_ends_in_connect_again(here: World) -> None:
    with consent(here.shop, here.engine, here.env) as attempt:
        answer = approve(attempt.url)
        code = parse_qs(urlsplit(answer).query)["code"][0]
        with httpx.Client() as thief:
            form = {"grant_type": "authorization_code", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
            form |= {"code": code, "redirect_uri": here.shop.pennylane.redirect_url, "code_verifier": "guess"}
            assert (
                thief.post(f"{here.url}/oauth/token", data=form).status_code == 400
            )  # PKCE: a code alone is worthless
        attempt.finish(answer)
    with consent(here.shop, here.engine, here.env) as attempt:
        state = parse_qs(urlsplit(attempt.url).query)["state"][0]
        with pytest.raises(ConnectAgain, match="invalid_grant"):
            attempt.finish(f"http://x/?code={code}&state={state}")


def test_a_refused_consent_says_so(here: World) -> None:
    with consent(here.shop, here.engine, here.env) as attempt, pytest.raises(ConnectAgain, match="access_denied"):
        attempt.finish(approve(attempt.url, decision="refuse"))


def test_the_sandbox_consent_is_refused_for_the_real_pennylane(here: World) -> None:
    with pytest.raises(SettingsError, match="only a person"):
        connect_sandbox(shop_file("https://app.pennylane.com"), here.engine, here.env)


# --- the page the browser comes back to -------------------------------------------------------------------------------


def test_the_browser_comes_back_to_a_page_that_connects_and_sends_nobody_anywhere(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="httpx")  # the person's browser here: what it logs is not ours
    with consent(here.shop, here.engine, here.env) as attempt:
        callback = Callback(attempt, here.shop.pennylane.redirect_url)
        with serving(callback.app) as page:
            genuine = approve(attempt.url)
            query = urlsplit(genuine).query
            forged = httpx.get(f"{page}/pennylane/callback?code=1&state=2&redirect_uri=https://evil.example/<script>")
            assert (forged.status_code, forged.is_redirect) == (400, False)
            assert "evil" not in forged.text
            good = httpx.get(f"{page}/pennylane/callback?{query}")
            assert good.status_code == 200
            assert "Boulangerie du Port" in good.text
            assert parse_qs(query)["code"][0] not in good.text
            assert good.headers["cache-control"] == "no-store"
            assert "default-src 'none'" in good.headers["content-security-policy"]
            assert httpx.get(f"{page}/pennylane/callback?{query}").status_code == 409
            assert httpx.get(f"{page}/").status_code == 404
        assert callback.wait(0).company_name == "Boulangerie du Port"


def test_nobody_consenting_ends_the_login_with_a_message(here: World) -> None:
    with consent(here.shop, here.engine, here.env) as attempt:
        callback = Callback(attempt, here.shop.pennylane.redirect_url)
    with pytest.raises(ConnectAgain, match="nobody consented"):
        callback.wait(0.01)


def test_a_redirect_address_elsewhere_is_not_served_here(here: World) -> None:
    shop = shop_file(here.url, auth="oauth", redirect_url="https://shop.example/callback")
    with pytest.raises(SettingsError, match="--paste"):
        connect_in_browser(shop, here.engine, here.env, show=print)


# --- refresh ----------------------------------------------------------------------------------------------------------


def test_a_token_is_refreshed_at_80_percent_of_its_life_and_the_new_pair_is_durable_first(here: World) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    old = pair_of(here)
    assert token_at(here, 24 * 0.79) == old.access_token
    fresh = token_at(here, 24 * 0.81)
    assert fresh != old.access_token
    assert pair_of(here).access_token == fresh
    assert here.sandbox.requests.refreshes() == 1


def test_a_token_endpoint_that_is_down_costs_nothing_while_the_token_is_good(here: World) -> None:
    """That is what the last fifth of a token's life is for."""
    connect_sandbox(here.shop, here.engine, here.env)
    old = pair_of(here)
    here.sandbox.faults.add(Fault("refuse", **TOKEN, count=100, status=503))
    later = [datetime.now(UTC) + timedelta(hours=20)]
    with closing(OAuthServer(here.shop)) as server:
        store = TokenStore.open(here.engine, here.env.home)
        connection = OAuthConnection(here.shop, store, server, now=lambda: later[0])
        assert [connection.access_token() for _ in range(9)] == [old.access_token] * 9
        assert len(here.sandbox.faults.hits()) == 2, "asked twice, not with every request"
        later[0] += timedelta(hours=5)
        with pytest.raises(ServerFailed):
            connection.access_token()
        here.sandbox.faults.clear()
        assert connection.access_token() != old.access_token


def test_a_database_that_drops_in_the_middle_of_a_refresh_does_not_cost_the_connection(here: World) -> None:
    class Dropping(OAuthServer):
        def refresh(self, refresh_token: str) -> TokenPair:
            pair = super().refresh(refresh_token)
            with here.engine.connect() as other:
                other.execute(
                    sa.text(
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where datname = current_database() and pid <> pg_backend_pid()"
                    )
                )
            return pair

    connect_sandbox(here.shop, here.engine, here.env)
    old = pair_of(here)
    with closing(Dropping(here.shop)) as server:
        store = TokenStore.open(here.engine, here.env.home)
        fresh = OAuthConnection(here.shop, store, server).replace(old.access_token)
    assert pair_of(here).access_token == fresh != old.access_token
    with here.client() as client:
        assert client.me().company_name == "Boulangerie du Port"
    assert here.sandbox.requests.refreshes() == 1


PAIR = {"access_token": "a", "refresh_token": "b", "expires_in": 86400}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"error": "invalid_grant"}, ConnectAgain),
        (401, {"error": "The refresh token is invalid", "status": 401}, ConnectAgain),
        (400, {"error": "invalid_request"}, Refused),
        (401, {"error": "invalid_client"}, Refused),
        (400, {"error": "temporarily_unavailable"}, ServerFailed),
        (503, {"error": "secret-in-an-error"}, ServerFailed),
        (429, "secret-in-an-error", RateLimited),
        (403, "<html>secret-in-an-error", ScopeMissing),
        (200, "<html>secret-in-an-error", AnswerChanged),
        (200, [PAIR], AnswerChanged),
        (200, {}, AnswerChanged),
        (200, PAIR | {"access_token": None}, AnswerChanged),
        (200, PAIR | {"refresh_token": ""}, AnswerChanged),
        (200, PAIR | {"expires_in": "soon"}, AnswerChanged),
        (200, PAIR | {"expires_in": 1e300}, AnswerChanged),
        (200, PAIR | {"expires_in": 0}, AnswerChanged),
    ],
)
def test_each_answer_of_the_token_endpoint_has_one_meaning_and_is_never_quoted(
    monkeypatch: pytest.MonkeyPatch, status: int, body: object, error: type[PennylaneError]
) -> None:
    """Only what says that the pair is over may end in ConnectAgain: that is what makes us forget it."""
    monkeypatch.setenv("PENNYLANE_CLIENT_ID", "id")
    monkeypatch.setenv("PENNYLANE_CLIENT_SECRET", "secret")
    text = body if isinstance(body, str) else json.dumps(body)
    answer = httpx.Response(status, text=text, headers={"content-type": "application/json"})
    http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
    with closing(OAuthServer(shop_file("https://x", auth="oauth"), http)) as server, pytest.raises(error) as caught:
        server.refresh("the refresh token")
    assert "secret-in-an-error" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "speaks"),
    [
        ('{"code_challenge_methods_supported": ["plain", "S256"]}', True),
        ('{"code_challenge_methods_supported": ["plain"]}', False),
        ('{"code_challenge_methods_supported": null}', False),
        ("{}", False),
        ("[]", False),
        ("<html>", False),
    ],
)
def test_pkce_is_sent_when_the_metadata_offer_it(told: str, speaks: bool) -> None:
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=told)))
    with closing(OAuthServer(shop_file("https://x", auth="oauth"), http)) as server:
        assert server.speaks_pkce() is speaks


@pytest.mark.parametrize(
    ("name", "value"), [("url", "http://pennylane.example"), ("redirect_url", "http://shop.example/")]
)
def test_tokens_and_codes_never_leave_this_machine_in_clear(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="in clear"):
        section_of(shop_file(**{"url": "https://app.pennylane.com", "auth": "oauth", name: value}))


def test_an_expired_token_in_the_middle_of_a_batch_is_refreshed_once(here: World) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    with here.client() as client:
        client.journals()
        here.sandbox.admin.expire_access_tokens()
        client.journals()
    assert here.sandbox.requests.refreshes() == 1


def test_twenty_processes_with_an_expired_token_send_one_refresh(here: World, database_url: str) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    here.sandbox.admin.expire_access_tokens()
    # Forked from a process that has imported everything: twenty imports of pandas would take the minute, not the test.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([refresher.__name__])
    start, answers = context.Barrier(20), context.Queue()
    processes = [
        context.Process(target=refresher.ask, args=(here.url, database_url, str(here.env.home), start, answers))
        for _ in range(20)
    ]
    for process in processes:
        process.start()
    assert [answers.get(timeout=120) for _ in processes] == ["Boulangerie du Port"] * 20
    for process in processes:
        process.join()
    assert here.sandbox.requests.refreshes() == 1


def test_a_dead_refresh_token_ends_in_one_message_and_asks_nobody_again(here: World) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    here.sandbox.admin.withdraw_consent(CLIENT_ID)
    for _ in range(3):
        with here.client() as client, pytest.raises(ConnectAgain, match="kash-pipeline pennylane login"):
            client.me()
    assert here.sandbox.requests.refreshes() == 1
    connect_sandbox(here.shop, here.engine, here.env)
    with here.client() as client:
        client.me()


@pytest.mark.parametrize("kind", ["cut_before", "refuse"])
def test_a_refresh_that_never_happened_is_asked_once_more(here: World, kind: str) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    here.sandbox.admin.expire_access_tokens()
    here.sandbox.faults.add(Fault(kind, **TOKEN))
    with here.client() as client:
        assert client.me().company_name == "Boulangerie du Port"
    assert here.sandbox.requests.refreshes() == 1, "the one the fault took never reached what counts"


@pytest.mark.parametrize("kind", ["cut_after", "error_after"])
def test_a_lost_new_pair_ends_in_connect_again(here: World, kind: str) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    here.sandbox.admin.expire_access_tokens()
    here.sandbox.faults.add(Fault(kind, **TOKEN))
    with here.client() as client, pytest.raises(ConnectAgain, match="refresh token was refused"):
        client.me()


def test_a_token_endpoint_that_is_down_breaks_nothing(here: World) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    here.sandbox.admin.expire_access_tokens()
    here.sandbox.faults.add(Fault("refuse", **TOKEN, count=2, status=503))
    with here.client() as client, pytest.raises(NoToken, match="HTTP 503"):
        client.me()
    with here.client() as client:
        client.me()


def test_a_shop_that_nobody_connected_says_how(here: World) -> None:
    with here.client() as client, pytest.raises(ConnectAgain, match="not connected") as caught:
        client.me()
    assert "kash-pipeline pennylane login" in caught.value.next_step


def test_a_wrong_application_secret_is_named_without_showing_it(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    here.sandbox.admin.expire_access_tokens()
    monkeypatch.setenv("PENNYLANE_CLIENT_SECRET", "wrong-secret-value")
    with here.client() as client, pytest.raises(NoToken, match="PENNYLANE_CLIENT_SECRET") as caught:
        client.me()
    assert "wrong-secret-value" not in str(caught.value)
    assert pair_of(here), "a mistake in the environment must not cost the connection"


def test_a_token_that_cannot_be_had_in_mid_batch_refuses_no_entry(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the token endpoint says of us must not stand as PennyLane's word on the entries under way."""
    connect_sandbox(here.shop, here.engine, here.env)
    here.book(days_from(FIRST, 1), make_books(days_from(FIRST, 1)))
    with monkeypatch.context() as wrong:
        wrong.setenv("PENNYLANE_CLIENT_SECRET", "wrong-secret-value")
        here.sandbox.faults.add(Fault("expire_token", method="POST", path="ledger_entries$", skip=2))
        with pytest.raises(PublishingStopped, match="invalid_client"):
            here.publish()
    assert here.sandbox.faults.hits()
    assert here.states().keys() <= {"ready", "sent", "verified"}
    assert here.publish().problems == []
    assert (here.states(), here.remote()) == ({"verified": 6}, here.local())


def test_a_withdrawn_consent_holds_publishing_with_one_message_while_the_books_go_on(here: World) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    days = days_from(FIRST, 2)
    here.book(days[:1], make_books(days[:1]))
    here.sandbox.admin.withdraw_consent(CLIENT_ID)
    told = set()
    for _ in range(3):
        with pytest.raises(PublishingStopped) as stopped:
            here.publish()
        assert isinstance(stopped.value.cause, ConnectAgain)
        told.add((stopped.value.message, stopped.value.next_step))
    [(message, next_step)] = told
    assert "invalid_grant" in message
    assert "kash-pipeline pennylane login" in next_step
    assert here.sandbox.requests.refreshes() == 1, "a dead pair is shown to PennyLane once"
    here.book(days[1:], make_books(days[1:]))
    assert here.states() == {"ready": 12}
    connect_sandbox(here.shop, here.engine, here.env)
    here.publish()
    assert (here.states(), here.remote()) == ({"verified": 12}, here.local())


# --- end, command line, secrets ---------------------------------------------------------------------------------------


def command_line(here: World, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`kash-pipeline pennylane` for this shop."""
    monkeypatch.setenv("KASH_HOME", str(here.env.home))
    monkeypatch.setenv("KASH_DATABASE_URL", database_url)
    path = here.env.home / "shop.toml"
    path.write_text(
        '[shop]\nid = "shop"\nname = "Boulangerie"\n[source]\nkind = "files"\npath = "facts"\n'
        f'[pennylane]\nurl = "{here.url}"\n[[chart]]\nfrom = "2020-01-01"\n'
    )
    return lambda *words: CliRunner().invoke(command, [*words, "--shop", str(path)], catch_exceptions=False)


def test_disconnecting_revokes_at_pennylane_and_forgets_here(here: World) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    token = pair_of(here).access_token
    assert disconnect(here.shop, here.engine, here.env)
    assert TokenStore.open(here.engine, here.env.home).get("shop").pair is None
    answer = httpx.get(f"{here.url}/api/external/v2/me", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert not disconnect(here.shop, here.engine, here.env)


def test_with_another_key_nobody_consents_in_vain_and_the_tokens_wait_for_their_key(
    here: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    with monkeypatch.context() as other:
        other.setenv("KASH_SECRET_KEY", Fernet.generate_key().decode())
        with pytest.raises(SecretKeyError, match="another key") as caught, consent(here.shop, here.engine, here.env):
            pytest.fail("a person would consent now, for nothing")
        assert "logout --forget" in caught.value.next_step
        with pytest.raises(SecretKeyError):
            disconnect(here.shop, here.engine, here.env)
    assert pair_of(here), "a mistyped key must not cost the connection"
    monkeypatch.setenv("KASH_SECRET_KEY", Fernet.generate_key().decode())
    logged_out = command_line(here, database_url, monkeypatch)("logout", "--forget")
    assert "Forgotten here" in logged_out.output
    assert connect_sandbox(here.shop, here.engine, here.env).company_name == "Boulangerie du Port"


def test_a_revocation_that_fails_keeps_the_connection(here: World) -> None:
    connect_sandbox(here.shop, here.engine, here.env)
    here.sandbox.faults.add(Fault("refuse", method="POST", path="/oauth/revoke", status=503))
    with pytest.raises(ServerFailed):
        disconnect(here.shop, here.engine, here.env)
    assert pair_of(here)


def test_login_status_logout_on_the_command_line(
    here: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = command_line(here, database_url, monkeypatch)
    assert "Connected to Boulangerie du Port" in run("login", "--sandbox").output
    shown = run("status")
    assert shown.exit_code == 0
    assert "connected to Boulangerie du Port" in shown.output
    pair = pair_of(here)
    assert pair.access_token not in shown.output
    assert "0 entries are no longer as we sent them" in run("touched").output
    assert "0 entries may be sent again" in run("retry", "--from", "2026-01-01", "--to", "2026-01-31").output
    assert "PennyLane was told" in run("logout").output
    assert "no connection" in run("logout").output


def test_no_secret_is_in_logs_errors_reprs_or_the_database(
    here: World, caplog: pytest.LogCaptureFixture, database_url: str
) -> None:
    """Everything that can be logged is logged, everything stored is dumped; each secret is searched for by value."""
    with consent(here.shop, here.engine, here.env) as attempt:
        answer = approve(attempt.url)  # what the person's browser logs is not ours
        caplog.set_level(logging.DEBUG)
        secrets = {CLIENT_SECRET, parse_qs(urlsplit(answer).query)["code"][0]}
        attempt.finish(answer)
    first = pair_of(here)
    here.sandbox.admin.expire_access_tokens()
    here.sandbox.faults.add(Fault("refuse", **TOKEN, status=503))
    texts = []
    with here.client() as client:
        client.me()
        texts.append(repr(client) + repr(vars(client)))
    here.sandbox.admin.withdraw_consent(CLIENT_ID)
    second = pair_of(here)
    with here.client() as client, pytest.raises(ConnectAgain) as caught:
        client.me()
    texts.append(repr(caught.value) + str(caught.value) + repr(caught.getrepr()))
    secrets |= {first.access_token, second.access_token, str(first.refresh_token), str(second.refresh_token)}
    ours = [record.getMessage() for record in caplog.records]
    with here.engine.connect() as database:
        for schema, table in database.execute(
            sa.text("select table_schema, table_name from information_schema.tables where table_schema = 'kash'")
        ).all():
            texts += [str(row) for row in database.execute(sa.text(f'select t::text from "{schema}"."{table}" t'))]
    everything = "\n".join([*texts, *ours])
    assert len(secrets) == 6
    assert [secret for secret in secrets if secret in everything] == []
    assert (here.env.home / "secret.key").stat().st_mode & 0o077 == 0


def test_what_cannot_be_a_token_is_named_by_its_variable_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx would raise a UnicodeEncodeError that carries the whole header, the token in it."""
    monkeypatch.setenv("PENNYLANE_TOKEN", "a-token-pasted-with-a-“quote”")
    with pytest.raises(SettingsError, match="PENNYLANE_TOKEN") as caught:
        CompanyToken(section_of(shop_file("https://app.pennylane.com", auth="token"))).access_token()
    assert "pasted" not in str(caught.value)


def test_a_replaced_company_token_is_taken_up(
    make_pennylane: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make_pennylane(auth="token")
    with here.client() as client:
        client.me()
        here.sandbox.admin.expire_access_tokens()
        with pytest.raises(ConnectAgain, match="company API token"):
            client.me()
        monkeypatch.setenv("PENNYLANE_TOKEN", here.sandbox.admin.company_token())
        client.me()
