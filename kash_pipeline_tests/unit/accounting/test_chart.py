"""Accounts: dated charts, the till's chapters, finest rule wins; and what is held, with the line that mends it."""

import re
import tomllib
from typing import Any

import pytest

from kash_pipeline.accounting import build
from kash_pipeline.accounting.chart import Chart, Missing
from kash_pipeline.settings import ShopFile
from kash_pipeline_tests.unit.accounting.books import CHART, amounts, chart, facts, line, order, pay, shop

TICKET: dict[str, Any] = {
    "orders": [order("T1", 1055)],
    "order_lines": [line("T1", 1055)],
    "payments": [pay("P1", "T1", "ESP", 1055)],
}
METHODS_LEFT = [{"method_id": "ESP", "name": "Espèces", "kind": "cash"}]


def mended(text: str, section: dict[str, Any]) -> dict[str, Any]:
    """The chart with the line of a next step put in."""
    found = re.search(r"write: (.*)$", text)
    assert found, text
    return {**section, **tomllib.loads(found.group(1))}


@pytest.mark.parametrize(
    ("spoilt", "tables", "reason"),
    [
        ({"sales": {"20": "707200"}}, TICKET, "unmapped_sales"),
        ({"vat": {"20": "445711200"}}, TICKET, "unmapped_vat"),
        ({"methods": {"card": "511500"}}, TICKET, "unmapped_method"),
        ({"from": "2027-01-01"}, TICKET, "no_chart"),
        (
            {"cash_movements": {}},
            {"cash_movements": [{"movement_id": "M1", "kind": "expense", "amount_cents": -100}]},
            "unmapped_cash_movement",
        ),
        (
            {},
            {
                **TICKET,
                "payments": [pay("P1", "T1", "X", 1055)],
                "payment_methods": [*METHODS_LEFT, {"method_id": "X", "name": "Lydia", "kind": "other"}],
            },
            "unmapped_method",
        ),
        ({}, {**TICKET, "payments": [pay("P1", "T1", "17", 1055)]}, "unknown_method"),
    ],
)
def test_the_next_step_is_the_line_that_mends_it(spoilt: dict[str, Any], tables: dict[str, Any], reason: str) -> None:
    """Held with its code; the literal line of the next step, put into the shop file, frees the day."""
    broken = chart(**spoilt)
    result = build(facts(**tables), shop(chart=[broken]))
    assert set(result.held["reason"]) == {reason}
    assert result.entries.empty
    cured = broken
    for text in result.held["next_step"]:
        cured = mended(text, cured)
    again = build(facts(**tables), shop(chart=[cured]))
    assert again.held.empty
    assert not again.entries.empty


def test_a_register_without_journal_is_held_with_the_line_to_add() -> None:
    result = build(facts(**TICKET), shop(journals={"C2": "C2"}))
    assert list(result.held["reason"]) == ["unknown_register"]
    assert result.held["next_step"].iloc[0] == 'under [journals] add: C1 = "C1"'


def test_the_lines_to_add_for_several_registers_never_give_two_of_them_one_journal() -> None:
    names = ["Caisse été", "Caisse-étage", "CAIS1"]
    listed = facts(registers=[{"register_id": name, "name": name, "chapter": None} for name in names])
    asked = Chart(shop(journals={"bar": "CAISS"}), listed)
    written = "\n".join(
        answer.next_step.removeprefix("under [journals] add: ")
        for answer in map(asked.journal, [*names, "Caisse"])
        if isinstance(answer, Missing)
    )
    codes = tomllib.loads(written)
    assert codes.keys() == {*names, "Caisse"}
    assert codes["CAIS1"] == "CAIS1"
    assert len({*codes.values(), "CAISS"}) == len(codes) + 1


