"""Reference data that changes: what it touches waits, the rest is posted, and after the mend all stands there once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa

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
from kash_pipeline_tests.orchestration.till import SHOP, MemoryTill, make_facts, make_shop, with_method

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
    assert failed["methods_mapped"] == {"register-days": "1", "oldest day": "2025-02-28"}
    assert "rates_mapped" not in failed
    [row] = by_reason(held_reasons(here.engine, here.shop)).itertuples()
    assert (row.reason, row.register_days, row.oldest_day) == ("unmapped_method", 1, pd.Timestamp(MIDDLE))
    assert here.pieces() == Counter(here.booked())
    assert not any("K2-250228" in piece for piece in here.pieces())
    assert any("K1-250228" in piece for piece in here.pieces())
    before = here.pieces()

    assert outlook(here.engine, here.shop, here.lake).cured == []
    here.mend(methods={**SHOP["chart"][0]["methods"], "meal_voucher": "511700"})  # type: ignore[index]
    assert here.release(till) == [MIDDLE]
    assert held_reasons(here.engine, here.shop).empty
    after = here.pieces()
    assert set(after.values()) == {1}
    assert after.keys() - before.keys()
    assert all("K2-250228" in piece for piece in after.keys() - before.keys())
    assert after == Counter(here.booked())
    assert here.release(till) == []


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
    here.shop = here.shop.model_copy(update={"journals": {**here.shop.journals, "K3": "K3"}})
    assert here.release(till) == [LAST]
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
    assert "511 is disabled" in failed["nothing_missing"]["missing"]
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
        vat_rates=renamed.vat_rates.assign(chapter=pd.Series(["99", "98", "97"])),
        payment_methods=facts.payment_methods.assign(name=pd.Series(["Liquide", "Carte"])),
    )
    result = here.run(MemoryTill(changed))
    assert here.lines() == before
    assert result.stages[-1].figures["pennylane/published_entries"]["posted"] == 0
    assert here.pieces() == posted
    today = store.Dated(here.engine, here.shop).on(Facts(), store.business_day(here.shop, datetime.now(UTC)))
    assert today.vat_rates["chapter"].tolist() == ["98", "97", "99"]
    told = " ".join(line.what for line in report(here.engine, here.shop, date(2026, 1, 1)))
    assert "VAT rate 5.5 %" in told
    assert "chapter 11055 → 99" in told
    assert "name CB → Carte" in told
