"""The accountant's hand: what a person did in PennyLane to entries we sent. Found and told, never undone.

Only finding belongs here. PennyLane has no changelog of entries, but one of their lines, kept four weeks: a deletion in
the application shows nowhere else (its reference of Sep 2026), which is why the ledger keeps the remote line ids.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import sqlalchemy as sa

from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.client import Entry, EntryLine, EntrySummary, PennylaneClient
from kash_pipeline.pennylane.errors import NotFound
from kash_pipeline.pennylane.lettering import lettered_by_us
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.ledger import Intent, PublicationLedger

# The changelog refuses a start older than four weeks; a day's margin for clocks and long runs.
KEPT = timedelta(days=27)


@dataclass(frozen=True)
class Hand:
    """What a person did to one entry. `what` is edited, deleted, moved or lettered; `why` shows both versions.

    `on_record` is `why` without what a person typed: for records that must hold nobody's name.
    """

    key: str
    business_day: date
    register_id: str
    what: str
    why: str
    on_record: str

    @property
    def differs(self) -> bool:
        """The entry is no longer as we sent it; lettering changes nothing that we sent."""
        return self.what != "lettered"


def hands(
    client: PennylaneClient,
    engine: sa.Engine,
    shop: ShopFile,
    *,
    since: datetime | None = None,
    now: datetime | None = None,
) -> list[Hand]:
    """Entries of this shop that somebody touched in PennyLane since `since` (at most the last four weeks).

    One request per thousand changed lines; then, for each day with an entry of ours among them, listings of its entries
    and lines, and one request for an entry that is not there any more. What we lettered ourselves is nobody's hand. A
    change older than four weeks is not seen here, though planning.py, which compares lines, still finds it.
    """
    oldest = (now or datetime.now(UTC)) - KEPT
    changed = {
        change.id
        for change in client.line_changes(max(since or oldest, oldest))
        if change.operation in ("update", "delete")
    }
    if not changed:
        return []
    ledger = PublicationLedger(engine, shop.shop.id)
    touched = [
        intent
        for intent in ledger.published(date.min, date.max)
        if changed.intersection(intent.row.remote_line_ids or ())
    ]
    found = []
    for day, group in groupby(sorted(touched, key=lambda item: item.content.date), key=lambda item: item.content.date):
        found += _of_day(client, engine, shop, day, list(group))
    return sorted(found, key=lambda hand: (hand.business_day, hand.key, hand.what))


def _of_day(client: PennylaneClient, engine: sa.Engine, shop: ShopFile, day: date, intents: list[Intent]) -> list[Hand]:
    company = intents[0].row.company_id or 0
    books = reference.stored_books(engine, shop, company)
    journals = reference.stored_journals(engine, shop, company)
    ours = lettered_by_us(engine, shop, company)
    ids = sorted({journals[intent.content.journal] for intent in intents if intent.content.journal in journals})
    entries = {entry.id: entry for entry in client.ledger_entries(ids, day, day)} if ids else {}
    lines: dict[int, list[EntryLine]] = defaultdict(list)
    for line in client.ledger_entry_lines(ids, day, day) if ids else ():
        lines[line.entry_id].append(line)
    found = []
    for intent in intents:
        remote_id = intent.row.remote_id or 0
        entry: Entry | EntrySummary | None = entries.get(remote_id)
        held: Sequence[EntryLine] = lines[remote_id]
        if entry is None:
            try:
                entry = whole = client.ledger_entry(remote_id)
            except NotFound:
                found.append(_hand(intent, "deleted", f"entry id {remote_id} is not in PennyLane any more"))
                continue
            held = whole.lines
        difference = books.compared(intent.content, held)
        if difference is not None:
            found.append(_hand(intent, "edited", difference, books.compared(intent.content, held, labels=False)))
        if (moved := _moved(intent, entry, journals)) is not None:
            found.append(_hand(intent, "moved", *moved))
        lettered = [line.id for line in held if line.lettered_with and frozenset(line.lettered_with) not in ours]
        if lettered:
            found.append(_hand(intent, "lettered", f"lines {', '.join(map(str, lettered))}"))
    return found


def _moved(intent: Intent, entry: Entry | EntrySummary, journals: dict[str, int]) -> tuple[str, str] | None:
    """Another day, journal or piece number than we gave it, in words; and again without what was typed."""
    content = intent.content
    changes = []
    if entry.day != content.date:
        changes.append(f"date {content.date} is now {entry.day}")
    if entry.journal_id != journals.get(content.journal, entry.journal_id):
        changes.append(f"journal {content.journal} is now id {entry.journal_id}")
    typed = []
    if entry.piece_number != content.key:
        typed.append(f"piece number is now {entry.piece_number!r}")
    if not changes and not typed:
        return None
    return "; ".join([*changes, *typed]), "; ".join([*changes, *("another piece number" for _ in typed)])


def _hand(intent: Intent, what: str, why: str, on_record: str | None = None) -> Hand:
    row = intent.row
    return Hand(row.key, row.business_day, row.register_id, what, why, on_record or why)
