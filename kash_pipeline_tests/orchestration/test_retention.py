"""Retention as a scheduled job: on in production only, by the shop's policy, never below what the law asks for."""

import hashlib
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from kash_pipeline.defs.retention import RETENTION, retention_jobs, retention_schedules
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.retention import first_day_kept
from kash_pipeline_tests.orchestration.till import make_shop


def shop_keeping(years: int) -> ShopFile:
    shop = make_shop()
    return shop.model_copy(update={"source": shop.source.model_copy(update={"raw_years": years})})


def test_the_job_deletes_by_the_policy_and_says_what_it_did(lake: Lake, instance: dg.DagsterInstance) -> None:
    for year in (2026, 2027, 2030):
        at = datetime(year, 6, 1, tzinfo=UTC)
        body = f"answer of {year}".encode()
        lake.keep(RawDocument("getOrders.php", at.date(), "u", at, 200, hashlib.sha256(body).hexdigest(), body))
    (job,) = retention_jobs(shop_keeping(10), now=lambda: datetime(2037, 1, 2, tzinfo=UTC))
    for deleted in (1, 0):
        result = job.execute_in_process(instance=instance, resources={"lake": lake})
        assert result.success
        said = [entry.user_message for entry in instance.all_logs(result.run_id)]
        size = deleted * len("answer of 2026")
        assert (
            f"{deleted} raw answers ({size} bytes) fetched before 2027-01-01 deleted; a record of each is kept" in said
        )
    assert [meta["day"] for meta in lake.raw("getOrders.php")] == ["2027-06-01", "2030-06-01"]


@pytest.mark.parametrize(
    ("years", "kept_from"),
    [(10, date(2026, 1, 1)), (6, date(2030, 1, 1)), (1, date(2030, 1, 1))],  # no setting goes below six
)
def test_whole_fiscal_years_are_kept_and_six_at_least(years: int, kept_from: date) -> None:
    for today in (date(2036, 1, 1), date(2036, 2, 29), date(2036, 12, 31)):
        assert first_day_kept(shop_keeping(years), today) == kept_from


def test_it_runs_by_itself_in_production_only() -> None:
    for deployment, on in (("local", False), ("staging", False), ("production", True)):
        (schedule,) = retention_schedules(make_shop(), deployment)
        assert (schedule.default_status == dg.DefaultScheduleStatus.RUNNING) is on
    assert schedule.job_name == RETENTION
    assert schedule.cron_schedule == "30 7 2 * *"
    assert schedule.execution_timezone == "Europe/Paris"
