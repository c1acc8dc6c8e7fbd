"""Entry keys, the split of long entries, digests; corrections of what was sent; proofs that find faults."""

from datetime import date

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kash_pipeline.accounting import BuildResult, build, money, proofs, trial_balance
from kash_pipeline.accounting.corrections import correct, digest_of
from kash_pipeline.accounting.entries import LINE_LIMIT
from kash_pipeline.accounting.keys import correction_key, entry_key
from kash_pipeline.schemas.facts import Facts
from kash_pipeline_tests.unit.accounting.books import amounts, facts, line, order, pay, shop, worked_day

DAY = date(2026, 3, 14)


# -- keys ------------------------------------------------------------------------------------------------------------


def test_keys_are_readable_when_they_fit() -> None:
    assert entry_key("boulangerie", "K1", DAY, "V") == "BOULANGERIE-K1-260314-V"
    assert entry_key("port", "C1", DAY, "V", "T10345") == "PORT-C1-260314-V-T10345"


@given(
    st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True),
    st.text(min_size=1, max_size=40),
    st.dates(),
    st.sampled_from(("V", "E", "C", "D", "V12")),
    st.lists(st.text(max_size=60), max_size=2),
)
def test_keys_fit_pennylane_whatever_the_ids(shop_id: str, register: str, day: date, code: str, ids: list[str]) -> None:
    key = entry_key(shop_id, register, day, code, *ids)
    assert 1 <= len(key) <= 30
    assert set(key) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
    corrected = correction_key(key, "R", 3)
    assert len(corrected) <= 30
    assert corrected != key


def test_ids_that_differ_only_in_spelling_get_different_keys() -> None:
    """`a-1`, `a_1`, `A1`, `a1` and the like must not meet in one piece number."""
    registers = ["a1", "A1", "A-1", "A_1", "a-1", "Ä1", "caisse du fond du magasin", "caisse du fond du magasi"]
    keys = {entry_key("port", register, DAY, "V") for register in registers}
    shops = {entry_key(name, "C1", DAY, "V") for name in ("port", "p_ort", "por_t")}
    orders = {entry_key("port", "C1", DAY, "V", name) for name in ("5", "05", "P-5", "p-5", "1" * 40, "1" * 41)}
    assert (len(keys), len(shops), len(orders)) == (8, 3, 6)
    assert entry_key("port", "C1", DAY, "V") != entry_key("port", "C1", date(2126, 3, 14), "V")


# -- long entries ----------------------------------------------------------------------------------------------------


def many_customers(count: int, cents: int = 1055) -> Facts:
    return facts(
        orders=[order(f"T{n}", cents + n % 7, customer_id=f"M{n:05d}") for n in range(count)],
        order_lines=[line(f"T{n}", cents + n % 7, (550, 1000, 2000)[n % 3]) for n in range(count)],
    )


@pytest.mark.parametrize("count", [993, 994, 995, 2500])
def test_long_entries_are_split_into_parts_that_balance(count: int) -> None:
    """PennyLane takes 1,000 lines; parts balance, keep every customer's and account's sum, and have stable keys."""
    result = build(many_customers(count), shop())
    whole_lines = count + 6
    assert (result.entries["lines"] <= LINE_LIMIT).all()
    assert len(result.entries) == 1 if whole_lines <= LINE_LIMIT else len(result.entries) > 1
    assert (result.entries["debit_cents"] == result.entries["credit_cents"]).all()
    balance = trial_balance(result.entry_lines)
    assert balance["customer_id"].nunique() == count
    assert balance.loc[balance["customer_id"] == "M00001", "debit_cents"].item() == 1056
    assert balance["debit_cents"].sum() == sum(1055 + n % 7 for n in range(count))
    if len(result.entries) > 1:
        keys = list(result.entries["entry_key"])
        assert keys == ["PORT-C1-260314-V", *(f"PORT-C1-260314-V{n}" for n in range(2, len(keys) + 1))]
        assert result.entries["label"].iloc[1].endswith(f"(2/{len(keys)})")
        assert result.entries["lines"].iloc[0] > LINE_LIMIT - 3  # parts are full, not crumbs


# -- digests and corrections -----------------------------------------------------------------------------------------


