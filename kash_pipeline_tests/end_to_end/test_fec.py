"""`kash-pipeline fec`: the worked day against its golden file, the file's form, and the checks on spoilt files."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

from kash_pipeline.accounting.fec import COLUMNS, check_fec
from kash_pipeline.cli.main import main

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WORKED_DAY = GOLDEN / "worked_day"
NAME = "123456782FEC20261231.txt"
YEAR = ("--from", "2026-01-01", "--to", "2026-12-31")

OURS_TO_DECIDE = {
    "PieceRef": "our entry key, the piece number the ledger knows the entry by; the example has the ticket",
    "EcritureLet": "lettering is done in the ledger, after the entries are there",
    "DateLet": "goes with EcritureLet",
}
"""Columns that may differ from the golden file, each with the reason."""

BANK_LABEL = {"Virement Mairie de Sainte-Luce": "Encaissement client C0042"}
"""EcritureLib of the one entry that the example takes from a bank journal and we from the till's back office."""


def run(*arguments: str) -> int:
    """Exit code of the real command line."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def fec(*options: str) -> int:
    return run("fec", *options)


def records(data: bytes, encoding: str = "iso8859-15", separator: str = "\t") -> list[dict[str, str]]:
    text = data.decode(encoding)
    return list(csv.DictReader(text.splitlines(), delimiter=separator, quoting=csv.QUOTE_NONE))


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """The worked day's shop, one entry per order as in the golden file."""
    text = (
        (WORKED_DAY / "shop.toml").read_text(encoding="utf-8").replace('granularity = "day"', 'granularity = "order"')
    )
    file = tmp_path / "shop.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WORKED_DAY / "facts", tmp_path / "facts"))


def test_the_worked_day_is_the_golden_file(shop: str, facts: Path, tmp_path: Path) -> None:
    """Entry by entry and line by line; only the columns of OURS_TO_DECIDE and the order of lines in an entry differ."""
    assert fec("--shop", shop, "--files", str(facts), *YEAR, "--out", str(tmp_path)) == 0
    written, golden = (tmp_path / NAME).read_bytes(), (GOLDEN / NAME).read_bytes()
    ours, theirs = records(written), records(golden)
    assert len(ours) == len(theirs) == 48
    compared = [name for name in COLUMNS if name not in OURS_TO_DECIDE]
    for record in theirs:
        record["EcritureLib"] = BANK_LABEL.get(record["EcritureLib"], record["EcritureLib"])
    assert [tuple(ours[0])] == [tuple(theirs[0])] == [COLUMNS]
    assert [record["EcritureNum"] for record in ours] == [record["EcritureNum"] for record in theirs]
    assert Counter(tuple(record[name] for name in compared) for record in ours) == Counter(
        tuple(record[name] for name in compared) for record in theirs
    )
    # One piece per entry, as in the golden file, and nothing lettered by us.
    assert len({record["PieceRef"] for record in ours}) == len({record["EcritureNum"] for record in ours}) == 15
    assert {record["EcritureLet"] + record["DateLet"] for record in ours} == {""}
    assert b"\r\n" in written
    assert written.count(b"\n") == written.count(b"\r\n") == 49


def test_the_golden_file_itself_has_no_fault() -> None:
    assert check_fec((GOLDEN / NAME).read_bytes().decode("iso8859-15")) == []


