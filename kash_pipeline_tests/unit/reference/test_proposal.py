"""`mapping propose`: complete, loadable, right in the eyes of `mapping check`, and honest about where it is from."""

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kash_pipeline.reference.mapping import Company, CompanyJournal, check
from kash_pipeline.reference.proposal import KEPT, propose
from kash_pipeline.sandbox.datasets.bakery import GROUPS, METHODS
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import METHOD_KINDS, ShopFile, shop_from
from kash_pipeline_tests.unit.reference.companies import account, company, listing, method, rates, registers

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
START = date(2026, 1, 1)
DAYS = (date(2026, 3, 1), date(2026, 4, 30))

BAKERY = listing(
    payment_methods=METHODS.to_dict("records"),
    vat_rates=rates(550, 1000, 2000),
    registers=[
        {"register_id": "K1", "name": "Comptoir", "chapter": "K1"},
        {"register_id": "K2", "name": "Terrasse", "chapter": "K2"},
    ],
    department_groups=[
        {"group_id": number, "name": name, "chapter": chapter}
        for (name, number), chapter in zip(GROUPS.items(), ["701", "701", "707"], strict=True)
    ],
)


def shop(*, creates: bool = True, chart: dict[str, Any] | None = None, **section: Any) -> ShopFile:
    """A shop that names nothing yet."""
    data = {
        "shop": {"id": "port", "name": "Boulangerie du Port", **section},
        "source": {"kind": "files", "path": "facts"},
        "pennylane": {"auth": "token", "create_accounts": creates},
        "chart": [chart or {"from": START.isoformat()}],
    }
    return shop_from(data, Path("shop.toml"))


def taken(shop_file: ShopFile, text: str) -> ShopFile:
    """The shop file with the proposal in place of its chart and journals, read as load_shop reads it."""
    plain = shop_file.model_dump(mode="json", exclude={"chart", "journals", "path"}, exclude_unset=True)
    return shop_from({**plain, **tomllib.loads(text)}, Path("shop.toml"))


def worst(shop_file: ShopFile, facts: Facts, there: Company) -> list[str]:
    return [item.what for item in check(shop_file, [facts], there, *DAYS) if item.level != "note"]


@pytest.mark.parametrize("direct", [False, True])
def test_the_bakerys_proposal_is_complete_and_right(direct: bool) -> None:
    proposed = propose(shop(), BAKERY, company(), START, direct=direct)
    golden = GOLDEN / f"proposal_bakery{'_direct' if direct else ''}.toml"
    assert proposed.text == golden.read_text()
    assert proposed.undecided == 0
    assert worst(taken(shop(), proposed.text), BAKERY, company()) == []


POOR = listing(
    payment_methods=[
        method("1", "Espèces", "cash"),
        method("2", "CB\n[[chart]]", "card"),
        method("3", "Chèque", "cheque"),
        method("4", "Chèque vacances", "holiday_voucher"),
        method("5", "Bon cadeau", "gift_voucher"),
        method("6", "Virement", "transfer"),
        method("7", "Lydia", "other"),
        method("8", "Uber Eats", "other"),
        method("9", "En compte", "on_account"),
    ],
    vat_rates=rates(0, 550, 1960),
    registers=[
        {"register_id": "1", "name": "Caisse « été »"},
        {"register_id": "2", "name": "Bar", "chapter": "VT"},
        {"register_id": "Salle n° 1", "name": "Salle", "chapter": "pas un code"},
    ],
)


def test_a_poor_company_that_lets_nothing_be_made_is_told_what_to_create_and_what_to_decide() -> None:
    """No sub-accounts, two banks, a method nobody knows, a name that would break out of its comment."""
    there = Company(
        [
            account("411", "Clients", id=1),
            account("51201", "Banque Postale", id=2),
            account("51202", "Crédit Agricole", id=3),
            account("5112", "Chèques à encaisser", id=4, enabled=False),
            account("511", "Valeurs à l'encaissement", id=5),
            account("707", "Ventes de marchandises", id=6),
            account("6588", "Fiducies", id=7),
            account("41106008", "Uber Eats", id=8),
        ],
        (CompanyJournal("VT", "Ventes", "sales"),),
        company().years,
    )
    proposed = propose(shop(creates=False), POOR, there, START)
    assert proposed.text == (GOLDEN / "proposal_poor.toml").read_text()
    assert proposed.undecided == 2
    found = worst(taken(shop(creates=False), proposed.text), POOR, there)
    assert any("'7' (Lydia" in what for what in found)
    assert any("'6' (Virement" in what for what in found)
    assert any("PennyLane lacks" in what and "530000 « Encaissements espèces »" in what for what in found)
    assert "6588" not in taken(shop(), proposed.text).chart[0].model_dump_json()


