"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator

import pytest

from kash_pipeline_tests.end_to_end.machine import Machine, fresh_machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    with fresh_machine() as found:
        yield found
