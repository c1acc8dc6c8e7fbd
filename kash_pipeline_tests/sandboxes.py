"""Fixtures that serve a sandbox over real loopback HTTP, held against its contract while the test runs.

Only starting and handing over belongs here; tests of the sandbox itself are in unit/sandbox and contract/.

    def test_something(pennylane_sandbox):          # limiter off
        pennylane_sandbox.url, .token, .admin, .faults, .requests, .engine, .client_id, .client_secret, .redirect_uri
        with pennylane_sandbox.client() as http: http.get("/me")

    def test_pacing(make_pennylane_sandbox):        # any option of create_app
        sandbox = make_pennylane_sandbox(limiter="sliding")
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from kash_pipeline.sandbox import kash, pennylane
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.server import serving
from kash_pipeline_tests.contract.checking import ContractChecked

CLIENT_ID = "kash-pipeline-tests"
CLIENT_SECRET = "a secret only the tests know"
REDIRECT_URI = "http://127.0.0.1:8799/pennylane/callback"


@dataclass(frozen=True)
class PennylaneHandle:
    """A served PennyLane sandbox. `token` is a company API token with every scope."""

    url: str
    app: pennylane.PennylaneSandbox
    contract: ContractChecked
    engine: sa.Engine
    token: str = field(repr=False)
    client_id: str = CLIENT_ID
    client_secret: str = field(default=CLIENT_SECRET, repr=False)
    redirect_uri: str = REDIRECT_URI

    @property
    def admin(self) -> pennylane.Admin:
        return self.app.admin

    @property
    def faults(self) -> pennylane.Faults:
        return self.app.faults

    @property
    def requests(self) -> Any:
        return self.app.requests

    def client(self, token: str | None = None) -> httpx.Client:
        """A plain HTTP client of the API (paths such as `/journals`), with `token` or the company token."""
        return httpx.Client(
            base_url=f"{self.url}/api/external/v2",
            headers={"authorization": f"Bearer {token or self.token}"},
            timeout=10,
        )


@contextmanager
def pennylane_served(database_url: str, **options: Any) -> Iterator[PennylaneHandle]:
    """A PennyLane sandbox with the given options of `create_app`, for the time of the block.

    At its end the server stops, and AssertionError says which request or answer broke the contract.
    """
    engine = sa.create_engine(sa.make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    options.setdefault("clients", {CLIENT_ID: (CLIENT_SECRET, (REDIRECT_URI,))})
    app = pennylane.create_app(engine, **options)
    contract = ContractChecked(app)
    with serving(contract) as url:
        yield PennylaneHandle(url, app, contract, engine, app.admin.company_token())
    contract.assert_kept()


@dataclass(frozen=True)
class KashHandle:
    """A served Kash.click sandbox; `url` ends with `/workers`."""

    url: str
    faults: kash.Faults
    contract: ContractChecked


@contextmanager
def kash_served(dataset: Dataset, *, faults: kash.Faults | None = None, **options: Any) -> Iterator[KashHandle]:
    """A Kash.click sandbox with the given options of `create_app`, for the time of the block.

    At its end AssertionError says which request, or which answer not made by a fault, broke the contract.
    """
    switch = faults or kash.Faults()
    contract = ContractChecked(
        kash.create_app(dataset, faults=switch, **options),
        "kash",
        excused=lambda: switch.fault is not None or switch.reshape is not None,
    )
    with serving(contract) as url:
        yield KashHandle(f"{url}/workers", switch, contract)
    contract.assert_kept()


@contextmanager
def new_database(postgres_url: str, purpose: str) -> Iterator[str]:
    """The URL of an empty database of this worker, dropped at the end of the block."""
    name = f"{purpose}_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    base, _, query = postgres_url.partition("?")
    yield base.rsplit("/", 1)[0] + f"/{name}?{query}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture(scope="session")
def pennylane_database(postgres_url: str) -> Iterator[str]:
    """One database a worker for PennyLane sandboxes: creating one for each test costs more than the test."""
    with new_database(postgres_url, "pennylane") as url:
        yield url


@pytest.fixture
def make_pennylane_sandbox(pennylane_database: str) -> Iterator[Callable[..., PennylaneHandle]]:
    """A function that serves a PennyLane sandbox as `pennylane_served` does, until the end of the test.

    Nothing of earlier tests is left in it; two made in one test share their books.
    """
    with psycopg.connect(pennylane_database, autocommit=True) as connection:
        connection.execute("drop schema if exists sandbox_pennylane cascade")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(pennylane_served(pennylane_database, **options))


@pytest.fixture
def pennylane_sandbox(make_pennylane_sandbox: Callable[..., PennylaneHandle]) -> PennylaneHandle:
    """A PennyLane sandbox without rate limit, default company, chart and journals."""
    return make_pennylane_sandbox(limiter=None)
