"""Our lines against PennyLane's: the same in any order and any form of amount, different in anything else."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from kash_pipeline.pennylane.client import LABEL_LENGTH, EntryLine
from kash_pipeline.pennylane.comparing import Books
from kash_pipeline.warehouse.publication import Content, Line

ACCOUNTS = {"530": 11, "707200": 12, "445711200": 13}
BOOKS = Books(own_accounts=True, accounts=ACCOUNTS, customers={"C1": 21})


def line(account: str, debit: int, credit: int, label: str, customer: str | None = None) -> Line:
    return Line(1, account, debit, credit, label, customer)


DAY = date(2026, 3, 1)
OURS = Content(
    "SHOP-K1-V",
    "sale",
    DAY,
    "K1",
    "K1",
    DAY,
    "Caisse",
    (
        line("411000", 120_00, 0, "Commande", "C1"),
        line("707200", 0, 50_00, "Ventes"),
        line("707200", 0, 50_00, "Ventes"),
        line("445711200", 0, 20_00, "TVA"),
    ),
)


def remote(number: int, account_id: int, debit: str, credit: str, label: str) -> EntryLine:
    return EntryLine(number, 55, account_id, "x", Decimal(debit), Decimal(credit), label)


# As PennyLane gives them back: another order, "50.0" for "50.00".
THEIRS = [
    remote(4, 13, "0.0", "20.0", "TVA"),
    remote(2, 12, "0.0", "50.0", "Ventes"),
    remote(1, 21, "120.0", "0.0", "Commande"),
    remote(3, 12, "0.0", "50.0", "Ventes"),
]


def test_order_and_trailing_zeros_make_no_difference() -> None:
    assert BOOKS.compared(OURS, THEIRS) is None


def test_line_ids_come_in_the_order_of_our_lines_and_a_line_not_ours_last() -> None:
    assert BOOKS.line_ids(OURS, [remote(9, 11, "1.0", "0.0", "?"), *THEIRS]) == [1, 2, 3, 4, 9]


@pytest.mark.parametrize(
    "changed",
    [
        THEIRS[:-1],
        [*THEIRS, THEIRS[1]],
        [*THEIRS[:3], replace(THEIRS[3], credit=Decimal("50.01"))],
        [*THEIRS[:3], replace(THEIRS[3], credit=Decimal(0), debit=Decimal(50))],
        [*THEIRS[:2], replace(THEIRS[2], credit=Decimal(30)), THEIRS[3]],
        [*THEIRS[:3], replace(THEIRS[3], label="ventes")],
        [*THEIRS[:3], replace(THEIRS[3], account_id=13)],
        [THEIRS[0], THEIRS[1], replace(THEIRS[2], account_id=99, account="411000"), THEIRS[3]],
    ],
    ids=[
        "a line missing",
        "a line twice",
        "a cent",
        "the side",
        "both sides",
        "the label",
        "the account",
        "the customer",
    ],
)
def test_anything_else_is_a_difference_that_shows_both(changed: list[EntryLine]) -> None:
    told = BOOKS.compared(OURS, changed)
    assert told is not None
    assert told.startswith("ours: ")
    assert " | PennyLane: " in told


def test_a_label_longer_than_pennylane_takes_is_compared_as_it_was_sent() -> None:
    long = replace(OURS, lines=(line("530", 1_00, 0, "x" * 300), line("707200", 0, 1_00, "")))
    held = [remote(1, 11, "1.0", "0.0", "x" * LABEL_LENGTH), remote(2, 12, "0.0", "1.0", "")]
    assert BOOKS.compared(long, held) is None


def test_a_number_with_several_ids_is_known_by_the_number_too() -> None:
    second = replace(THEIRS[1], account_id=77, account="707200")
    assert BOOKS.compared(OURS, [THEIRS[0], second, *THEIRS[2:]]) is None
