"""What publishing would do to PennyLane, entry by entry, against what the ledger really holds; nothing is changed.

Only comparing belongs here: doing it is publisher.py's (`publish(only=plan.keys())`), showing it cli/plan.py's.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.client import EntrySummary, PennylaneClient
from kash_pipeline.pennylane.comparing import Books
from kash_pipeline.pennylane.correcting import calendar_day, first_open_day, later_day, waits_for
from kash_pipeline.pennylane.holding import Held, held_entries, touched
from kash_pipeline.pennylane.needs import NOT_BUILT, Needs
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import Changed, Content, PublicationLedger, Row
from kash_pipeline.warehouse.windows import read_days

ACTIONS = {
    "add": "added",
    "adopt": "adopted (already there)",
    "leave": "left",
    "correct": "corrected",
    "look": "looked for (unclear)",
    "refused": "refused",
    "blocked": "blocked",
    "held": "held",
    "touched": "left to a person",
}
"""What can become of an entry, in words."""
WAITING = "waiting"


@dataclass(frozen=True)
class Step:
    """What would become of one entry; `amount_cents` is its sum of debits. `digest` is None where the books have it
    no more."""

    business_day: date
    register_id: str
    key: str
    action: str
    amount_cents: int
    digest: str | None
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """The steps of `first..last`, by day, register and key.

    `held_sales`: the register-days that wait, with what the till sold on each, gross, in cents.
    """

    shop_id: str
    company: str
    first: date
    last: date
    steps: tuple[Step, ...]
    held_sales: dict[tuple[date, str], int]

    @property
    def id(self) -> str:
        """Changes whenever anything that would be sent, or what is there already, changes."""
        text = "\n".join(f"{step.key} {step.action} {step.digest} {step.why}" for step in self.steps)
        whole = f"{self.shop_id} {self.company} {self.first} {self.last}\n{text}"
        return hashlib.sha256(whole.encode()).hexdigest()[:12]

    def keys(self) -> dict[str, str | None]:
        """What may be sent or corrected, with its digest: `Publisher.publish(only=...)`."""
        return {step.key: step.digest for step in self.steps if step.action in ("add", "adopt", "correct")}

    @property
    def changes_nothing(self) -> bool:
        return not any(step.action in ("add", "adopt", "correct", "look") for step in self.steps)

    def by_day(self) -> pd.DataFrame:
        """One row per business day: for each action entries (count) and cents, as `<action>` and `<action>_cents`.

        `waiting` and `waiting_cents` are the register-days that are held and their sales: they have no entries yet.
        """
        counts: Counter[tuple[date, str]] = Counter()
        cents: Counter[tuple[date, str]] = Counter()
        for step in self.steps:
            counts[step.business_day, step.action] += 1
            cents[step.business_day, step.action] += step.amount_cents
        for (day, _), sales_cents in self.held_sales.items():
            counts[day, WAITING] += 1
            cents[day, WAITING] += sales_cents
        days = sorted({day for day, _ in counts})
        names = [name for column in (*ACTIONS, WAITING) for name in (column, f"{column}_cents")]
        rows = [[day, *(of[day, column] for column in (*ACTIONS, WAITING) for of in (counts, cents))] for day in days]
        return pd.DataFrame(rows, columns=["business_day", *names])

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heading and rows of the table of days, as it is read; what does not occur is left out."""
        frame = self.by_day()
        words = ACTIONS | {WAITING: "register-days held (sales)"}
        shown = [column for column in words if frame[column].any()]
        rows = [
            [
                str(row["business_day"]),
                *(f"{row[name]} ({euros_text(row[f'{name}_cents'])})" if row[name] else "" for name in shown),
            ]
            for row in frame.to_dict("records")
        ]
        return ["business day", *(words[column] for column in shown)], rows

    def markdown(self) -> str:
        """The table of days, as Dagster shows it."""
        head, rows = self.table()
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def euros_text(cents: int) -> str:
    """123456 to `1 234.56`."""
    return f"{Decimal(cents).scaleb(-2):,.2f}".replace(",", " ")


