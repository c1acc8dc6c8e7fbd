"""Kash.click's accounting CSV and FEC as sources: the documented sample, both encodings, what is refused by name."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest

from kash_pipeline import accounting
from kash_pipeline.pos import open_source
from kash_pipeline.pos.errors import FilesError, SourceRefused, SourceUnreachable
from kash_pipeline.pos.files import write_folder
from kash_pipeline.pos.port import RawDocument, Source
from kash_pipeline.schemas.facts import FACTS, Facts
from kash_pipeline.settings import ShopFile, shop_from

SAMPLE = """70;12/12/2020;202012054;702;DUPONT;OEUFS;;11.37;12
70;12/12/2020;202012054;445712;DUPONT;TVA5.5%;;0.63;0.0
70;12/12/2020;202012054;53;DUPONT;ESPECE;5.00;;0.00
70;12/12/2020;202012054;583;DUPONT;TICKETRESTO;4.00;;0.00
70;12/12/2020;202012054;584;DUPONT;CARTEBLEU;3.00;;0.00
"""
"""The documentation's sample: its columns, accounts, labels and sum; of the payments it names 5.00 only."""

HEAD = (
    "JournalCode\tJournalLib\tEcritureNum\tEcritureDate\tCompteNum\tCompteLib\tCompAuxNum\tCompAuxLib\tPieceRef\t"
    "PieceDate\tEcritureLib\tDebit\tCredit\tEcritureLet\tDateLet\tValidDate\tMontantdevise\tIdevise"
)
DAY = date(2026, 3, 14)


def fec(*lines: tuple[str, ...], separator: str = "\t") -> str:
    """Lines of (piece, day, account, account name, auxiliary, label, debit, credit)."""
    rows = []
    for piece, day, account, name, aux, label, debit, credit in lines:
        begin = ["K1", "Caisse 1", "1", day, account, name, aux, aux and "Société É.", piece, day, label]
        rows.append(separator.join([*begin, debit, credit, "", "", day, "", ""]))
    return "\r\n".join([HEAD.replace("\t", separator), *rows]) + "\r\n"


TWO_RATES = fec(
    ("F1", "20260314", "411000", "Clients", "C7", "Vente F1", "31,80", "0,00"),
    ("F1", "20260314", "701055", "Ventes pain 5,5 %", "", "Vente F1", "0,00", "18,77"),
    ("F1", "20260314", "707200", "Ventes boissons 20 %", "", "Vente F1", "0,00", "10,00"),
    ("F1", "20260314", "4457055", "TVA collectée 5,5 %", "", "Vente F1", "0,00", "1,03"),
    ("F1", "20260314", "4457200", "TVA collectée 20 %", "", "Vente F1", "0,00", "2,00"),
    ("F1", "20260316", "511500", "Cartes", "", "CARTE BLEUE", "31,80", "0,00"),
    ("F1", "20260316", "411000", "Clients", "C7", "Vente F1", "0,00", "31,80"),
)


def one_sided(content: str) -> str:
    """The same FEC with an amount and its side, as the law allows too."""
    head, *rows = content.splitlines()
    turned = [head.replace("Debit", "Montant").replace("Credit", "Sens")]
    for cells in (row.split("\t") for row in rows):
        amount, side = (cells[11], "D") if cells[11] != "0,00" else (cells[12], "C")
        turned.append("\t".join([*cells[:11], amount, side, *cells[13:]]))
    return "\r\n".join(turned)


@pytest.fixture
def shop(tmp_path: Path) -> Callable[..., ShopFile]:
    def make(kind: str, content: str | bytes, *, prices: str = "tax_included", **source: Any) -> ShopFile:
        file = tmp_path / "export.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return shop_from(
            {
                "shop": {"id": "s", "name": "S", "prices": prices},
                "source": {"kind": kind, "path": str(file), **source},
                "chart": [
                    {
                        "from": "2020-01-01",
                        "sales": {"5.5": "701055", "20": "707200"},
                        "vat": {"5.5": "445711055", "20": "445711200"},
                        "methods": {"cash": "530000", "card": "511500", "meal_voucher": "511700"},
                    }
                ],
                "journals": {"default": "CA"},
            },
            tmp_path / "shop.toml",
        )

    return make


def facts_of(shop: ShopFile, first: date, last: date) -> Facts:
    with open_source(shop) as source:
        assert isinstance(source, Source)
        days = list(source.sales(first, last))
        tables = {
            name: pd.concat([getattr(day, name) for day in days], ignore_index=True)
            for name in ("orders", "order_lines", "order_vat", "payments")
        } | source.reference()
    for name, frame in tables.items():
        FACTS[name].validate(frame)
    return Facts(**tables)


