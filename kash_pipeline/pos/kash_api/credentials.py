"""The shop id and API key of Kash.click at rest: encrypted in a file under KASH_HOME, one per shop.

Only keeping and finding them belongs here; asking Kash.click for them is login.py. The file is encrypted with the key
that also guards PennyLane's tokens (warehouse/tokens.py); environment variables, where set, win over it.
"""

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from kash_pipeline.errors import SettingsError
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.errors import SecretKeyError
from kash_pipeline.warehouse.tokens import secret_key


@dataclass(frozen=True)
class Credentials:
    """What opens a shop's Kash.click account; `where` says in words where it came from. The key shows in no repr."""

    shop_id: str
    key: str = field(repr=False)
    where: str = "the API key"


def save(home: Path, shop: str, given: Credentials) -> Path:
    """Keep them for the shop of this id (mode 0600, whole or not at all); the file. Raises SecretKeyError."""
    path = _path(home, shop)
    path.parent.mkdir(parents=True, exist_ok=True)
    sealed = Fernet(secret_key(home)).encrypt(json.dumps({"shop_id": given.shop_id, "key": given.key}).encode())
    handle, temporary = tempfile.mkstemp(prefix=".kash-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(sealed)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def load(home: Path, shop: str) -> Credentials | None:
    """What a login kept; None when there was none. Raises SecretKeyError when it was encrypted with another key."""
    path = _path(home, shop)
    if not path.exists():
        return None
    try:
        opened = json.loads(Fernet(secret_key(home)).decrypt(path.read_bytes()))
    except InvalidToken:
        raise SecretKeyError(
            f"{path} was encrypted with another key",
            next_step="restore KASH_SECRET_KEY or secret.key in KASH_HOME, or run: kash-pipeline kash login",
        ) from None
    return Credentials(opened["shop_id"], opened["key"], f"the login kept in {path}")


def forget(home: Path, shop: str) -> bool:
    """Delete what a login kept; whether there was something."""
    path = _path(home, shop)
    if not path.exists():
        return False
    path.unlink()
    return True


def find(shop: ShopFile, environment: Environment) -> Credentials:
    """Those of the variables the shop file names, else those of a login. Raises SettingsError when there are none."""
    id_name, key_name = shop.source.shop_id_env, shop.source.key_env
    shop_id, key = (os.environ.get(name, "").strip() for name in (id_name, key_name))
    if shop_id and key:
        return Credentials(shop_id, key, key_name)
    kept = load(environment.home, shop.shop.id)
    if kept is not None:
        return kept
    missing = key_name if not key else id_name
    raise SettingsError(
        f"environment variable {missing} is not set and nobody logged in: the API key of Kash.click is unknown",
        next_step=f"run kash-pipeline kash login --shop {shop.path}, or export {id_name}=... {key_name}=...",
    )


def _path(home: Path, shop: str) -> Path:
    return home / "kash" / f"{shop}.sealed"
