"""The code location as a whole: it loads without a database, and no asset changes unnoticed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kash_pipeline.definitions import build_definitions, defs
from kash_pipeline.defs.jobs import (
    BUILD_ENTRIES,
    EXTRACT,
    NIGHTLY,
    PLAN,
    PUBLISH,
    REFERENCE_CHECK,
    REFERENCE_SYNC,
    WATCH,
)
from kash_pipeline.defs.publishing import company_pool
from kash_pipeline.defs.retention import RETENTION
from kash_pipeline.errors import SettingsError
from kash_pipeline.settings import Environment
from kash_pipeline_tests.orchestration.till import make_shop

REPOSITORY = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("asset_specs.json")
DAILY = {
    "bakery/pos/sales",
    "bakery/pos/payments",
    "bakery/pos/closings",
    "bakery/accounting/entries",
    "bakery/pennylane/published_entries",
}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    environment = Environment(Path("/nowhere"), "/nowhere/lake", None, Path("shop.toml"))
    return build_definitions(make_shop(publishes=True), environment=environment)


def _asset_specs(definitions: dg.Definitions) -> dict[str, Any]:
    specs = {}
    for spec in definitions.resolve_all_asset_specs():
        schema = spec.metadata.get("dagster/column_schema")
        specs[spec.key.to_user_string()] = {
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "group": spec.group_name,
            "kinds": sorted(spec.kinds),
            "owners": list(spec.owners),
            "shop": spec.tags.get("shop"),
            "partitions": type(spec.partitions_def).__name__ if spec.partitions_def else None,
            "columns": len(schema.columns) if isinstance(schema, dg.TableSchema) else 0,
            "description": (spec.description or "").partition("\n")[0],
            "checks": {},
        }
    for assets in [*(definitions.assets or []), *(definitions.asset_checks or [])]:
        assert isinstance(assets, dg.AssetsDefinition | dg.AssetChecksDefinition)
        for check in assets.check_specs:
            specs[check.asset_key.to_user_string()]["checks"][check.name] = "blocking" if check.blocking else "listed"
    return dict(sorted(specs.items()))


def test_every_asset_is_as_the_snapshot_says(definitions: dg.Definitions) -> None:
    """A key, owner, dependency or check that changes shows in a diff. KASH_WRITE_SNAPSHOTS=1 pytest writes it anew."""
    found = _asset_specs(definitions)
    if os.environ.get("KASH_WRITE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_every_asset_is_documented_owned_and_typed(definitions: dg.Definitions) -> None:
    for key, spec in _asset_specs(definitions).items():
        assert spec["description"], key
        assert spec["owners"], key
        assert spec["kinds"], key
        assert spec["group"], key
        assert spec["columns"] or spec["group"] == "pennylane", key


def test_five_assets_are_daily_and_a_year_of_them_is_one_run(definitions: dg.Definitions) -> None:
    """Each daily asset costs 53 ms a day in event writing: there are five, not fifteen."""
    daily = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs() if spec.partitions_def}
    assert daily.keys() == DAILY
    for assets in definitions.assets or []:
        assert isinstance(assets, dg.AssetsDefinition)
        if assets.partitions_def:
            assert assets.backfill_policy == dg.BackfillPolicy.single_run()


def test_jobs_run_in_one_process(definitions: dg.Definitions) -> None:
    """Dagster's default starts a process per step, 17 times slower on steps of this size."""
    jobs = {REFERENCE_SYNC, REFERENCE_CHECK, EXTRACT, BUILD_ENTRIES, PUBLISH, NIGHTLY, PLAN, WATCH, RETENTION}
    assert {job.name for job in definitions.jobs or []} == jobs
    for name in [*jobs, "__ASSET_JOB"]:
        assert definitions.resolve_job_def(name).executor_def is dg.in_process_executor


def test_a_job_that_builds_a_mart_builds_what_its_sql_names(definitions: dg.Definitions) -> None:
    """In a new database nobody else has: publishing failed there after everything was sent."""
    for job in definitions.resolve_all_job_defs():
        graph = job.asset_layer.asset_graph
        marts = {key for key in graph.executable_asset_keys if key.path[1:2] == ["marts"]}
        named = {parent for key in marts for parent in graph.get(key).parent_keys if parent.path[1] == "marts"}
        assert named <= marts, job.name


def test_only_one_step_at_a_time_talks_to_a_company(definitions: dg.Definitions) -> None:
    pools = {}
    for assets in definitions.assets or []:
        assert isinstance(assets, dg.AssetsDefinition)
        for key in assets.keys:
            pools[key.to_user_string()] = assets.op.pool
    talking = {key: pool for key, pool in pools.items() if "/pennylane/" in key}
    assert set(talking.values()) == {company_pool(make_shop(publishes=True))} == {"pennylane_123456782"}
    assert {pool for key, pool in pools.items() if key not in talking} == {None}


def test_a_shop_without_pennylane_has_nothing_that_sends() -> None:
    definitions = build_definitions(make_shop())
    assert not [spec for spec in definitions.resolve_all_asset_specs() if "pennylane" in spec.key.path]
    assert PUBLISH not in {job.name for job in definitions.jobs or []}
    assert [sensor.name for sensor in definitions.sensors or []] == ["rebuild_after_change"]


def test_the_code_location_loads_without_a_database_and_starts_nothing(tmp_path: Path) -> None:
    """A webserver must show the assets while the database is down; a code server must not start one."""
    environment = {
        "KASH_HOME": str(tmp_path / "home"),
        "KASH_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "KASH_SHOP": "shops/sandbox.toml",
    }
    loaded = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "kash_pipeline.definitions"],
        cwd=REPOSITORY,
        env={**os.environ, "DAGSTER_HOME": "", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    said = loaded.stdout + loaded.stderr
    assert loaded.returncode == 0, said
    assert "validation successful for code location" in said.lower()
    assert not (tmp_path / "home").exists()


def test_a_missing_shop_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASH_SHOP", "shops/nowhere.toml")
    with pytest.raises(SettingsError) as caught:
        defs.load_fn()
    assert caught.value.message == "shops/nowhere.toml: there is no such shop file"
    assert caught.value.next_step


def test_a_password_in_the_database_url_is_shown_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's UI lists what a resource is made of."""
    monkeypatch.setenv("KASH_DATABASE_URL", "postgresql://kash:topsecret@db/kash")
    definitions = build_definitions(make_shop(publishes=True))
    shown = str(definitions.get_repository_def().get_top_level_resources())
    shown += "".join(
        json.dumps(resource.config_schema.default_value, default=str)
        for resource in definitions.get_repository_def().get_top_level_resources().values()
        if resource.config_schema.default_provided
    )
    assert "KASH_DATABASE_URL" in shown
    assert "topsecret" not in shown