def test_the_documented_sample_is_an_order_of_twelve_euros(shop: Callable[..., ShopFile]) -> None:
    facts = facts_of(shop("kash_accounting_csv", SAMPLE), date(2020, 12, 11), date(2020, 12, 13))
    (order,) = facts.orders.to_dict("records")
    assert (order["number"], order["register_id"], order["total_cents"]) == ("202012054", "70", 1200)
    assert f"{order['business_day']:%Y-%m-%d}" == "2020-12-12"
    (line,) = facts.order_lines.to_dict("records")
    assert (line["label"], line["quantity_milli"], line["vat_rate_bp"], line["total_cents"], line["vat_cents"]) == (
        "OEUFS", 12_000, 550, 1200, 63,
    )  # fmt: skip
    assert facts.order_vat[["vat_rate_bp", "net_cents", "vat_cents"]].to_numpy().tolist() == [[550, 1137, 63]]
    assert facts.payments.set_index("method_id")["amount_cents"].to_dict() == {"53": 500, "583": 400, "584": 300}
    assert facts.payment_methods.set_index("method_id")["kind"].to_dict() == {
        "53": "cash", "583": "meal_voucher", "584": "card",
    }  # fmt: skip
    assert facts.customers["customer_id"].tolist() == ["DUPONT"]