def test_the_digest_follows_the_lines_and_not_their_wording() -> None:
    first = build(worked_day(), shop())
    renamed = facts(registers=[{"register_id": "C1", "name": "Comptoir"}]).registers
    second = build(type(worked_day())(**{**worked_day().tables(), "registers": renamed}), shop())
    assert list(first.entries["digest"]) == list(second.entries["digest"])
    assert list(first.entries["label"]) != list(second.entries["label"])
    for entry in first.entries.itertuples():
        lines = first.entry_lines[first.entry_lines["entry_key"] == entry.entry_key]
        assert digest_of(lines.sample(frac=1, random_state=1)) == entry.digest


def sale(cents: int) -> BuildResult:
    return build(
        facts(orders=[order("T1", cents)], order_lines=[line("T1", cents)], payments=[pay("P1", "T1", "ESP", cents)]),
        shop(),
    )


def test_an_unchanged_day_gives_no_correction() -> None:
    result = sale(1055)
    nothing = correct(result.entries, result.entry_lines, result.entries, result.entry_lines)
    assert nothing.entries.empty
    assert nothing.entry_lines.empty
    assert nothing.links.empty


def test_a_changed_entry_is_reversed_and_entered_anew() -> None:
    sent, now = sale(1055), sale(2110)
    fix = correct(sent.entries, sent.entry_lines, now.entries, now.entry_lines)
    assert list(fix.entries["entry_key"]) == [
        "PORT-C1-260314-E-R1", "PORT-C1-260314-E-N1", "PORT-C1-260314-V-R1", "PORT-C1-260314-V-N1",
    ]  # fmt: skip
    assert list(fix.entries["label"])[2:] == [
        "Extourne PORT-C1-260314-V : Ventes caisse 1 du 14/03/2026",
        "Remplace PORT-C1-260314-V : Ventes caisse 1 du 14/03/2026",
    ]
    after = trial_balance(
        pd.concat([sent.entry_lines, fix.entry_lines]).astype({"account": "str", "customer_id": "str"})
    )
    wanted = trial_balance(now.entry_lines)
    assert (
        after.set_index("account")["balance_cents"].to_dict() == wanted.set_index("account")["balance_cents"].to_dict()
    )
    assert (fix.entries["debit_cents"] == fix.entries["credit_cents"]).all()
    assert proofs.two_sided(fix.entry_lines).empty
    assert set(fix.links["role"]) == {"reversal", "replacement"}
    assert set(fix.links["corrects"]) == set(sent.entries["entry_key"])


def test_a_closed_period_is_corrected_on_the_first_open_day() -> None:
    sent, now = sale(1055), sale(2110)
    fix = correct(sent.entries, sent.entry_lines, now.entries, now.entry_lines, first_open=date(2026, 4, 1))
    assert {f"{day:%Y-%m-%d}" for day in fix.entries["date"]} == {"2026-04-01"}
    assert {f"{day:%Y-%m-%d}" for day in fix.entries["business_day"]} == {"2026-03-14"}
    open_period = correct(sent.entries, sent.entry_lines, now.entries, now.entry_lines, first_open=date(2026, 3, 1))
    assert {f"{day:%Y-%m-%d}" for day in open_period.entries["date"]} == {"2026-03-14"}


def test_an_entry_that_should_not_stand_is_reversed_alone() -> None:
    sent, nothing = sale(1055), build(facts(), shop())
    fix = correct(sent.entries, sent.entry_lines, nothing.entries, nothing.entry_lines)
    assert set(fix.links["role"]) == {"reversal"}
    assert len(fix.entries) == 2


def test_a_second_correction_takes_back_the_first() -> None:
    """What was sent last is the replacement; its key says so, the caller says for which entry it stands."""
    sent, now, later = sale(1055), sale(2110), sale(3165)
    first = correct(sent.entries, sent.entry_lines, now.entries, now.entry_lines)
    replaced = first.entries[first.entries["entry_key"].str.endswith("-N1")]
    names = {key: key.removesuffix("-N1") for key in replaced["entry_key"]}
    again = correct(replaced, first.entry_lines, now.entries, now.entry_lines, stands_for=names, number=2)
    assert again.entries.empty
    second = correct(replaced, first.entry_lines, later.entries, later.entry_lines, stands_for=names, number=2)
    assert list(second.entries["entry_key"])[2:] == ["PORT-C1-260314-V-R2", "PORT-C1-260314-V-N2"]
    everything = pd.concat([sent.entry_lines, first.entry_lines, second.entry_lines])
    after = trial_balance(everything.astype({"account": "str", "customer_id": "str"}))
    wanted = trial_balance(later.entry_lines)
    assert (
        after.set_index("account")["balance_cents"].to_dict() == wanted.set_index("account")["balance_cents"].to_dict()
    )


