"""A shop with its PennyLane, for each test that asks for one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kash_pipeline_tests.sandboxes import PennylaneHandle
from kash_pipeline_tests.unit.pennylane.world import World, world


@pytest.fixture
def make_pennylane(
    make_pennylane_sandbox: Callable[..., PennylaneHandle],
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., World]]:
    """A function that makes a shop with its PennyLane: `limiter` and other options of the sandbox in `sandbox`, the
    rest goes into the shop file. Secrets are in the environment; with auth="token" the shop is connected."""
    with ExitStack() as stack:

        def make(sandbox: dict[str, Any] | None = None, **changes: Any) -> World:
            handle = make_pennylane_sandbox(**{"limiter": None, **(sandbox or {})})
            monkeypatch.setenv("PENNYLANE_CLIENT_ID", handle.client_id)
            monkeypatch.setenv("PENNYLANE_CLIENT_SECRET", handle.client_secret)
            monkeypatch.setenv("PENNYLANE_TOKEN", handle.token)
            return stack.enter_context(world(database_url, tmp_path, handle.url, handle.app, **changes))

        yield make


@pytest.fixture
def pennylane(make_pennylane: Callable[..., World]) -> World:
    """A shop with a company API token; no limiter."""
    return make_pennylane()
