"""Forgetting a customer: everything that says who a number is goes, what the law wants kept stays.

Only the pipeline's own copies are touched here, and pos/erasing.py knows how a raw answer loses a name. Entries keep
the till's number, which names nobody without the till; PennyLane's customer is the company's accounting record, kept
for ten years (Code de commerce, art. L123-22), so the right to erasure does not reach it (GDPR art. 17(3)(b)).

A raw answer is a voucher, so it is not deleted: it stays under its own hash with the person taken out, and its
description says so. What the till answers later is kept without them too (`keeper`).
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.pos import erasing
from kash_pipeline.pos.kash_api.memory import FileMemory
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.reference import personal
from kash_pipeline.reference.errors import CustomerStillNeeded, UnknownCustomer
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.errors import LakeError
from kash_pipeline.warehouse.forgotten import forgotten_customers
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.tables import FORGOTTEN_CUSTOMERS, PENNYLANE_CUSTOMERS


@dataclass(frozen=True)
class Forgotten:
    """What was done.

    listed         whether the till's list still had them
    entries        entries that keep the number
    in_pennylane   PennyLane has a customer of theirs, who stays
    redacted       raw answers they were taken out of; `emptied` of these had nothing left that could be kept
    unreadable     raw answers that cannot be read, by path: what they hold is not known
    days           days whose remembered orders were dropped, to be read again when they are needed
    """

    listed: bool
    entries: int
    in_pennylane: bool
    redacted: int
    emptied: int
    unreadable: tuple[str, ...]
    days: int


def keeper(lake: Lake) -> Callable[[RawDocument], None]:
    """What keeps raw answers in the lake, without those who were forgotten when it was made."""
    gone = lake.forgotten()

    def keep(document: RawDocument) -> None:
        masked = erasing.without(document.call, document.body, gone)
        lake.keep(document, instead=None if masked is document.body else masked)

    return keep


def forget(
    engine: sa.Engine, lake: Lake, shop: ShopFile, customer_id: str, *, lake_url: str, now: datetime
) -> Forgotten:
    """Remove name, address and numbers of a customer, and never keep them again when the till lists them anew.

    Killed half way and run again, it ends what was begun: the lists that say who the number is go last.
    Raises UnknownCustomer for a number nobody has, and CustomerStillNeeded while entries wait that need the customer's
    account in PennyLane: their sale was made to a named customer, and is posted under that name.
    """
    customers = lake.read_reference("customers") if lake.has_reference("customers") else None
    mine = None if customers is None else customers[customers["customer_id"] == customer_id]
    values = set() if mine is None else _values(mine.to_dict("records"))
    answers = list(_answers(lake))
    lists = [(call, path) for call, path in answers if erasing.is_list(call)]
    unreadable: list[str] = []
    in_lists = False
    for call, path in lists:
        body = _read(lake, path, unreadable)
        told = None if body is None else erasing.values_of(call, body, customer_id)
        in_lists |= told is not None
        values |= told or set()
    known = _known(engine, shop, customer_id)
    listed = mine is not None and len(mine) > 0
    if not (listed or in_lists or known.any or _in_facts(lake, customer_id)):
        raise UnknownCustomer(
            f"no customer has the number {customer_id}: no list of the till, no order, no entry",
            next_step="look the number up in the till; if it was read never, there is nothing to forget here",
        )
    own = shop.pennylane is not None and shop.shop.named_customers == "own_account"
    if own and known.waiting and not known.in_pennylane:
        raise CustomerStillNeeded(
            f"{known.waiting} entries of customer {customer_id} wait to be sent, and PennyLane has no account for them",
            next_step="publish them first, then forget the customer",
        )
    _note(engine, shop, customer_id)
    lake.write_forgotten(forgotten_customers(engine, shop.shop.id))
    days = FileMemory(lake_url, shop.shop.id).forget([customer_id], values)
    redacted = emptied = 0
    for call, path in sorted(answers, key=lambda answer: erasing.is_list(answer[0])):
        body = _read(lake, path, unreadable)
        if body is None:
            continue
        masked = erasing.without(call, body, [customer_id], values)
        if masked is not body:
            lake.redact(path, masked, at=now)
            redacted += 1
            emptied += not masked
    if customers is not None:
        lake.write_reference("customers", personal.needed(customers, shop, forgotten_customers(engine, shop.shop.id)))
    return Forgotten(
        listed, known.entries, known.in_pennylane, redacted, emptied, tuple(dict.fromkeys(unreadable)), days
    )


def _values(rows: Collection[dict[Any, Any]]) -> set[str]:
    """What tells who somebody is, of rows of schemas/facts.py CUSTOMERS."""
    texts: list[str] = []
    for row in rows:
        plain = {name: value for name, value in row.items() if isinstance(value, str)}
        first, last = plain.get("first_name", ""), plain.get("last_name", "")
        texts += [f"{first} {last}".strip(), f"{last} {first}".strip()]
        texts += [plain.get(name, "") for name in ("name", "email", "address", "vat_number", "registration_number")]
    return erasing.telling(text for text in texts if not text.startswith(personal.NUMBERED))


def _answers(lake: Lake) -> Iterator[tuple[str, str]]:
    """Call and path of every raw answer."""
    for call in lake.raw_calls():
        for meta in lake.raw(call):
            yield call, str(meta["path"])


def _read(lake: Lake, path: str, unreadable: list[str]) -> bytes | None:
    try:
        return lake.read_raw(path)
    except LakeError:
        unreadable.append(path)
        return None


@dataclass(frozen=True)
class _Known:
    """Where the warehouse knows a number from."""

    entries: int
    waiting: int
    in_pennylane: bool
    noted: bool

    @property
    def any(self) -> bool:
        return bool(self.entries) or self.in_pennylane or self.noted


_KNOWN = """
select
    (select count(distinct l.entry_key) from kash.entry_lines l
     where l.shop_id = :shop and l.customer_id = :customer),
    (select count(distinct p.key) from kash.publication p join kash.entry_lines l
     on l.shop_id = p.shop_id and l.entry_key = p.base_key
     where p.shop_id = :shop and l.customer_id = :customer and p.state in ('ready', 'sending')),
    exists (select 1 from kash.pennylane_customers c where c.shop_id = :shop and c.customer_id = :customer),
    exists (select 1 from kash.forgotten_customers f where f.shop_id = :shop and f.customer_id = :customer)
    or exists (select 1 from kash.reference_history h where h.shop_id = :shop and h.side = 'till'
               and h.kind = 'customers' and h.record_id = :customer)
