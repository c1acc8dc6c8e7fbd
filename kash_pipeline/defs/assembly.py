"""Everything of one shop put together: assets, checks, jobs, schedules, sensors and the resources they need.

Only assembly belongs here; Dagster's code location is definitions.py. Nothing is read or started.
"""

import os
import warnings
from typing import Any

import dagster as dg

from kash_pipeline.defs.accounting import accounting_assets
from kash_pipeline.defs.daily import no_progress
from kash_pipeline.defs.jobs import runs_by_itself, schedules, shop_jobs
from kash_pipeline.defs.marts import mart_assets
from kash_pipeline.defs.planning import planning_assets
from kash_pipeline.defs.pos import pos_assets
from kash_pipeline.defs.publishing import publishing_assets
from kash_pipeline.defs.rebuilding import rebuild_sensor
from kash_pipeline.defs.reference import reference_assets
from kash_pipeline.defs.resources import LakeResource, PennylaneResource, TillResource, WarehouseResource
from kash_pipeline.defs.retention import retention_jobs, retention_schedules
from kash_pipeline.defs.sensors import publication_sensor, wake_up_sensor
from kash_pipeline.defs.watching import keep_alive_jobs, watch_checks, watch_schedules
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.sql_models import load_project


def build_definitions(
    shop: ShopFile, *, environment: Environment | None = None, **resource_overrides: Any
) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors of one shop.

    `environment` says where state lives (default: the process's environment variables). A resource is replaced by
    naming it: `warehouse` (an Engine), `lake` (a Lake), `till` and `pennylane` (functions that open a Source and a
    PennylaneClient), `progress`.
    Raises SettingsError for an unknown deployment, SqlModelError for a broken dbt_like_sql/.
    """
    where = environment or Environment.read()
    resources = {
        "warehouse": WarehouseResource(home=str(where.home), url=_database_url(where)),
        "lake": LakeResource(url=where.lake_url, shop_id=shop.shop.id),
        "till": TillResource(shop_path=str(shop.path), lake_url=where.lake_url),
        "pennylane": PennylaneResource(shop_path=str(shop.path), home=str(where.home)),
        "progress": no_progress,
    } | resource_overrides

    def status(sensor: str) -> dg.DefaultSensorStatus:
        on = runs_by_itself(sensor, where.deployment)
        return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED

    sensors = [rebuild_sensor(shop, status("rebuild_after_change"))]
    if shop.pennylane:
        sensors.append(publication_sensor(shop, status("publish_when_ready")))
    if shop.source.kind == "kash_api":
        sensors.append(wake_up_sensor(shop, status("wake_up")))
    with warnings.catch_warnings():
        # BackfillPolicy is marked as beta; we rely on it knowingly, and on a pinned version.
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = [
            reference_assets(shop),
            *pos_assets(shop),
            *accounting_assets(shop),
            *publishing_assets(shop),
            *planning_assets(shop),
            *mart_assets(shop, load_project()),
        ]
    return dg.Definitions(
        assets=assets,
        asset_checks=watch_checks(shop),
        jobs=[*shop_jobs(shop), *keep_alive_jobs(shop), *retention_jobs(shop)],
        schedules=[
            *schedules(shop, where.deployment),
            *watch_schedules(shop, where.deployment),
            *retention_schedules(shop, where.deployment),
        ],
        sensors=sensors,
        resources=resources,
        executor=dg.in_process_executor,
    )


def _database_url(where: Environment) -> str | dg.EnvVar | None:
    """By name where the environment has it: a URL may hold a password, and the UI shows what a resource is made of."""
    named = where.database_url is not None and where.database_url == os.environ.get("KASH_DATABASE_URL")
    return dg.EnvVar("KASH_DATABASE_URL") if named else where.database_url