@pytest.mark.parametrize("granularity", ["day", "order", "z"])
def test_a_fec_of_built_entries_is_the_fec_of_the_facts(
    granularity: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (WORKED_DAY / "shop.toml").read_text(encoding="utf-8")
    (tmp_path / "shop.toml").write_text(text.replace('= "day"', f'= "{granularity}"'), encoding="utf-8")
    shop = str(tmp_path / "shop.toml")
    assert run("build", "--shop", shop, "--files", str(facts), "--out", str(tmp_path / "built")) == 0
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    assert fec("--shop", shop, "--files", str(facts), *YEAR, "--out", str(one)) == 0
    built = ("--entries", str(tmp_path / "built"))
    assert fec("--shop", shop, *built, "--files", str(facts), *YEAR, "--out", str(two)) == 0
    assert one.read_bytes() == two.read_bytes()
    assert check_fec(one.read_bytes().decode("iso8859-15")) == []
    # Without the facts there are no names: the pair CompAuxNum, CompAuxLib stays complete all the same.
    assert fec("--shop", shop, *built, *YEAR, "--out", str(two)) == 0
    named = [record for record in records(two.read_bytes()) if record["CompAuxNum"]]
    assert {record["CompAuxLib"] for record in named} == {"C0042"}


@pytest.mark.parametrize(
    ("encoding", "separator", "label"),
    [
        ("iso8859-15", "tab", "Recettes de caisse à centraliser"),
        ("utf-8", "pipe", "Recettes de caisse à centraliser"),
        ("ascii", "tab", "Recettes de caisse a centraliser"),
    ],
)
def test_encodings_and_separators(
    encoding: str, separator: str, label: str, shop: str, facts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fec.txt"
    options = ("--encoding", encoding, "--separator", separator, "--out", str(out))
    assert fec("--shop", shop, "--files", str(facts), *YEAR, *options) == 0
    found = records(out.read_bytes(), encoding, {"tab": "\t", "pipe": "|"}[separator])
    assert found[0]["CompteLib"] == label
    assert len(found) == 48


def test_signs_the_encoding_lacks_become_plain_ones_and_are_counted(
    shop: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (facts / "customers.csv").read_text(encoding="utf-8")
    (facts / "customers.csv").write_text(
        text.replace("Mairie de Sainte-Luce", "Zoë’s Café – Łódź\t🍞|"), encoding="utf-8"
    )
    assert fec("--shop", shop, "--files", str(facts), *YEAR, "--out", str(tmp_path / "fec.txt")) == 0
    found = records((tmp_path / "fec.txt").read_bytes())
    assert {record["CompAuxLib"] for record in found if record["CompAuxNum"]} == {"Zoë's Café - ?ódz ?"}
    assert "characters that iso8859-15 lacks" in capsys.readouterr().out


def test_a_period_takes_its_entries_only_and_numbers_them_without_gap(shop: str, facts: Path, tmp_path: Path) -> None:
    out = tmp_path / "fec.txt"
    options = ("--from", "2026-03-15", "--to", "2026-03-31", "--first-number", "15", "--out", str(out))
    assert fec("--shop", shop, "--files", str(facts), *options) == 0
    assert [(record["EcritureNum"], record["CompteNum"]) for record in records(out.read_bytes())] == [
        ("000015", "512000"),
        ("000015", "411000"),
    ]


def test_a_period_without_entries_or_customers_is_a_file_all_the_same(shop: str, facts: Path, tmp_path: Path) -> None:
    out = tmp_path / "fec.txt"
    empty = ("--from", "2026-05-01", "--to", "2026-05-31", "--out", str(out))
    assert fec("--shop", shop, "--files", str(facts), *empty) == 0
    assert out.read_bytes() == "\t".join(COLUMNS).encode() + b"\r\n"
    for name in ("customers", "payments", "closings", "closing_counts"):
        (facts / f"{name}.csv").unlink()
    text = (facts / "orders.csv").read_text(encoding="utf-8").replace("C0042", "")
    (facts / "orders.csv").write_text(text, encoding="utf-8")
    assert fec("--shop", shop, "--files", str(facts), *YEAR, "--out", str(out)) == 0
    assert {record["CompAuxNum"] + record["CompAuxLib"] for record in records(out.read_bytes())} == {""}


def test_valid_date_is_the_accounting_date_or_the_day_given(shop: str, facts: Path, tmp_path: Path) -> None:
    out = tmp_path / "fec.txt"
    assert fec("--shop", shop, "--files", str(facts), *YEAR, "--validated-on", "2026-04-02", "--out", str(out)) == 0
    assert {record["ValidDate"] for record in records(out.read_bytes())} == {"20260402"}


def test_the_name_follows_the_fiscal_year(facts: Path, tmp_path: Path) -> None:
    text = (WORKED_DAY / "shop.toml").read_text(encoding="utf-8").replace('"01-01"', '"07-01"')
    (tmp_path / "shop.toml").write_text(text, encoding="utf-8")
    period = ("--from", "2026-03-01", "--to", "2026-03-31")
    assert fec("--shop", str(tmp_path / "shop.toml"), "--files", str(facts), *period, "--out", str(tmp_path)) == 0
    assert (tmp_path / "123456782FEC20260630.txt").exists()


def test_held_days_are_told_and_not_in_the_file(
    shop: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (facts / "payments.csv").read_text(encoding="utf-8").replace("cash,13.65", "bitcoin,13.65")
    (facts / "payments.csv").write_text(text, encoding="utf-8")
    out = tmp_path / "fec.txt"
    assert fec("--shop", shop, "--files", str(facts), *YEAR, "--out", str(out)) == 2
    assert {record["JournalCode"] for record in records(out.read_bytes())} == {"BQ"}
    assert "unknown_method: 2026-03-14 C1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--from", "2026-03-01", "--to", "2027-03-01"), "more than the fiscal year 2026-01-01 to 2026-12-31"),
        (("--from", "2026-03-02", "--to", "2026-03-01"), "is after --to"),
    ],
)
def test_a_period_a_fec_cannot_hold_is_refused(
    options: tuple[str, ...], told: str, shop: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fec("--shop", shop, "--files", str(facts), *options, "--out", str(tmp_path / "fec.txt")) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "fec.txt").exists()


def test_what_is_needed_and_missing_is_told(
    shop: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "fec.txt"))
    assert fec("--shop", shop, *YEAR, *out) == 1
    assert "give --files (facts) or --entries" in capsys.readouterr().err
    assert fec("--shop", shop, *YEAR, *out, "--entries", str(tmp_path / "nowhere")) == 1
    assert "entries.csv: this table is missing" in capsys.readouterr().err
    text = Path(shop).read_text(encoding="utf-8").replace('siren = "123456782"\n', "")
    Path(shop).write_text(text, encoding="utf-8")
    assert fec("--shop", shop, "--files", str(facts), *YEAR, *out) == 1
    assert 'add siren = "123456782" to [shop]' in capsys.readouterr().err
    assert not (tmp_path / "fec.txt").exists()