"""


def _known(engine: sa.Engine, shop: ShopFile, customer_id: str) -> _Known:
    with engine.connect() as connection:
        row = connection.execute(sa.text(_KNOWN), {"shop": shop.shop.id, "customer": customer_id}).one()
    return _Known(int(row[0]), int(row[1]), bool(row[2]), bool(row[3]))


def _in_facts(lake: Lake, customer_id: str) -> bool:
    """Whether an order or a payment names this number, on any day."""
    for table in ("orders", "payments"):
        days = lake.days(table)
        if days:
            named = lake.read_days(table, days[0], days[-1], ["customer_id"], missing="skip")["customer_id"]
            if (named == customer_id).any():
                return True
    return False


def _note(engine: sa.Engine, shop: ShopFile, customer_id: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            insert(FORGOTTEN_CUSTOMERS).on_conflict_do_nothing(), {"shop_id": shop.shop.id, "customer_id": customer_id}
        )
        # A fingerprint lets a guess be tried, and without it PennyLane's customer is not changed any more.
        connection.execute(
            sa.update(PENNYLANE_CUSTOMERS)
            .where(PENNYLANE_CUSTOMERS.c.shop_id == shop.shop.id, PENNYLANE_CUSTOMERS.c.customer_id == customer_id)
            .values(fingerprint=None, remote_fingerprint=None)
        )
