"""Days built from the lake: each with the reference data that held on it, whatever way one gets to it."""

from dataclasses import replace
from datetime import date
from typing import Any

import pandas as pd
import pytest

from kash_pipeline.reference.building import BUILT, Builder
from kash_pipeline.schemas.facts import Facts
from kash_pipeline_tests.orchestration.till import make_facts
from kash_pipeline_tests.unit.reference.world import World, with_records

FIRST, LAST = date(2025, 1, 30), date(2025, 2, 3)
DAYS = [date.fromordinal(FIRST.toordinal() + step) for step in range(5)]
LATER = date(2025, 6, 1)

DEPARTMENT = {"department_id": "pain", "name": "Pain", "group_id": "G1"}
GROUP = {"group_id": "G1", "name": "Boulangerie"}
CHAPTERED: dict[str, Any] = {
    "registers": [
        {"register_id": "K1", "name": "Caisse 1", "chapter": "K1"},
        {"register_id": "K2", "name": "Caisse 2", "chapter": "K2"},
    ],
    "payment_methods": [
        {"method_id": "cash", "name": "Espèces", "kind": "cash", "chapter": "530000"},
        {"method_id": "card", "name": "CB", "kind": "card", "chapter": "511500"},
    ],
}


def accounts(frame: pd.DataFrame) -> set[str]:
    return set(frame["account"].astype("str"))


def of_department(facts: Facts) -> Facts:
    """Every line is of the department `pain`."""
    return replace(
        facts, order_lines=facts.order_lines.assign(department_id=pd.Series("pain", facts.order_lines.index))
    )


def with_group(facts: Facts, chapter: str | None) -> Facts:
    return with_records(facts, **CHAPTERED, departments=[DEPARTMENT], department_groups=[{**GROUP, "chapter": chapter}])


@pytest.mark.parametrize("spoilt", [None, "PAIN"])
def test_a_chapter_mended_in_the_till_frees_the_days_that_waited_for_it_and_moves_no_others(
    world: World, spoilt: str | None
) -> None:
    """A blank that held days of March, filled in June, held them for ever: nobody can name a chapter for March."""
    world.shop = world.shop.model_copy(
        update={
            "shop": world.shop.shop.model_copy(update={"accounting_chapters": True}),
            "chart": (world.shop.chart[0].model_copy(update={"sales": {"20": "707200"}}),),
        }
    )
    world.keep(of_department(make_facts(FIRST, LAST)), FIRST, LAST)
    before = with_group(make_facts(FIRST, LAST), spoilt)
    world.list_reference(before, date(2025, 1, 1))
    first = world.enter(DAYS)
    assert set(first.held["reason"]) == {"unmapped_sales"}
    assert len(first.held) > 0

    world.list_reference(with_group(before, "701"), LATER)
    world.list_reference(with_group(before, "708"), date(2025, 9, 1))
    again = world.enter(DAYS)
    assert again.held.empty
    assert accounts(again.entry_lines) & {"701", "708"} == {"701"}
    assert set(again.entry_lines["entry_key"]) == set(again.entries["entry_key"])
    sums = again.entry_lines.groupby("entry_key")[["debit_cents", "credit_cents"]].sum()
    assert (sums["debit_cents"] == sums["credit_cents"]).all()


def test_a_blank_chapter_that_held_nothing_reaches_no_earlier_day(world: World) -> None:
    """The chart filled the gap and the day is booked: a chapter added later is for later days."""
    world.shop = world.shop.model_copy(
        update={"shop": world.shop.shop.model_copy(update={"accounting_chapters": True})}
    )
    world.keep(of_department(make_facts(FIRST, LAST)), FIRST, LAST)
    before = with_group(make_facts(FIRST, LAST), None)
    world.list_reference(before, date(2025, 1, 1))
    first = world.enter(DAYS)
    world.list_reference(with_group(before, "701"), LATER)
    pd.testing.assert_frame_equal(world.enter(DAYS).entry_lines, first.entry_lines)


def test_days_skipped_leave_behind_what_days_built_leave(world: World) -> None:
    """Orders of skipped days, paid over the end of a month: building two days gives what building all five gives."""
    facts = make_facts(FIRST, LAST)
    late = facts.payments["order_id"].isin(["O250130-1", "O250201-1"])
    facts = replace(
        facts,
        payments=facts.payments.assign(business_day=facts.payments["business_day"].mask(late, pd.Timestamp(LAST))),
    )
    world.keep(facts, FIRST, LAST)
    world.list_reference(facts, FIRST)
    _, whole = Builder(world.engine, world.lake, world.shop, FIRST).build(DAYS)
    builder = Builder(world.engine, world.lake, world.shop, DAYS[1])
    _, second = builder.build([DAYS[1]])
    _, fifth = builder.build([LAST])
    assert "late_payment" in set(fifth.notices["code"])
    for name in BUILT:
        rows = getattr(whole, name)
        chosen = (
            rows["business_day"].isin([pd.Timestamp(DAYS[1]), pd.Timestamp(LAST)])
            if name != "entry_lines"
            else (rows["entry_key"].isin([*second.entries["entry_key"], *fifth.entries["entry_key"]]))
        )
        both = pd.concat([getattr(second, name), getattr(fifth, name)], ignore_index=True)
        pd.testing.assert_frame_equal(both.astype("str"), rows[chosen].reset_index(drop=True).astype("str"), obj=name)


def test_an_old_year_is_rebuilt_with_the_names_and_chapters_it_had(world: World) -> None:
    """A rate renamed, then moved to another account; a method renamed; a register given another journal."""
    world.shop = world.shop.model_copy(
        update={"shop": world.shop.shop.model_copy(update={"accounting_chapters": True}), "journals": {}}
    )

    def till(vat: str, method: str, journal: str) -> Facts:
        return with_records(
            make_facts(FIRST, LAST),
            vat_rates=[
                {"vat_rate_bp": 550, "name": vat, "chapter": vat},
                {"vat_rate_bp": 1000, "name": "10 %", "chapter": "11100"},
                {"vat_rate_bp": 2000, "name": "20 %", "chapter": "11200"},
            ],
            payment_methods=[
                {"method_id": "cash", "name": method, "kind": "cash", "chapter": "530000"},
                {"method_id": "card", "name": "CB", "kind": "card", "chapter": "511500"},
            ],
            registers=[
                {"register_id": "K1", "name": "Caisse 1", "chapter": journal},
                {"register_id": "K2", "name": "Caisse 2", "chapter": "K2"},
            ],
        )

    world.keep(make_facts(FIRST, LAST), FIRST, LAST)
    world.list_reference(till("11055", "Espèces", "K1"), FIRST)
    before = world.enter(DAYS)
    assert accounts(before.entry_lines) >= {"445711055", "445711100", "530000"}
    world.list_reference(till("11055", "Liquide", "K1"), LATER)
    world.list_reference(till("77", "Liquide", "KX"), date(2025, 9, 1))
    after = world.enter(DAYS)
    for name in BUILT:
        pd.testing.assert_frame_equal(getattr(after, name), getattr(before, name), obj=name)
