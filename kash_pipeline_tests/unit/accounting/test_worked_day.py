"""The sixteen worked entries of french-pos-accounting.md section 5, in readings A and B, to the cent.

The figures below are typed from that page, not taken from the engine; the golden files hold the whole text.
"""

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from kash_pipeline.accounting import build, trial_balance
from kash_pipeline_tests.unit.accounting.books import facts, pay, shop, text_of, worked_day

GOLDEN = Path(__file__).resolve().parents[2] / "golden"

READING_A = {
    "Vente T1": [
        ("580100", 1365), ("701055", -540), ("701100", -368), ("707200", -325),
        ("445711055", -30), ("445711100", -37), ("445711200", -65),
    ],
    "Encaissement T1": [("530000", 1365), ("580200", -1365)],
    "Avoir T2": [("701100", 368), ("445711100", 37), ("580100", -405)],
    "Remboursement T2": [("580200", 405), ("530000", -405)],
    "Vente T3": [
        ("580100", 2150), ("701055", -417), ("701100", -591), ("707200", -883),
        ("445711055", -23), ("445711100", -59), ("445711200", -177),
    ],
    "Encaissement T3": [("511700", 900), ("511500", 1250), ("580200", -2150)],
    "Vente T4": [("411000 C0042", 2400), ("701055", -2085), ("701100", -182), ("445711055", -115), ("445711100", -18)],
    "Vente T5": [("580100", 3000), ("419100", -3000)],
    "Encaissement T5": [("511500", 3000), ("580200", -3000)],
    "Vente T6": [("580100", 1840), ("701055", -758), ("707200", -867), ("445711055", -42), ("445711200", -173)],
    "Encaissement T6": [("419100", 1840), ("580200", -1840)],
    "Clôture caisse 1": [("580200", 7950), ("580100", -7950)],
    "Ecart de caisse espèces": [("658000", 320), ("530000", -320)],
    "Ecart titres-restaurant": [("511700", 150), ("758000", -150)],
}  # fmt: skip

READING_B = [
    ("530000", 640), ("658000", 320), ("511500", 4250), ("511700", 1050), ("419100", 1840), ("411000 C0042", 2400),
    ("701055", -3800), ("701100", -773), ("707200", -2075),
    ("445711055", -210), ("445711100", -77), ("445711200", -415),
    ("419100", -3000), ("758000", -150),
]  # fmt: skip

BALANCE = {
    "411000 C0042": 2400, "511500": 4250, "511700": 1050, "530000": 640, "658000": 320,
    "701055": -3800, "701100": -773, "707200": -2075,
    "445711055": -210, "445711100": -77, "445711200": -415,
    "419100": -1160, "758000": -150,
}  # fmt: skip


def signed(lines: pd.DataFrame) -> list[tuple[str, int]]:
    customers: Iterable[str] = lines["customer_id"].astype("str").fillna("")
    return [
        (f"{account} {customer}".strip(), int(debit) - int(credit))
        for account, customer, debit, credit in zip(
            lines["account"], customers, lines["debit_cents"], lines["credit_cents"], strict=True
        )
    ]


def balances(lines: pd.DataFrame) -> dict[str, int]:
    """Accounts that do not end at zero."""
    table = trial_balance(lines)
    names = table["account"] + " " + table["customer_id"].fillna("")
    return {name.strip(): int(cents) for name, cents in zip(names, table["balance_cents"], strict=True) if cents}


def test_reading_a_gives_every_worked_entry() -> None:
    """T1 to T6, their payments, the closing and both differences: accounts, sides and cents."""
    result = build(worked_day(), shop(granularity="order"))
    assert result.held.empty
    built = {
        entry.label: sorted(signed(result.entry_lines[result.entry_lines["entry_key"] == entry.entry_key]))
        for entry in result.entries.itertuples()
    }
    assert built == {label: sorted(lines) for label, lines in READING_A.items()}
    assert list(built) == list(READING_A)  # the order of the till's roll


def test_a_transfer_received_later_settles_the_customer() -> None:
    """The sixteenth entry: debit the bank, credit 411 C0042, on the day of the transfer."""
    first = build(worked_day(), shop(granularity="order"))
    later = facts("2026-03-20", payments=[pay("VIR-0320", "T4", "VIR", 2400)])
    result = build(later, shop(granularity="order"), carry=first.carry)
    assert result.held.empty
    assert signed(result.entry_lines) == [("512000", 2400), ("411000 C0042", -2400)]
    assert list(result.entries["date"]) == [pd.Timestamp("2026-03-20")]
    assert result.carry.orders.empty


def test_reading_b_is_the_one_entry_of_the_z() -> None:
    result = build(worked_day(), shop(granularity="z"))
    assert len(result.entries) == 1
    assert sorted(signed(result.entry_lines)) == sorted(READING_B)


@pytest.mark.parametrize("granularity", ["day", "order", "z"])
def test_trial_balance_of_the_day(granularity: str) -> None:
    """A and B give the same balances, R and S nil, and both sides come to 86.60."""
    result = build(worked_day(), shop(granularity=granularity))
    assert balances(result.entry_lines) == BALANCE
    assert sum(cents for cents in BALANCE.values() if cents > 0) == 8660


def test_day_granularity_keeps_refunds_on_their_own_side() -> None:
    result = build(worked_day(), shop())
    sale = result.entry_lines[result.entry_lines["entry_key"] == "PORT-C1-260314-V"]
    assert ("701100", 368) in signed(sale)
    assert ("701100", -1141) in signed(sale)
    assert ("580100", 8355) in signed(sale)
    assert ("580100", -405) in signed(sale)


@pytest.mark.parametrize("granularity", ["day", "order", "z"])
def test_golden_text(granularity: str) -> None:
    """The whole text of the day: labels, keys and the order of lines stay as an accountant approved them."""
    result = build(worked_day(), shop(granularity=granularity), last=date(2026, 3, 14))
    assert text_of(result) == (GOLDEN / f"worked_day_{granularity}.txt").read_text(encoding="utf-8")