# -- proofs ----------------------------------------------------------------------------------------------------------


def test_proofs_are_silent_on_the_worked_day_and_find_what_is_spoilt() -> None:
    whole, result = worked_day(), build(worked_day(), shop())
    frames = (result.entries, result.entry_lines)
    assert proofs.unbalanced(result.entry_lines).empty
    assert proofs.two_sided(result.entry_lines).empty
    assert proofs.not_as_told(*frames).empty
    assert proofs.takings(whole, *frames, result.held).empty
    assert proofs.sales(whole, *frames, result.held).empty

    spoilt = result.entry_lines.copy()
    cash = (spoilt["method_id"] == "ESP") & (spoilt["debit_cents"] == 1365)
    spoilt.loc[cash, "debit_cents"] = 1366
    assert list(proofs.unbalanced(spoilt)["entry_key"]) == ["PORT-C1-260314-E"]
    assert list(proofs.not_as_told(result.entries, spoilt)["entry_key"]) == ["PORT-C1-260314-E"]
    assert list(proofs.takings(whole, result.entries, spoilt, result.held)["method_id"]) == ["ESP"]
    spoilt.loc[cash, "credit_cents"] = 1
    assert len(proofs.two_sided(spoilt)) == 1
    fewer = result.entry_lines[result.entry_lines["account"] != "707200"]
    sums = proofs.sales(whole, result.entries, fewer, result.held)
    assert (sums["till_cents"] - sums["books_cents"]).tolist() == [2075]


def test_held_register_days_are_left_out_of_proofs() -> None:
    whole = facts(orders=[order("T1", 571)], order_lines=[line("T1", 570)])
    result = build(whole, shop())
    assert proofs.sales(whole, result.entries, result.entry_lines, result.held).empty


# -- cents -----------------------------------------------------------------------------------------------------------


@given(st.integers(-(10**9), 10**9), st.integers(0, 10_000))
def test_vat_mirrors_and_is_within_half_a_cent(gross: int, rate: int) -> None:
    vat = money.vat_in(gross, rate)
    assert money.vat_in(-gross, rate) == -vat
    assert abs(2 * (vat * (10_000 + rate) - gross * rate)) <= 10_000 + rate
    array = money.half_up_array(pd.array([gross], dtype="int64").to_numpy(), rate, 10_000 + rate)
    assert array.tolist() == [vat]


@given(st.integers(-(10**6), 10**6), st.lists(st.integers(0, 10**5), min_size=1, max_size=6).filter(any))
def test_spread_adds_up_and_stays_within_a_cent_of_the_share(amount: int, weights: list[int]) -> None:
    parts = money.spread(amount, weights)
    assert sum(parts) == amount
    assert money.spread(-amount, weights) == [-part for part in parts]
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - amount * weight) < sum(weights)


def test_a_ticket_discount_is_spread_as_in_the_worked_example() -> None:
    assert money.spread(100, [570, 405, 390]) == [42, 30, 28]
    with pytest.raises(ValueError, match="positive sum"):
        money.spread(100, [0, 0])


def test_no_refund_line_is_netted_in_the_sale_of_the_day() -> None:
    assert ("701100", 368) in amounts(build(worked_day(), shop()), "sale")


def test_days_without_a_single_fact_give_no_entry_and_every_proof_holds() -> None:
    """A year's backfill starts before the shop's first sale; pandas 3 fails on merges and look-ups of empty tables."""
    nothing = Facts()
    built = build(nothing, shop(), first=date(2026, 1, 1), last=date(2026, 1, 31))
    assert built.entries.empty
    assert built.held.empty
    for found in (
        proofs.takings(nothing, built.entries, built.entry_lines, built.held),
        proofs.sales(nothing, built.entries, built.entry_lines, built.held),
        proofs.unbalanced(built.entry_lines),
        proofs.two_sided(built.entry_lines),
        proofs.not_as_told(built.entries, built.entry_lines),
    ):
        assert found.empty