def test_entries_spoilt_by_hand_are_refused_by_our_own_checks(
    shop: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = tmp_path / "built"
    assert run("build", "--shop", shop, "--files", str(facts), "--out", str(built)) == 0
    text = (built / "entry_lines.csv").read_text(encoding="utf-8")
    (built / "entry_lines.csv").write_text(text.replace("13.65,0.00", "13.64,0.00", 1), encoding="utf-8")
    assert fec("--shop", shop, "--entries", str(built), *YEAR, "--out", str(tmp_path / "fec.txt")) == 1
    assert "entry 000001 has 0,01 too much credit" in capsys.readouterr().err
    assert not (tmp_path / "fec.txt").exists()


# --- the checks ----------------------------------------------------------------------------------------------------

WORDS = "C1|Caisse 1|000001|20260314|530000|Caisse|||T1|20260314|Vente T1|1,00|0,00|||20260314||"
LINE = dict(zip(COLUMNS, WORDS.split("|"), strict=True))


def text_of(*lines: dict[str, str]) -> str:
    return "".join("\t".join(row) + "\r\n" for row in [COLUMNS, *(tuple(line.values()) for line in lines)])


def entry(number: str, **changes: str) -> list[dict[str, str]]:
    """A balanced entry of two lines; `changes` go to both."""
    line = LINE | {"EcritureNum": number} | changes
    return [line, line | {"Debit": line["Credit"], "Credit": line["Debit"], "CompteNum": "580200"}]


SPOILT: dict[str, tuple[list[dict[str, str]], list[tuple[int, str]]]] = {
    "nothing wrong": ([*entry("000001"), *entry("000002")], []),
    "numbers from 7": ([*entry("7"), *entry("8")], []),
    "unbalanced entry": ([*entry("000001")[:1], *entry("000001", Debit="0,99")[1:]], [(2, "unbalanced")]),
    "a gap": ([*entry("000001"), *entry("000003")], [(4, "gap")]),
    "a repeat": ([*entry("000001"), *entry("000002"), *entry("000001")], [(6, "repeat")]),
    "a number that is none": (entry("A1"), [(2, "number")]),
    "two dates": ([entry("1")[0], entry("1", EcritureDate="20260315")[1]], [(3, "two_dates")]),
    "two journals": ([entry("1")[0], entry("1", JournalCode="C2")[1]], [(3, "two_journals")]),
    "auxiliary without name": (entry("1", CompAuxNum="C42"), [(2, "pair"), (3, "pair")]),
    "name without auxiliary": (entry("1", CompAuxLib="Mairie"), [(2, "pair"), (3, "pair")]),
    "lettering without date": (entry("1", EcritureLet="A"), [(2, "pair"), (3, "pair")]),
    "currency without amount": (entry("1", Idevise="USD"), [(2, "pair"), (3, "pair")]),
    "both sides": ([entry("1", Credit="1,00")[0]], [(2, "two_sides")]),
    "no side": ([*entry("1"), LINE | {"EcritureNum": "1", "Debit": "0,00"}], [(4, "no_side")]),
    "decimal point": (
        [entry("1")[0] | {"Debit": "1.00"}, entry("1")[1]],
        [(2, "amount"), (2, "no_side"), (2, "unbalanced")],
    ),
    "account of two digits": (
        [entry("1", CompteNum="53")[0], entry("1")[1]],
        [(2, "account")],
    ),
    "account from a letter": ([entry("1", CompteNum="C53000")[0], entry("1")[1]], [(2, "account")]),
    "a day that is none": (entry("1", PieceDate="20260230"), [(2, "date"), (3, "date")]),
    "dashes in ValidDate": (entry("1", ValidDate="2026-03-14"), [(2, "date"), (3, "date")]),
    "no ValidDate": (entry("1", ValidDate=""), [(2, "date"), (3, "date")]),
    "no account label": (entry("1", CompteLib=""), [(2, "empty"), (3, "empty")]),
    "no piece": (entry("1", PieceRef=" "), [(2, "empty"), (3, "empty")]),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_the_official_tester_lets_pass_is_found(case: str) -> None:
    lines, expected = SPOILT[case]
    found = check_fec(text_of(*lines))
    assert sorted((finding.line, finding.code) for finding in found) == sorted(expected)
    assert all(f"line {finding.line}" in str(finding) for finding in found)


def test_a_spoilt_frame_is_found() -> None:
    good = text_of(*entry("1"))
    assert [finding.code for finding in check_fec("")] == ["header"]
    assert [finding.code for finding in check_fec(good.replace("CompteNum", "Compte", 1))] == ["header"]
    assert [finding.code for finding in check_fec(good.replace("Vente T1", "Vente\tT1", 1))] == ["fields", "unbalanced"]
    assert check_fec(good.replace("\r\n", "\n").replace("\t", "|")) == []
    assert check_fec("\ufeff" + good) == []
