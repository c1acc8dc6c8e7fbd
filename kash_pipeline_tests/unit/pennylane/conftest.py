"""A connected world for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kash_pipeline_tests.unit.pennylane.world import CLIENT_ID, CLIENT_SECRET, World, world


@pytest.fixture
def pennylane(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A shop with a company API token; no limiter."""
    monkeypatch.setenv("PENNYLANE_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("PENNYLANE_CLIENT_SECRET", CLIENT_SECRET)
    with world(database_url, tmp_path, auth="token") as here:
        monkeypatch.setenv("PENNYLANE_TOKEN", here.sandbox.admin.company_token())
        yield here
