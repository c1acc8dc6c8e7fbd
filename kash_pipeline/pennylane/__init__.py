"""Everything between the publication ledger and PennyLane.

`connect` gives a client for a shop; publishing is publisher.Publisher, ids are reference.sync_*, the connection is
auth's. Nothing here decides what the books say: that is accounting/.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import sqlalchemy as sa

from kash_pipeline.pennylane.auth import CompanyToken, OAuthConnection, OAuthServer, section_of
from kash_pipeline.pennylane.client import TIMEOUT, PennylaneClient, TokenSource
from kash_pipeline.pennylane.pacing import Pacing, SharedPacing, bucket_of
from kash_pipeline.settings import Environment, ShopFile, secret
from kash_pipeline.warehouse.tokens import TokenStore

__all__ = ["PennylaneClient", "connect"]


@contextmanager
def connect(
    shop: ShopFile,
    engine: sa.Engine,
    env: Environment,
    *,
    pacing: Pacing | None = None,
    timeout: httpx.Timeout | float = TIMEOUT,
) -> Iterator[PennylaneClient]:
    """A client for the shop's company: OAuth connection or company API token, pace shared by all processes.

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
        with PennylaneClient(section.url, tokens, pacing or SharedPacing(engine, bucket), timeout=timeout) as client:
            yield client
    finally:
        server.close()
