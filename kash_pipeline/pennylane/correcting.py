"""Entries that were sent and whose facts changed since: which may be corrected, and with what.

Only this decision and its frames belong here. What a reversal says is accounting/corrections.py's, the rows it becomes
are warehouse/ledger.py's, sending them is publisher.py's like any entry.

An entry that a person edited or deleted in PennyLane is never corrected by us: a reversal of what we sent would be
wrong by what they changed. A closed period is not touched either: the correction is dated on the first open day, and
where a freeze date that the API hides refuses that, on the first of a later month.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta

import pandas as pd

from kash_pipeline.accounting.corrections import correct
from kash_pipeline.pennylane.client import FiscalYear
from kash_pipeline.schemas import entries as schemas
from kash_pipeline.schemas.columns import conform
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.ledger import Changed, Content, Line, Row


def calendar_day(shop: ShopFile) -> date:
    """Today in the shop's calendar: no correction is moved beyond it."""
    return datetime.now(shop.zone).date()


def first_open_day(years: Sequence[FiscalYear], day: date) -> date | None:
    """`day` itself when its fiscal year is open, else the first day of the next open one; None when there is none."""
    for year in sorted(years, key=lambda item: item.start):
        if year.open and year.finish >= day:
            return max(year.start, day)
    return None


def later_day(years: Sequence[FiscalYear], day: date, today: date) -> date | None:
    """Where a correction goes that PennyLane refused on `day` because of its date; None when no day is left.

    The first open day when the fiscal year is closed. Otherwise an accountant froze the books up to some day, which the
    API does not show (reference of Sep 2026, section 7.8) and which is mostly the end of a month or quarter: the first
    of the next month, month by month, at last `today`; never later, because nobody freezes days to come.
    """
    opens = first_open_day(years, day)
    if opens != day:
        return opens
    next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    opens = first_open_day(years, next_month)
    if opens is not None and opens <= today:
        return opens
    return today if day < today and first_open_day(years, today) == today else None


def waits_for(replacement: Row, why: str) -> str:
    """Why a reversal is not sent: what is to take the place of the entry it takes back does not stand yet."""
    taken = f"which is to take the place of {replacement.corrects}"
    return f"waits for {replacement.key}, {taken}: {why}; until then {replacement.corrects} stands"


def half_told(missing: Row, standing: Row, why: str) -> str:
    """A correction of which one entry stands in PennyLane and the other does not, in words, with the next step."""
    if missing.role == "reversal":
        what = f"{standing.key} stands beside {missing.corrects}, which it is to take the place of: both count"
        lines = f"the lines of {missing.corrects} with their labels, sides swapped"
    else:
        what = f"{standing.key} took {missing.corrects} back, and nothing stands in its place"
        lines = "the lines of the entry as it is built, with their labels"
    step = f"cure what is named here, or enter it there by hand under this piece number ({lines})"
    return f"{what}. {missing.key} is not there: {why}; {step}: every run tries again, and takes over what it finds"


def corrections_of(
    changed: Changed, now: Content | None, years: Sequence[FiscalYear]
) -> tuple[Content | None, Content | None]:
    """(reversal, replacement) for one entry that is in PennyLane; `now` is the entry as it is built today.

    The reversal is None for an entry that is not there any more, the replacement for one that shall not stand.
    Raises ValueError when no fiscal year is open for it.
    """
    sent = changed.sent
    day = (sent or now).date if (sent or now) is not None else changed.row.date  # type: ignore[union-attr]
    opens = first_open_day(years, day)
    if opens is None:
        raise ValueError(f"no fiscal year from {day} on is open")
    # An entry that came back was taken back before: only its replacement is wanted, and it corrects nothing.
    heads, lines = frames(sent or now, key=changed.row.key, digest="" if sent is None else changed.row.sent_digest)
    now_heads, now_lines = frames(now, key=changed.row.base_key, digest=changed.wanted_digest)
    made = correct(
        heads,
        lines,
        now_heads,
        now_lines,
        stands_for={changed.row.key: changed.row.base_key},
        first_open=opens,
        number=changed.next_revision,
    )
    roles = dict(zip(made.links["entry_key"], made.links["role"], strict=True))
    found = {roles[content.key]: content for content in contents_of(made.entries, made.entry_lines)}
    return (None if sent is None else found.get("reversal")), found.get("replacement")


def frames(content: Content | None, *, key: str, digest: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An entry as the frames of schemas/entries.py; without one, empty frames."""
    heads = []
    lines = []
    if content is not None:
        heads = [
            {
                "entry_key": key,
                "kind": content.kind,
                "business_day": pd.Timestamp(content.business_day),
                "register_id": content.register_id,
                "journal": content.journal,
                "date": pd.Timestamp(content.date),
                "label": content.label,
                "lines": len(content.lines),
                "debit_cents": content.amount_cents,
                "credit_cents": content.amount_cents,
                "digest": digest or "",
            }
        ]
        lines = [{"entry_key": key, **asdict(line)} for line in content.lines]
    return (
        conform(pd.DataFrame(heads, columns=list(schemas.ENTRIES.columns)), schemas.ENTRIES),
        conform(pd.DataFrame(lines, columns=list(schemas.ENTRY_LINES.columns)), schemas.ENTRY_LINES),
    )


def contents_of(entries: pd.DataFrame, entry_lines: pd.DataFrame) -> list[Content]:
    """Frames of schemas/entries.py as entries with their lines."""
    lines: dict[str, list[Line]] = {}
    plain = entry_lines.astype(object).where(entry_lines.notna(), None)
    for row in plain.to_dict("records"):
        key = str(row.pop("entry_key"))
        numbers = {name: int(row[name]) for name in ("line_no", "debit_cents", "credit_cents")}
        rate = None if row["vat_rate_bp"] is None else int(row["vat_rate_bp"])
        lines.setdefault(key, []).append(Line(**{**row, **numbers, "vat_rate_bp": rate}))
    return [
        Content(
            key=str(head.entry_key),
            kind=str(head.kind),
            business_day=head.business_day.date(),
            register_id=str(head.register_id),
            journal=str(head.journal),
            date=head.date.date(),
            label=str(head.label),
            lines=tuple(lines[str(head.entry_key)]),
        )
        for head in entries.itertuples(index=False)
    ]