def test_the_same_checks_and_entries_as_from_any_other_source(shop: Callable[..., ShopFile]) -> None:
    made = shop("kash_accounting_csv", SAMPLE.replace("DUPONT", ""))
    built = accounting.build(facts_of(made, date(2020, 12, 12), date(2020, 12, 12)), made)
    assert len(built.held) == 0
    balance = accounting.trial_balance(built.entry_lines).set_index("account")["balance_cents"]
    assert balance["701055"] == -1137
    assert balance["445711055"] == -63
    assert (balance["530000"], balance["511700"], balance["511500"]) == (500, 400, 300)
    # A method nobody knows holds the day, as it does for every source.
    other = shop("kash_accounting_csv", SAMPLE.replace("CARTEBLEU", "SOLANA"))
    held = accounting.build(facts_of(other, date(2020, 12, 12), date(2020, 12, 12)), other).held
    assert held["reason"].tolist() == ["unmapped_method"]
    assert "584" in held["next_step"].iloc[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_the_encoding_is_found_out(shop: Callable[..., ShopFile], encoding: str) -> None:
    content = SAMPLE.replace("OEUFS", "Crème brûlée – 2 €").encode(encoding)
    facts = facts_of(shop("kash_accounting_csv", content), date(2020, 12, 12), date(2020, 12, 12))
    assert facts.order_lines["label"].tolist() == ["Crème brûlée – 2 €"]


def test_a_refund_is_a_negative_order(shop: Callable[..., ShopFile]) -> None:
    rows = [line.split(";") for line in SAMPLE.splitlines()]
    turned = "\n".join(";".join([*cells[:6], cells[7], cells[6], cells[8]]) for cells in rows)
    facts = facts_of(shop("kash_accounting_csv", turned), date(2020, 12, 12), date(2020, 12, 12))
    assert facts.orders["total_cents"].tolist() == [-1200]
    assert facts.order_lines[["total_cents", "vat_cents"]].to_numpy().tolist() == [[-1200, -63]]
    assert sorted(facts.payments["amount_cents"]) == [-500, -400, -300]


def test_several_lines_share_the_vat_of_their_rate_to_the_cent(shop: Callable[..., ShopFile]) -> None:
    """100 lines of 0.09 net: the order's VAT of 0.50 is what the lines' sum to."""
    lines = [f"70;12/12/2020;7;702;;L{n};;0.09;1" for n in range(100)]
    lines += ["70;12/12/2020;7;445712;;TVA5.5%;;0.50;0", "70;12/12/2020;7;53;;ESPECE;9.50;;0"]
    facts = facts_of(shop("kash_accounting_csv", "\n".join(lines)), date(2020, 12, 12), date(2020, 12, 12))
    assert facts.order_lines["vat_cents"].sum() == 50
    assert facts.order_lines["total_cents"].sum() == facts.orders["total_cents"].iloc[0] == 950
    assert set(facts.order_lines["vat_cents"]) == {0, 1}


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_a_fec_gives_orders_with_their_rates_and_later_payments(shop: Callable[..., ShopFile], separator: str) -> None:
    content = TWO_RATES.replace("\t", separator).encode("cp1252")
    facts = facts_of(shop("kash_fec", content), DAY, date(2026, 3, 16))
    (order,) = facts.orders.to_dict("records")
    assert (order["order_id"], order["total_cents"], order["customer_id"]) == ("F1", 3180, "C7")
    assert facts.order_vat[["vat_rate_bp", "net_cents", "vat_cents"]].to_numpy().tolist() == [
        [550, 1877, 103], [2000, 1000, 200],
    ]  # fmt: skip
    (payment,) = facts.payments.to_dict("records")
    assert (payment["amount_cents"], f"{payment['business_day']:%d}", payment["order_id"]) == (3180, "16", "F1")
    assert facts.customers["name"].tolist() == ["Société É."]


def test_a_fec_may_be_written_otherwise_and_says_the_same(shop: Callable[..., ShopFile]) -> None:
    """Amounts with their side, days with slashes, thousands set apart, a label with a quote and a stray line break."""
    plain = facts_of(shop("kash_fec", TWO_RATES), DAY, DAY)
    other = one_sided(TWO_RATES).replace("20260314", "14/03/2026").replace("18,77", "18.77")
    facts = facts_of(shop("kash_fec", other.replace("Vente F1", '"Vente\x0bF1')), DAY, DAY)
    pd.testing.assert_frame_equal(facts.order_vat, plain.order_vat)
    pd.testing.assert_frame_equal(facts.orders, plain.orders)


@pytest.mark.parametrize("space", [" ", "\xa0", "\u202f"])
def test_thousands_may_be_set_apart_by_a_space_of_any_width(shop: Callable[..., ShopFile], space: str) -> None:
    rows = f"70;12/12/2020;7;702;;PAIN;;1{space}137,00;1\r\n70;12/12/2020;7;53;;ESPECE;1{space}137,00;;0\r\n"
    facts = facts_of(shop("kash_accounting_csv", rows), date(2020, 12, 12), date(2020, 12, 12))
    assert facts.orders["total_cents"].tolist() == [113_700]


def test_rates_come_from_the_settings_where_the_file_does_not_tell(shop: Callable[..., ShopFile]) -> None:
    silent = TWO_RATES.replace("701055\tVentes pain 5,5 %", "7010\tPain").replace(
        "707200\tVentes boissons 20 %", "7070\tEau"
    )
    with pytest.raises(FilesError, match="F1 has 2 rates: which one is sales account 7010 of") as caught:
        facts_of(shop("kash_fec", silent), DAY, DAY)
    assert 'rates_by_account = { "7010" = "5.5" }' in caught.value.next_step
    told = shop("kash_fec", silent, rates_by_account={"7010": "5.5", "7070": "20"})
    assert facts_of(told, DAY, DAY).order_lines["vat_rate_bp"].tolist() == [550, 2000]


def test_a_shop_that_sells_without_tax_gets_lines_without_tax(shop: Callable[..., ShopFile]) -> None:
    facts = facts_of(shop("kash_fec", TWO_RATES, prices="tax_excluded"), DAY, DAY)
    assert facts.order_lines["total_cents"].tolist() == [1877, 1000]


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ("kash_accounting_csv", SAMPLE.replace("11.37", "1,137"), r"export\.csv, row 1, column credit: '1,137'"),
        ("kash_accounting_csv", SAMPLE.replace("11.37", "11 37"), "'11 37' is no amount"),
        ("kash_accounting_csv", SAMPLE.replace("12/12", "31/02", 1), "row 1, column invoice date: '31/02/2020'"),
        ("kash_accounting_csv", SAMPLE.replace("TVA5", '"TVA5'), "row 2: a quote is not closed"),
        ("kash_accounting_csv", SAMPLE + ";;;;;TOTAL;12.00;12.00;\n", "row 6, column invoice date: '' is no date"),
        ("kash_accounting_csv", "", "no file whose name ends in .csv or .txt holds an entry"),
        ("kash_accounting_csv", SAMPLE.replace(";12\n", "\n", 1), "row 1: 8 columns instead of 9"),
        ("kash_accounting_csv", SAMPLE + SAMPLE.replace("12/12/2020", "2020-12-12"), "row 6, column invoice date"),
        ("kash_accounting_csv", SAMPLE.replace("0.63", "0.64"), "piece 202012054 of 2020-12-12 does not balance: 1 c"),
        ("kash_accounting_csv", SAMPLE.replace(";702;", ";622;"), "account 622 is no sale"),
        ("kash_accounting_csv", SAMPLE.replace("TVA5.5%", "TVA"), "VAT account 445712: which rate"),
        ("kash_accounting_csv", SAMPLE.replace("TVA5.5%", "TVA20%"), "63 cents of VAT are not 20 % of 1137 cents"),
        (
            "kash_accounting_csv",
            SAMPLE + SAMPLE.replace("/2020;", "/2021;"),
            "has sales on 2020-12-12 and on 2021-12-12",
        ),
        ("kash_fec", TWO_RATES.replace("CompteLib", "Compte"), "the header lacks CompteLib"),
        ("kash_fec", TWO_RATES.replace("18,77", "18.777"), "row 3, column Credit: '18.777' is no amount"),
        ("kash_fec", TWO_RATES.replace("20260316", "16/03/26"), "row 7, column EcritureDate"),
        ("kash_fec", one_sided(TWO_RATES).replace("\tD\t", "\tX\t", 1), "row 2, column Sens: 'X' is no side"),
    ],
)
def test_what_cannot_be_told_is_refused_by_file_row_and_column(
    shop: Callable[..., ShopFile], kind: str, content: str, says: str
) -> None:
    with pytest.raises(FilesError, match=says) as caught:
        facts_of(shop(kind, content), DAY, DAY)
    assert caught.value.next_step


