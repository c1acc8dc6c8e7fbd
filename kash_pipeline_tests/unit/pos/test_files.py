"""The files interface as facts: what is accepted in which form, and that nothing changes on the way through a file."""

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kash_pipeline.pos import cells
from kash_pipeline.pos.errors import FilesError
from kash_pipeline.pos.files import FilesSource, read_folder, write_folder, writing_folder
from kash_pipeline.pos.port import RawDocument, Source
from kash_pipeline.schemas.facts import FACTS, Facts

WORKED_DAY = Path(__file__).resolve().parents[2] / "golden" / "worked_day" / "facts"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WORKED_DAY, tmp_path / "facts"))


def assert_equal(one: Facts, other: Facts) -> None:
    for name, frame in one.tables().items():
        pd.testing.assert_frame_equal(frame, other.tables()[name], obj=name)


def test_the_worked_day_is_what_its_schemas_say() -> None:
    facts = read_folder(WORKED_DAY)
    for name, frame in facts.tables().items():
        FACTS[name].validate(frame, lazy=True)
    lines = facts.order_lines.set_index(["order_id", "line_no"])
    assert lines.loc[("T1", 4), ["total_cents", "discount_cents", "vat_rate_bp", "quantity_milli"]].tolist() == [
        405,
        45,
        1000,
        1000,
    ]
    assert lines.loc[("T2", 1), "total_cents"] == -405
    assert lines["nature"].tolist().count("sale") == 13
    orders = facts.orders.set_index("order_id")
    assert orders.loc["T1", "validated_at"] == pd.Timestamp("2026-03-14T07:12:00Z")
    assert pd.isna(orders.loc["T1", "customer_id"])
    assert orders.loc["T4", "customer_id"] == "C0042"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_facts_come_back_equal_from_every_form(suffix: str, tmp_path: Path) -> None:
    facts = read_folder(WORKED_DAY)
    write_folder(facts, tmp_path / "copy", suffix=suffix)
    assert_equal(facts, read_folder(tmp_path / "copy"))


def test_the_same_facts_give_the_same_bytes(tmp_path: Path) -> None:
    """gzip writes the time of day into its header unless told not to."""
    facts = read_folder(WORKED_DAY)
    for name in ("one", "two"):
        write_folder(facts, tmp_path / name, suffix=".csv.gz")
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert [(tmp_path / "one" / name).read_bytes() for name in files] == [
        (tmp_path / "two" / name).read_bytes() for name in files
    ]


def test_columns_in_any_order_bom_crlf_and_blank_lines_change_nothing(folder: Path) -> None:
    expected = read_folder(folder)
    text = (folder / "orders.csv").read_text(encoding="utf-8")
    rows = [",".join(reversed(row.split(","))) for row in text.splitlines()]
    (folder / "orders.csv").write_text("\ufeff" + "\r\n\r\n".join(rows), encoding="utf-8", newline="")
    assert_equal(expected, read_folder(folder))


def test_optional_tables_and_columns_may_be_left_out(folder: Path) -> None:
    for name in ("payments", "closings", "closing_counts", "vat_rates", "customers"):
        (folder / f"{name}.csv").unlink()
    (folder / "order_lines.csv").write_text(
        "order_id,line_no,label,quantity,vat_rate,total\nT1,1,,1,5.5,1.20\n", encoding="utf-8"
    )
    facts = read_folder(folder)
    assert len(facts.payments) == len(facts.customers) == 0
    assert facts.order_lines["nature"].tolist() == ["sale"]
    assert facts.order_lines["vat_cents"].isna().all()
    for name, frame in facts.tables().items():
        FACTS[name].validate(frame, lazy=True)


def test_a_table_with_a_header_only_says_there_are_none(folder: Path) -> None:
    for name in ("orders", "order_lines", "payments", "closings", "closing_counts"):
        header = (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0]
        (folder / f"{name}.csv").write_text(header, encoding="utf-8")
    facts = read_folder(folder)
    assert len(facts.orders) == len(facts.order_lines) == 0
    for name, frame in facts.tables().items():
        FACTS[name].validate(frame, lazy=True)