def make_plan(
    client: PennylaneClient,
    engine: sa.Engine,
    shop: ShopFile,
    lake: Lake,
    first: date,
    last: date,
    *,
    today: date | None = None,
) -> Plan:
    """Compare the publication ledger of the business days `first..last` with what PennyLane holds.

    Costs a listing of the entries of these journals and days that are still to be sent, where something was sent or is
    there already one of lines, and where an entry names what we do not know one of journals or accounts. `today` as
    for Publisher. Raises a PennylaneError when PennyLane cannot be asked.
    """
    ledger = PublicationLedger(engine, shop.shop.id)
    me = client.me()
    rows = ledger.rows(first, last)
    by_key = {row.key: row for row in rows}
    changed = {item.row.key: item for item in ledger.changed(first, last)}
    halves = {missing.key for missing, _ in ledger.half_corrected()}
    pairs = ledger.corrections_of(row.corrects for row in rows if row.corrects is not None)
    with engine.connect() as connection:
        held = read_days(connection, "held", shop.shop.id, first, last)
    customers = lake.read_reference("customers") if lake.has_reference("customers") else None
    needs = Needs(client, engine, shop, me.company_id, customers, make=False)
    books = needs.books

    sent = {intent.row.key: intent.content for intent in ledger.published(first, last)}
    to_send = [row for row in rows if row.state == "ready" or (row.state == "refused" and row.key in halves)]
    would_be = ledger.contents(to_send)
    # What corrections would say that nobody made yet.
    built = ledger.built([item.row.base_key for item in changed.values()])
    new = [built[item.row.base_key] for item in changed.values() if item.row.base_key in built]
    needs.find([*would_be.values(), *(item.sent for item in changed.values() if item.sent is not None), *new])

    journals = needs.journals
    there = _there(client, journals, [*to_send, *(row for row in rows if row.state == "sending")])
    wanted = [(row.remote_id, sent[row.key]) for row in rows if row.key in sent and row.remote_id is not None]
    wanted += [(entry.id, would_be[key]) for key, entries in there.items() if key in would_be for entry in entries]
    holds = held_entries(client, journals, wanted)
    years = client.fiscal_years()
    correct = shop.pennylane.correct if shop.pennylane else "hold"
    today = today or calendar_day(shop)

    def blocked(row: Row) -> str | None:
        """Why publishing would keep it back although it is ready."""
        content = would_be.get(row.key)
        if content is None:
            return NOT_BUILT
        reversal = next((one for one in pairs.get(row.corrects or "", ()) if one.role == "reversal"), None)
        pair = needs.blocked_pair(reversal, would_be) if row.role == "replacement" else None
        return needs.blocked(content) or pair

    def blocked_correction(item: Changed) -> str | None:
        """The same, of a correction that publishing would make first."""
        replacement = built.get(item.row.base_key)
        why = None if replacement is None else needs.blocked(replacement)
        return why or (None if item.sent is None else needs.blocked(item.sent))

    def step(row: Row) -> Step:
        item: Changed | None = changed.get(row.key)
        digest = item.wanted_digest if item is not None else row.digest
        action, why = _action(row, item, correct)
        if row.state == "refused" and row.key in halves:
            action, why = "add", f"again, refused before: {row.error}"
        if action == "add" and (problem := blocked(row)) is not None:
            action, why = "blocked", problem
        elif action == "add" and row.key in there:
            action, why = _already_there(books, would_be[row.key], there[row.key], holds)
        taken_back = item is not None and item.sent is None
        if row.key in sent and action in ("leave", "correct") and not taken_back:
            difference = touched(books, sent[row.key], holds.get(row.remote_id or 0, Held()))
            if difference is not None:
                action, why = "touched", difference
        if action == "add" and (closed := reference.period_problem(years, row.date)) is not None:
            later = None if row.role == "original" else later_day(years, row.date, today)
            action, why = ("refused", closed) if later is None else ("add", f"on {later}, for {closed}")
        if action == "correct" and first_open_day(years, row.date) is None:
            action, why = "held", f"{why} after sending: no fiscal year from {row.date} on is open"
        if action == "correct" and item is not None and (problem := blocked_correction(item)) is not None:
            action, why = "blocked", problem
        return Step(row.business_day, row.register_id, row.key, action, row.amount_cents, digest, why)

    def follows(own: Step) -> Step:
        """A reversal goes where its replacement goes first, see publisher.py."""
        row = by_key[own.key]
        new = next((one for one in pairs.get(row.corrects or "", ()) if one.role == "replacement"), None)
        if row.role != "reversal" or own.action not in ("add", "adopt") or new is None or new.sent_at is not None:
            return own
        goes = steps[new.key]
        if goes.action in ("add", "adopt", "look"):
            return own
        return replace(own, action="blocked", why=waits_for(new, new.error or goes.why))

    steps = {row.key: step(row) for row in rows}
    company = f"{me.company_name} ({me.company_id})"
    return Plan(shop.shop.id, company, first, last, tuple(map(follows, steps.values())), _held_sales(lake, held))


def _held_sales(lake: Lake, held: pd.DataFrame) -> dict[tuple[date, str], int]:
    """The register-days of `held` (schemas/entries.py HELD), with the sum of the till's orders, in cents."""
    days = held["business_day"].dt.date
    sales = dict.fromkeys(sorted(zip(days, held["register_id"].astype("str"), strict=True)), 0)
    if sales:
        columns = ["business_day", "register_id", "total_cents"]
        orders = lake.read_days("orders", days.min(), days.max(), columns, missing="skip")
        for day, register, cents in orders.itertuples(index=False):
            if (day.date(), str(register)) in sales:
                sales[day.date(), str(register)] += int(cents)
    return sales


def _action(row: Row, changed: Changed | None, correct: str) -> tuple[str, str]:
    if changed is not None:
        if correct == "hold":
            return "held", f"{changed.how} after sending"
        return "correct", changed.how
    if row.state == "ready":
        return "add", ""
    if row.state == "sending":
        return "look", "its sending had no clear end"
    if row.state in ("held", "refused"):
        return row.state, row.error or ""
    return "leave", ""


def _already_there(
    books: Books, content: Content, there: list[EntrySummary], holds: dict[int, Held]
) -> tuple[str, str]:
    """What publishing does with an entry whose piece number PennyLane has already."""
    unknown = books.unknown_customers(content)
    if len(there) == 1 and unknown:
        return "adopt", f"id {there[0].id}, if its lines are ours: {', '.join(unknown)} is found only when publishing"
    problem = books.not_ours(content, [(entry.id, holds.get(entry.id, Held()).lines) for entry in there])
    return ("adopt", f"id {there[0].id}") if problem is None else ("held", problem)


def _there(client: PennylaneClient, journals: dict[str, int], rows: list[Row]) -> dict[str, list[EntrySummary]]:
    """What PennyLane has under the piece numbers of these rows, which are still to be sent."""
    ids = sorted({journals[row.journal] for row in rows if row.journal in journals})
    found: dict[str, list[EntrySummary]] = {}
    if ids:
        keys = {row.key for row in rows}
        days = [row.date for row in rows]
        for entry in client.ledger_entries(ids, min(days), max(days)):
            if entry.piece_number in keys:
                found.setdefault(str(entry.piece_number), []).append(entry)
    return found
