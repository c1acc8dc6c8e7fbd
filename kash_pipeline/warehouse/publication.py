"""What the publication ledger knows of an entry, and what becomes of it when the books change.

Only types and the decision are here, without a database: tests put every case through `decide`. Reading and writing the
rows is in ledger.py.
"""

import os
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]

State = Literal["held", "ready", "sending", "sent", "verified", "refused", "superseded"]
How = Literal["changed", "vanished", "reappeared"]
Role = Literal["original", "reversal", "replacement"]

IN_PENNYLANE: frozenset[State] = frozenset({"sent", "verified", "superseded"})
"""States of an entry that stands in PennyLane; one that is superseded stands there with its reversal."""


@dataclass(frozen=True)
class Line:
    """One line of an entry: exactly one of debit and credit (cents) is above zero."""

    line_no: int
    account: str
    debit_cents: int
    credit_cents: int
    label: str
    customer_id: str | None = None
    vat_rate_bp: int | None = None
    method_id: str | None = None


@dataclass(frozen=True)
class Content:
    """An entry with its lines: what is sent, whole."""

    key: str
    kind: str
    business_day: date
    register_id: str
    journal: str
    date: date
    label: str
    lines: tuple[Line, ...]

    @property
    def amount_cents(self) -> int:
        """Sum of debits, which is that of credits."""
        return sum(line.debit_cents for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        return {
            **{item.name: getattr(self, item.name) for item in fields(self)},
            "business_day": self.business_day.isoformat(),
            "date": self.date.isoformat(),
            "lines": [asdict(line) for line in self.lines],
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Content":
        return cls(
            **{
                **stored,
                "business_day": date.fromisoformat(stored["business_day"]),
                "date": date.fromisoformat(stored["date"]),
                "lines": tuple(Line(**line) for line in stored["lines"]),
            }
        )


@dataclass(frozen=True)
class Row:
    """One row of the ledger. `base_key` is the built entry it stands for; a correction has a key of its own."""

    key: str
    base_key: str
    role: Role
    revision: int
    kind: str
    business_day: date
    register_id: str
    journal: str
    date: date
    label: str
    line_count: int
    amount_cents: int
    digest: str | None
    sent_digest: str | None
    day_held: bool
    state: State
    company_id: int | None
    remote_id: int | None
    remote_line_ids: tuple[int, ...] | None
    attempts: int
    owner: str | None
    error: str | None
    corrects: str | None
    corrected_by: tuple[str, ...] | None
    created_at: datetime
    updated_at: datetime
    sending_at: datetime | None
    sent_at: datetime | None
    verified_at: datetime | None

    @property
    def never_sent(self) -> bool:
        """Nothing of it is, or may be, in PennyLane."""
        return self.sent_at is None and self.state != "sending"

    @property
    def due_for_correction(self) -> bool:
        """It is in PennyLane, and the books now say something else."""
        return (
            self.sent_at is not None
            and self.role != "reversal"
            and self.state != "superseded"
            and not self.day_held
            and self.digest != self.sent_digest
        )


@dataclass(frozen=True)
class Intent:
    """A row in state `sending`, and what is sent."""

    row: Row
    content: Content


@dataclass(frozen=True)
class Changed:
    """A sent entry whose facts changed.

    changed      the books say something else: take `sent` back and send the new entry under a new key
    vanished     the books have no such entry any more: take `sent` back
    reappeared   it was taken back, and the books have it again: send it under a new key; `sent` is None
    """

    how: How
    row: Row
    sent: Content | None
    wanted_digest: str | None

    @property
    def next_revision(self) -> int:
        return self.row.revision + 1


@dataclass(frozen=True)
class SyncReport:
    """What `sync` did, in rows; and the sent entries that need a correction."""

    new: int
    updated: int
    removed: int
    unchanged: int
    changed_after_sending: list[Changed]


@dataclass(frozen=True)
class ReadyDay:
    """What a sensor needs of one business day: `digest` changes whenever the work to do changes."""

    business_day: date
    entries: int
    attempts: int
    digest: str


def this_process() -> str:
    """`host:pid:start`: names a process beyond the reuse of its pid."""
    return f"{socket.gethostname()}:{os.getpid()}:{int(psutil.Process().create_time())}"


def owner_alive(owner: str | None) -> bool | None:
    """Whether the process that was sending still lives; None when it ran on another machine."""
    host, _, rest = (owner or "").rpartition(":")
    host, _, pid = host.rpartition(":")
    if host != socket.gethostname():
        return None
    try:
        return int(psutil.Process(int(pid)).create_time()) == int(rest)
    except psutil.NoSuchProcess:
        return False


@dataclass
class Decision:
    new: list[str]
    update: dict[str, dict[str, Any]]
    remove: list[str]
    changed: list[tuple[How, str]]
    unchanged: int = 0


def decide(rows: Iterable[Row], wanted: dict[str, dict[str, Any]], held: set[tuple[date, str]]) -> Decision:
    """What becomes of the ledger's rows of some days when the books say `wanted` (by key) and `held` are held."""
    by_base: dict[str, list[Row]] = {}
    for row in rows:
        by_base.setdefault(row.base_key, []).append(row)
    decision = Decision([key for key in wanted if key not in by_base], {}, [], [])
    for base, family in by_base.items():
        header = wanted.get(base)
        is_held = header is None and (family[0].business_day, family[0].register_id) in held
        _decide_family(decision, family, header, is_held)
    return decision


def _decide_family(decision: Decision, family: list[Row], header: dict[str, Any] | None, is_held: bool) -> None:
    digest = None if header is None else header["digest"]
    family = _without_unsent_corrections(decision, family, digest, is_held)
    live = next((row for row in family if row.role != "reversal" and row.state != "superseded"), None)
    if live is None:
        last = max((row for row in family if row.role != "reversal"), key=lambda row: row.revision)
        change: dict[str, Any] = {"day_held": is_held} if last.day_held != is_held else {}
        if not is_held and last.digest != digest:
            change["digest"] = digest
        if change:
            decision.update.setdefault(last.key, {}).update(change)
        if digest is not None:
            decision.changed.append(("reappeared", last.key))
        return
    change = decision.update.setdefault(live.key, {})
    if live.day_held != is_held:
        change["day_held"] = is_held
    if live.never_sent and live.role == "original" and header is None:
        del decision.update[live.key]
        decision.remove.append(live.key)
        return
    if not is_held and live.digest != digest:
        change["digest"] = digest
        if live.never_sent and header is not None:
            change |= {**header, "state": "ready", "error": None, "attempts": 0, "remote_id": None}
    if not change:
        del decision.update[live.key]
        decision.unchanged += 1
    now = replace(
        live, digest=change.get("digest", live.digest), day_held=is_held, state=change.get("state", live.state)
    )
    if now.due_for_correction and now.state != "sending":
        decision.changed.append(("vanished" if digest is None else "changed", live.key))


def _without_unsent_corrections(decision: Decision, family: list[Row], digest: str | None, is_held: bool) -> list[Row]:
    """A correction that nobody sent yet, made for books that say something else again, is dissolved.

    What it was to correct is then as it was before, and is compared afresh.
    """
    newest = max(row.revision for row in family)
    corrections = [row for row in family if row.revision == newest and row.role != "original"]
    replacement = next((row for row in corrections if row.role == "replacement"), None)
    aims_at = replacement.digest if replacement else None
    if not corrections or (aims_at == digest and not is_held):
        return family
    if all(row.never_sent for row in corrections):
        gone = {row.key for row in corrections}
    elif replacement is not None and replacement.never_sent and not is_held:
        gone = {replacement.key}  # the reversal is on its way: only what was to follow it changes
    else:
        return family
    decision.remove.extend(sorted(gone))
    out = []
    for row in family:
        if row.key in gone:
            continue
        left = tuple(key for key in row.corrected_by or () if key not in gone)
        if row.corrected_by and left != row.corrected_by:
            change: dict[str, Any] = {"corrected_by": list(left) or None}
            if not left:
                change["state"] = "sent" if row.verified_at is None else "verified"
            decision.update.setdefault(row.key, {}).update(change)
            row = replace(row, corrected_by=left or None, state=change.get("state", row.state))
        out.append(row)
    return out
