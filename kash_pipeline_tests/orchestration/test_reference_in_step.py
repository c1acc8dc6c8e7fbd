"""Reference data that changes: what it touches waits, the rest is posted, and after the mend all stands there once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline.definitions import build_definitions
from kash_pipeline.defs.jobs import REFERENCE_CHECK
from kash_pipeline.defs.rebuilding import rebuild_sensor
from kash_pipeline.defs.reference import LIGHT
from kash_pipeline.defs.runs import DaysResult, run_days
from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.reference import store
from kash_pipeline.reference.changes import report
from kash_pipeline.reference.release import by_reason, held_reasons, outlook, runs_of
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import PAYMENT_METHODS, REGISTERS, Facts
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.orchestration.till import METHODS, MemoryTill, make_facts, make_shop, with_method

FIRST, LAST = date(2025, 2, 27), date(2025, 3, 2)
MIDDLE = date(2025, 2, 28)


@dataclass
class Place:
    """A shop with till, books and a PennyLane sandbox."""

    engine: sa.Engine
    lake: Lake
    instance: dg.DagsterInstance
    environment: Environment
    sandbox: Any
    shop: ShopFile
    cursor: str | None = None
    skipped: str | None = None

    def run(self, till: MemoryTill, first: date = FIRST, last: date = LAST, **options: Any) -> DaysResult:
        result = run_days(
            self.shop,
            first,
            last,
            instance=self.instance,
            environment=self.environment,
            warehouse=self.engine,
            lake=self.lake,
            till=till.opener(),
            pennylane=lambda engine: connect(self.shop, engine, self.environment, pacing=NoPacing()),
            **options,
        )
        assert result.worked, [problem for stage in result.stages for problem in stage.problems]
        return result

    def look(self, till: MemoryTill) -> dict[str, dg.AssetCheckEvaluation]:
        """The hourly look at reference data; its checks, by asset."""
        definitions = build_definitions(
            self.shop,
            environment=self.environment,
            warehouse=self.engine,
            lake=self.lake,
            till=till.opener(),
            pennylane=lambda engine: connect(self.shop, engine, self.environment, pacing=NoPacing()),
        )
        result = definitions.resolve_job_def(REFERENCE_CHECK).execute_in_process(
            instance=self.instance, run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        )
        return {check.asset_key.path[-1]: check for check in result.get_asset_check_evaluations()}

    def asked(self) -> list[tuple[date, date]]:
        """What the sensor asks for at this tick: first and last days of runs."""
        sensor = rebuild_sensor(self.shop, dg.DefaultSensorStatus.RUNNING, reread=lambda: self.shop)
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"warehouse": self.engine}
        )
        result = sensor(context)
        assert isinstance(result, dg.SkipReason | dg.SensorResult)
        self.skipped = result.skip_message if isinstance(result, dg.SkipReason) else str(result.skip_reason)
        if not isinstance(result, dg.SensorResult):
            return []
        self.cursor = result.cursor
        ranges = [
            [request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")]
            for request in result.run_requests or []
        ]
        return [(date.fromisoformat(first), date.fromisoformat(last)) for first, last in ranges]

    def mend(self, **chart: Any) -> None:
        """Write more into the shop file's chart."""
        [period] = self.shop.chart
        self.shop = self.shop.model_copy(update={"chart": (period.model_copy(update=chart),)})

    def release(self, till: MemoryTill) -> list[date]:
        """What `kash-pipeline release --publish` does; the days built."""
        cured = outlook(self.engine, self.shop, self.lake).cured
        for days in runs_of(cured):
            self.run(till, days[0], days[-1], stages=("entries", "publish"))
        return cured

    def pieces(self) -> Counter[str]:
        return Counter(entry.piece_number for entry in self.sandbox.admin.entries())

    def booked(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.exec_driver_sql("select entry_key from kash.entries").scalars())

    def sent(self) -> list[tuple[Any, ...]]:
        """What the ledger says of entries in PennyLane."""
        with self.engine.connect() as connection:
            query = (
                "select key, digest, sent_digest, state, remote_id, corrected_by, updated_at from kash.publication"
                " where sent_at is not null order by key"
            )
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def lines(self) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            query = "select entry_key, line_no, account, debit_cents, credit_cents, label from kash.entry_lines"
            return sorted(tuple(row) for row in connection.exec_driver_sql(query))


@pytest.fixture
def make_place(
    make_pennylane_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
    engine: sa.Engine,
    lake: Lake,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    warehouse_url: str,
) -> Callable[..., Place]:
    def make(**shop: Any) -> Place:
        sandbox = make_pennylane_sandbox(limiter=None)
        monkeypatch.setenv("PENNYLANE_TOKEN", sandbox.token)
        made = make_shop(publishes=True, **shop)
        assert made.pennylane is not None
        made = made.model_copy(update={"pennylane": made.pennylane.model_copy(update={"url": sandbox.url})})
        environment = Environment(tmp_path, str(tmp_path / "lake"), warehouse_url, tmp_path / "shop.toml")
        return Place(engine, lake, instance, environment, sandbox, made)

    return make


