"""Orders against the daily report per rate and method, and against the sequence of their numbers."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kash_pipeline.pos import control
from kash_pipeline.pos.errors import SourceChanged, SourceRefused
from kash_pipeline.pos.kash_api import report
from kash_pipeline.pos.kash_api.memory import FileMemory
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.control import CONTROL_TOTALS
from kash_pipeline.schemas.entries import HELD
from kash_pipeline.schemas.facts import Facts
from kash_pipeline_tests.unit.pos.kash_till import DictMemory, Till, kash_till

DAY = date(2026, 3, 14)


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@pytest.fixture(scope="module")
def server(bakery: Dataset) -> Iterator[Till]:
    with kash_till(bakery) as till:
        yield till


@pytest.fixture
def till(server: Till) -> Iterator[Till]:
    server.raw.clear()
    yield server
    server.faults.clear()


def test_every_day_of_two_months_agrees_with_its_report(till: Till, bakery: Dataset) -> None:
    """Refunds, named customers, payments of other days' orders and days without sales are among them."""
    with till.source(control_totals=True) as source:
        assert source.capabilities.control_totals
        told = pd.concat([day.control for day in source.sales(bakery.first, bakery.last)], ignore_index=True)
    CONTROL_TOTALS.validate(told)
    facts = bakery.facts
    mine = control.till_totals(facts.orders, facts.order_vat, facts.payments, facts.payment_methods)
    CONTROL_TOTALS.validate(mine)
    assert len(told) > 600
    assert len(control.compare(mine, told)) == 0
    assert told.loc[told["measure"] == "total", "amount_cents"].sum() == facts.orders["total_cents"].sum()


def held(bakery: Dataset, told: pd.DataFrame) -> pd.DataFrame:
    facts = bakery.facts
    found = control.held_by_report(
        facts.orders, facts.order_vat, facts.payments, facts.payment_methods, facts.registers, told
    )
    HELD.validate(found)
    return found


@pytest.mark.parametrize(
    ("measure", "of", "says"),
    [
        ("total", "", "total of all orders: orders "),
        ("gross", "5.5", "sales at 5.5 %: orders "),
        ("vat", "5.5", "VAT at 5.5 %: orders "),
        ("paid", "CB", "paid by CB: orders "),
    ],
)
def test_one_cent_holds_every_register_of_the_day_and_says_which_sum(
    bakery: Dataset, measure: str, of: str, says: str
) -> None:
    facts = bakery.facts
    told = control.till_totals(facts.orders, facts.order_vat, facts.payments, facts.payment_methods)
    assert len(held(bakery, told)) == 0
    wrong = (told["business_day"] == pd.Timestamp(DAY)) & (told["measure"] == measure) & (told["of"] == of)
    assert wrong.sum() == 1
    told.loc[wrong, "amount_cents"] += 1
    found = held(bakery, told)
    assert found["register_id"].tolist() == ["K1", "K2"]
    assert set(found["business_day"]) == {pd.Timestamp(DAY)}
    assert set(found["reason"]) == {"control_total_differs"}
    assert found["what"].str.startswith(says).all()
    assert found["next_step"].str.contains("2026-03-14").all()


def test_a_report_of_sales_on_a_day_without_orders_holds_all_registers(bakery: Dataset) -> None:
    row = {"business_day": [pd.Timestamp("2026-03-04")], "measure": ["total"], "of": [""], "amount_cents": [100]}
    found = held(bakery, conform(pd.DataFrame(row), CONTROL_TOTALS))
    assert found["register_id"].tolist() == ["K1", "K2"]
    assert found["what"].tolist() == ["total of all orders: orders 0.00, daily report 1.00"] * 2


def numbers(*written: str) -> pd.DataFrame:
    """Orders of one register, one a day from 1 March."""
    days = [pd.Timestamp(2026, 3, 1 + at) for at in range(len(written))]
    return pd.DataFrame({"number": list(written), "business_day": days, "register_id": "K1"})


