"""The Z report of a register's day: its cents against the till's, its bytes, and what an accountant reads in it."""

import hashlib
import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pandas as pd
import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kash_pipeline.accounting import BuildResult, build
from kash_pipeline.evidence.errors import BooksDiffer, NoSuchDay, NotBuilt
from kash_pipeline.evidence.figures import Method, ZFigures, z_figures
from kash_pipeline.evidence.pdf import euros, render
from kash_pipeline.evidence.reading import Piece
from kash_pipeline.sandbox import datasets
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ShopFile, load_shop
from kash_pipeline_tests.unit.accounting.books import closing, facts, line, order, pay, shop, worked_day
from kash_pipeline_tests.unit.accounting.tills import mixed, tills

DAY = date(2026, 3, 14)
PIECE = Piece("PORT-C1-260314-C", "Clôture caisse 1 du 14/03/2026", 7950)


def built(till: Facts, of: ShopFile) -> BuildResult:
    return build(till, of, first=None, last=None)


def figures(till: Facts, *, of: ShopFile | None = None, register: str = "C1", books: Facts | None = None) -> ZFigures:
    """The figures of a till; `books` are the facts its entries were built from, if not the same."""
    of = of or shop()
    result = built(books or till, of)
    return z_figures(till, result.entries, result.entry_lines, of, DAY, register)


def words(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages).replace("\xa0", " ")


@pytest.mark.parametrize("granularity", ["day", "order", "z"])
def test_the_worked_day_to_the_cent(granularity: str) -> None:
    found = figures(worked_day(), of=shop(granularity=granularity))
    assert [(rate.vat_rate_bp, rate.net_cents, rate.vat_cents) for rate in found.rates] == [
        (550, 3800, 210),
        (1000, 773, 77),
        (2000, 2075, 415),
    ]
    assert (found.orders, found.orders_cents, found.refunds, found.refunds_cents) == (6, 10350, 1, -405)
    assert (found.sales_cents, found.other_cents, found.takings_cents) == (7350, 3000, 7950)
    assert [
        (method.method_id, method.payments, method.amount_cents, method.counted_cents, method.difference_cents)
        for method in found.methods
    ] == [
        ("ESP", 2, 960, 10640, -320),
        ("CB", 2, 4250, 4250, 0),
        ("TR", 1, 900, 1050, 150),
        ("BON", 1, 1840, 1840, 0),
        ("CPT", 1, 2400, None, None),
    ]
    (one,) = found.closings
    assert (one.opening_float_cents, one.closing_float_cents, one.total_cents) == (10000, None, 10350)
    assert f"{one.closed_at:%H:%M}" == "20:30"  # 19:30 UTC, on the shop's clock


def test_the_reports_of_some_days_add_up_to_what_the_till_sold() -> None:
    """Both registers of three days, against the sums the data set publishes."""
    bakery = datasets.load("bakery")
    of = load_shop(bakery.shop_path)
    first, last = date(2026, 3, 12), date(2026, 3, 14)
    result = build(bakery.facts, of, first=first, last=last)
    reports = [
        z_figures(bakery.facts, result.entries, result.entry_lines, of, day.date(), register)
        for (day, register), _ in result.entries.astype({"register_id": "str"}).groupby(["business_day", "register_id"])
    ]
    assert {(report.register_id, report.business_day.day) for report in reports} == {
        (register, day) for register in ("K1", "K2") for day in (12, 13, 14)
    }
    sums = bakery.sums_by_rate(first, last)
    for column in ("net_cents", "vat_cents", "gross_cents"):
        assert _sums((rate.vat_rate_bp, getattr(rate, column)) for one in reports for rate in one.rates) == dict(
            zip(sums["vat_rate_bp"], sums[column], strict=True)
        )
    paid = bakery.sums_by_method(first, last)
    assert _sums((one.method_id, one.amount_cents) for report in reports for one in report.methods) == dict(
        zip(paid["method_id"].astype("str"), paid["amount_cents"], strict=True)
    )
    assert sum(report.orders for report in reports) == len(bakery._between(bakery.facts.orders, first, last))


