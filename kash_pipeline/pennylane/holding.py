"""What PennyLane holds of entries we sent, in as few requests as may be, and whether a person touched it since.

Only asking and this one judgement belong here; comparing lines is comparing.py's, the changelog watching.py's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from kash_pipeline.pennylane.client import EntryLine, PennylaneClient
from kash_pipeline.pennylane.comparing import Books
from kash_pipeline.pennylane.errors import NotFound
from kash_pipeline.warehouse.ledger import Content


@dataclass(frozen=True)
class Held:
    """Day and lines of one entry as they are in PennyLane; without lines, it is not there any more."""

    day: date | None = None
    lines: tuple[EntryLine, ...] = ()


def held_entries(
    client: PennylaneClient, journals: Mapping[str, int], wanted: Iterable[tuple[int, Content]]
) -> dict[int, Held]:
    """Entries by their ids, for (id, what we sent), month by month, by whichever way takes fewer requests.

    What a list of lines lacks is asked for singly: a person may have moved it to another day or journal.
    """
    found: dict[int, Held] = {}
    by_day = sorted(wanted, key=lambda item: item[1].date)
    for _, group in groupby(by_day, key=lambda item: item[1].date.replace(day=1)):
        month = list(group)
        ids = {remote_id for remote_id, _ in month}
        codes = {content.journal for _, content in month}
        pages = sum(len(content.lines) for _, content in month) / 100 + 1
        if pages < len(ids) and codes <= journals.keys():
            lines: dict[int, list[EntryLine]] = {}
            of = sorted(journals[code] for code in codes)
            for line in client.ledger_entry_lines(of, month[0][1].date, month[-1][1].date):
                if line.entry_id in ids:
                    lines.setdefault(line.entry_id, []).append(line)
            found |= {remote_id: Held(own[0].day, tuple(own)) for remote_id, own in lines.items()}
        for remote_id in sorted(ids - found.keys()):
            try:
                entry = client.ledger_entry(remote_id)
                found[remote_id] = Held(entry.day, entry.lines)
            except NotFound:
                found[remote_id] = Held()
    return found


def touched(books: Books, sent: Content, held: Held) -> str | None:
    """What a person changed in an entry that we sent, both versions; None when it stands as we sent it."""
    difference = books.compared(sent, held.lines)
    if difference is None and held.day not in (None, sent.date):
        return f"date {sent.date} is now {held.day}"
    return difference
