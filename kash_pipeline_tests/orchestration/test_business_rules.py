"""The business rules of accounting/entries, each met by books that break it: an unseen failure proves nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pandas as pd
import pytest

from kash_pipeline import accounting
from kash_pipeline.accounting import BuildResult
from kash_pipeline.defs.accounting import Proof
from kash_pipeline.schemas.facts import Facts
from kash_pipeline_tests.orchestration.till import make_facts, make_shop, with_method

SHOP = make_shop()
FIRST, LAST = date(2025, 3, 1), date(2025, 3, 3)


def prove(facts: Facts, change: Callable[[BuildResult], BuildResult] = lambda built: built) -> Proof:
    """The proof over the entries of these facts after `change` has tampered with them."""
    proof = Proof(SHOP)
    proof.add(facts, change(accounting.build(facts, SHOP, first=FIRST, last=LAST)), 0)
    return proof


def in_lines(**changes: Any) -> Callable[[BuildResult], BuildResult]:
    """Tamper with the first line of an account: `account` chooses it, the rest are its new values."""
    account = changes.pop("account")

    def change(built: BuildResult) -> BuildResult:
        lines = built.entry_lines.copy()
        first = lines.index[lines["account"].astype("str") == account][0]
        for name, value in changes.items():
            lines[name] = lines[name].astype(object)
            lines.loc[first, name] = value
            lines[name] = lines[name].astype(built.entry_lines[name].dtype)
        return replace(built, entry_lines=lines)

    return change


def test_books_as_built_prove_everything() -> None:
    proof = prove(make_facts(FIRST, LAST))
    assert (proof.unbalanced, proof.differences, proof.not_listed) == ([], [], [])
    assert (proof.entries, proof.days) == (18, 3)
    assert proof.sums > 0


def test_an_unbalanced_entry_is_named() -> None:
    proof = prove(make_facts(FIRST, LAST), in_lines(account="530000", debit_cents=99))
    assert proof.unbalanced == [("BAKERY-K1-250301-E", "debits are not credits", 399, 400)]


def test_an_entry_whose_head_differs_from_its_lines_is_named() -> None:
    def change(built: BuildResult) -> BuildResult:
        return replace(built, entries=built.entries.assign(debit_cents=built.entries["debit_cents"].replace(400, 401)))

    proof = prove(make_facts(FIRST, FIRST), change)
    assert ("BAKERY-K1-250301-E", "its totals are not those of its lines", 401, 400) in proof.unbalanced


def test_takings_that_differ_name_day_register_and_method() -> None:
    proof = prove(make_facts(FIRST, LAST), in_lines(account="530000", debit_cents=99))
    [difference] = proof.differences
    assert difference == ("2025-03-01", "K1, method cash", "takings", 100, 99)


def test_vat_that_differs_names_the_rate() -> None:
    proof = prove(make_facts(FIRST, LAST), in_lines(account="445711055", credit_cents=6))
    assert proof.differences == [("2025-03", "VAT rate 5.5", "vat", 78, 79)]


def test_what_stays_on_r_is_listed_and_what_is_not_listed_is_found() -> None:
    facts = make_facts(FIRST, LAST)
    unpaid = replace(facts, payments=facts.payments[facts.payments["order_id"] != "O250302-2"].reset_index(drop=True))
    listed = prove(unpaid)
    assert listed.not_listed == []
    assert listed.listed_cents == 300

    silent = prove(unpaid, lambda built: replace(built, notices=built.notices.iloc[:0]))
    assert silent.not_listed == [("2025-03-02", 300, 0)]


def test_an_order_paid_later_stands_on_r_in_between() -> None:
    facts = make_facts(FIRST, LAST)
    payments = facts.payments.copy()
    payments.loc[payments["order_id"] == "O250301-3", "business_day"] = pd.Timestamp("2025-03-03")
    proof = prove(replace(facts, payments=payments))
    assert proof.not_listed == []
    assert proof.listed_cents == 0  # 4.00 open on 1 March, taken back on the 3rd


@pytest.mark.parametrize("register", ["K1", "K2"])
def test_held_days_are_no_difference(register: str) -> None:
    proof = prove(with_method(make_facts(FIRST, LAST), date(2025, 3, 2), register, "crypto"))
    assert (proof.unbalanced, proof.differences, proof.not_listed) == ([], [], [])
    assert proof.entries == 15