def test_a_default_journal_serves_listed_registers_only() -> None:
    shop_file = shop(journals={"default": "CA"})
    assert set(build(facts(**TICKET), shop_file).entries["journal"]) == {"CA"}
    stray: dict[str, Any] = {
        name: [{**row, "register_id": "C9"} if "number" in row or "method_id" in row else row for row in rows]
        for name, rows in TICKET.items()
    }
    assert set(build(facts(**stray), shop_file).held["reason"]) == {"unknown_register"}


def test_every_lack_of_a_day_is_said_at_once() -> None:
    """Two rates and a method missing: three rows, so that one visit to the shop file mends all."""
    whole = facts(
        orders=[order("T1", 2000)],
        order_lines=[line("T1", 1000, 210, 1), line("T1", 1000, 850, 2)],
        payments=[pay("P1", "T1", "CB", 2000)],
    )
    result = build(whole, shop(chart=[chart(methods={"cash": "530000"})]))
    assert sorted(result.held["reason"]) == ["unmapped_method", *["unmapped_sales"] * 2, *["unmapped_vat"] * 2]


def test_a_chart_that_changes_in_the_year_applies_by_business_day() -> None:
    new = chart(**{"from": "2026-07-01", "sales": {**CHART["sales"], "5.5": "701999"}})
    whole = facts(
        orders=[order("T1", 1055, business_day="2026-06-30"), order("T2", 1055, business_day="2026-07-01")],
        order_lines=[line("T1", 1055), line("T2", 1055)],
    )
    result = build(whole, shop(chart=[CHART, new]))
    assert [account for account, _ in amounts(result) if account.startswith("70")] == ["701055", "701999"]


def test_methods_by_id_win_over_kinds() -> None:
    finer = chart(methods_by_id={"ESP": "530001"})
    assert ("530001", 1055) in amounts(build(facts(**TICKET), shop(chart=[finer])), "payment")


def chaptered(**more: Any) -> ShopFile:
    return shop(accounting_chapters=True, journals={}, **more)


CHAPTERS: dict[str, Any] = {
    "registers": [{"register_id": "C1", "name": "Caisse 1", "chapter": "CAI1"}],
    "payment_methods": [{"method_id": "ESP", "name": "Espèces", "kind": "cash", "chapter": "53"}],
    "vat_rates": [{"vat_rate_bp": 550, "name": "5,5 %", "chapter": "12"}],
    "departments": [
        {"department_id": "pain", "name": "Pain", "group_id": "G1", "activity_code": "05"},
        {"department_id": "divers", "name": "Divers", "group_id": "G2"},
    ],
    "department_groups": [
        {"group_id": "G1", "name": "Boulangerie", "chapter": "701"},
        {"group_id": "G2", "name": "Divers"},
    ],
}


def test_chapters_of_the_till_name_the_accounts() -> None:
    """Group chapter + activity code, 4457 + VAT code, method code, register code = journal."""
    whole = {**TICKET, **CHAPTERS, "order_lines": [line("T1", 1055, department_id="pain")]}
    result = build(facts(**whole), chaptered())
    assert result.held.empty
    assert amounts(result, "sale") == [("580100", 1055), ("70105", -1000), ("445712", -55)]
    assert ("53", 1055) in amounts(result, "payment")
    assert set(result.entries["journal"]) == {"CAI1"}


def test_the_chart_fills_what_chapters_leave_open() -> None:
    """A department whose group has no chapter, a line without department, a rate without code."""
    whole = {
        **TICKET,
        **CHAPTERS,
        "vat_rates": [{"vat_rate_bp": 550, "name": "5,5 %"}],
        "orders": [order("T1", 2110)],
        "order_lines": [line("T1", 1055, 550, 1, department_id="divers"), line("T1", 1055, 550, 2)],
        "payments": [pay("P1", "T1", "ESP", 2110)],
    }
    assert amounts(build(facts(**whole), chaptered()), "sale") == [
        ("580100", 2110), ("701055", -2000), ("445711055", -110),
    ]  # fmt: skip