def with_new_method(facts: Facts, day: date) -> Facts:
    """From `day` on register K2 is paid by a method that the till knows and the chart does not."""
    more = pd.DataFrame({"method_id": ["tr"], "name": ["Ticket Restaurant"], "kind": ["meal_voucher"]})
    methods = conform(pd.concat([facts.payment_methods, more], ignore_index=True), PAYMENT_METHODS)
    return replace(with_method(facts, day, "K2", "tr"), payment_methods=methods)


def test_a_new_method_in_mid_month_holds_its_register_day_until_the_chart_has_it_and_then_posts_once(
    make_place: Callable[..., Place],
) -> None:
    here = make_place()
    till = MemoryTill(with_new_method(make_facts(FIRST, LAST), MIDDLE))
    result = here.run(till)
    failed = {check.check: check.detail for stage in result.stages for check in stage.failed_checks}
    told = failed["methods_mapped"]
    assert (told["register-days"], told["oldest day"]) == ("1", "2025-02-28")
    assert 'meal_voucher = "511700"' in told["next steps"]
    assert not {"rates_mapped", "registers_mapped", "movements_mapped", "facts_agree"} & failed.keys()
    [row] = by_reason(held_reasons(here.engine, here.shop)).itertuples()
    assert (row.reason, row.register_days, row.oldest_day) == ("unmapped_method", 1, pd.Timestamp(MIDDLE))
    assert here.pieces() == Counter(here.booked())
    assert not any("K2-250228" in piece for piece in here.pieces())
    assert any("K1-250228" in piece for piece in here.pieces())
    before = here.pieces()
    # The check is about the shop, not about the days of a run.
    result = here.run(till, LAST, LAST, stages=("entries",))
    assert "methods_mapped" in {check.check for stage in result.stages for check in stage.failed_checks}

    assert outlook(here.engine, here.shop, here.lake).cured == []
    here.mend(methods={**METHODS, "meal_voucher": "511700"})
    assert here.release(till) == [MIDDLE]
    assert held_reasons(here.engine, here.shop).empty
    after = here.pieces()
    assert set(after.values()) == {1}
    assert after.keys() - before.keys()
    assert all("K2-250228" in piece for piece in after.keys() - before.keys())
    assert after == Counter(here.booked())
    assert here.release(till) == []


def test_a_change_of_reference_data_builds_once_what_was_never_sent_and_tells_what_was(
    make_place: Callable[..., Place],
) -> None:
    here = make_place()
    facts = with_new_method(make_facts(FIRST, LAST), MIDDLE)
    here.run(MemoryTill(facts), stages=("reference", "facts", "entries"))
    here.run(MemoryTill(facts), FIRST, date(2025, 3, 1), stages=("publish",))
    held, ready = (MIDDLE, MIDDLE), (LAST, LAST)
    assert here.asked() == []
    assert here.asked() == []
    sent, posted = here.sent(), here.pieces()

    renamed = facts.payment_methods.assign(name=facts.payment_methods["name"].replace("CB", "Carte bancaire"))
    till = MemoryTill(replace(facts, payment_methods=renamed))
    here.sandbox.requests.clear()
    checks = here.look(till)
    [listed] = till.listed
    assert "customers" not in listed
    assert len(listed) == len(LIGHT) + 1
    assert [(seen.method, seen.path.rpartition("/")[2]) for seen in here.sandbox.requests.all()] == [
        ("GET", "me"),
        ("GET", "journals"),
        ("GET", "ledger_accounts"),
        ("GET", "fiscal_years"),
    ]
    assert {name for name, check in checks.items() if not check.passed} == {"payment_methods"}
    told = str(checks["payment_methods"].metadata["made before the change"].value)
    used = {key for key, _, _, _, _, label in here.lines() if "CB" in label} & posted.keys()
    assert f": name CB → Carte bancaire | {len(used)} entries of" in told

    assert here.asked() == [held, ready]
    before = here.lines()
    for first, last in (held, ready):
        here.run(till, first, last, stages=("entries",))
    assert here.asked() == []
    # The days are from before the change: they are built with the names of their time, and what is sent stays.
    assert here.lines() == before
    here.look(till)
    assert here.asked() == []
    assert here.sent() == sent
    assert here.pieces() == posted

    here.mend(methods={**METHODS, "meal_voucher": "511700"})
    assert here.asked() == [held, ready]
    for first, last in (held, ready):
        here.run(till, first, last, stages=("entries", "publish"))
    assert here.asked() == []
    assert here.pieces() == Counter(here.booked())
    assert posted.keys() < here.pieces().keys()
    assert [row for row in here.sent() if row[0] in posted] == sent

    # A line changed in place: what is sent would be booked otherwise, and that is told before anything is built.
    assert "booked otherwise now" not in here.look(till)["payment_methods"].metadata
    here.mend(methods={**METHODS, "meal_voucher": "511800"})
    assert here.asked() == []
    assert len({key for key, _, account, *_ in here.lines() if account == "511700"}) == 1
    sent_by_voucher = "payment method tr « Ticket Restaurant »: 511700 → 511800"
    assert "every day is sent" in str(here.skipped)
    assert f"{sent_by_voucher}, 1 entry of {MIDDLE} to {MIDDLE}, register K2" in str(here.skipped)
    assert sent_by_voucher in str(here.look(till)["payment_methods"].metadata["booked otherwise now"].value)