def test_what_the_shop_file_names_is_kept_and_a_trap_in_it_is_pointed_at() -> None:
    chart = {
        "from": "2025-01-01",
        "sales": {"10.0": "711000", "default": "707999"},
        "methods": {"card": "511555"},
        "methods_by_id": {"3": "511003"},
        "tips": "467199",
        "rounding": {"gain": "758500"},
        "sales_by_department": {"bar": {"20": "707900"}},
    }
    mine = shop(chart=chart).model_copy(update={"journals": {"K1": "CA1", "default": "CA"}})
    text = propose(mine, BAKERY, company(), START).text
    period = taken(mine, text).chart[0]
    assert (period.sales["10.0"], period.sales["default"], period.methods["card"]) == ("711000", "707999", "511555")
    assert set(period.sales) == {"10.0", "default"}  # which answers for every other rate
    assert set(period.vat) == {"5.5", "10", "20"}
    assert (period.methods_by_id, period.tips, period.rounding.gain) == ({"3": "511003"}, "467199", "758500")
    assert "cheque" not in period.methods
    assert period.sales_by_department == {"bar": {"20": "707900"}}
    assert taken(mine, text).journals == {"K1": "CA1", "default": "CA", "K2": "K2"}
    [trap] = [line for line in text.splitlines() if "LOOK" in line]
    assert "711000" in trap
    assert KEPT not in propose(mine, BAKERY, company(), START, anew=True).text


def test_with_chapters_only_what_they_leave_open_is_proposed() -> None:
    chaptered = shop(accounting_chapters=True)
    facts = listing(
        payment_methods=[method("1", "Espèces", "cash", "530000"), method("2", "CB", "card", "CB")],
        vat_rates=[
            {"vat_rate_bp": 550, "name": "5,5", "chapter": "11055"},
            {"vat_rate_bp": 1000, "name": "10", "chapter": None},
        ],
        registers=registers("K1"),
        departments=[
            {"department_id": "pain", "name": "Pain", "group_id": "1"},
            {"department_id": "bar", "name": "Bar", "group_id": "2"},
        ],
        department_groups=[
            {"group_id": "1", "name": "Boulangerie", "chapter": "701"},
            {"group_id": "2", "name": "Bar", "chapter": "BAR"},
        ],
    )
    period = taken(chaptered, propose(chaptered, facts, company(), START).text).chart[0]
    assert set(period.vat) == {"10"}
    assert set(period.sales_by_department) == {"bar"}
    assert (period.methods, period.methods_by_id) == ({}, {"2": "41106001"})
    assert worst(taken(chaptered, propose(chaptered, facts, company(), START).text), facts, company()) == []


names = st.text(min_size=1, max_size=12)


@st.composite
def tills(draw: st.DrawFn) -> Facts:
    ids = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return listing(
        payment_methods=[
            method(name, draw(names), draw(st.sampled_from(METHOD_KINDS)), draw(st.none() | names)) for name in ids
        ],
        vat_rates=rates(*sorted(draw(st.sets(st.integers(0, 10_000), max_size=4)))),
        registers=[
            {"register_id": name, "name": draw(names), "chapter": draw(st.none() | names)}
            for name in draw(st.lists(names, min_size=1, max_size=4, unique=True))
        ],
    )


@given(tills(), st.booleans(), st.booleans())
def test_whatever_a_till_lists_the_proposal_loads_and_lacks_only_what_it_says_is_to_decide(
    facts: Facts, direct: bool, chapters: bool
) -> None:
    mine = shop(accounting_chapters=chapters)
    proposed = propose(mine, facts, company(), START, direct=direct)
    loaded = taken(mine, proposed.text)
    missing = [item.what for item in check(loaded, [facts], company(), *DAYS) if item.level == "missing"]
    assert len(missing) == proposed.undecided
    assert len(set(loaded.journals.values())) == len(loaded.journals)
    odd = {item.what for item in check(loaded, [facts], company(), *DAYS) if item.level == "odd"}
    assert chapters or not odd


def test_journal_codes_are_unique_short_and_nobodys() -> None:
    there = company(journals=(CompanyJournal("K1", "Caisse 1", "custom"), CompanyJournal("VT", "Ventes", "sales")))
    wanted = ["1", "K1", "Caisse n°1", "Caisse n°2", "é", "VT"]
    codes = tomllib.loads(propose(shop(), listing(registers=registers(*wanted)), there, START).text)["journals"]
    assert codes.keys() == {*wanted}
    assert codes["K1"] == "K1"
    assert len(set(codes.values())) == len(codes)
    assert "VT" not in codes.values()
    assert all(re.fullmatch("[A-Z0-9]{2,5}", code) for code in codes.values())
