"""The worked day spoilt at random: whatever is handed in, the command ends with 0, 1 or 2 and says why.

The seeds are fixed, so a failure is repeated by its number. Named mistakes are in test_build_bad_input.py.
"""

import csv
import io
import random
import shutil
from pathlib import Path

import pytest

from kash_pipeline.cli.main import main
from kash_pipeline.pos.files import read_results

WORKED_DAY = Path(__file__).resolve().parents[1] / "golden" / "worked_day"
FACTS = {file.name: file.read_bytes() for file in sorted((WORKED_DAY / "facts").iterdir())}
EXTRA = {
    "order_vat.csv": b"order_id,vat_rate,net,vat\nT4,5.5,20.85,1.15\nT4,10,1.82,0.18\n",
    "cash_movements.csv": b"movement_id,register_id,business_day,kind,amount\nM1,C1,2026-03-14,expense,-5.00\n",
}
# Cells that are wrong in form, and cells that are right in form and wrong in what they say.
CELLS = (
    *("", "0", "-1", "NaN", "inf", "1e9", "4,05", "0.001", '"', "\n", "\x00", "é", " ", "x" * 5000, "2199-01-01"),
    *("0.00", "0.01", "-4.05", "13.65", "9999999999.99", "5.5", "19.6", "100", "T1", "T2", "T9", "C1", "C9", "BQ"),
    *("C0042", "cash", "card", "on_account", "credit_note", "transfer", "2026-03-13", "2026-03-14", "2026-03-20"),
    *("sale", "tip", "deposit", "rounding", "voucher_single", "voucher_multi", "expense", "withdrawal", "Z2", "P1"),
)


def spoil_a_cell(chance: random.Random, data: bytes) -> bytes:
    rows = list(csv.reader(io.StringIO(data.decode("utf-8", "replace").replace("\x00", ""))))
    row = chance.choice(rows[1:] or rows)
    if row:
        row[chance.randrange(len(row))] = chance.choice(CELLS)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


def spoil_rows(chance: random.Random, data: bytes) -> bytes:
    rows = data.split(b"\n")
    number = chance.randrange(len(rows))
    if chance.random() < 0.5:
        del rows[number]
    else:
        rows.insert(number, rows[number])
    return b"\n".join(rows)


def spoil_bytes(chance: random.Random, data: bytes) -> bytes:
    if not data or chance.random() < 0.3:
        return data[: chance.randrange(len(data) + 1)]
    spoilt = bytearray(data)
    spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    return bytes(spoilt)


@pytest.mark.parametrize("granularity", ["day", "order", "z"])
def test_no_folder_ends_in_a_traceback(granularity: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (WORKED_DAY / "shop.toml").read_text(encoding="utf-8").replace('= "day"', f'= "{granularity}"')
    shop = tmp_path / "shop.toml"
    shop.write_text(text, encoding="utf-8")
    facts, out = tmp_path / "facts", tmp_path / "out"
    seen = set()
    for seed in range(40):
        chance = random.Random(f"{granularity} {seed}")
        files = FACTS | (EXTRA if chance.random() < 0.3 else {})
        for _ in range(chance.choice([1, 1, 2, 4])):
            name = chance.choice(sorted(files))
            spoil = chance.choice([spoil_a_cell, spoil_a_cell, spoil_a_cell, spoil_rows, spoil_bytes])
            files = files | {name: spoil(chance, files[name])}
        for folder in (facts, out):
            shutil.rmtree(folder, ignore_errors=True)
        facts.mkdir()
        for name, data in files.items():
            (facts / name).write_bytes(data)
        with pytest.raises(SystemExit) as end:
            main(["build", "--shop", str(shop), "--files", str(facts), "--out", str(out)])
        told = capsys.readouterr()
        seen.add(end.value.code)
        if end.value.code == 1:
            assert "next step: " in told.err, seed
            assert not out.exists(), seed
            continue
        results = read_results(out)
        assert end.value.code == (2 if len(results["held"]) else 0), seed
        sums = results["entry_lines"].groupby("entry_key")[["debit_cents", "credit_cents"]].sum()
        assert (sums["debit_cents"] == sums["credit_cents"]).all(), seed
        held = set(results["held"][["business_day", "register_id"]].itertuples(index=False, name=None))
        built = set(results["entries"][["business_day", "register_id"]].itertuples(index=False, name=None))
        assert not held & built, seed
    assert seen == {0, 1, 2}, "the seeds must reach every way to end"
