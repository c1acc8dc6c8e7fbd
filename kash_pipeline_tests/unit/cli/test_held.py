"""`kash-pipeline held`: three hundred days that wait are three things to do."""

from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from kash_pipeline.cli.main import main

SHOP_FILE = """
[shop]
id = "bakery"
name = "Boulangerie [du Port]"
[source]
kind = "files"
path = "facts"
[[chart]]
from = "2025-01-01"
"""
VOUCHERS = 'in the [[chart]] of 2025-01-01 write: methods = { cash = "530000", meal_voucher = "511700" }'
TERRACE = 'write under [journals]: K3 = "K3"'


@pytest.fixture
def shop_path(tmp_path: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KASH_DATABASE_URL", warehouse_url)
    monkeypatch.setenv("KASH_HOME", str(tmp_path))
    path = tmp_path / "shop.toml"
    path.write_text(SHOP_FILE)
    return path


@pytest.fixture
def held(shop_path: Path, capsys: pytest.CaptureFixture[str]) -> "Held":
    return Held(shop_path, capsys)


class Held:
    def __init__(self, shop_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._shop_path, self._capsys = shop_path, capsys

    def __call__(self, *options: str) -> tuple[object, str, str]:
        """Exit code, standard output, standard error."""
        with pytest.raises(SystemExit) as ended:
            main(["held", "--shop", str(self._shop_path), *options])
        out, err = self._capsys.readouterr()
        return ended.value.code or 0, out, err


def insert(engine: sa.Engine, rows: list[tuple[date, str, str, str, str]]) -> None:
    names = ("business_day", "register_id", "reason", "what", "next_step")
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into kash.held (shop_id, business_day, register_id, reason, what, next_step)"
                " values ('bakery', :business_day, :register_id, :reason, :what, :next_step)"
            ),
            [dict(zip(names, row, strict=True)) for row in rows],
        )


def test_three_hundred_held_days_are_told_by_what_there_is_to_do(held: Held, engine: sa.Engine) -> None:
    assert held() == (0, "Boulangerie [du Port]: nothing is held\n", "")
    first = date(2026, 1, 5).toordinal()
    days = [date.fromordinal(first + number) for number in range(300)]
    insert(
        engine,
        [(day, "K1", "unmapped_method", f"payment method 'tr' ({day})", VOUCHERS) for day in days]
        # Two orders of a register-day with the same cure are one register-day.
        + [(day, "K3", "unknown_register", f"order {n} on K3", TERRACE) for day in days[4:6] for n in (1, 2)]
        + [(day, "K2", "control_total", f"{day}: 4.00 apart", f"read {day} again") for day in days[7:40]],
    )
    code, out, err = held()
    assert (code, err) == (2, "")
    lines = out.splitlines()
    assert lines[0] == "Boulangerie [du Port]: 335 register-days held, since 2026-01-05"
    assert [line for line in lines[1:] if not line.startswith(" ")][:3] == [
        "unmapped_method: 300 register-days held, since 2026-01-05",
        "unknown_register: 2 register-days held, since 2026-01-09",
        "control_total: 33 register-days held, since 2026-01-12",
    ]
    assert f"  → {VOUCHERS}" in lines
    assert f"  → {TERRACE}" in lines
    assert "  → read 2026-01-12 again" in lines
    assert "  32 others, of other days: held --reason control_total --all" in lines
    assert "kash-pipeline release" in lines[-1]

    code, out, _ = held("--reason", "control_total", "--all")
    assert code == 2
    assert out.startswith("Boulangerie [du Port]: 33 register-days held, since 2026-01-12\n")
    assert [f"read {day} again" in out for day in days[7:40]] == [True] * 33
    assert "511700" not in out

    code, out, _ = held("--reason", "unmapped_vat")
    assert code == 0
    said = "nothing is held for unmapped_vat (other reasons: control_total, unknown_register, unmapped_method)"
    assert out == f"Boulangerie [du Port]: {said}\n"


def test_entries_that_pennylane_did_not_take_are_told_and_half_a_correction_with_both_numbers(
    held: Held, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        for key, role, state, corrects, sent in (
            ("A", "original", "superseded", None, "now()"),
            ("A-N1", "replacement", "verified", "A", "now()"),
            ("A-R1", "reversal", "refused", "A", "null"),
            ("B", "original", "held", None, "null"),
        ):
            connection.execute(
                sa.text(
                    "insert into kash.publication (shop_id, key, base_key, role, kind, business_day, register_id,"
                    " journal, date, label, line_count, amount_cents, state, corrects, error, sent_at) values"
                    " ('bakery', :key, :base, :role, 'sale', '2026-03-01', 'K1', 'K1', '2026-03-01', 'x', 2, 100,"
                    f" :state, :corrects, 'no', {sent})"
                ),
                {"key": key, "base": key[:1], "role": role, "state": state, "corrects": corrects},
            )
    code, out, _ = held()
    assert code == 2
    first, half, other, step = out.splitlines()
    assert first == "Boulangerie [du Port]: nothing is held"
    assert half.startswith(
        "2026-03-01 A-R1 refused: A-N1 stands beside A, which it is to take the place of: both count."
    )
    assert "A-R1 is not there: no; " in half
    assert other == "2026-03-01 B held: no"
    assert "kash-pipeline pennylane retry --from 2026-03-01 --to 2026-03-01" in step


def test_a_shop_file_that_is_not_there_is_two_lines_and_no_traceback(held: Held, shop_path: Path) -> None:
    shop_path.unlink()
    code, out, err = held()
    assert (code, out) == (1, "")
    assert "there is no such shop file" in err
    assert "next step: " in err
    assert "Traceback" not in err
