"""Whether an entry in PennyLane is the one we sent: a multiset of (account, side, amount, label).

Only comparing belongs here, without input or output. PennyLane changes the order of lines and the form of amounts
("100.0" for "100.00"), so neither order nor text is compared.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from kash_pipeline.pennylane.client import LABEL_LENGTH, EntryLine
from kash_pipeline.warehouse.ledger import Content

_NAMED = re.compile(r"^411\d*[^\W\d_]\w*$")
"""A number made of a customer's name, as PennyLane may form it: what is told of a difference is no place for names."""

LineContent = tuple[str, str, Decimal, str]
"""(account, D or C, amount, label): what must agree between an entry of ours and PennyLane's."""


@dataclass(frozen=True)
class Names:
    """What the lines of an entry call their accounts, for both sides of a comparison.

    An own account of a named customer is known by its id (we do not choose its number), any other by id or number:
    the accountant's chart may have several ids for one number.
    """

    ids: dict[str, int]
    by_id: dict[int, str]

    @classmethod
    def of(cls, ids: dict[str, int]) -> "Names":
        return cls(ids, {account: name for name, account in ids.items()})

    def of_remote(self, line: EntryLine) -> str:
        return self.by_id.get(line.account_id, line.account)


def ours(content: Content, names: Sequence[str]) -> Counter[LineContent]:
    """What we sent, or would send, as a multiset; `names` names the account of each line."""
    return Counter(
        (
            name,
            "D" if line.debit_cents else "C",
            Decimal(line.debit_cents or line.credit_cents).scaleb(-2).normalize(),
            line.label[:LABEL_LENGTH],
        )
        for name, line in zip(names, content.lines, strict=True)
    )


def theirs(lines: Iterable[EntryLine], names: Names) -> Counter[LineContent]:
    """What PennyLane holds, as a multiset. A line with both sides filled is what is left of them."""
    nets = [(line, line.debit - line.credit) for line in lines]
    return Counter(
        (names.of_remote(line), "D" if net > 0 else "C", abs(net).normalize(), line.label) for line, net in nets
    )


def difference(sent: Counter[LineContent], held: Counter[LineContent], *, labels: bool = True) -> str | None:
    """Both versions of the lines that differ; None when the multisets are equal.

    Without `labels` what a person typed is left out: for records that must hold nobody's name.
    """
    if sent == held:
        return None

    def told(lines: Counter[LineContent]) -> str:
        shown = [
            f"{_NAMED.sub('411…', account)} {side} {amount:f}" + (f" {label!r}" if labels else "")
            for account, side, amount, label in sorted(lines.elements())
        ]
        return "; ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "") or "nothing"

    ours_only, theirs_only = sent - held, held - sent
    if not labels and Counter(line[:3] for line in ours_only.elements()) == Counter(
        line[:3] for line in theirs_only.elements()
    ):
        return f"another label: {told(ours_only)}"
    return f"ours: {told(ours_only)} | PennyLane: {told(theirs_only)}"


@dataclass
class Books:
    """What the lines of our entries call their accounts, and the ids of these in one company.

    own_accounts  named customers have accounts of their own (shop file: `named_customers`)
    accounts      account ids by number         customers  account ids by the till's customer id
    former        customers by the ids of accounts they had before they were made again or merged in PennyLane
    """

    own_accounts: bool
    accounts: dict[str, int] = field(default_factory=dict)
    customers: dict[str, int] = field(default_factory=dict)
    former: dict[int, str] = field(default_factory=dict)

    def own_account(self, customer_id: str | None) -> bool:
        return customer_id is not None and self.own_accounts

    def line_names(self, content: Content) -> list[str]:
        """The account of each line, in words: its number, or the customer who has one of their own."""
        return [
            f"customer {line.customer_id}" if self.own_account(line.customer_id) else line.account
            for line in content.lines
        ]

    def names(self, content: Content) -> Names:
        """Account ids by these words; what is unknown is left out."""
        ids = {}
        for name, line in zip(self.line_names(content), content.lines, strict=True):
            own = self.own_account(line.customer_id)
            account = self.customers.get(str(line.customer_id)) if own else self.accounts.get(line.account)
            if account is not None:
                ids[name] = account
        before = {account: f"customer {customer}" for account, customer in self.former.items()}
        named = set(self.line_names(content))
        return Names(ids, {account: name for account, name in before.items() if name in named} | Names.of(ids).by_id)

    def compared(self, content: Content, lines: Iterable[EntryLine], *, labels: bool = True) -> str | None:
        """Both versions of what differs; None when PennyLane's lines are those of `content`. See `difference`."""
        names = self.line_names(content)
        return difference(ours(content, names), theirs(lines, self.names(content)), labels=labels)

    def unknown_customers(self, content: Content) -> list[str]:
        """Customers with accounts of their own, in words, whose account is not known here yet."""
        names = [name for name in self.line_names(content) if name.startswith("customer ")]
        return sorted(set(names) - self.names(content).ids.keys())

    def not_ours(
        self, content: Content, found: Sequence[tuple[int, Iterable[EntryLine]]], *, labels: bool = True
    ) -> str | None:
        """Why what PennyLane has under the piece number of `content` (entry id, lines) cannot be taken for ours.

        None when it is one entry with our lines.
        """
        if len(found) > 1:
            ids = ", ".join(str(remote_id) for remote_id, _ in found)
            return f"PennyLane has {len(found)} entries with piece number {content.key} (ids {ids})"
        [(remote_id, lines)] = found
        problem = self.compared(content, lines, labels=labels)
        return problem and f"PennyLane has another entry under {content.key} (id {remote_id}): {problem}"

    def line_ids(self, content: Content, lines: Sequence[EntryLine]) -> list[int]:
        """PennyLane's line ids in the order of our lines; a line that we did not send comes last."""
        left: dict[LineContent, list[int]] = {}
        names = self.names(content)
        for remote in lines:
            [key] = theirs([remote], names)
            left.setdefault(key, []).append(remote.id)
        ordered = []
        for name, line in zip(self.line_names(content), content.lines, strict=True):
            [wanted] = ours(replace(content, lines=(line,)), [name])
            if left.get(wanted):
                ordered.append(left[wanted].pop(0))
        return ordered + [line_id for ids in left.values() for line_id in ids]