def test_quoted_commas_quotes_and_line_breaks_stay_in_the_cell(folder: Path) -> None:
    with (folder / "order_lines.csv").open("a", encoding="utf-8") as stream:
        stream.write('T6,3,"Menu ""du jour"",\nà emporter",1,10,0.00,,\nT6,4,Rien,1,10,0.001,,\n')
    with pytest.raises(FilesError) as refused:
        read_folder(folder)
    # The row named is the line of the file, which the line break inside a cell has shifted by one.
    assert [problem.row for problem in refused.value.problems] == [18]
    text = (folder / "order_lines.csv").read_text(encoding="utf-8").replace("0.001", "0.00")
    (folder / "order_lines.csv").write_text(text, encoding="utf-8")
    assert read_folder(folder).order_lines["label"].tolist()[-2] == 'Menu "du jour",\nà emporter'


def test_long_cells_and_quoted_headers_are_no_damage(folder: Path) -> None:
    text = (folder / "customers.csv").read_text(encoding="utf-8")
    header, row = text.splitlines()
    header = ",".join(f'"{name}"' for name in header.split(","))
    long_name = "Mairie " * 30_000
    (folder / "customers.csv").write_text(f"\ufeff{header}\n{row.replace('Mairie', long_name)}\n", encoding="utf-8")
    assert read_folder(folder).customers["name"].str.len().tolist() == [len(long_name) + len(" de Sainte-Luce")]
    (folder / "customers.csv").write_text(f"{header}\n{row.replace('company', long_name)}\n", encoding="utf-8")
    with pytest.raises(FilesError) as refused:
        read_folder(folder)
    (problem,) = refused.value.problems
    assert (problem.row, problem.column) == (2, "kind")
    assert len(str(problem)) < 400


def test_several_problems_are_told_at_once_and_capped(folder: Path) -> None:
    text = (folder / "order_lines.csv").read_text(encoding="utf-8").replace("5.5,", "5;5,")
    (folder / "order_lines.csv").write_text(text, encoding="utf-8")
    (folder / "registers.csv").write_text("register_id\nC1\n", encoding="utf-8")
    with pytest.raises(FilesError) as refused:
        read_folder(folder)
    told = [str(problem) for problem in refused.value.problems]
    assert [line.partition(":")[0] for line in told] == [
        "order_lines.csv, row 2, column vat_rate",
        "order_lines.csv, row 3, column vat_rate",
        "order_lines.csv, row 4, column vat_rate",
        "order_lines.csv, row 9, column vat_rate",
        "order_lines.csv, row 11, column vat_rate",
        "order_lines.csv, column vat_rate",
        "registers.csv, column name",
    ]
    assert "1 more cells" in told[5]


# --- parquet -------------------------------------------------------------------------------------------------------


def parquet(folder: Path, table: str, change: Callable[[dict[str, pa.Array]], None]) -> None:
    """A table of the folder as Parquet of text columns, changed by `change`."""
    frame = pd.read_csv(folder / f"{table}.csv", dtype="str", keep_default_na=False)
    columns = {name: pa.array([value or None for value in frame[name]], pa.string()) for name in frame}
    change(columns)
    pq.write_table(pa.table(columns), folder / f"{table}.parquet")
    (folder / f"{table}.csv").unlink()


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("amount", pa.decimal128(10, 2)),
        ("amount", pa.decimal128(30, 6)),
        ("amount", pa.decimal256(40, 4)),
        ("amount", pa.string()),
        ("amount", pa.dictionary(pa.int16(), pa.string())),
        ("amount_cents", pa.int32()),
        ("amount_cents", pa.int64()),
    ],
    ids=str,
)
def test_parquet_amounts_may_be_decimal_or_integer_cents(name: str, type_: pa.DataType, folder: Path) -> None:
    expected = read_folder(folder)

    def change(columns: dict[str, pa.Array]) -> None:
        amounts = [Decimal(value) for value in columns.pop("amount").to_pylist()]
        if pa.types.is_integer(type_):
            columns[name] = pa.array([int(amount * 100) for amount in amounts], type_)
        elif pa.types.is_decimal(type_):
            columns[name] = pa.array(amounts, type_)
        else:
            columns[name] = pa.array([str(amount) for amount in amounts]).cast(type_)

    parquet(folder, "payments", change)
    assert_equal(expected, read_folder(folder))