@pytest.mark.parametrize(
    ("written", "lost"),
    [
        (("1041", "1042", "1043"), []),
        (("1041", "1043"), ["1042..1042"]),
        (("1043", "1041", "1046"), ["1042..1042", "1044..1045"]),  # a back-dated order: its number is among later ones
        (("202603054", "202603055", "202604001"), []),  # numbers that begin anew each month
        (("202603054", "202603057"), ["202603055..202603056"]),
        (("F-0009", "F-0011", "A-0009", "A-0010"), ["F-0010..F-0010"]),  # two series
        (("5", "5000000"), []),  # another series, not five million lost orders
        (("abc", "12x"), []),
        ((), []),
    ],
)
def test_missing_numbers(written: tuple[str, ...], lost: list[str]) -> None:
    found = control.gaps(numbers(*written)["number"])
    assert [f"{gap.first}..{gap.last}" for gap in found] == lost


def test_a_missing_number_holds_the_days_of_its_neighbours_that_were_asked_for() -> None:
    orders = numbers("1041", "1042", "1045", "1046")
    found = control.held_by_numbers(orders, date(2026, 3, 1), date(2026, 3, 4))
    HELD.validate(found)
    assert found["business_day"].dt.day.tolist() == [2, 3]
    assert set(found["what"]) == {"numbers 1043 to 1044 are missing between 1042 and 1045"}
    assert 'number_gaps = "ignore"' in found["next_step"].iloc[0]
    later = control.held_by_numbers(orders, date(2026, 3, 3), date(2026, 3, 31))
    assert later["business_day"].dt.day.tolist() == [3]


# --- the report itself -----------------------------------------------------------------------------------------------

GOOD = (
    "<table><tr><th>orders</th><th>total</th></tr><tr><td>2</td><td>12.00</td></tr></table>"
    "<table><tr><th>rate</th><th>total</th><th>net</th><th>VAT</th></tr>"
    "<tr><td>5.5</td><td>12.00</td><td>11.37</td><td>0.63</td></tr></table>"
    "<table><tr><th>method</th><th>amount</th></tr><tr><td>ESPECE</td><td>12.00</td></tr></table>"
)


def test_a_page_is_read_with_its_decoration() -> None:
    """Other tables, menus, signs of currency, spaces between thousands, another order of columns."""
    page = (
        "<html><body><table><tr><td>Menu</td></tr></table><h1>Rapport</h1>"
        + GOOD.replace("12.00", " 1\xa0212.00 €").replace("<td>5.5</td>", "<td><b>5.5</b> %</td>")
        + "<script>var x = '<table>';</script></body>"
    )
    told = report.control_totals(page.encode(), DAY).set_index(["measure", "of"])["amount_cents"].to_dict()
    assert told == {("total", ""): 121_200, ("gross", "5.5"): 121_200, ("net", "5.5"): 1137, ("vat", "5.5"): 63,
                    ("paid", "ESPECE"): 121_200}  # fmt: skip
    # HTML lets cells and rows end without a tag.
    open_ended = page.replace("</td>", "").replace("</th>", "").replace("</tr>", "").replace("</table>", "</table> ...")
    pd.testing.assert_series_equal(
        report.control_totals(open_ended.encode(), DAY).set_index(["measure", "of"])["amount_cents"],
        report.control_totals(page.encode(), DAY).set_index(["measure", "of"])["amount_cents"],
    )


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (GOOD.replace("VAT", "Taxe"), "no table with rate, total, net, vat"),
        (GOOD.replace("<td>0.63</td>", ""), "a row of the table with rate, total, net, vat is shorter"),
        (GOOD.replace("11.37", "11,37"), "'11,37' in the report is no amount"),
        (GOOD.replace("<td>5.5</td>", "<td>réduit</td>"), "'réduit' in the report is no rate"),
        ("<p>Aucune vente</p>", "no table with orders, total"),
    ],
)
def test_a_report_of_another_form_stops_and_is_named(page: str, says: str) -> None:
    with pytest.raises(SourceChanged, match=says) as caught:
        report.control_totals(page.encode(), DAY)
    assert "control_totals = false" in caught.value.next_step