def test_such_files_tell_no_closings_and_say_so(shop: Callable[..., ShopFile]) -> None:
    with open_source(shop("kash_accounting_csv", SAMPLE)) as source:
        assert not source.capabilities.closings
        assert not source.capabilities.cash_movements
        with pytest.raises(SourceRefused, match="holds no closings"):
            next(iter(source.closings(DAY, DAY)))


def test_files_come_from_any_url_and_are_kept_as_they_stand(shop: Callable[..., ShopFile], tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/exports/march.csv", SAMPLE.encode())
    store.pipe("/exports/april.csv", SAMPLE.replace("12/12/2020;202012054", "13/12/2020;202012055").encode())
    store.pipe("/exports/readme.md", b"not an export")
    made = shop("kash_accounting_csv", SAMPLE)
    at = made.model_copy(update={"source": made.source.model_copy(update={"path": "memory://exports"})})
    kept: list[RawDocument] = []
    with open_source(at, keep=kept.append) as source:
        days = list(source.sales(date(2020, 12, 12), date(2020, 12, 13)))
    assert [day.orders["number"].tolist() for day in days] == [["202012054"], ["202012055"]]
    assert sorted(document.url for document in kept) == ["april.csv", "march.csv"]
    assert SAMPLE.encode() in {document.body for document in kept}
    store.pipe("/exports/year.csv", SAMPLE.encode())
    with open_source(at) as source, pytest.raises(FilesError, match=r"202012054 of 2020-12-12 stands in march\.csv"):
        list(source.sales(DAY, DAY))
    store.pipe("/broken.zip", b"PK no archive")
    broken = made.model_copy(update={"source": made.source.model_copy(update={"path": "zip://::memory://broken.zip"})})
    with open_source(broken) as source, pytest.raises(SourceUnreachable, match=r"cannot be read \(BadZipFile\)"):
        list(source.sales(DAY, DAY))
    gone = made.model_copy(update={"source": made.source.model_copy(update={"path": "memory://nowhere"})})
    with open_source(gone) as source, pytest.raises(SourceUnreachable, match="memory://nowhere: nothing to read"):
        list(source.sales(DAY, DAY))


def test_a_folder_of_facts_comes_from_any_url(shop: Callable[..., ShopFile], tmp_path: Path) -> None:
    facts = facts_of(shop("kash_fec", TWO_RATES), DAY, date(2026, 3, 16))
    write_folder(facts, tmp_path / "facts")
    store = fsspec.filesystem("memory")
    for file in (tmp_path / "facts").iterdir():
        store.pipe(f"/facts/{file.name}", file.read_bytes())
    made = shop("files", "")
    at = made.model_copy(update={"source": made.source.model_copy(update={"path": "memory://facts"})})
    kept: list[RawDocument] = []
    with open_source(at, keep=kept.append) as source:
        (day,) = source.sales(DAY, DAY)
    assert day.orders["total_cents"].sum() == facts.orders["total_cents"].sum()
    assert {document.url for document in kept} == {f"memory://facts/{document.call}" for document in kept}
