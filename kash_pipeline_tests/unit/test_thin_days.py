"""Days with next to nothing on them, from the lake to the last comparison: pandas 3 raises on much that is empty."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline import accounting, reconciliation
from kash_pipeline.accounting import fec
from kash_pipeline.cli import summary
from kash_pipeline.defs.accounting import Proof
from kash_pipeline.pos import control
from kash_pipeline.reference.building import Builder
from kash_pipeline.reference.release import by_reason, held_reasons, next_steps, outlook, waiting_days
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import CASH_MOVEMENTS, PAYMENTS, Facts
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.orchestration.till import make_facts, make_shop
from kash_pipeline_tests.unit.reference.world import World

FIRST, LAST = date(2025, 1, 31), date(2025, 2, 1)
DAYS = [FIRST, LAST]
SOLD = ("orders", "order_lines", "order_vat")


def without(facts: Facts, *tables: str) -> Facts:
    return replace(facts, **{name: getattr(facts, name).head(0) for name in tables})


def settled(facts: Facts) -> Facts:
    """A customer settles an account, and nothing else happens."""
    row = {
        "payment_id": ["P1"],
        "register_id": ["K1"],
        "business_day": [pd.Timestamp(FIRST)],
        "method_id": ["card"],
        "amount_cents": [500],
        "customer_id": ["C1"],
    }
    return replace(without(facts, *SOLD, "closings"), payments=conform(pd.DataFrame(row), PAYMENTS))


def moved(facts: Facts) -> Facts:
    row = {
        "movement_id": ["M1"],
        "register_id": ["K1"],
        "business_day": [pd.Timestamp(LAST)],
        "kind": ["withdrawal"],
        "amount_cents": [-500],
    }
    bare = without(facts, *SOLD, "closings", "payments")
    return replace(bare, cash_movements=conform(pd.DataFrame(row), CASH_MOVEMENTS))


def unmapped(facts: Facts) -> Facts:
    """Every register-day waits."""
    return replace(
        facts, payments=facts.payments.assign(method_id=pd.Series("nobody", facts.payments.index, dtype="str"))
    )


SHAPES: dict[str, tuple[Callable[[Facts], Facts], int]] = {
    "nothing": (lambda facts: without(facts, *SOLD, "closings", "payments"), 0),
    "closings only": (lambda facts: without(facts, *SOLD, "payments"), 0),
    "orders without payments": (lambda facts: without(facts, "payments"), 4),
    "orders without payments and closings": (lambda facts: without(facts, "payments", "closings"), 4),
    "orders without the till's VAT": (lambda facts: without(facts, "order_vat"), 12),
    "a payment without order": (settled, 1),
    "a cash movement": (moved, 1),
    "all held": (unmapped, 0),
}


@pytest.mark.parametrize(("shape", "entries"), SHAPES.values(), ids=SHAPES.keys())
def test_a_thin_day_is_built_proved_compared_and_summed_up(
    engine: sa.Engine, tmp_path: Path, shape: Callable[[Facts], Facts], entries: int
) -> None:
    world = World(engine, Lake(str(tmp_path / "lake"), "bakery"), make_shop())
    facts = shape(make_facts(FIRST, LAST))
    world.keep(facts, FIRST, LAST)
    world.list_reference(facts, FIRST)
    own = control.till_totals(facts.orders, facts.order_vat, facts.payments, facts.payment_methods)
    for day in DAYS:
        world.lake.write_day("control_totals", day, own[own["business_day"] == pd.Timestamp(day)])
    built = world.enter(DAYS)
    assert len(built.entries) == entries
    assert (built.held["reason"] == "control_total_differs").sum() == 0

    proof = Proof(world.shop)
    for day in DAYS:
        read, alone = Builder(world.engine, world.lake, world.shop, day).build([day])
        proof.add(read, alone, 0)
    assert (proof.unbalanced, proof.differences, proof.not_listed) == ([], [], [])
    found = summary.read_summary(world.shop, world.engine, world.lake, None, FIRST, LAST)
    assert found.agrees
    assert int(found.days["entries"].sum()) == entries
    nothing_there = pd.DataFrame({"entry_key": [], "account": [], "debit_cents": [], "credit_cents": []})
    for compare in (reconciliation.ledger_by_rate, reconciliation.ledger_by_method):
        assert compare(built.entries, built.entry_lines, nothing_there).empty
    balance = accounting.trial_balance(built.entry_lines)
    assert balance["balance_cents"].sum() == 0
    names = {name: getattr(facts, name) for name in ("registers", "payment_methods", "customers")}
    assert len(fec.fec_lines(built.entries, built.entry_lines, world.shop, **names)) == len(built.entry_lines)

    waiting = held_reasons(world.engine, world.shop)
    assert len(by_reason(waiting)) == len(next_steps(waiting)) == (1 if len(built.held) else 0)
    assert outlook(world.engine, world.shop, world.lake).cured == []
    assert waiting_days(world.engine, world.shop) == (
        DAYS if len(built.held) else sorted({*_days(built.entries)}) or None
    )


def _days(frame: pd.DataFrame) -> list[date]:
    return [day.date() for day in frame["business_day"]]