def test_the_report_is_kept_as_evidence_in_the_forms_asked_for(till: Till) -> None:
    later = datetime(2026, 4, 1, tzinfo=UTC)
    with till.source(control_totals=True, evidence=("PDF", "CSV"), now=lambda: later) as source:
        list(source.sales(DAY, DAY))
    kept = [document for document in till.raw if document.call == "getSales.php"]
    assert [document.body[:5] for document in kept] == [b"<tabl", b"%PDF-", b"date;"]
    assert {document.day for document in kept} == {DAY}


def forms_asked(till: Till, memory: DictMemory, **options: Any) -> Counter[tuple[date | None, str]]:
    """Reports asked for while three days are read: by day and form."""
    till.raw.clear()
    options.setdefault("now", lambda: datetime(2026, 4, 1, tzinfo=UTC))
    with till.source(memory=memory, evidence=("PDF", "CSV"), **options) as source:
        list(source.sales(DAY, DAY + timedelta(days=2)))
    return Counter(
        (document.day, re.findall(r"formatExport=(\w+)", document.url)[0])
        for document in till.raw
        if document.call == "getSales.php"
    )


def test_evidence_of_an_unchanged_day_is_not_asked_for_again(till: Till, bakery: Dataset, tmp_path: Path) -> None:
    """The daily report is, for it finds what the list does not show; PDF and CSV only where something changed."""
    days = [DAY + timedelta(days=at) for at in range(3)]
    every = Counter({(day, form): 1 for day in days for form in ("Std", "PDF", "CSV")})
    memory = FileMemory(str(tmp_path), "shop")
    assert forms_asked(till, memory, control_totals=True) == every
    daily = Counter({(day, "Std"): 1 for day in days})
    assert forms_asked(till, memory, control_totals=True) == daily
    orders = bakery.facts.orders[bakery.facts.orders["business_day"] == str(days[1])]["order_id"]
    till.faults.changed[orders.iloc[3]] = lambda order: order["payments"][0].update(paymentModeID="3")
    again = Counter({(days[1], "PDF"): 1, (days[1], "CSV"): 1})
    assert forms_asked(till, memory, control_totals=True) == daily + again
    assert forms_asked(till, memory, control_totals=True) == daily
    # Without the daily report, the facts alone say whether a day changed.
    assert forms_asked(till, memory) == every - daily
    assert forms_asked(till, memory) == Counter()


def test_evidence_of_the_running_day_waits_until_it_is_over(till: Till) -> None:
    """A report is signed when its period is over: the 16th is at four in Paris on the 17th, 03:00 UTC. Till events
    read the running day again every minute; each time a report more would be kept that is worth nothing."""
    memory = DictMemory()

    def days_at(*moment: int) -> list[int]:
        asked = forms_asked(till, memory, now=lambda: datetime(2026, 3, *moment, tzinfo=UTC))
        return sorted(day.day for day, form in asked if day and form == "PDF")

    assert days_at(16, 20) == [14, 15]
    assert days_at(17, 2, 59) == []
    assert days_at(17, 3, 0) == [16]
    assert days_at(17, 3, 1) == []


def test_evidence_that_failed_is_not_taken_for_kept(till: Till) -> None:
    memory = DictMemory()
    till.faults.set("error_body", script="getSales.php")
    with pytest.raises(SourceRefused):
        forms_asked(till, memory)
    till.faults.clear()
    assert sum(forms_asked(till, memory).values()) == 6


def test_a_refusal_instead_of_a_report_is_a_refusal(till: Till) -> None:
    till.faults.set("error_body", script="getSales.php")
    with till.source(control_totals=True) as source, pytest.raises(SourceRefused, match="Internal error 42"):
        list(source.sales(DAY, DAY))
    till.faults.set("rubbish", script="getSales.php")
    with (
        till.source(control_totals=True) as source,
        pytest.raises(SourceChanged, match="something else than was asked"),
    ):
        list(source.sales(DAY, DAY))


def test_a_month_without_a_single_order_has_no_totals_and_holds_nothing() -> None:
    """A year's backfill starts before the shop does; pandas 3 raises when dates are looked up in an empty table."""
    nothing = Facts()
    totals = control.till_totals(nothing.orders, nothing.order_vat, nothing.payments, nothing.payment_methods)
    assert totals.empty
    assert control.compare(totals, totals).empty
