"""The two HTTP contracts this project is checked against, as shipped files.

Only finding and parsing them belongs here. Checking requests and answers against them belongs to
sandbox/pennylane/checks.py (what the sandbox enforces) and to the tests' contract/checking.py (what we prove).
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

Name = Literal["pennylane", "kash"]


def path(name: Name) -> Path:
    """The contract file, `<name>-openapi.yaml`."""
    return Path(str(files(__name__) / f"{name}-openapi.yaml"))


@cache
def load(name: Name) -> dict[str, Any]:
    """The parsed contract (OpenAPI 3.1). Cached: treat it as read-only.

    libyaml when PyYAML has it: 0.1 s instead of 1 s for the larger file.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: dict[str, Any] = yaml.load(path(name).read_bytes(), Loader=loader)  # noqa: S506 - a safe loader
    return document
