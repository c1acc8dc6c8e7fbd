"""From an entry, or one line of it, to the orders, payments and closings it was made of, to the raw answers, and back.

Only following what is stored belongs here: nothing is asked, built or changed. What an entry is made of is the engine's
rule (accounting/): a sale of its register-day's orders, a payment of its payments, and so on; printing is cli/trace.py.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.schemas.columns import empty
from kash_pipeline.schemas.facts import DAILY
from kash_pipeline.warehouse import windows
from kash_pipeline.warehouse.errors import TraceError
from kash_pipeline.warehouse.lake import Lake

MADE_OF: dict[str, tuple[str, ...]] = {
    "sale": ("orders",),
    "payment": ("payments",),
    "closing": ("closings", "cash_movements"),
    "cash_movement": ("cash_movements",),
    "z": ("orders", "payments", "closings", "cash_movements"),
}
"""Facts that the entries of each kind are made of (schemas/entries.py)."""
IDS = {"orders": "order_id", "payments": "payment_id", "closings": "closing_id", "cash_movements": "movement_id"}
LONGEST_WINDOW = 366
"""Days that one raw answer may cover ([source] window_days)."""


@dataclass(frozen=True)
class Document:
    """A raw answer and which of the ids asked for stand in it.

    dropped_at   when retention deleted it: what stood in it is not known any more; None: it is kept
    """

    call: str
    fetched_at: str
    sha256: str
    url: str
    path: str
    ids: tuple[str, ...]
    dropped_at: str | None = None


@dataclass(frozen=True)
class Trace:
    """What an entry (or a line of it) is made of.

    entry      row of kash.entries as a dict
    lines      its lines, or the one asked for (schemas.entries.ENTRY_LINES)
    facts      facts by table, those of the line only where a line was asked for
    sums       for a line of a rate or method, in cents: `lines`, those of its rate or method and side, and what the
               `orders` or `payments` it is made of sum to
    documents  the raw answers these facts came in
    """

    entry: dict[str, Any]
    lines: pd.DataFrame
    facts: dict[str, pd.DataFrame]
    documents: list[Document]
    sums: dict[str, int] = field(default_factory=dict)


def trace_entry(connection: sa.Connection, lake: Lake, shop_id: str, key: str, line_no: int | None = None) -> Trace:
    """Follow an entry by its key (the piece number), or its line `line_no`. Raises TraceError when there is none."""
    entry, lines = _entry(connection, shop_id, key)
    day = entry["business_day"].date()
    if line_no is not None:
        one = lines[lines["line_no"] == line_no].reset_index(drop=True)
        if one.empty:
            raise TraceError(f"{key} has no line {line_no}", next_step=f"kash-pipeline trace {key} shows its lines")
    facts = {name: _of_register(lake, name, day, entry["register_id"]) for name in MADE_OF[entry["kind"]]}
    number = str(entry["label"]).rpartition(" (")[0] or str(entry["label"])
    _narrow_to_label(lake, facts, day, number.split()[-1] if number.split() else "")
    sums: dict[str, int] = {}
    if line_no is not None:
        sums = _narrow_to_line(lake, facts, day, one.iloc[0], lines)
        lines = one
    wanted = [str(value) for name, frame in facts.items() for value in _named(name, frame)]
    return Trace(entry, lines, facts, documents_of(lake, day, wanted), sums)


def trace_order(connection: sa.Connection, lake: Lake, shop_id: str, order: str) -> tuple[pd.DataFrame, list[str]]:
    """The orders with this id or number (`schemas.facts.ORDERS`), and the keys of the entries they went into.

    Raises TraceError when the lake knows none.
    """
    days = lake.days("orders")
    known = lake.read_days("orders", days[0], days[-1], missing="skip") if days else empty(DAILY["orders"])
    found = known[(known["order_id"] == order) | (known["number"] == order)].reset_index(drop=True)
    if found.empty:
        raise TraceError(
            f"{order!r} is no entry key, no order id or number, and no raw answer's hash",
            next_step="an entry key stands in the piece number of the ledger; read the order's day first if it is new",
        )
    return found, _entries_of(connection, lake, shop_id, found)


def trace_document(
    connection: sa.Connection, lake: Lake, shop_id: str, sha256: str
) -> tuple[Document, pd.DataFrame, list[str]]:
    """The raw answer with this hash (or its beginning), the orders in it, and the keys of the entries they went into.

    Raises TraceError when no answer of that hash is kept.
    """
    for call in lake.raw_calls():
        for meta in lake.raw(call):
            if str(meta["sha256"]).startswith(sha256):
                body = lake.read_raw(meta["path"])
                days = lake.days("orders")
                if meta["day"] is not None:
                    begin = date.fromisoformat(meta["day"])
                    days = [day for day in days if begin <= day <= begin + timedelta(days=LONGEST_WINDOW)]
                orders = lake.read_days("orders", days[0], days[-1], missing="skip") if days else empty(DAILY["orders"])
                tokens = set(re.findall(rb"[0-9A-Za-z_.\-]+", body))
                found = orders[orders["order_id"].isin([token.decode() for token in tokens])]
                keys = _entries_of(connection, lake, shop_id, found)
                return _document(call, meta, tuple(found["order_id"])), found.reset_index(drop=True), keys
    for call in lake.raw_calls():
        for meta in lake.dropped(call):
            if str(meta["sha256"]).startswith(sha256):
                return _document(call, meta, ()), empty(DAILY["orders"]), []
    raise TraceError(f"no raw answer of hash {sha256} is kept", next_step="kash-pipeline trace ENTRY shows hashes")


def documents_of(lake: Lake, day: date, ids: Sequence[str]) -> list[Document]:
    """The raw answers in which these ids stand, newest first per id: those filed under the day, then those of a window
    that begins before it, then undated ones. Where some are not found, those follow that may have held them and were
    deleted under retention."""
    left = set(ids)
    found: list[Document] = []
    for metas in _candidates(lake, day):
        for call, meta in metas:
            if not left:
                return found
            if meta["status"] != 200:
                continue
            tokens = set(re.findall(r"[\w.\-]+", lake.read_raw(meta["path"]).decode("utf-8", errors="replace")))
            here = sorted(order for order in left if order in tokens)
            if here:
                found.append(_document(call, meta, tuple(here)))
                left -= set(here)
    return found + _dropped(lake, day, left) if left else found


def filed_under(lake: Lake, call: str, day: date) -> list[Document]:
    """The newest answer of each address of a call that is filed under the day, such as its reports."""
    newest = {meta["url"]: meta for meta in lake.raw(call, day) if meta["status"] == 200}
    return [_document(call, newest[url], ()) for url in sorted(newest)]


def _dropped(lake: Lake, day: date, ids: set[str]) -> list[Document]:
    """Deleted answers filed under the day, or of each call under the nearest day before it whose window may hold it; of
    those that were asked for by order, the ones asked for these."""
    found = []
    for call in lake.raw_calls():
        metas = [meta for meta in lake.dropped(call) if meta["status"] == 200 and meta["day"] is not None]
        days = {str(meta["day"]) for meta in metas}
        near = [at for at in days if 0 <= (day - date.fromisoformat(at)).days <= LONGEST_WINDOW]
        for meta in (meta for meta in metas if near and meta["day"] == max(near)):
            asked_for = tuple(sorted(ids & set(re.findall(r"[\w.\-]+", meta["url"]))))
            if asked_for or "order_id=" not in meta["url"]:
                found.append(_document(call, meta, asked_for))
    return found


def _candidates(lake: Lake, day: date) -> Iterable[list[tuple[str, dict[str, Any]]]]:
    calls = lake.raw_calls()
    yield [(call, meta) for call in calls for meta in reversed(lake.raw(call, day))]
    before, undated = [], []
    for call in calls:
        for meta in reversed(lake.raw(call)):
            if meta["day"] is None:
                undated.append((call, meta))
            elif 0 < (day - date.fromisoformat(meta["day"])).days <= LONGEST_WINDOW:
                before.append((call, meta))
    yield sorted(before, key=lambda found: str(found[1]["day"]), reverse=True)
    yield undated


def _document(call: str, meta: dict[str, Any], ids: tuple[str, ...]) -> Document:
    return Document(call, meta["fetched_at"], meta["sha256"], meta["url"], meta["path"], ids, meta.get("dropped_at"))


def _entry(connection: sa.Connection, shop_id: str, key: str) -> tuple[dict[str, Any], pd.DataFrame]:
    rows = windows.sql_frame(
        connection, "select * from kash.entries where shop_id = :shop and entry_key = :key", shop=shop_id, key=key
    )
    if rows.empty:
        raise TraceError(f"there is no entry {key}", next_step="kash-pipeline held lists days without entries")
    lines = windows.sql_frame(
        connection,
        "select line_no, account, customer_id, vat_rate_bp, method_id, debit_cents, credit_cents, label "
        "from kash.entry_lines where shop_id = :shop and entry_key = :key order by line_no",
        shop=shop_id,
        key=key,
    )
    return dict(rows.iloc[0]), lines


def is_entry(connection: sa.Connection, shop_id: str, key: str) -> bool:
    """Whether the books have an entry of this key."""
    statement = sa.text("select 1 from kash.entries where shop_id = :shop and entry_key = :key")
    return connection.execute(statement, {"shop": shop_id, "key": key}).first() is not None


def _of_register(lake: Lake, name: str, day: date, register: str) -> pd.DataFrame:
    frame = lake.read_days(name, day, day, missing="skip")
    return frame[frame["register_id"] == register].reset_index(drop=True)


def _narrow_to_label(lake: Lake, facts: dict[str, pd.DataFrame], day: date, number: str) -> None:
    """An entry of one order says its number as the last word of its label; one of a day says none."""
    orders = lake.read_days("orders", day, day, missing="skip")
    mine = orders.loc[orders["number"] == number, "order_id"]
    if mine.empty:
        return
    for name in ("orders", "payments"):
        if name in facts:
            facts[name] = facts[name][facts[name]["order_id"].isin(mine)].reset_index(drop=True)


def _narrow_to_line(
    lake: Lake, facts: dict[str, pd.DataFrame], day: date, line: pd.Series, lines: pd.DataFrame
) -> dict[str, int]:
    """Keep what the line is made of, and sum it: net or VAT of its rate, amounts of its method.

    Sales and refunds stand on lines of their own side. Where the chart cuts a rate into several accounts, the lines of
    that rate and side are what the facts sum to.
    """
    side = "credit_cents" if int(line["credit_cents"]) else "debit_cents"
    sign = 1 if side == "credit_cents" else -1
    if pd.notna(line["vat_rate_bp"]) and "orders" in facts:
        vat = lake.read_days("order_vat", day, day, missing="skip")
        is_vat = str(line["account"]).startswith("445")
        part = "vat_cents" if is_vat else "net_cents"
        rows = vat[(vat["vat_rate_bp"] == int(line["vat_rate_bp"])) & vat["order_id"].isin(facts["orders"]["order_id"])]
        rows = rows[rows[part] * sign > 0].reset_index(drop=True)
        facts["orders"] = facts["orders"][facts["orders"]["order_id"].isin(rows["order_id"])].reset_index(drop=True)
        facts["order_vat"] = rows
        same = lines[(lines["vat_rate_bp"] == line["vat_rate_bp"]) & (lines["account"].str.startswith("445") == is_vat)]
        return {"lines": int(same[side].sum()), "orders": sign * int(rows[part].sum())}
    if pd.notna(line["method_id"]) and "payments" in facts:
        rows = facts["payments"]
        # A payment is a debit, money given back a credit.
        rows = rows[(rows["method_id"] == line["method_id"]) & (rows["amount_cents"] * sign < 0)].reset_index(drop=True)
        facts["payments"] = rows
        same = lines[lines["method_id"] == line["method_id"]]
        return {"lines": int(same[side].sum()), "payments": -sign * int(rows["amount_cents"].sum())}
    if pd.notna(line["customer_id"]):
        for name in {"orders", "payments"} & set(facts):
            mine = facts[name]["customer_id"] == line["customer_id"]
            if name == "payments":
                mine |= facts[name]["order_id"].isin(_orders_of(lake, line["customer_id"]))
            facts[name] = facts[name][mine].reset_index(drop=True)
    return {}


def _orders_of(lake: Lake, customer: str) -> pd.Series:
    days = lake.days("orders")
    known = lake.read_days("orders", days[0], days[-1], ["order_id", "customer_id"], missing="skip")
    return known.loc[known["customer_id"] == customer, "order_id"]


def _named(name: str, frame: pd.DataFrame) -> list[str]:
    return [str(value) for value in frame[IDS[name]]] if name in IDS else []


def _entries_of(connection: sa.Connection, lake: Lake, shop_id: str, orders: pd.DataFrame) -> list[str]:
    """Keys of the entries that these orders and their payments, of whatever day, went into."""
    places = set(zip(orders["business_day"].dt.date, orders["register_id"], strict=True))
    paid_at: set[tuple[date, str]] = set()
    if days := lake.days("payments"):
        paid = lake.read_days("payments", days[0], days[-1], missing="skip")
        mine = paid[paid["order_id"].isin(orders["order_id"])]
        paid_at = set(zip(mine["business_day"].dt.date, mine["register_id"], strict=True))
    return [
        *_keys(connection, shop_id, places, ("sale", "z"), set(orders["number"])),
        *_keys(connection, shop_id, paid_at, ("payment",), set(orders["number"])),
    ]


def _keys(
    connection: sa.Connection, shop_id: str, places: set[tuple[date, str]], kinds: tuple[str, ...], numbers: set[str]
) -> list[str]:
    """Entries of these register-days and kinds; of those made for one order, only these numbers'."""
    if not places:
        return []
    days = sorted(day for day, _ in places)
    rows = windows.sql_frame(
        connection,
        "select entry_key, kind, business_day, register_id, label from kash.entries "
        "where shop_id = :shop and business_day between :first and :last order by entry_key",
        shop=shop_id,
        first=days[0],
        last=days[-1],
    )
    mine = [
        row for row in rows.itertuples() if row.kind in kinds and (row.business_day.date(), row.register_id) in places
    ]
    own = [row for row in mine if str(row.label).partition(" (")[0].split()[-1] in numbers]
    return [str(row.entry_key) for row in (own or mine)]