def test_parquet_days_instants_rates_and_ids_in_their_own_types(folder: Path) -> None:
    expected = read_folder(folder)

    def lines(columns: dict[str, pa.Array]) -> None:
        # A rate or quantity stored as float is what pandas makes of it; neither is money.
        columns["vat_rate"] = pa.array([float(value) for value in columns["vat_rate"].to_pylist()])
        columns["quantity"] = pa.array([int(value) for value in columns["quantity"].to_pylist()])
        columns["line_no"] = pa.array([int(value) for value in columns["line_no"].to_pylist()], pa.int8())

    def orders(columns: dict[str, pa.Array]) -> None:
        columns["business_day"] = columns["business_day"].cast(pa.date32())
        columns["validated_at"] = columns["validated_at"].cast(pa.timestamp("ns", "Europe/Paris"))
        columns["total"] = columns["total"].cast(pa.decimal128(9, 2))

    def closings(columns: dict[str, pa.Array]) -> None:
        columns["business_day"] = columns["business_day"].cast(pa.date32()).cast(pa.timestamp("ns"))

    parquet(folder, "order_lines", lines)
    parquet(folder, "orders", orders)
    parquet(folder, "closings", closings)
    assert_equal(expected, read_folder(folder))


@pytest.mark.parametrize(
    ("table", "column", "array", "told"),
    [
        ("payments", "amount", pa.array([1.5] * 8), "type double is not accepted"),
        ("payments", "amount", pa.array([150] * 8), "name the column amount_cents"),
        ("payments", "amount_cents", pa.array([1.5] * 8), "must be of an integer type"),
        ("payments", "amount_cents", pa.array([10**12] * 8), "row 1, column amount_cents: '1000000000000'"),
        ("payments", "amount_cents", pa.array([2**64 - 1] * 8, pa.uint64()), "row 1, column amount_cents"),
        ("payments", "amount", pa.array([Decimal("1.005")] * 8), "row 1, column amount: '1.005'"),
        ("payments", "amount", pa.array([Decimal("1e20")] * 8), "row 1, column amount: '100000000000000000000.00'"),
        ("payments", "business_day", pa.array([pd.Timestamp("2026-03-14 23:10")] * 8), "store it as a date"),
        ("payments", "business_day", pa.array([date(206, 3, 14)] * 8), "row 1, column business_day: '0206-03-14'"),
        ("payments", "paid_at", pa.array([pd.Timestamp("2026-03-14 23:10")] * 8), "with time zone UTC"),
        ("payments", "method_id", pa.array([17.0] * 8), "store it as a string"),
    ],
    ids=lambda value: str(value)[:30].replace("\n", " "),
)
def test_parquet_types_that_could_lose_or_hide_something_are_refused(
    table: str, column: str, array: pa.Array, told: str, folder: Path
) -> None:
    def change(columns: dict[str, pa.Array]) -> None:
        columns.pop(column.removesuffix("_cents"))
        columns[column] = array

    parquet(folder, table, change)
    with pytest.raises(FilesError) as refused:
        read_folder(folder)
    assert told in str(refused.value)


