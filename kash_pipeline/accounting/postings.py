"""Postings: signed amounts of facts on targets, before they become entries.

A target is a place in the books (sales at 5.5 %, a method, a customer) whose account the dated chart names. Which
amounts are posted is sales.py, payments.py, closings.py; how postings become entries and lines is entries.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kash_pipeline.accounting.chart import Answer, Missing
from kash_pipeline.accounting.codes import Codes
from kash_pipeline.accounting.money import Cents

# Order of lines inside an entry: as in the worked examples, money or debtor first, then sales, then VAT.
RANK_SHORT = 0
RANK_METHOD = 1
RANK_PAID = 2
RANK_TAKINGS = 3
RANK_CUSTOMER = 4
RANK_SALES = 5
RANK_VAT = 6
RANK_LIABILITY = 7
RANK_OTHER = 8
RANK_OVER = 9


class Targets:
    """Every target of one build: its accounts by dated chart, its rate, method, customer, and labels per side."""

    def __init__(self) -> None:
        self.answers: list[tuple[Answer, ...]] = []
        self.rank: list[int] = []
        self.rate: list[int] = []
        self.method: list[int] = []
        self.customer: list[int] = []
        self.debit_label: list[str] = []
        self.credit_label: list[str] = []
        self.clears_with: list[int] = []

    def __len__(self) -> int:
        return len(self.answers)

    def add(
        self,
        rank: int,
        answers: tuple[Answer, ...],
        *,
        debit_label: str,
        credit_label: str,
        rate: int = -1,
        method: int = -1,
        customer: int = -1,
        clears_with: int | None = None,
    ) -> int:
        """A new target; its number orders lines of equal rank, so callers add in an order that the facts' rows do not
        decide. `clears_with` is the target it melts into in a Z entry, where R and S are one.
        """
        self.answers.append(answers)
        self.rank.append(rank)
        self.rate.append(rate)
        self.method.append(method)
        self.customer.append(customer)
        self.debit_label.append(debit_label)
        self.credit_label.append(credit_label)
        self.clears_with.append(len(self.answers) - 1 if clears_with is None else clears_with)
        return len(self.answers) - 1

    def accounts(self, periods: int) -> tuple[NDArray[np.int64], list[str], dict[tuple[int, int], Missing]]:
        """Account codes per target and dated chart (-1: none; last column: no chart), the accounts, what is missing."""
        table = np.full((len(self), periods + 1), -1, np.int64)
        missing: dict[tuple[int, int], Missing] = {}
        numbers = sorted({answer for row in self.answers for answer in row if isinstance(answer, str)})
        position = {account: code for code, account in enumerate(numbers)}
        for target, row in enumerate(self.answers):
            for period, answer in enumerate(row):
                if isinstance(answer, Missing):
                    missing[target, period] = answer
                else:
                    table[target, period] = position[answer]
        return table, numbers, missing


@dataclass
class Batch:
    """Postings of one kind of entry.

    `unit` is what makes an entry of its own at the finest granularity: a row of orders, payments, closings,
    movements, or a difference. Amounts are debits above zero, credits below.
    """

    code: str
    kind: str
    group: Codes
    unit: Codes
    target: Codes
    amount: Cents
    ids: Callable[[int], tuple[str, ...]]
    label: Callable[[int], str]
    own_entries: bool = False
    sequence: Codes | None = None


@dataclass
class Collector:
    """Gathers postings piece by piece."""

    group: list[Codes] = field(default_factory=list)
    unit: list[Codes] = field(default_factory=list)
    target: list[Codes] = field(default_factory=list)
    amount: list[Cents] = field(default_factory=list)

    def add(self, group: Codes, unit: Codes, target: int | Codes, amount: Cents) -> None:
        """Postings of non-zero amounts; zeros are dropped."""
        keep = np.flatnonzero(amount)
        if len(keep) == 0:
            return
        if len(keep) < len(amount):
            group, unit, amount = group[keep], unit[keep], amount[keep]
            target = target if isinstance(target, int) else target[keep]
        self.group.append(group)
        self.unit.append(unit)
        self.target.append(np.full(len(amount), target, np.int64) if isinstance(target, int) else target)
        self.amount.append(amount)

    def arrays(self) -> tuple[Codes, Codes, Codes, Cents]:
        if not self.amount:
            none = np.zeros(0, np.int64)
            return none, none, none, none
        return tuple(np.concatenate(pieces) for pieces in (self.group, self.unit, self.target, self.amount))  # type: ignore[return-value]


@dataclass
class Remarks:
    """Rows of `held` and `notices`, by group."""

    held: list[tuple[int, str, str, str]] = field(default_factory=list)
    notices: list[tuple[int, str, str, int]] = field(default_factory=list)

    def hold(self, group: int, reason: str, what: str, next_step: str) -> None:
        self.held.append((int(group), reason, what, next_step))

    def notice(self, group: int, code: str, what: str, amount: int) -> None:
        self.notices.append((int(group), code, what, int(amount)))
