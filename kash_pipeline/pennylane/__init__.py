"""Everything between the publication ledger and PennyLane.

`connect` gives a client for a shop; publishing is publisher.Publisher, ids are reference.sync_*, the connection is
auth's. Nothing here decides what the books say: that is accounting/.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import sqlalchemy as sa

from kash_pipeline.pennylane.auth import CompanyToken, Consent, OAuthConnection, OAuthServer, OneToken, section_of
from kash_pipeline.pennylane.client import TIMEOUT, Me, PennylaneClient, TokenSource
from kash_pipeline.pennylane.pacing import Pacing, SharedPacing, bucket_of
from kash_pipeline.settings import Environment, ShopFile, secret
from kash_pipeline.warehouse.tokens import TokenStore

__all__ = ["PennylaneClient", "connect", "consent", "disconnect"]


@contextmanager
def connect(
    shop: ShopFile,
    engine: sa.Engine,
    env: Environment,
    *,
    pacing: Pacing | None = None,
    timeout: httpx.Timeout | float = TIMEOUT,
    sleep: Callable[[float], None] = time.sleep,
    transport: httpx.BaseTransport | None = None,
) -> Iterator[PennylaneClient]:
    """A client for the shop's company: OAuth connection or company API token, pace shared by all processes.

    `pacing`, `sleep` and `transport` (how requests travel) can be passed in.

    No request is made here. Raises SettingsError without [pennylane] or a needed environment variable; the first
    call raises ConnectAgain when nobody connected the shop.
    """
    section = section_of(shop)
    server = OAuthServer(shop)
    tokens: TokenSource
    if section.auth == "token":
        tokens = CompanyToken(section)
        bucket = bucket_of(section.url, secret(section.token_env, used_for="the PennyLane company API token"))
    else:
        tokens = OAuthConnection(shop, TokenStore.open(engine, env.home), server)
        bucket = bucket_of(section.url, shop.shop.id)
    try:
        with PennylaneClient(
            section.url,
            tokens,
            pacing or SharedPacing(engine, bucket),
            timeout=timeout,
            sleep=sleep,
            transport=transport,
        ) as client:
            yield client
    finally:
        server.close()


@contextmanager
def consent(shop: ShopFile, engine: sa.Engine, env: Environment) -> Iterator[Consent]:
    """One attempt to connect the shop: send a person to `url`, give the address they come back to to `finish`."""
    section = section_of(shop)
    server = OAuthServer(shop)

    def who(token: str) -> Me:
        pacing = SharedPacing(engine, bucket_of(section.url, shop.shop.id))
        with PennylaneClient(section.url, OneToken(token), pacing) as client:
            return client.me()

    try:
        yield Consent(shop, TokenStore.open(engine, env.home), server, who)
    finally:
        server.close()


def disconnect(shop: ShopFile, engine: sa.Engine, env: Environment) -> bool:
    """Revoke the connection at PennyLane, then forget it here; False when there was none.

    Raises a PennylaneError when PennyLane cannot be told; the connection is then kept, so that it can be told later.
    Raises SecretKeyError when the key does not open the tokens, which are kept too: the key may come back.
    """
    store = TokenStore.open(engine, env.home)
    known = store.get(shop.shop.id)
    if known.pair is not None:
        server = OAuthServer(shop)
        try:
            server.revoke(known.pair.refresh_token or known.pair.access_token)
        finally:
            server.close()
    store.forget(shop.shop.id)
    return known.pair is not None or known.broken is not None