def test_a_register_added_waits_alone_for_its_journal_which_is_made_once(make_place: Callable[..., Place]) -> None:
    here = make_place()
    facts = make_facts(FIRST, LAST)
    registers = conform(
        pd.concat([facts.registers, pd.DataFrame({"register_id": ["K3"], "name": ["Terrasse"]})]), REGISTERS
    )

    def moved(frame: pd.DataFrame) -> pd.DataFrame:
        last_k2 = (frame["business_day"] == pd.Timestamp(LAST)) & (frame["register_id"] == "K2")
        return frame.assign(register_id=frame["register_id"].mask(last_k2, "K3"))

    facts = replace(
        facts,
        registers=registers,
        orders=moved(facts.orders),
        payments=moved(facts.payments),
        closings=moved(facts.closings),
    )
    till = MemoryTill(facts)
    here.run(till)
    assert set(held_reasons(here.engine, here.shop)["register_id"]) == {"K3"}
    assert here.pieces() == Counter(here.booked())
    assert here.asked() == []
    here.shop = here.shop.model_copy(update={"journals": {**here.shop.journals, "K3": "K3"}})
    assert here.asked() == [(LAST, LAST)]
    here.run(till, LAST, LAST, stages=("entries", "publish"))
    assert held_reasons(here.engine, here.shop).empty
    assert here.asked() == []
    assert here.pieces() == Counter(here.booked())
    with connect(here.shop, here.engine, here.environment, pacing=NoPacing()) as client:
        assert [journal.label for journal in client.journals() if journal.code == "K3"] == ["Caisse Boulangerie (K3)"]


def test_an_account_disabled_in_pennylane_stops_only_the_entries_that_name_it(
    make_place: Callable[..., Place],
) -> None:
    here = make_place()
    here.mend(methods={"cash": "530", "card": "511"})
    here.sandbox.admin.enable_account("511", False)
    till = MemoryTill(make_facts(FIRST, LAST))
    result = here.run(till)
    failed = {check.check: check.detail for stage in result.stages for check in stage.failed_checks}
    assert "511 « Valeurs à l'encaissement » is disabled" in failed["nothing_missing"]["missing"]
    posted = here.pieces()
    assert posted
    assert set(posted.values()) == {1}
    with_card = {key for key, _, account, *_ in here.lines() if account == "511"}
    assert here.booked() - posted.keys() == with_card

    here.sandbox.admin.enable_account("511", True)
    here.run(till, stages=("publish",))
    assert here.pieces() == Counter(here.booked())


def test_rates_and_methods_renamed_and_moved_leave_an_old_year_as_it_was(make_place: Callable[..., Place]) -> None:
    here = make_place(accounting_chapters=True)
    facts = make_facts(FIRST, LAST)
    facts = replace(facts, vat_rates=facts.vat_rates.assign(chapter=pd.Series(["11055", "11100", "11200"])))
    here.run(MemoryTill(facts))
    before, posted = here.lines(), here.pieces()
    assert "445711055" in {account for _, _, account, *_ in before}

    renamed = replace(facts, vat_rates=facts.vat_rates.assign(name=pd.Series(["réduit", "médian", "normal"])))
    here.run(MemoryTill(renamed), stages=("reference",))
    changed = replace(
        renamed,
        # 10 % becomes 12 %, and the others get other chapters.
        vat_rates=renamed.vat_rates.assign(vat_rate_bp=[550, 1200, 2000], chapter=pd.Series(["99", "98", "97"])),
        payment_methods=facts.payment_methods.assign(name=pd.Series(["Liquide", "Carte"])),
    )
    result = here.run(MemoryTill(changed))
    assert here.lines() == before
    assert result.stages[-1].figures["pennylane/published_entries"]["posted"] == 0
    assert here.pieces() == posted
    tomorrow = store.business_day(here.shop, datetime.now(UTC)) + timedelta(days=1)
    listed = store.Dated(here.engine, here.shop).on(Facts(), tomorrow)
    assert dict(zip(listed.vat_rates["vat_rate_bp"], listed.vat_rates["chapter"], strict=True)) == {
        550: "99",
        1200: "98",
        2000: "97",
    }
    told = " ".join(line.what for line in report(here.engine, here.shop, date(2026, 1, 1)))
    assert "VAT rate 5.5 %" in told
    assert "VAT rate 10 %: gone" in told
    assert "VAT rate 12 %: new" in told
    assert "chapter 11055 → 99" in told
    assert "name CB → Carte" in told
