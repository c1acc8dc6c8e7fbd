"""The files of deploy/ agree with the program, with each other and with .env.example. Nothing is built or started."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from kash_pipeline.warehouse import database

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
VARIABLE = r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+"
OTHERS = {"POSTGRES_PASSWORD", "KASH_CODE_HOST", "DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"}
"""Variables that PostgreSQL's image, the files of deploy/ themselves and Dagster read."""


def _offered() -> set[str]:
    return set(re.findall(rf"^(?:# )?({VARIABLE})=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return loaded


def test_every_variable_is_read_by_the_program(services: dict[str, Any]) -> None:
    source = "".join(path.read_text() for path in (REPOSITORY / "kash_pipeline").rglob("*.py"))
    read = set(re.findall(rf'"({VARIABLE})"', source)) | OTHERS
    set_here = {name for service in services.values() for name in service["environment"] if name[:8] != "POSTGRES"}
    named = set(re.findall(rf"env: ({VARIABLE})", "".join(path.read_text() for path in DEPLOY.glob("*.yaml"))))
    assert _offered() | set_here | named <= read


def test_every_value_that_compose_asks_for_is_in_the_example(services: dict[str, Any]) -> None:
    asked = set(re.findall(rf"\$\{{({VARIABLE})", (DEPLOY / "compose.yaml").read_text()))
    assert {"POSTGRES_PASSWORD", "KASH_SHOP"} <= asked <= _offered()


def test_only_the_code_location_has_the_shops_secrets(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "env_file" in service] == ["code-location"]
    assert [name for name, service in services.items() if "KASH_DATABASE_URL" in service["environment"]] == [
        "database",
        "code-location",
    ]


def test_dagster_is_given_the_warehouses_database_in_its_own_form(services: dict[str, Any]) -> None:
    environment = {
        name: re.sub(r"\$\{POSTGRES_PASSWORD[^}]*\}", "secret", value)
        for name, value in services["code-location"]["environment"].items()
    }
    assert environment["KASH_DAGSTER_DATABASE_URL"] == database.dagster_url(environment["KASH_DATABASE_URL"])


def test_the_database_service_makes_the_tables(services: dict[str, Any], database_url: str) -> None:
    command = [sys.executable, *services["database"]["command"][1:]]
    subprocess.run(command, check=True, env={"KASH_DATABASE_URL": database_url})
    engine = database.open_engine(database_url)
    try:
        assert {"kash", "dagster"} <= set(sa.inspect(engine).get_schema_names())
    finally:
        engine.dispose()


def test_the_guide_starts_the_same_commands(services: dict[str, Any]) -> None:
    guide = (DEPLOY / "README.md").read_text().replace("$DAGSTER_HOME", "/opt/dagster")
    for name in ("code-location", "webserver", "daemon"):
        assert " ".join(services[name]["command"]).replace("0.0.0.0 --port 3000", "127.0.0.1 --port 3000") in guide, (
            name
        )
    assert services["database"]["command"][2] in guide


def test_the_image_copies_what_exists_and_nothing_else_reaches_the_builder() -> None:
    lines = [line.split() for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    copied = {name for line in lines for name in line[1:-1]}
    assert all((REPOSITORY / name).exists() for name in copied)
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