def test_integer_ids_of_a_parquet_file_are_text(folder: Path) -> None:
    parquet(folder, "customers", lambda columns: columns.update(customer_id=pa.array([42])))
    assert read_folder(folder).customers["customer_id"].tolist() == ["42"]


# --- cells ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.none(), st.integers(1 - 10**12, 10**12 - 1)), max_size=20))
def test_amounts_survive_writing_and_reading(amounts: list[int | None]) -> None:
    text = cells.to_text(pa.array(amounts, pa.int64()), "cents")
    assert [None if cell is None else int(Decimal(cell) * 100) for cell in text.to_pylist()] == amounts
    again = cells.parse(text, "cents")
    assert again.values.to_pylist() == amounts
    assert len(again.bad) == 0


@given(st.text(alphabet="0123456789.,-+eE €NaInf", max_size=12))
def test_a_cell_is_an_amount_only_in_the_one_form(cell: str) -> None:
    """Whatever is accepted means exactly what decimal arithmetic says it means."""
    parsed = cells.parse(pa.array([cell]), "cents")
    if len(parsed.bad):
        assert parsed.bad.tolist() == [0]
    else:
        assert Decimal(parsed.values[0].as_py()) == Decimal(cell) * 100
        assert not set(cell) - set("0123456789.-")


@pytest.mark.parametrize(
    ("kind", "cell", "meant"),
    [
        ("cents", "4,05 €", "4.05"),
        ("cents", "1 234,50", "1234.50"),
        ("cents", "13.650", "13.65"),
        ("cents", "13.657", ""),
        ("cents", "1,234,567", ""),
        ("cents", "NaN", ""),
        ("int", "3.0", "3"),
        ("int", "3.5", ""),
        ("milli", "1.2500", "1.250"),
        ("bp", "5,5%", "5.5"),
        ("bp", "0.055", ""),
        ("day", "20/03/2026", "2026-03-20"),
        ("day", "31/02/2026", ""),
    ],
)
def test_a_suggestion_is_made_only_where_the_meaning_is_plain(kind: str, cell: str, meant: str) -> None:
    assert cells.suggestion(kind, cell) == meant


# --- writing and the adapter ---------------------------------------------------------------------------------------


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def stop_in_the_middle() -> None:
        with writing_folder(target) as staging:
            (staging / "entries.csv").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_in_the_middle()
    assert list(tmp_path.iterdir()) == []

    target.mkdir()
    (target / "entries.csv").write_text("old")
    (target / "mine.txt").write_text("kept")
    with pytest.raises(KeyboardInterrupt):
        stop_in_the_middle()
    assert {file.name: file.read_text() for file in target.iterdir()} == {"entries.csv": "old", "mine.txt": "kept"}

    with writing_folder(target) as staging:
        (staging / "entries.csv").write_text("new")
    assert {file.name: file.read_text() for file in target.iterdir()} == {"entries.csv": "new", "mine.txt": "kept"}
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FilesError, match="cannot be written"), writing_folder(tmp_path / "file"):
        pass
    with pytest.raises(FilesError, match="cannot be written"), writing_folder(tmp_path / "file" / "below"):
        pass


def test_facts_are_not_written_beside_the_same_table_in_another_form(folder: Path) -> None:
    with pytest.raises(FilesError, match=r"stands here in another form"):
        write_folder(read_folder(folder), folder, suffix=".parquet")
    assert len(read_folder(folder).orders) == 6


