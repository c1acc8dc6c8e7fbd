"""Access and refresh tokens at rest: encrypted in PostgreSQL, changed under a row lock.

Only keeping them belongs here; asking for them and deciding when to refresh is in pennylane/auth.py. The key never
stands in the database: it comes from KASH_SECRET_KEY or from a file under KASH_HOME that only its owner can read.
"""

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.warehouse.errors import SecretKeyError
from kash_pipeline.warehouse.tables import OAUTH_TOKENS

KEY_VARIABLE = "KASH_SECRET_KEY"
KEY_FILE = "secret.key"

_T = OAUTH_TOKENS.c
_MAKE_KEY = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


@dataclass(frozen=True)
class TokenPair:
    """What opens PennyLane. It never shows itself in a repr, so neither in a log nor in a traceback."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class Connection:
    """One connection to one company. `pair` is None when there is none, `broken` says why it must be made again."""

    name: str
    pair: TokenPair | None
    scopes: tuple[str, ...]
    company_id: int | None
    company_name: str | None
    refreshed_at: datetime | None
    broken: str | None


class LockedConnection:
    """The row of a connection while nobody else can read it for a refresh or write it.

    A change is written in the transaction that holds the lock, and durable only when `with store.locked(...)` is left
    without an exception or when `commit` is called: a new pair must be durable before it is used, because PennyLane
    kills the old one the moment it is refreshed.
    """

    def __init__(self, database: sa.Connection, name: str, fernet: Fernet, found: Connection) -> None:
        self._database = database
        self._fernet = fernet
        self._name = name
        self.connection = found

    def save(
        self,
        pair: TokenPair,
        *,
        scopes: Sequence[str] | None = None,
        company_id: int | None = None,
        company_name: str | None = None,
    ) -> None:
        """Keep a new pair; what is None stays as it was. The connection is no longer broken."""
        given = {"scopes": list(scopes) if scopes is not None else None}
        given |= {"company_id": company_id, "company_name": company_name}  # type: ignore[dict-item]
        secret = json.dumps({"access_token": pair.access_token, "refresh_token": pair.refresh_token})
        self._write(
            secret=self._fernet.encrypt(secret.encode()),
            expires_at=pair.expires_at,
            refreshed_at=sa.func.clock_timestamp(),
            broken=None,
            **{name: value for name, value in given.items() if value is not None},
        )

    def break_off(self, why: str) -> None:
        """The pair is of no use any more: it is forgotten, and `why` is told until somebody connects again."""
        self._write(secret=None, expires_at=None, broken=why)

    def commit(self) -> None:
        """Make what was saved durable now; the lock ends."""
        self._database.commit()

    def _write(self, **values: Any) -> None:
        self._database.execute(
            sa.update(OAUTH_TOKENS)
            .where(_T.connection == self._name)
            .values(**values, updated_at=sa.func.clock_timestamp())
        )


class TokenStore:
    """The connections of all shops, by name."""

    def __init__(self, engine: sa.Engine, key: str | bytes) -> None:
        self._engine = engine
        self._fernet = _fernet(key, "the key given")

    @classmethod
    def open(cls, engine: sa.Engine, home: Path) -> "TokenStore":
        """With the key of KASH_SECRET_KEY, else that of `<home>/secret.key`, made at first use."""
        return cls(engine, secret_key(home))

    def __repr__(self) -> str:
        return "TokenStore()"

    def get(self, name: str) -> Connection:
        """The connection as it is; without a pair when nobody connected yet. Raises SecretKeyError."""
        with self._engine.connect() as database:
            row = database.execute(sa.select(OAUTH_TOKENS).where(_T.connection == name)).mappings().one_or_none()
            return self._read(name, row)

    @contextmanager
    def locked(self, name: str) -> Iterator[LockedConnection]:
        """Alone with this connection among all processes: of many that want to refresh, one does, the others then
        find the new pair. Left with an exception, nothing is changed. Raises SecretKeyError."""
        with self._engine.connect() as database:
            database.execute(insert(OAUTH_TOKENS).values(connection=name).on_conflict_do_nothing())
            row = (
                database.execute(sa.select(OAUTH_TOKENS).where(_T.connection == name).with_for_update())
                .mappings()
                .one()
            )
            yield LockedConnection(database, name, self._fernet, self._read(name, row))
            database.commit()

    def names(self) -> list[str]:
        """Connections that have a pair or a reason why not."""
        with self._engine.connect() as database:
            known = sa.or_(_T.secret.is_not(None), _T.broken.is_not(None))
            return list(database.execute(sa.select(_T.connection).where(known).order_by(_T.connection)).scalars())

    def forget(self, name: str) -> None:
        """Delete the connection; revoking it at PennyLane comes first and is pennylane/auth.py's."""
        with self._engine.begin() as database:
            database.execute(sa.delete(OAUTH_TOKENS).where(_T.connection == name))

    def _read(self, name: str, row: sa.RowMapping | None) -> Connection:
        if row is None:
            return Connection(name, None, (), None, None, None, None)
        pair = None
        if row["secret"] is not None:
            try:
                opened = json.loads(self._fernet.decrypt(row["secret"]))
            except InvalidToken:
                raise SecretKeyError(
                    f"the tokens of connection {name!r} were encrypted with another key",
                    next_step=f"set {KEY_VARIABLE} (or restore {KEY_FILE} in KASH_HOME) as it was, or connect again: "
                    "kash-pipeline pennylane logout --forget, then login",
                ) from None
            pair = TokenPair(opened["access_token"], opened["refresh_token"], row["expires_at"])
        return Connection(
            name=name,
            pair=pair,
            scopes=tuple(row["scopes"] or ()),
            company_id=row["company_id"],
            company_name=row["company_name"],
            refreshed_at=row["refreshed_at"],
            broken=row["broken"],
        )


def secret_key(home: Path) -> str:
    """The key that tokens are encrypted with; a new one is made atomically, so that of many first users one wins.

    Raises SecretKeyError when it is no key or when others can read its file.
    """
    given = os.environ.get(KEY_VARIABLE, "").strip()
    if given:
        _fernet(given, KEY_VARIABLE)
        return given
    path = home / KEY_FILE
    if not path.exists():
        _make_key(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SecretKeyError(
            f"{path} can be read by others (mode {mode:04o})", next_step=f"run: chmod 600 {path}; then connect again"
        )
    key = path.read_text().strip()
    _fernet(key, str(path))
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes it 0600; the link appears whole or not at all, and fails when another process was first.
    handle, temporary = tempfile.mkstemp(prefix=".secret-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)


def _fernet(key: str | bytes, where: str) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        raise SecretKeyError(
            f"{where} holds no key (32 bytes in URL-safe base64)", next_step=f"make one with: {_MAKE_KEY}"
        ) from None
