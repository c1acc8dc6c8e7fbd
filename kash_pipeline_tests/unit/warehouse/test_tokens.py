"""Tokens at rest: encrypted, durable before use, changed by one process at a time."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from kash_pipeline.warehouse.errors import SecretKeyError
from kash_pipeline.warehouse.tokens import TokenPair, TokenStore, secret_key

PAIR = TokenPair("access-s3cret", "refresh-s3cret", datetime(2026, 11, 25, 5, 0, tzinfo=UTC))


@pytest.fixture
def store(engine: sa.Engine) -> TokenStore:
    return TokenStore(engine, Fernet.generate_key())


def save(store: TokenStore, pair: TokenPair = PAIR) -> None:
    with store.locked("shop") as row:
        row.save(pair, scopes=["journals:all"], company_id=22, company_name="Boulangerie du Port")


def test_a_pair_is_read_back(store: TokenStore) -> None:
    assert store.get("shop").pair is None
    save(store)
    found = store.get("shop")
    assert found.pair == PAIR
    assert (found.scopes, found.company_id, found.company_name) == (("journals:all",), 22, "Boulangerie du Port")
    assert store.names() == ["shop"]
    store.forget("shop")
    assert store.get("shop").pair is None
    assert store.names() == []


def test_a_refresh_keeps_what_it_does_not_name(store: TokenStore) -> None:
    save(store)
    new = TokenPair("a2", "r2", PAIR.expires_at)
    with store.locked("shop") as row:
        row.save(new)
    found = store.get("shop")
    assert (found.pair, found.company_id, found.scopes) == (new, 22, ("journals:all",))


def test_no_token_stands_in_the_database_or_in_a_repr(store: TokenStore, engine: sa.Engine) -> None:
    save(store)
    with engine.connect() as connection:
        dump = repr(connection.execute(sa.text("select *, encode(secret, 'escape') from kash.oauth_tokens")).all())
    found = store.get("shop")
    for text in (dump, repr(found), repr(found.pair), repr(store), str(vars(store))):
        assert "s3cret" not in text


def test_a_wrong_key_says_so(store: TokenStore, engine: sa.Engine) -> None:
    save(store)
    other = TokenStore(engine, Fernet.generate_key())
    with pytest.raises(SecretKeyError, match="another key") as caught:
        other.get("shop")
    assert "KASH_SECRET_KEY" in caught.value.next_step
    with pytest.raises(SecretKeyError), other.locked("shop"):
        pass
    assert store.get("shop").pair == PAIR


def test_of_many_that_want_to_refresh_one_does(store: TokenStore) -> None:
    """PennyLane kills the whole connection when a refresh token is used twice."""
    save(store)
    refreshes = []

    def refresh(_: int) -> str:
        with store.locked("shop") as row:
            assert row.connection.pair is not None
            if row.connection.pair == PAIR:
                refreshes.append(1)
                row.save(TokenPair("new", "new-refresh", PAIR.expires_at))
                return "new"
            return row.connection.pair.access_token

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(refresh, range(12))) == {"new"}
    assert len(refreshes) == 1


def test_a_new_pair_is_durable_before_the_lock_is_left(store: TokenStore, engine: sa.Engine) -> None:
    with store.locked("shop") as row:
        row.save(PAIR)
        assert store.get("shop").pair is None
        row.commit()
        assert store.get("shop").pair == PAIR


def test_an_exception_changes_nothing(store: TokenStore) -> None:
    save(store)

    def fail() -> None:
        with store.locked("shop") as row:
            row.break_off("unreachable")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert store.get("shop").pair == PAIR


def test_a_broken_connection_says_why_until_it_is_made_again(store: TokenStore) -> None:
    save(store)
    with store.locked("shop") as row:
        row.break_off("PennyLane answered invalid_grant")
    assert (store.get("shop").pair, store.get("shop").broken) == (None, "PennyLane answered invalid_grant")
    assert store.names() == ["shop"]
    save(store)
    assert store.get("shop").broken is None


# --- the key ------------------------------------------------------------------------------------------------------


def test_the_key_file_is_made_once_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KASH_SECRET_KEY", raising=False)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: secret_key(tmp_path / "home"), range(16)))
    assert len(keys) == 1
    assert stat.S_IMODE((tmp_path / "home/secret.key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "home") == ["secret.key"]


def test_many_processes_make_one_key(tmp_path: Path) -> None:
    program = "import sys, pathlib, kash_pipeline.warehouse.tokens as t; print(t.secret_key(pathlib.Path(sys.argv[1])))"
    environment = {name: value for name, value in os.environ.items() if name != "KASH_SECRET_KEY"}
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in started}) == 1
    assert [process.returncode for process in started] == [0, 0, 0]


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Fernet.generate_key().decode()
    monkeypatch.setenv("KASH_SECRET_KEY", key)
    assert secret_key(tmp_path) == key
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where", ["environment", "file"])
def test_what_is_no_key_is_named_but_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "environment":
        monkeypatch.setenv("KASH_SECRET_KEY", "n0-key")
    else:
        monkeypatch.delenv("KASH_SECRET_KEY", raising=False)
        (tmp_path / "secret.key").write_text("n0-key")
        (tmp_path / "secret.key").chmod(0o600)
    with pytest.raises(SecretKeyError) as caught:
        secret_key(tmp_path)
    assert "n0-key" not in str(caught.value)
    assert "KASH_SECRET_KEY" in str(caught.value) or "secret.key" in str(caught.value)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KASH_SECRET_KEY", raising=False)
    secret_key(tmp_path)
    (tmp_path / "secret.key").chmod(0o640)
    with pytest.raises(SecretKeyError, match="can be read by others"):
        secret_key(tmp_path)
    (tmp_path / "secret.key").unlink()  # or the search after each test (leaks.py) finds it, as it must