def _sums(pairs: object) -> dict[object, int]:
    frame = pd.DataFrame(list(pairs), columns=["key", "cents"])  # type: ignore[call-overload]
    return {key: int(cents) for key, cents in frame.groupby("key")["cents"].sum().items() if cents}


def test_the_same_facts_give_the_same_bytes_and_other_facts_others() -> None:
    plain = render(figures(worked_day()), PIECE)
    for seed in range(3):
        assert render(figures(mixed(worked_day(), seed)), PIECE) == plain
    till = worked_day()
    labels = till.order_lines["label"].where(till.order_lines["label"] != "Vin", "Cidre")
    relabelled = replace(till, order_lines=till.order_lines.assign(label=labels))
    assert figures(relabelled).sha256 != figures(till).sha256
    assert render(figures(relabelled), PIECE) != plain
    assert render(figures(till), replace(PIECE, key="PORT-C1-260314-C-N1")) != plain


def test_the_hash_is_of_this_registers_rows_alone() -> None:
    till = worked_day()
    neighbour = facts(orders=[order("Q1", 500, register_id="C2")], order_lines=[line("Q1", 500)])
    both = {name: pd.concat([getattr(till, name), getattr(neighbour, name)]) for name in ("orders", "order_lines")}
    alone, beside = figures(till).hashes, figures(replace(till, **both)).hashes
    assert alone == beside
    assert [(one.table, one.rows) for one in alone if one.rows] == [
        ("orders", 6),
        ("order_lines", 14),
        ("payments", 7),
        ("closings", 1),
        ("closing_counts", 4),
    ]
    lines = "".join(f"{one.table} {one.sha256}\n" for one in alone)
    assert figures(till).sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_an_accountant_reads_totals_in_french_and_no_customer() -> None:
    text = words(render(figures(worked_day()), PIECE))
    for row in (
        ("Commerce", "Boulangerie du Port"),
        ("Caisse", "Caisse 1 (C1)"),
        ("Journée", "14/03/2026"),
        ("Pièce comptable", "PORT-C1-260314-C"),
        ("Tickets", "6, dont avoirs 1 (-4,05 €)"),
        ("Total TVA 5,5 %", "38,00 €", "2,10 €", "40,10 €"),
        ("Total des ventes", "66,48 €", "7,02 €", "73,50 €"),
        ("Total TTC des tickets", "103,50 €"),
        ("Espèces", "2", "9,60 €", "109,60 €", "106,40 €", "-3,20 €"),
        ("Titres-restaurant", "1", "9,00 €", "9,00 €", "10,50 €", "+1,50 €"),
        ("Total des encaissements", "6", "79,50 €"),
        ("Z1", "14/03/2026 20:30", "100,00 €", "-", "103,50 €", "-"),
        ("Ensemble", figures(worked_day()).sha256),
    ):
        assert "\n".join(row) in text
    assert "Laissé au compte des clients, non encaissé : En compte : 24,00 €." in text
    assert "Mairie" not in text
    assert "C0042" not in text
    assert [euros(cents) for cents in (0, -5, 123456789)] == ["0,00\xa0€", "-0,05\xa0€", "1\xa0234\xa0567,89\xa0€"]


