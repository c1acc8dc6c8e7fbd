"""The "Bad input table": folders a shop could really hand in, each answered by file, row and column, never a traceback.

Every case spoils a copy of the worked day and runs the real command line. What holds a register-day instead of
refusing the folder is in test_build.py.
"""

import gzip
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kash_pipeline.cli.main import main

WORKED_DAY = Path(__file__).resolve().parents[1] / "golden" / "worked_day"

Spoil = Callable[[Path], object]


def change(table: str, old: str, new: str) -> Spoil:
    """Replace text in a table; the text must be there, or the case would prove nothing."""

    def spoil(folder: Path) -> None:
        file = folder / f"{table}.csv"
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    return spoil


def add(table: str, row: str) -> Spoil:
    def spoil(folder: Path) -> None:
        with (folder / f"{table}.csv").open("a", encoding="utf-8") as stream:
            stream.write(row + "\n")

    return spoil


def content(name: str, data: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(data)


def as_parquet(table: str, **columns: pa.DataType) -> Spoil:
    """The table as Parquet, some columns stored in another type."""

    def spoil(folder: Path) -> None:
        file = folder / f"{table}.csv"
        frame = pd.read_csv(file, dtype="str")
        data = {name: pa.array(frame[name].where(frame[name].notna(), None), pa.string()) for name in frame}
        for name, type_ in columns.items():
            source = [None if value is None else Decimal(value) for value in data[name].to_pylist()]
            if pa.types.is_integer(type_) or pa.types.is_floating(type_):
                source = [None if value is None else float(value) for value in source]
            data[name] = pa.array(source, type_, safe=False) if not pa.types.is_string(type_) else data[name]
        pq.write_table(pa.table(data), folder / f"{table}.parquet")
        file.unlink()

    return spoil


def compressed(table: str, keep: slice) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / f"{table}.csv"
        (folder / f"{table}.csv.gz").write_bytes(gzip.compress(file.read_bytes())[keep])
        file.unlink()

    return spoil


def everything_gone(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


LATIN = "Caf\u00e9".encode("latin-1")
CASES: dict[str, tuple[Spoil, list[str]]] = {
    # -- the folder
    "empty folder": (
        everything_gone,
        ["orders: this table is missing", "registers: this table is missing", "order_id"],
    ),
    "no such folder": (shutil.rmtree, ["there is no such folder"]),
    "a table is missing": (lambda f: (f / "orders.csv").unlink(), ["orders: this table is missing"]),
    "two files of one table": (
        content("orders.csv.gz", gzip.compress(b"order_id\n")),
        ["orders.csv and orders.csv.gz", "table orders stands in 2 files", "keep exactly one"],
    ),
    "misspelt table": (
        lambda f: (f / "payments.csv").rename(f / "payment.csv"),
        ["payment.csv", "no table of facts has this name", "did you mean payments"],
    ),
    "a spreadsheet": (content("customers.xlsx", b"PK"), ["customers.xlsx", "is not read", "customers.csv"]),
    # -- the file
    "empty file": (content("payments.csv", b""), ["payments.csv", "the file is empty"]),
    "wrong encoding": (
        lambda f: (f / "order_lines.csv").write_bytes(
            (f / "order_lines.csv").read_bytes().replace("Café".encode(), LATIN)
        ),
        ["order_lines.csv, row 12", "not UTF-8: byte 0xe9", "save the file as UTF-8"],
    ),
    "UTF-16 from a spreadsheet": (
        lambda f: (f / "orders.csv").write_bytes((f / "orders.csv").read_text("utf-8").encode("utf-16")),
        ["orders.csv, row 1", "UTF-16"],
    ),
    "semicolons": (
        lambda f: (f / "registers.csv").write_text("register_id;name\nC1;Caisse 1\n"),
        ["registers.csv, row 1", "separated by semicolons", "commas"],
    ),
    "a cut gzip file": (compressed("order_lines", slice(0, 120)), ["order_lines.csv.gz", "compressed file is damaged"]),
    "plain text named gz": (
        lambda f: (f / "vat_rates.csv").rename(f / "vat_rates.csv.gz"),
        ["vat_rates.csv.gz", "compressed file is damaged"],
    ),
    "no parquet at all": (
        lambda f: (f / "customers.csv").rename(f / "customers.parquet"),
        ["customers.parquet", "is no readable Parquet file"],
    ),
    "ragged row: comma without quotes": (
        change("order_lines", '"Vin rouge, bouteille"', "Vin rouge, bouteille"),
        ["order_lines.csv, row 10", "9 cells instead of 8", "quotes"],
    ),
    "ragged row: cells missing": (
        add("closing_counts", "Z-C1-20260314,transfer"),
        ["closing_counts.csv, row 6", "2 cells"],
    ),
    "a quote never closed": (
        change("order_lines", "Baguette tradition", '"Baguette tradition'),
        ["order_lines.csv, row 2", "a quote opened here is not closed"],
    ),
    "a NUL character": (change("orders", "T6,T6", "T6,T\0"), ["orders.csv, row 7, column number", "NUL"]),
    # -- the header
    "missing column": (change("orders", "total", "amount_due"), ["orders.csv, column total: this column is missing"]),
    "unknown column": (
        change("orders", "customer_id", "custommer_id"),
        ["orders.csv, row 1, column custommer_id", "unknown column", "did you mean customer_id?"],
    ),
    "cents in CSV": (
        change("payments", "amount", "amount_cents"),
        ["payments.csv", "amount_cents", "did you mean amount?"],
    ),
    "a column twice": (
        change("closing_counts", "expected,counted", "counted,counted"),
        ["closing_counts.csv, row 1, column counted", "stands twice"],
    ),
    # -- amounts
    "decimal comma": (
        change("order_lines", "10,4.05,0.45", '10,"4,05",0.45'),
        ["order_lines.csv, row 5, column total: '4,05'", "write 4.05"],
    ),
    "three decimals": (
        change("orders", ",,,13.65", ",,,13.657"),
        ["orders.csv, row 2, column total: '13.657'", "at most two decimals"],
    ),
    "euro sign": (change("payments", "9.00", "9.00 €"), ["payments.csv, row 4, column amount: '9.00 €'", "write 9.00"]),
    "NaN": (change("payments", "9.00", "NaN"), ["payments.csv, row 4, column amount: 'NaN'"]),
    "infinity": (change("payments", "-4.05", "-inf"), ["payments.csv, row 3, column amount: '-inf'"]),
    "scientific notation": (change("payments", "9.00", "9e2"), ["payments.csv, row 4, column amount: '9e2'"]),
    "beyond int64": (
        change("orders", "21.50", "99999999999999999999.00"),
        ["orders.csv, row 4, column total: '99999999999999999999.00'", "10 digits"],
    ),
    "empty amount": (change("orders", "21.50", ""), ["orders.csv, row 4, column total", "the cell is empty"]),
    "thousands separator": (
        change("closings", "103.50,103.50", '"1 103,50",103.50'),
        ["closings.csv, row 2, column total: '1 103,50'", "write 1103.50"],
    ),
    # -- rates, quantities, numbers
    "rate with percent sign": (
        change("order_lines", "1,20,3.90", "1,20 %,3.90"),
        ["order_lines.csv, row 6, column vat_rate: '20 %'", "write 20"],
    ),
    "rate above 100": (
        change("order_lines", "1,20,3.90", "1,550,3.90"),
        ["row 6, column vat_rate: '550'", "0 and 100"],
    ),
    "negative rate": (change("vat_rates", "5.5", "-5.5"), ["vat_rates.csv, row 3, column vat_rate: '-5.5'"]),
    "quantity of four decimals": (
        change("order_lines", "Galette,1,", "Galette,0.1234,"),
        ["order_lines.csv, row 14, column quantity: '0.1234'", "three decimals"],
    ),
    "line number zero": (change("order_lines", "T6,1,", "T6,0,"), ["row 14, column line_no: '0'", "from 1"]),
    # -- days and instants
    "a day that is none": (
        change("orders", "T3,T3,C1,2026-03-14", "T3,T3,C1,2026-02-30"),
        ["orders.csv, row 4, column business_day: '2026-02-30'", "YYYY-MM-DD"],
    ),
    "French day": (
        change("payments", "BQ,2026-03-20", "BQ,20/03/2026"),
        ["payments.csv, row 9, column business_day: '20/03/2026'", "write 2026-03-20"],
    ),
    "absurd year": (
        change("closings", "C1,2026-03-14", "C1,0206-03-14"),
        ["closings.csv, row 2, column business_day: '0206-03-14'", "1990-01-01"],
    ),
    "instant as a day": (
        change("payments", "BQ,2026-03-20,", "BQ,2026-03-20T10:00:00+01:00,"),
        ["payments.csv, row 9, column business_day", "write 2026-03-20"],
    ),
    "instant without offset": (
        change("orders", "2026-03-14T08:12:00+01:00", "2026-03-14T08:12:00"),
        ["orders.csv, row 2, column validated_at: '2026-03-14T08:12:00'", "offset"],
    ),
    "hour 25": (
        change("orders", "2026-03-14T08:12:00+01:00", "2026-03-14T25:12:00+01:00"),
        ["orders.csv, row 2, column validated_at: '2026-03-14T25:12:00+01:00'"],
    ),
    # -- words
    "unknown nature": (
        change("order_lines", "voucher_multi", "voucher_mult"),
        ["order_lines.csv, row 13, column nature: 'voucher_mult'", "write voucher_multi"],
    ),
    "unknown kind of method": (
        change("payment_methods", "Espèces,cash", "Espèces,especes"),
        ["payment_methods.csv, row 2, column kind: 'especes'", "write one of cash"],
    ),
    "unknown kind of customer": (
        change("customers", "company", "Compny"),
        ["customers.csv, row 2, column kind: 'Compny'"],
    ),
    # -- rows against each other
    "line of an unknown order": (
        add("order_lines", "T9,1,Croissant,1,5.5,1.10,,"),
        ["order_lines.csv, row 16, column order_id: 'T9' is no order of this folder", "orders.csv"],
    ),
    "count of an unknown closing": (
        add("closing_counts", "Z-9,cash,0.00,0.00"),
        ["closing_counts.csv, row 6, column closing_id: 'Z-9' is no closing"],
    ),
    "closed before opened": (
        change("closings", "2026-03-14T19:30:00+01:00", "2026-03-13T19:30:00+01:00"),
        ["closings.csv, row 2, column closed_at: is before opened_at"],
    ),
    "a line twice": (
        add("order_lines", "T6,2,Boîte de confiseries,1,20,10.40,,"),
        ["order_lines.csv, row 16, column order_id, line_no: 'T6', 2 stood in row 15 already"],
    ),
    "a method twice": (
        add("payment_methods", "cash,Monnaie,cash,"),
        ["payment_methods.csv, row 8, column method_id: 'cash' stood in row 2 already"],
    ),
    "a register twice": (add("registers", "C1,Caisse 1 bis,"), ["registers.csv, row 4", "'C1' stood in row 2"]),
    # -- parquet
    "float amounts in parquet": (
        as_parquet("orders", total=pa.float64()),
        ["orders.parquet, column total: type double is not accepted", "total_cents", "float"],
    ),
    "integers that say no unit": (
        as_parquet("orders", total=pa.int64()),
        ["orders.parquet, column total", "name the column total_cents"],
    ),
}


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WORKED_DAY / "facts", tmp_path / "facts"))


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named_by_file_row_and_column(
    case: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, expected = CASES[case]
    spoil(facts)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        main(["build", "--shop", str(WORKED_DAY / "shop.toml"), "--files", str(facts), "--out", str(out)])
    told = capsys.readouterr().err
    assert end.value.code == 1, told
    for fragment in expected:
        assert fragment in told
    assert "next step: " in told
    assert "Traceback" not in told
    assert not out.exists()
