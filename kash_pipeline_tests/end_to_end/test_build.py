"""`kash-pipeline build` as a shop uses it: what comes out, what holds a register-day, what stays as it was."""

import csv
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest

from kash_pipeline.cli.main import main
from kash_pipeline.pos.files import read_folder, read_results, write_folder
from kash_pipeline.schemas.entries import ENTRIES, ENTRY_LINES, HELD, NOTICES, TRIAL_BALANCE
from kash_pipeline_tests.end_to_end.test_build_bad_input import Spoil, add, change

WORKED_DAY = Path(__file__).resolve().parents[1] / "golden" / "worked_day"
SHOP = WORKED_DAY / "shop.toml"
RESULTS = ("entries.csv", "entry_lines.csv", "held.csv", "notices.csv", "trial_balance.csv")


def build(files: Path, out: Path, *options: str, shop: Path = SHOP) -> int:
    """Exit code of the real command line."""
    try:
        main(["build", "--shop", str(shop), "--files", str(files), "--out", str(out), *options])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WORKED_DAY / "facts", tmp_path / "facts"))


@pytest.fixture(params=["day", "order", "z"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    text = SHOP.read_text(encoding="utf-8").replace('granularity = "day"', f'granularity = "{request.param}"')
    file = tmp_path / "shop.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_worked_day_comes_out_in_the_columns_of_the_interface(
    facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert build(facts, out) == 0
    assert sorted(contents(out)) == sorted(RESULTS)
    headers = {name: (out / name).read_text(encoding="utf-8").splitlines()[0] for name in RESULTS}
    assert headers == {
        "entries.csv": "entry_key,kind,business_day,register_id,journal,date,label,lines,debit,credit,digest",
        "entry_lines.csv": "entry_key,line_no,account,customer_id,vat_rate,method_id,debit,credit,label",
        "held.csv": "business_day,register_id,reason,what,next_step",
        "notices.csv": "business_day,register_id,code,what,amount",
        "trial_balance.csv": "account,customer_id,debit,credit,balance",
    }
    lines = rows(out / "entry_lines.csv")
    assert {(line["account"], line["vat_rate"]) for line in lines if line["vat_rate"]} == {
        ("701055", "5.5"),
        ("701100", "10"),
        ("707200", "20"),
        ("445711055", "5.5"),
        ("445711100", "10"),
        ("445711200", "20"),
    }
    assert all((line["debit"] == "0.00") != (line["credit"] == "0.00") for line in lines)
    told = capsys.readouterr().out
    assert "2026-03-14 to 2026-03-20, 2 days with entries" in told
    assert f"{len(rows(out / 'entries.csv'))} entries, {len(lines)} lines, 307.40 debit and credit" in told


def test_the_trial_balance_is_the_one_of_the_accounting_reference(facts: Path, tmp_path: Path, shop: Path) -> None:
    """86.60 on each side, R and S nil, at every granularity (french-pos-accounting.md, section 5, 14 March alone)."""
    assert build(facts, tmp_path / "out", "--to", "2026-03-14", shop=shop) == 0
    balances = {row["account"]: row["balance"] for row in rows(tmp_path / "out" / "trial_balance.csv")}
    for clearing in ("580100", "580200"):
        assert balances.pop(clearing, "0.00") == "0.00"
    assert balances == {
        "411000": "24.00",
        "511500": "42.50",
        "511700": "10.50",
        "530000": "6.40",
        "658000": "3.20",
        "701055": "-38.00",
        "701100": "-7.73",
        "707200": "-20.75",
        "445711055": "-2.10",
        "445711100": "-0.77",
        "445711200": "-4.15",
        "419100": "-11.60",
        "758000": "-1.50",
    }


def test_results_read_back_are_what_their_schemas_say(facts: Path, tmp_path: Path, shop: Path) -> None:
    (facts / "payments.csv").write_bytes((facts / "payments.csv").read_bytes() + b"P9,T9,K9,2026-03-17,,card,1.00,\n")
    assert build(facts, tmp_path / "out", shop=shop) == 2
    found = read_results(tmp_path / "out")
    for schema in (ENTRIES, ENTRY_LINES, HELD, NOTICES, TRIAL_BALANCE):
        schema.validate(found[str(schema.name)], lazy=True)
    assert len(found["held"]) >= 1
    entries = found["entries"].set_index("entry_key").sort_index()
    lines = found["entry_lines"].groupby("entry_key")
    assert (entries["debit_cents"] == entries["credit_cents"]).all()
    assert (lines["debit_cents"].sum() == entries["debit_cents"]).all()
    assert (lines.size() == entries["lines"]).all()


def test_form_and_order_of_the_facts_change_no_byte(facts: Path, tmp_path: Path, shop: Path) -> None:
    build(facts, tmp_path / "expected", shop=shop)
    for suffix in (".parquet", ".csv.gz"):
        write_folder(read_folder(facts), tmp_path / suffix, suffix=suffix)
        build(tmp_path / suffix, tmp_path / f"out{suffix}", shop=shop)
        assert contents(tmp_path / f"out{suffix}") == contents(tmp_path / "expected")
    shuffle = random.Random(20260314)
    for file in facts.iterdir():
        header, *body = file.read_text(encoding="utf-8").splitlines()
        shuffle.shuffle(body)
        file.write_text("\n".join([header, *body]) + "\n", encoding="utf-8")
    build(facts, tmp_path / "shuffled", shop=shop)
    assert contents(tmp_path / "shuffled") == contents(tmp_path / "expected")


def test_building_again_changes_no_byte_and_keeps_other_files(facts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(facts, out)
    first = contents(out)
    (out / "mine.txt").write_bytes(b"a note")
    build(facts, out)
    assert contents(out) == first | {"mine.txt": b"a note"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["facts", "out"], "nothing temporary is left behind"


def test_days_built_one_by_one_are_the_days_built_together(facts: Path, tmp_path: Path, shop: Path) -> None:
    build(facts, tmp_path / "all", shop=shop)
    together = defaultdict(list)
    for row in rows(tmp_path / "all" / "entries.csv"):
        together[row["business_day"]].append(row)
    for day, entries in together.items():
        build(facts, tmp_path / day, "--from", day, "--to", day, shop=shop)
        assert rows(tmp_path / day / "entries.csv") == entries


def test_no_days_in_the_window_is_no_error(facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(facts, tmp_path / "out", "--from", "2027-01-01") == 0
    assert rows(tmp_path / "out" / "entries.csv") == []
    assert "no entries" in capsys.readouterr().out


def test_a_folder_of_headers_builds_nothing(facts: Path, tmp_path: Path) -> None:
    for file in facts.iterdir():
        file.write_text(file.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
    assert build(facts, tmp_path / "out") == 0
    assert [rows(tmp_path / "out" / name) for name in RESULTS] == [[]] * 5


# --- held days -----------------------------------------------------------------------------------------------------

C1, BQ = ("2026-03-14", "C1"), ("2026-03-20", "BQ")
HELD_CASES: dict[str, tuple[Spoil, tuple[str, str], str, str]] = {
    "unknown method": (change("payments", "cash,13.65", "bitcoin,13.65"), C1, "unknown_method", "'bitcoin'"),
    "method without account": (
        change("payment_methods", "Carte bancaire,card", "Carte bancaire,cheque"),
        C1,
        "unmapped_method",
        "kind cheque",
    ),
    "unknown register": (
        change("orders", "T6,T6,C1", "T6,T6,C9"),
        ("2026-03-14", "C9"),
        "unknown_register",
        "'C9'",
    ),
    "closing of an unknown register": (
        change("closings", "Z-C1-20260314,C1", "Z-C1-20260314,C9"),
        ("2026-03-14", "C9"),
        "unknown_register",
        "'C9'",
    ),
    "rate without account": (change("order_lines", "20,3.90", "19.6,3.90"), C1, "unmapped_sales", "19.6 %"),
    "total that is not its lines": (change("orders", "13.65", "13.66"), C1, "unbalanced_order", "T1"),
    "order without lines": (add("orders", "T7,T7,C1,2026-03-14,,,,5.00"), C1, "order_without_lines", "T7"),
    "the same order twice": (
        add("orders", "T1,T1,C1,2026-03-14,2026-03-14T08:12:00+01:00,,,13.65"),
        C1,
        "duplicate_order",
        "T1",
    ),
    "the same payment twice": (
        add("payments", "P1,T1,C1,2026-03-14,2026-03-14T08:12:30+01:00,cash,13.65,"),
        C1,
        "duplicate_payment",
        "P1",
    ),
    "the same closing twice": (
        add("closings", "Z-C1-20260314,C1,2026-03-14,,2026-03-14T19:30:00+01:00,100.00,106.40,103.50,103.50"),
        C1,
        "duplicate_closing",
        "Z-C1-20260314",
    ),
    "a method counted twice": (
        add("closing_counts", "Z-C1-20260314,cash,109.60,106.40"),
        C1,
        "duplicate_count",
        "Z-C1-20260314",
    ),
    "payment of an unknown order": (change("payments", "P3,T3", "P3,T99"), C1, "unknown_order", "T99"),
    "payment of nothing and nobody": (
        change("payments", "24.00,C0042", "24.00,"),
        BQ,
        "payment_without_customer",
        "P8",
    ),
    "paid more than the total": (change("payments", "cash,13.65", "cash,14.65"), C1, "paid_more_than_total", "T1"),
    "on account of nobody": (change("orders", "C0042", ""), C1, "on_account_without_customer", "T4"),
    "a day before the first chart": (
        change("orders", "T6,T6,C1,2026-03-14", "T6,T6,C1,2019-03-14"),
        ("2019-03-14", "C1"),
        "no_chart",
        "2019-03-14",
    ),
    "VAT table against lines": (
        lambda folder: (folder / "order_vat.csv").write_text(
            "order_id,vat_rate,net,vat\nT1,5.5,5.00,0.70\nT1,10,3.68,0.37\nT1,20,3.25,0.65\n"
        ),
        C1,
        "vat_mismatch",
        "T1",
    ),
}


@pytest.mark.parametrize("case", HELD_CASES)
def test_what_cannot_be_booked_holds_its_register_day_and_no_other(
    case: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, (day, register), reason, named = HELD_CASES[case]
    spoil(facts)
    assert build(facts, tmp_path / "out") == 2
    held = rows(tmp_path / "out" / "held.csv")
    assert {(row["business_day"], row["register_id"]) for row in held} == {(day, register)}
    mine = [row for row in held if row["reason"] == reason]
    assert mine, [row["reason"] for row in held]
    assert named in mine[0]["what"]
    assert mine[0]["next_step"]
    built = {(row["business_day"], row["register_id"]) for row in rows(tmp_path / "out" / "entries.csv")}
    assert (day, register) not in built
    assert built & {C1, BQ} == {C1, BQ} - {(day, register)}, "the other register-days are built all the same"
    told = capsys.readouterr().out
    assert f"  {reason}: {day} {register}: " in told
    assert "next step: " in told


def test_the_next_step_of_an_unknown_method_is_the_line_that_mends_it(facts: Path, tmp_path: Path) -> None:
    change("payments", "cash,13.65", "bitcoin,13.65")(facts)
    assert build(facts, tmp_path / "held") == 2
    (row,) = rows(tmp_path / "held" / "held.csv")
    line = row["next_step"].partition("write: ")[2]
    assert line == 'methods_by_id = { bitcoin = "511900" }'
    mended = tmp_path / "shop.toml"
    mended.write_text(SHOP.read_text(encoding="utf-8").replace("[journals]", f"{line}\n[journals]"), encoding="utf-8")
    assert build(facts, tmp_path / "mended", shop=mended) == 0


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--from", "14/03/2026"], "'14/03/2026' is no day; write it as 2026-03-14"),
        (["--from", "20260314"], "is no day; write it as 2026-03-14"),
        (["--from", "2026-03-15", "--to", "2026-03-14"], "2026-03-15 is after --to 2026-03-14"),
        (["--format", "xml"], "No such option"),
    ],
)
def test_wrong_usage_exits_1_because_2_means_held(
    options: list[str], told: str, facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(facts, tmp_path / "out", *options) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_are_not_written_among_the_facts(facts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(facts)
    assert build(facts, facts / ".") == 1
    assert "must be another folder than --files" in capsys.readouterr().err
    assert contents(facts) == before


def test_a_shop_file_that_is_wrong_exits_1(facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shop.toml").write_text("[shop]\n")
    assert build(facts, tmp_path / "out", shop=tmp_path / "shop.toml") == 1
    assert "next step: " in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_told(
    facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert build(facts, tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert "next step: " in told


def test_help_names_every_option_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["build", "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    for word in ("--shop", "--files", "--out", "--from", "--to", "Exit code 0", "2:", "1:"):
        assert word in told


def test_build_in_a_process_of_its_own_loads_no_dagster_no_database_no_network(facts: Path, tmp_path: Path) -> None:
    """Also the proof that the installed entry point and its exit code work."""
    add("payments", "P9,T1,C1,2026-03-14,,bitcoin,1.00,")(facts)
    code = (
        "import sys\n"
        "from kash_pipeline.cli.main import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print('loaded', sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    arguments = ["build", "--shop", str(SHOP), "--files", str(facts), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    loaded = done.stdout.rpartition("loaded ")[2]
    assert "'pandas'" in loaded
    for name in ("dagster", "sqlalchemy", "psycopg", "httpx", "starlette", "alembic"):
        assert f"'{name}'" not in loaded


def test_a_million_lines_would_fit_the_summary_on_a_screen(
    facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Many held days of one reason are one line with a count, not a wall of text."""
    frame = pd.read_csv(facts / "orders.csv", dtype="str")
    many = pd.concat([frame] * 200, ignore_index=True)
    many["order_id"] = [f"X{number}" for number in range(len(many))]
    many["business_day"] = [f"2026-{1 + n % 12:02d}-{1 + n % 28:02d}" for n in range(len(many))]
    pd.concat([frame, many.drop(columns="refund_of")]).to_csv(facts / "orders.csv", index=False)
    assert build(facts, tmp_path / "out") == 2
    told = capsys.readouterr().out
    assert "order_without_lines" in told
    assert len(told.splitlines()) < 30