@pytest.mark.parametrize(
    ("till", "register", "expected"),
    [
        (
            facts(orders=[order("A", 105)], order_lines=[line("A", 105)]),
            "C1",
            ["Total TTC des tickets\n1,05 €", "aucune ce"],
        ),
        (
            facts(
                orders=[order("A", 105)],
                order_lines=[line("A", 105)],
                payments=[pay("P", "A", "ESP", 105)],
                closings=[closing("Z1"), closing("Z2", register_id="C2", opening_float_cents=500)],
                closing_counts=[{"closing_id": "Z2", "method_id": "ESP", "expected_cents": 500, "counted_cents": 700}],
                cash_movements=[{"movement_id": "M", "kind": "withdrawal", "amount_cents": -300}],
            ),
            "C2",
            ["Total TTC des tickets\n0,00 €", "Espèces\n0\n0,00 €\n5,00 €\n7,00 €\n+2,00 €"],
        ),
    ],
    ids=["sold, neither paid nor closed", "closed and counted without a sale"],
)
def test_a_day_that_has_little_to_tell(till: Facts, register: str, expected: Sequence[str]) -> None:
    text = words(render(figures(till, register=register), None))
    assert "aucune : la journée n'a pas d'écriture de clôture" in text
    for words_ in expected:
        assert words_ in text


def test_names_of_any_length_and_script_neither_break_a_page_nor_stop_the_report() -> None:
    odd = [
        Method(f"M{number}", f"Chèque <b>&amp; 😀 кир {number} {'très long ' * 9}", "card", 1, 123456789, 1, 2)
        for number in range(60)
    ]
    pdf = render(replace(figures(worked_day()), methods=tuple(odd)), PIECE)
    assert len(pypdf.PdfReader(io.BytesIO(pdf)).pages) > 2
    assert words(pdf).count("1 234 567,89 €") == 60


def test_facts_that_are_no_longer_those_of_the_entries_give_no_report() -> None:
    till = worked_day()
    more = till.payments["amount_cents"].where(till.payments["payment_id"] != "P1", 1366)
    with pytest.raises(BooksDiffer, match="method ESP are 641 cents, in the entries 640"):
        figures(replace(till, payments=till.payments.assign(amount_cents=more)), books=till)
    taxed = [{"order_id": "A", "vat_rate_bp": 550, "net_cents": 100, "vat_cents": 5}]
    sold = facts(orders=[order("A", 105)], order_lines=[line("A", 105)], order_vat=taxed)
    other = replace(sold, order_vat=sold.order_vat.assign(net_cents=99, vat_cents=6))
    with pytest.raises(BooksDiffer, match="VAT at 550 basis points is 6 cents, in the entries 5"):
        figures(other, books=sold)


@settings(max_examples=10)  # an example has five register-days of 0.1 s each; 150 examples (702 reports) held none
@given(st.data())
def test_no_built_register_day_is_without_its_report(data: st.DataObject) -> None:
    """Late, early and foreign payments, vouchers, refunds: what the engine builds never looks like a change."""
    vat, granularity = data.draw(st.tuples(st.sampled_from(("none", "table")), st.sampled_from(("day", "z"))))
    till, of = data.draw(tills(vat=vat)), shop(granularity=granularity)
    result = built(till, of)
    for (day, register), _ in result.entries.astype({"register_id": "str"}).groupby(["business_day", "register_id"]):
        found = z_figures(till, result.entries, result.entry_lines, of, day.date(), register)
        mine = till.payments[(till.payments["business_day"] == day) & (till.payments["register_id"] == register)]
        assert sum(method.amount_cents for method in found.methods) == mine["amount_cents"].sum()


def test_a_held_or_an_unknown_register_day_is_told_apart() -> None:
    unmapped = facts(orders=[order("A", 107)], order_lines=[line("A", 107, 700)])
    with pytest.raises(NotBuilt, match="register C1 on 2026-03-14") as held:
        figures(unmapped)
    assert "kash-pipeline held" in held.value.next_step
    with pytest.raises(NoSuchDay) as unknown:
        figures(worked_day(), register="C9")
    assert "C1, C2" in unknown.value.next_step


def test_only_who_wants_a_pdf_loads_its_library() -> None:
    """Publishing without attach_z and every other command start without reportlab and Pillow."""
    loaded = "import sys, kash_pipeline.pennylane.publisher, kash_pipeline.cli.z_report; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "kash_pipeline.evidence.reading" in names
    assert not {"reportlab", "PIL", "kash_pipeline.evidence.pdf"} & set(names)
