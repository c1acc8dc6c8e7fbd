"""The three readings (till, entries, ledger) are compared per rate and method, and a lost cent shows."""

import pandas as pd

from kash_pipeline import reconciliation

ENTRIES = pd.DataFrame({"entry_key": ["S1", "P1", "C1"], "kind": ["sale", "payment", "closing"]})
LINES = pd.DataFrame(
    [
        ("S1", "580100", None, None, 1365, 0),
        ("S1", "701055", 550, None, 0, 540),
        ("S1", "445711055", 550, None, 0, 30),
        ("S1", "707200", 2000, None, 0, 663),
        ("S1", "445711200", 2000, None, 0, 132),
        ("P1", "530000", None, "cash", 1365, 0),
        ("P1", "580200", None, None, 0, 1365),
        ("C1", "658000", None, None, 320, 0),
        ("C1", "530000", None, "cash", 0, 320),
    ],
    columns=["entry_key", "account", "vat_rate_bp", "method_id", "debit_cents", "credit_cents"],
).astype({"vat_rate_bp": "Int64"})
LEDGER = LINES.drop(columns=["vat_rate_bp", "method_id"])
ORDER_VAT = pd.DataFrame(
    {"order_id": ["T1", "T1"], "vat_rate_bp": [550, 2000], "net_cents": [540, 663], "vat_cents": [30, 132]}
)
ORDERS = pd.DataFrame({"order_id": ["T1"]})


def by_rate(ledger: pd.DataFrame) -> pd.DataFrame:
    return reconciliation.side_by_side(
        reconciliation.till_by_rate(ORDERS, pd.DataFrame(), ORDER_VAT).drop(columns="gross_cents"),
        reconciliation.entries_by_rate(ENTRIES, LINES),
        reconciliation.ledger_by_rate(ENTRIES, LINES, ledger),
        "vat_rate_bp",
    )


def test_equal_readings_agree_per_rate() -> None:
    table = by_rate(LEDGER)
    assert table["agree"].tolist() == [True, True]
    assert table["ledger_vat_cents"].tolist() == [30, 132]


def test_a_cent_lost_in_the_ledger_is_seen_at_its_rate() -> None:
    spoiled = LEDGER.copy()
    spoiled.loc[spoiled["account"] == "445711055", "credit_cents"] = 29
    assert by_rate(spoiled).set_index("vat_rate_bp")["agree"].to_dict() == {550: False, 2000: True}


def test_takings_per_method_leave_closing_differences_out() -> None:
    """A cash difference moves the cash account too, but it is no taking."""
    payments = pd.DataFrame({"method_id": ["cash", "tab"], "amount_cents": [1365, 500]})
    methods = pd.DataFrame({"method_id": ["cash", "tab"], "kind": ["cash", "on_account"]})
    table = reconciliation.side_by_side(
        reconciliation.till_by_method(payments, methods),
        reconciliation.entries_by_method(ENTRIES, LINES),
        reconciliation.ledger_by_method(ENTRIES, LINES, LEDGER),
        "method_id",
    )
    assert table.to_dict("records") == [
        {
            "method_id": "cash",
            "till_amount_cents": 1365,
            "entries_amount_cents": 1365,
            "ledger_amount_cents": 1365,
            "agree": True,
        }
    ]


def test_without_vat_tables_the_lines_vat_is_the_till_reading() -> None:
    lines = pd.DataFrame(
        {"vat_rate_bp": [550, 550], "total_cents": [570, 100], "vat_cents": [30, None], "nature": ["sale", "tip"]}
    ).astype({"vat_cents": "Int64"})
    table = reconciliation.till_by_rate(ORDERS, lines, ORDER_VAT.iloc[:0])
    assert table.to_dict("records") == [{"vat_rate_bp": 550, "net_cents": 540, "vat_cents": 30, "gross_cents": 570}]