def test_the_shop_files_finest_rule_wins_over_a_chapter() -> None:
    finer = chart(sales_by_department={"pain": {"5.5": "701777"}}, methods_by_id={"ESP": "530777"})
    whole = {**TICKET, **CHAPTERS, "order_lines": [line("T1", 1055, department_id="pain")]}
    result = build(facts(**whole), chaptered(chart=[finer]))
    assert ("701777", -1000) in amounts(result, "sale")
    assert ("530777", 1055) in amounts(result, "payment")


def test_a_method_without_code_is_511_as_kash_documents_it() -> None:
    whole = {**TICKET, **CHAPTERS, "payment_methods": [{"method_id": "ESP", "name": "Lydia", "kind": "other"}]}
    assert ("511", 1055) in amounts(build(facts(**whole), chaptered()), "payment")


def test_chapters_are_ignored_unless_switched_on() -> None:
    whole = {**TICKET, **CHAPTERS, "order_lines": [line("T1", 1055, department_id="pain")]}
    result = build(facts(**whole), shop())
    assert ("701055", -1000) in amounts(result, "sale")
    assert set(result.entries["journal"]) == {"C1"}


SPOILT_CHAPTERS: list[tuple[dict[str, Any], str, str]] = [
    ({"department_groups": [{"group_id": "G1", "name": "Boulangerie", "chapter": "CA"}]}, "unmapped_sales", "'CA05'"),
    ({"department_groups": [{"group_id": "G1", "name": "Boulangerie", "chapter": "0"}]}, "unmapped_sales", "'005'"),
    ({"payment_methods": [{**METHODS_LEFT[0], "chapter": "12"}]}, "unmapped_method", "'12'"),
    ({"registers": [{"register_id": "C1", "name": "Caisse 1", "chapter": "Caisse 1"}]}, "unknown_register", "Caisse 1"),
]


@pytest.mark.parametrize(("spoilt", "reason", "named"), SPOILT_CHAPTERS)
def test_a_chapter_that_is_no_number_holds_the_day_until_it_is_mended_in_the_till_or_the_shop_file(
    spoilt: dict[str, Any], reason: str, named: str
) -> None:
    """A till takes any text for a chapter: `CA` was booked as an account."""
    whole = {**TICKET, **CHAPTERS, "order_lines": [line("T1", 1055, department_id="pain")], **spoilt}
    result = build(facts(**whole), chaptered())
    assert (list(result.held["reason"]), result.entries.empty) == ([reason], True)
    assert named in result.held["what"].iloc[0]
    step = result.held["next_step"].iloc[0]
    assert "correct it in Kash.click" in step
    mended_file = (
        shop(accounting_chapters=True, journals=tomllib.loads(step.partition("add: ")[2]))
        if reason == "unknown_register"
        else chaptered(chart=[mended(step, CHART)])
    )
    again = build(facts(**whole), mended_file)
    assert (again.held.empty, again.entries.empty) == (True, False)


def test_a_vat_code_that_is_no_number_holds_the_day() -> None:
    whole = {**TICKET, **CHAPTERS, "vat_rates": [{"vat_rate_bp": 550, "name": "5,5 %", "chapter": "TVA"}]}
    result = build(facts(**whole), chaptered())
    assert list(result.held["reason"]) == ["unmapped_vat"]
    assert "'TVA'" in result.held["what"].iloc[0]


@pytest.mark.parametrize(
    ("customer", "account"),
    [
        ({"account": "DUP", "activity_code": "7"}, "4117DUP"),
        ({"account": "DUP"}, "411DUP"),
        ({"account": "411042"}, "411042"),
        ({}, "411M1"),
    ],
)
def test_customers_by_chapter(customer: dict[str, str], account: str) -> None:
    whole = {
        **CHAPTERS,
        "orders": [order("T1", 1055, customer_id="M1")],
        "order_lines": [line("T1", 1055)],
        "customers": [{"customer_id": "M1", "name": "Mairie", "kind": "company", **customer}],
    }
    assert (account, 1055) in amounts(build(facts(**whole), chaptered()), "sale")
