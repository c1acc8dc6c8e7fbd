"""`mapping check`: what an accountant would stop at, and nothing else, in their words."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from kash_pipeline.reference.mapping import Company, CompanyJournal, Finding, check
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ShopFile, load_shop, shop_from
from kash_pipeline_tests.unit.reference.companies import JOURNALS, account, company, listing, method, rates, registers
from kash_pipeline_tests.unit.reference.test_proposal import BAKERY

FIRST, LAST = date(2026, 3, 1), date(2026, 4, 30)

CHART: dict[str, Any] = {
    "from": "2026-01-01",
    "sales": {"5.5": "701055", "20": "707200"},
    "vat": {"5.5": "44571006", "20": "44571009"},
    "methods": {"cash": "530", "card": "41106001"},
    "customers": "411",
    "cash_short": "658",
    "cash_over": "758",
    "vouchers": "4191",
    "deposits": "4191",
    "tips": "467",
    "rounding": {"loss": "658", "gain": "758"},
}
TILL = listing(
    payment_methods=[method("1", "Espèces", "cash"), method("2", "CB", "card"), method("3", "En compte", "on_account")],
    vat_rates=rates(550, 2000),
    registers=registers("K1"),
)


def shop(chart: dict[str, Any] | None = None, **more: Any) -> ShopFile:
    data = {
        "shop": {"id": "port", "name": "Boulangerie du Port", **more.pop("shop", {})},
        "source": {"kind": "files", "path": "facts"},
        "pennylane": {"auth": "token", **more.pop("pennylane", {})},
        "chart": [CHART | (chart or {})],
        "journals": {"K1": "K1"},
        **more,
    }
    return shop_from(data, Path("shop.toml"))


def found(
    shop_file: ShopFile,
    facts: Facts = TILL,
    there: Company | None = None,
    first: date = FIRST,
    last: date = LAST,
    **more: Any,
) -> dict[str, list[Finding]]:
    """Findings by level."""
    every = check(shop_file, [facts], there or company(), first, last, **more)
    return {level: [item for item in every if item.level == level] for level in ("missing", "odd", "note")}


def words(items: list[Finding]) -> str:
    return " | ".join(item.what for item in items)


def test_a_right_mapping_says_only_what_will_be_made() -> None:
    result = found(shop())
    assert (result["missing"], result["odd"]) == ([], [])
    assert "701055 « Ventes TVA 5,5 % »" in words(result["note"])
    assert "journal K1 (Caisse K1) is made" in words(result["note"])


def test_the_demo_shop_is_right() -> None:
    result = found(load_shop(Path(__file__).resolve().parents[3] / "shops" / "sandbox.toml"), BAKERY)
    assert (result["missing"], result["odd"]) == ([], [])
    assert "530000 « Encaissements espèces » (it has 530 « Caisse »)" in words(result["note"])
    assert len(result["note"]) <= 4


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "711": ({"sales": {"5.5": "711000", "20": "707200"}}, "class 71 is change in stocks"),
    "6588": ({"cash_short": "6588"}, "trusts"),
    "7588": ({"cash_over": "758800"}, "trusts"),
    "4282": ({"tips": "4282"}, "congés à payer"),
    "771": ({"cash_over": "7718"}, "gone since the 2025 chart"),
    "sales of class 6": ({"sales": {"default": "607000"}}, "607000 for « Ventes » is of class 6"),
    "shortage of class 7": ({"cash_short": "758"}, "758 for « Écarts de caisse négatifs »"),
    "vat deductible": ({"vat": {"5.5": "445660", "20": "44571009"}}, "445660 for « TVA collectée 5,5 % »"),
    "one VAT account": ({"vat": {"5.5": "44571009", "20": "44571009"}}, "takes the VAT of 5,5 % and 20 %"),
    "default VAT account": ({"vat": {"default": "44571"}}, "takes the VAT of 5,5 % and 20 %"),
    "VAT of another rate": (
        {"vat": {"5.5": "44571008", "20": "44571009"}},
        "44571008 « TVA collectée 10 % » is for 10 % in PennyLane and takes TVA collectée 5,5 %",
    ),
    "411 itself": ({"methods": {"cash": "530", "card": "411000"}}, "411000 for « Encaissements carte bancaire »"),
    "R is S": ({"takings_paid": "580100"}, "both takings_to_come and takings_paid"),
}


@pytest.mark.parametrize(("chart", "said"), ODD.values(), ids=ODD.keys())
def test_what_an_accountant_would_stop_at_is_odd(chart: dict[str, Any], said: str) -> None:
    result = found(shop(chart))
    assert [said in item.what for item in result["odd"]].count(True) == 1, words(result["odd"])
    assert all(item.next_step for item in result["odd"])


def test_what_is_disabled_or_lacking_and_needed_is_missing_the_rest_is_noted() -> None:
    there = company(account("530", "Caisse", enabled=False), account("467", "Divers", enabled=False))
    result = found(shop(pennylane={"create_accounts": False}), there=there)
    [disabled, lacking] = result["missing"]
    assert "530 « Caisse », for Encaissements espèces, is disabled" in disabled.what
    assert "580100 « Commandes de caisse à encaisser »" in lacking.what
    assert "701055 « Ventes TVA 5,5 % »" in lacking.what
    assert "467 « Divers » is disabled" in words(result["note"])


def test_a_411_that_does_not_exist_is_missing_even_where_accounts_are_made() -> None:
    """Making one would make a customer, for ever."""
    result = found(shop({"methods": {"cash": "530", "card": "41106099"}}))
    assert "41106099" in words(result["missing"])
    assert "never created" in words(result["missing"])
    assert "411777" not in words(found(shop({"customers": "411777"}))["missing"])
    collective = shop({"customers": "411777"}, shop={"named_customers": "collective"})
    assert "411777" in words(found(collective)["missing"])


def test_of_several_ids_of_a_number_it_is_said_which_is_taken() -> None:
    there = company(
        account("707200", "Ventes 20 %", rate="FR_200", id=9001),
        account("707200", "Ventes", rate="any", id=9002),
        account("707200", "Ventes", rate="any", id=9003, enabled=False),
    )
    [note] = [item for item in found(shop(), there=there)["note"] if "exists" in item.what]
    assert note.what == "707200 exists 2 times in PennyLane: the one for any rate is taken"
    assert "9001 for 20 %, 9002 for any rate" in note.next_step
    told = found(shop(pennylane={"account_ids": {"707200": 9001}}), there=there)
    assert "exists" not in words(told["note"])
    for wrong, said in ((9003, "is disabled"), (1, "no 707200 of id 1")):
        [missing] = found(shop(pennylane={"account_ids": {"707200": wrong}}), there=there)["missing"]
        assert said in missing.what


def test_what_the_till_has_and_the_shop_file_not_is_missing_with_the_line_that_mends_it() -> None:
    facts = replace(
        TILL,
        payment_methods=listing(
            payment_methods=[method("9", "Lydia", "other"), method("2", "CB", "card")]
        ).payment_methods,
        vat_rates=listing(vat_rates=rates(550, 1000)).vat_rates,
        registers=listing(registers=registers("K1", "K7")).registers,
    )
    result = found(shop(), facts)
    assert [item.what.split(" (")[0] for item in result["missing"]] == [
        "payment method '9'",
        "sales at 10 % have no account in the chart of 2026-01-01",
        "VAT at 10 % has no account in the chart of 2026-01-01",
        "register 'K7' has no journal",
    ]
    assert 'methods_by_id = { "9" = "511900" }' in result["missing"][0].next_step
    assert 'K7 = "K7"' in result["missing"][-1].next_step


def test_a_method_that_was_there_only_at_the_beginning_of_the_period_counts() -> None:
    early = replace(TILL, payment_methods=listing(payment_methods=[method("4", "Chèque", "cheque")]).payment_methods)
    every = check(shop(), [early, TILL], company(), FIRST, LAST)
    assert ["'4' (Chèque" in item.what for item in every if item.level == "missing"] == [True]


def test_accounts_that_the_tills_chapters_name_are_checked_too() -> None:
    facts = listing(
        payment_methods=[method("1", "Espèces", "cash", "530"), method("2", "CB", "card", "6588")],
        vat_rates=[{"vat_rate_bp": 2000, "name": "20", "chapter": "1009"}],
        registers=registers("K1"),
        departments=[{"department_id": "pain", "name": "Pain", "group_id": "1"}],
        department_groups=[{"group_id": "1", "name": "Pain", "chapter": "711"}],
    )
    chaptered = shop({"sales": {"20": "707200"}}, shop={"accounting_chapters": True})
    odd = words(found(chaptered, facts)["odd"])
    assert "711 for « Ventes TVA 20 % »" in odd
    assert "6588 for « Encaissements carte bancaire (CB) »" in odd


def test_journals_that_two_registers_share_or_pennylane_uses_itself_are_odd() -> None:
    facts = replace(TILL, registers=listing(registers=registers("K1", "K2", "K3")).registers)
    shared = shop(journals={"K1": "K1", "K2": "K1", "K3": "HA", "K9": "K9"})
    result = found(shared, facts, company(journals=(*JOURNALS, CompanyJournal("K1", "Caisse", "custom"))))
    assert "journal K1 is that of several registers: Caisse K1, Caisse K2" in words(result["odd"])
    assert "journal HA of PennyLane is « Achats » of type purchases" in words(result["odd"])
    # Not a name that we give: a person sees whether it is the journal they mean.
    assert "journal K1 (Caisse K1, Caisse K2) is PennyLane's « Caisse »" in words(result["note"])
    assert "does not list in this period: K9" in words(result["note"])
    unmade = found(shop(pennylane={"create_journals": False}))
    assert "PennyLane has no journal K1" in words(unmade["missing"])


YEAR = (date(2025, 1, 1), date(2025, 12, 31))


@pytest.mark.parametrize(
    ("first", "last", "waiting", "level", "said"),
    [
        (*YEAR, [], None, ""),
        (*YEAR, [date(2026, 3, 1)], None, ""),
        (*YEAR, [date(2025, 5, 1), date(2025, 5, 3)], "missing", "2 days, 2025-05-01 to 2025-05-03 wait for it"),
        (*YEAR, None, "odd", "2025-01-01 to 2025-12-31 is closed"),
        (date(2026, 1, 1), date(2027, 2, 1), None, "missing", "no fiscal year for 32 days, 2027-01-01 to 2027-02-01"),
        (date(2026, 1, 1), date(2027, 2, 1), [date(2026, 2, 1)], None, ""),
    ],
)
def test_a_closed_fiscal_year_matters_only_to_days_that_wait(
    first: date, last: date, waiting: list[date] | None, level: str | None, said: str
) -> None:
    """Years that were posted long ago, or have no data at all, are closed: nothing to say of them."""
    result = found(shop({"from": "2025-01-01"}), first=first, last=last, waiting=waiting)
    worst = [item for item in [*result["missing"], *result["odd"]] if "fiscal year" in item.what]
    assert [item.level for item in worst] == ([level] if level else [])
    assert said in words(worst)


def test_charts_of_other_periods_are_left_out_and_a_period_before_the_first_is_said() -> None:
    old = CHART | {"from": "2025-01-01", "cash_short": "6588"}
    two = shop().model_copy(
        update={
            "chart": shop_from(
                {"shop": {"id": "port", "name": "P"}, "source": {"kind": "files", "path": "f"}, "chart": [old, CHART]},
                Path("s"),
            ).chart
        }
    )
    assert found(two)["odd"] == []
    assert "6588" in words(found(two, first=date(2025, 6, 1), waiting=[])["odd"])
    assert "no chart applies before 2025-01-01" in words(found(two, first=date(2024, 6, 1), waiting=[])["missing"])
