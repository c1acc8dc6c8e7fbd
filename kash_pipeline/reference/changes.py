"""What changed in either system since a day, in words, with the sent entries that were made with what it was before.

Only wording and counting belong here; what counts as a change is history.py's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from kash_pipeline.reference.history import Change, Version, changes
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

# Which entries use a record, by what names it in them: its id, of PennyLane's records the field of `_NAMED_BY`.
_USED = {
    "payment_methods": "l.method_id = :name",
    "vat_rates": "l.vat_rate_bp = cast(:name as bigint)",
    "registers": "p.register_id = :name",
    "customers": "l.customer_id = :name",
    "journals": "p.journal = :name",
    "accounts": "l.account = :name",
}
_NAMED_BY = {"journals": "code", "accounts": "number"}


@dataclass(frozen=True)
class Line:
    """One change: the business day on which it was noticed, the system, the table, what, and in `sent` the entries in
    PennyLane that were sent before it was noticed and use the record (`12 entries of 2026-01-02 to 2026-01-09`)."""

    day: date
    where: str
    kind: str
    what: str
    sent: str


def report(engine: sa.Engine, shop: ShopFile, since: date) -> list[Line]:
    """Changes of both sides from `since` on, oldest first. Of customers it says which number, never who.

    Sent entries stay as they are, whatever changed: `sent` is for a person to judge.
    """
    found: list[Line] = []
    sides: list[tuple[Side, int, str]] = [("till", 0, "till")]
    sides += [("pennylane", company, "PennyLane") for company in companies(engine, shop)]
    for side, company_id, where in sides:
        for kind, known in versions(engine, shop, side, company_id=company_id).items():
            for change in changes(known, since, identity=IDENTITY.get(kind, ())):
                if (side, kind, change.what) == ("pennylane", "customers", "new"):
                    continue  # each new customer of the till makes one
                sent = _sent(engine, shop, side, kind, change, known)
                found.append(Line(change.day, where, kind, _words(kind, change), sent))
    return sorted(_together(found), key=lambda line: (line.day, line.where, line.what))


def _together(found: Sequence[Line]) -> Iterator[Line]:
    """The new accounts of a day in one line: the first entries of a shop make some fifteen."""
    new: dict[date, list[str]] = {}
    for line in found:
        name = line.what.removesuffix(": new")
        if line.kind == "accounts" and name != line.what:
            new.setdefault(line.day, []).append(name.removeprefix("account "))
        else:
            yield line
    for day, names in new.items():
        word = "account" if len(names) == 1 else f"{len(names)} accounts"
        yield Line(day, "PennyLane", "accounts", f"{word} {', '.join(sorted(names))}: new", "")


def _sent(engine: sa.Engine, shop: ShopFile, side: Side, kind: str, change: Change, known: Sequence[Version]) -> str:
    # No entry names a department or PennyLane's id of a customer, and a record that is new was in none.
    if kind not in _USED or (side, kind) == ("pennylane", "customers") or change.noticed_at is None:
        return ""
    record_id = change.other_id or change.record_id
    name = record_id
    if kind in _NAMED_BY:
        content = next(version.content for version in known if version.record_id == record_id)
        name = str({**content, **change.before}[_NAMED_BY[kind]])
    count, first, last = _sent_before(engine, shop, kind, name, change.noticed_at)
    return f"{count:,} entries of {first} to {last}" if count else ""


def _sent_before(
    engine: sa.Engine, shop: ShopFile, kind: str, name: str, instant: datetime
) -> tuple[int, date | None, date | None]:
    """Entries in PennyLane that name a record and were sent before an instant: number, first and last day."""
    query = sa.text(
        "select count(distinct p.key), min(p.business_day), max(p.business_day) from kash.publication p"
        " join kash.entry_lines l on l.shop_id = p.shop_id and l.entry_key = p.base_key"
        " and l.business_day = p.business_day"
        f" where p.shop_id = :shop and p.state in ('sent', 'verified') and p.sent_at < :instant and {_USED[kind]}"
    )
    with engine.connect() as connection:
        row = connection.execute(query, {"shop": shop.shop.id, "instant": instant, "name": name}).one()
    return int(row[0]), row[1], row[2]


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
    # By the name it had: that is the one people know.
    content = {**change.content, **change.before}
    if kind in ("accounts", "journals"):
        # What a person knows it by; PennyLane's id is seen nowhere in its application.
        return f"{content.get('number') or content.get('code')} « {content.get('label')} »"
    label = content.get("name") or content.get("start") or content.get("external_reference")
    return f"{change.record_id}" + (f" « {label} »" if label else "")


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)
