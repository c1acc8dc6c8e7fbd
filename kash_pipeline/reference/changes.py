"""What changed in either system since a day, in words, with the sent entries that use what changed.

Only wording and counting belong here; what counts as a change is history.py's.
"""

from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from kash_pipeline.reference.history import Change, Content, changes
from kash_pipeline.reference.release import sent_with
from kash_pipeline.reference.store import IDENTITY, Side, companies, versions
from kash_pipeline.settings import ShopFile, bp_to_rate

_NAMES = {
    "payment_methods": "payment method",
    "vat_rates": "VAT rate",
    "registers": "register",
    "departments": "department",
    "department_groups": "department group",
    "customers": "customer",
    "journals": "journal",
    "accounts": "account",
    "fiscal_years": "fiscal year",
}


@dataclass(frozen=True)
class Line:
    """One change: the business day on which it was noticed, the system, what, and the sent entries that use it."""

    day: date
    where: str
    what: str
    sent: str


def report(engine: sa.Engine, shop: ShopFile, since: date) -> list[Line]:
    """Changes of both sides from `since` on, oldest first. Of customers it says which number, never who."""
    found: list[Line] = []
    sides: list[tuple[Side, int, str]] = [("till", 0, "till")]
    sides += [("pennylane", company, "PennyLane") for company in companies(engine, shop)]
    for side, company_id, where in sides:
        for kind, known in versions(engine, shop, side, company_id=company_id).items():
            for change in changes(known, since, identity=IDENTITY.get(kind, ())):
                sent = sent_with(engine, shop, kind, change.record_id, change.day) if side == "till" else None
                told = "" if sent is None else f"{sent[0]} entries of {sent[1]} to {sent[2]}"
                found.append(Line(change.day, where, _words(kind, change), told))
    return sorted(found, key=lambda line: (line.day, line.where, line.what))


def _words(kind: str, change: Change) -> str:
    name = f"{_NAMES.get(kind, kind)} {_record(kind, change)}"
    if change.what in ("new", "gone"):
        return f"{name}: {change.what}"
    fields = "; ".join(
        f"{field} {_shown(change.before.get(field))} → {_shown(change.after.get(field))}"
        for field in change.after
        if field in change.before
    )
    if change.what == "made again":
        told = f"{name}: made again, it was id {change.other_id}"
        return f"{told}; {fields}" if fields else told
    said = ["back", fields] if change.what == "back" else [fields]
    return f"{name}: {'; '.join(part for part in said if part)}"


def _record(kind: str, change: Change) -> str:
    if kind == "vat_rates":
        return f"{bp_to_rate(int(change.record_id))} %"
    content: Content = change.after if change.what in ("new", "made again", "back") else change.before
    label = content.get("name") or content.get("code") or content.get("number") or content.get("label")
    return f"{change.record_id}" + (f" « {label} »" if label else "")


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)