def test_the_adapter_gives_each_row_on_its_day_and_no_row_twice(folder: Path) -> None:
    kept: list[RawDocument] = []
    source = FilesSource(folder, keep=kept.append)
    assert isinstance(source, Source)
    days = list(source.sales(date(2026, 3, 13), date(2026, 3, 20)))
    assert [day.day.isoformat() for day in days] == [f"2026-03-{number}" for number in range(13, 21)]
    assert [(len(day.orders), len(day.order_lines), len(day.payments)) for day in days if len(day.payments)] == [
        (6, 14, 7),
        (0, 0, 1),
    ]
    closings = list(source.closings(date(2026, 3, 14), date(2026, 3, 15)))
    assert [(len(day.closings), len(day.closing_counts)) for day in closings] == [(1, 4), (0, 0)]
    for day in days:
        FACTS["orders"].validate(day.orders, lazy=True)
        FACTS["payments"].validate(day.payments, lazy=True)
    facts = read_folder(folder)
    pd.testing.assert_frame_equal(days[1].order_lines, facts.order_lines)
    assert sorted(source.reference()) == [
        "customers",
        "department_groups",
        "departments",
        "payment_methods",
        "registers",
        "vat_rates",
    ]
    assert {document.call for document in kept} == {file.name for file in folder.iterdir()}
    assert next(d.body for d in kept if d.call == "orders.csv") == (folder / "orders.csv").read_bytes()


def test_a_payment_follows_its_order_to_the_day_of_the_order(folder: Path) -> None:
    """The day's file of sales holds the payments nested in its orders, whatever day they were made on."""
    text = (folder / "payments.csv").read_text(encoding="utf-8").replace("P3,T3,C1,2026-03-14", "P3,T3,C1,2026-03-16")
    (folder / "payments.csv").write_text(text, encoding="utf-8")
    first, *_, last = FilesSource(folder).sales(date(2026, 3, 14), date(2026, 3, 16))
    assert "P3" in first.payments["payment_id"].tolist()
    assert len(last.payments) == 0


@pytest.mark.parametrize("without", [("orders", "order_lines"), ("payments",), ("closings", "closing_counts")], ids=str)
def test_the_adapter_reads_a_folder_that_has_none_of_something(without: tuple[str, ...], folder: Path) -> None:
    for name in without:
        header = (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0]
        (folder / f"{name}.csv").write_text(header + "\n", encoding="utf-8")
    facts, source = read_folder(folder), FilesSource(folder)
    days = list(source.sales(date(2026, 3, 14), date(2026, 3, 20)))
    for name in ("orders", "order_lines", "payments"):
        assert sum(len(getattr(day, name)) for day in days) == len(facts.tables()[name])
    assert sum(len(day.closings) for day in source.closings(date(2026, 3, 14), date(2026, 3, 14))) == len(
        facts.closings
    )


def test_a_ticket_that_comes_twice_is_handed_on_for_its_day_to_be_held(folder: Path) -> None:
    with (folder / "orders.csv").open("a", encoding="utf-8") as stream:
        stream.write("T1,T1,C1,2026-03-16,,,,13.65\n")
    with (folder / "closings.csv").open("a", encoding="utf-8") as stream:
        stream.write("Z-C1-20260314,C1,2026-03-15,,2026-03-15T19:30:00+01:00,,,,\n")
    source = FilesSource(folder)
    first, _, last = source.sales(date(2026, 3, 14), date(2026, 3, 16))
    assert (len(first.orders), len(first.order_lines), len(last.orders), len(last.order_lines)) == (6, 14, 1, 0)
    assert [len(day.closings) for day in source.closings(date(2026, 3, 14), date(2026, 3, 15))] == [1, 1]


def test_gzip_written_by_other_tools_is_read(folder: Path) -> None:
    """Several gzip members in one file, as `cat a.gz b.gz` and log rotation make them."""
    data = (folder / "payments.csv").read_bytes()
    cut = data.index(b"\n") + 1
    (folder / "payments.csv.gz").write_bytes(gzip.compress(data[:cut]) + gzip.compress(data[cut:]))
    (folder / "payments.csv").unlink()
    assert len(read_folder(folder).payments) == 8


def test_reading_imports_no_database_and_no_dagster() -> None:
    code = "import sys, kash_pipeline.pos.files; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'pyarrow'" in loaded
    for name in ("dagster", "sqlalchemy", "psycopg", "httpx"):
        assert f"'{name}'" not in loaded
