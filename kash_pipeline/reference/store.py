"""Versions of reference data in the warehouse (`kash.reference_history`): written by listings, read as of a day.

Only the rows and the tables they are made of belong here; what makes a new version is history.py's, which fields of a
person are kept personal.py's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from typing import Literal

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.accounting.chart import is_usable
from kash_pipeline.pennylane.reference import PERSONS
from kash_pipeline.reference.errors import ReferenceDataError
from kash_pipeline.reference.history import Content, Version, as_of, change_days, mended, noticed
from kash_pipeline.reference.personal import BOOKING
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.schemas.facts import REFERENCE, Facts
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.tables import (
    PENNYLANE_ACCOUNTS,
    PENNYLANE_FISCAL_YEARS,
    PENNYLANE_JOURNALS,
    PENNYLANE_LISTED_CUSTOMERS,
    REFERENCE_HISTORY,
)

Side = Literal["till", "pennylane"]
TILL = 0
"""Company id of the till's rows: they belong to no company of PennyLane."""

_LOCK = 0x6B68  # "kh": class of the advisory locks of writers of histories

IDENTITY: Mapping[str, tuple[str, ...]] = {
    "payment_methods": ("name", "kind"),
    "registers": ("name",),
    "departments": ("name",),
    "department_groups": ("name",),
    "journals": ("code",),
    "accounts": ("number", "vat_rate"),
    "fiscal_years": ("start", "finish"),
    "customers": ("external_reference",),
}
"""Fields by which a record deleted and made again under another id is known to be the same thing."""

DATED = ("payment_methods", "vat_rates", "registers", "departments", "department_groups")
"""Tables of the till that a day is built with as they were on it. Customers are not: their names are in no entry."""

NEVER_EMPTY = ("payment_methods", "vat_rates", "registers")
"""Lists of the till that are never empty once they were not: an empty answer is a fault, nobody deletes them all."""


def business_day(shop: ShopFile, instant: datetime) -> date:
    """The shop's business day at an instant."""
    local = instant.astimezone(shop.zone)
    day = local.date()
    return day if local.time() >= shop.shop.day_starts_at else date.fromordinal(day.toordinal() - 1)


# --- writing ------------------------------------------------------------------------------------------------------


def remember_till(
    engine: sa.Engine, shop: ShopFile, tables: Mapping[str, pd.DataFrame], day: date
) -> dict[str, list[Version]]:
    """Note what the till lists on a business day; the versions written, by table.

    `tables` are frames of schemas/facts.py REFERENCE by name. Of customers only what the books need is noted. Raises
    ReferenceDataError, and notes nothing, when a list that every till has (`NEVER_EMPTY`) is empty and was not before:
    taken at its word it would hold every later day.
    """
    listings = {}
    for kind, frame in tables.items():
        key, *_ = (REFERENCE[kind].metadata or {})["unique"]
        columns = [name for name in frame.columns if name != key and (kind != "customers" or name in BOOKING)]
        listings[kind] = {str(row[0]): dict(zip(columns, row[1:], strict=True)) for row in _plain(frame, key, columns)}
    return _remember(engine, shop, "till", TILL, listings, day)


def remember_company(engine: sa.Engine, shop: ShopFile, company_id: int, day: date) -> dict[str, list[Version]]:
    """Note PennyLane's journals, accounts, fiscal years and customers as last listed; the versions written, by table.

    Nobody is named: accounts of single customers and suppliers are left out, of customers no name is stored.
    """
    listings: dict[str, dict[str, Content]] = {}
    with engine.connect() as connection:
        for kind, table, columns in (
            ("journals", PENNYLANE_JOURNALS, ("code", "label", "type")),
            ("accounts", PENNYLANE_ACCOUNTS, ("number", "label", "vat_rate", "type", "enabled")),
            ("fiscal_years", PENNYLANE_FISCAL_YEARS, ("start", "finish", "status")),
            ("customers", PENNYLANE_LISTED_CUSTOMERS, ("kind", "external_reference", "ledger_account_id")),
        ):
            query = sa.select(table.c.id, *(table.c[name] for name in columns)).where(
                table.c.shop_id == shop.shop.id, table.c.company_id == company_id
            )
            if kind == "accounts":
                query = query.where(sa.func.coalesce(table.c.type, "").not_in(PERSONS))
            listings[kind] = {
                str(row[0]): {
                    name: value.isoformat() if isinstance(value, date) else value
                    for name, value in zip(columns, row[1:], strict=True)
                }
                for row in connection.execute(query)
            }
    return _remember(engine, shop, "pennylane", company_id, listings, day)


def _plain(frame: pd.DataFrame, key: str, columns: Sequence[str]) -> Iterable[tuple[object, ...]]:
    """Rows as JSON has them: key, then columns; a null is None, a whole number an int."""
    plain = frame[[key, *columns]].astype(object)
    plain = plain.where(plain.notna(), None)
    for row in plain.itertuples(index=False, name=None):
        yield tuple(value if value is None or isinstance(value, str) else int(value) for value in row)


def _remember(
    engine: sa.Engine,
    shop: ShopFile,
    side: Side,
    company_id: int,
    listings: Mapping[str, Mapping[str, Content]],
    day: date,
) -> dict[str, list[Version]]:
    table = REFERENCE_HISTORY
    written: dict[str, list[Version]] = {}
    with engine.begin() as connection:
        # Two listings at once would each find the other's records missing.
        connection.execute(
            sa.text("select pg_advisory_xact_lock(:class, hashtext(:shop))"),
            {"class": _LOCK, "shop": f"{shop.shop.id} {side} {company_id}"},
        )
        for kind, listing in listings.items():
            known = _versions(connection, shop, side, company_id, kind)
            if side == "till" and kind in NEVER_EMPTY and known and not listing:
                raise ReferenceDataError(
                    f"the till lists no {kind.replace('_', ' ')} any more; it listed some before",
                    next_step="look at the till's settings and its key's rights; what was known stays in force",
                )
            found = noticed(known, listing, day)
            if found:
                own = {"shop_id": shop.shop.id, "side": side, "company_id": company_id, "kind": kind}
                statement = insert(table)
                statement = statement.on_conflict_do_update(
                    index_elements=[column.name for column in table.primary_key],
                    set_={
                        "valid_to": statement.excluded.valid_to,
                        "content": statement.excluded.content,
                        "noticed_at": sa.func.clock_timestamp(),
                    },
                )
                connection.execute(
                    statement,
                    [
                        own
                        | {
                            "record_id": item.record_id,
                            "valid_from": item.valid_from,
                            "valid_to": item.valid_to,
                            "content": dict(item.content),
                        }
                        for item in found
                    ],
                )
            written[kind] = found
    return written


# --- reading ------------------------------------------------------------------------------------------------------


def versions(
    engine: sa.Engine, shop: ShopFile, side: Side, *, company_id: int = TILL, kind: str | None = None
) -> dict[str, list[Version]]:
    """All versions known of one side, by table."""
    table = REFERENCE_HISTORY.c
    with engine.connect() as connection:
        kinds = (
            [kind]
            if kind
            else connection.execute(
                sa.select(table.kind)
                .distinct()
                .where(table.shop_id == shop.shop.id, table.side == side, table.company_id == company_id)
                .order_by(table.kind)
            )
            .scalars()
            .all()
        )
        return {name: _versions(connection, shop, side, company_id, name) for name in kinds}


def companies(engine: sa.Engine, shop: ShopFile) -> list[int]:
    """PennyLane companies of which something was noted, the last one first."""
    table = REFERENCE_HISTORY.c
    with engine.connect() as connection:
        return [
            int(company)
            for company in connection.execute(
                sa.select(table.company_id)
                .where(table.shop_id == shop.shop.id, table.side == "pennylane")
                .group_by(table.company_id)
                .order_by(sa.func.max(table.noticed_at).desc())
            ).scalars()
        ]


def _versions(connection: sa.Connection, shop: ShopFile, side: Side, company_id: int, kind: str) -> list[Version]:
    table = REFERENCE_HISTORY.c
    rows = connection.execute(
        sa.select(table.record_id, table.valid_from, table.valid_to, table.content, table.noticed_at)
        .where(
            table.shop_id == shop.shop.id,
            table.side == side,
            table.company_id == company_id,
            table.kind == kind,
        )
        .order_by(table.record_id, table.valid_from)
    )
    return [Version(*row) for row in rows]


def last_change(engine: sa.Engine, shop: ShopFile, side: Side) -> datetime | None:
    """When something was last noticed to differ that matters for the entries of days not sent; None before a listing.

    Of the till that is what entries are made of: a customer only where the till's accounts of customers are used.
    """
    table = REFERENCE_HISTORY.c
    query = sa.select(sa.func.max(table.noticed_at)).where(table.shop_id == shop.shop.id, table.side == side)
    if side == "till" and not shop.shop.accounting_chapters:
        query = query.where(table.kind.in_(DATED))
    with engine.connect() as connection:
        found: datetime | None = connection.execute(query).scalar()
    return found


class Dated:
    """The till's reference data by business day, for building: read once, asked for many windows.

    Tables that no listing was noted of yet are left as the lake has them.
    """

    def __init__(self, engine: sa.Engine, shop: ShopFile) -> None:
        known = versions(engine, shop, "till")
        self._versions = {kind: known[kind] for kind in DATED if known.get(kind)}

    def windows(self, days: Sequence[date]) -> list[list[date]]:
        """`days` (in order) cut where reference data changed: within a window one listing holds."""
        cuts = sorted(
            {day for found in self._versions.values() for day in change_days(found, days[0], days[-1])} if days else ()
        )
        pieces: list[list[date]] = []
        for day in days:
            if not pieces or any(pieces[-1][0] < cut <= day for cut in cuts):
                pieces.append([])
            pieces[-1].append(day)
        return pieces

    def on(self, facts: Facts, day: date) -> Facts:
        """`facts` with the reference data of a business day."""
        tables = {kind: _frame(kind, as_of(found, day)) for kind, found in self._versions.items()}
        return replace(facts, **tables)

    def mended(self, facts: Facts, day: date) -> Facts | None:
        """`on`, with the first later chapter where that of the day is of no use; None where there is no such."""
        better = {}
        for kind, found in self._versions.items():
            records = mended(found, day, partial(is_usable, kind))
            if records != as_of(found, day):
                better[kind] = _frame(kind, records)
        return replace(facts, **better) if better else None


def _frame(kind: str, records: Mapping[str, Content]) -> pd.DataFrame:
    schema = REFERENCE[kind]
    key, *_ = (schema.metadata or {})["unique"]
    if not records:
        return empty(schema)
    rows = [{key: int(record) if key == "vat_rate_bp" else record, **content} for record, content in records.items()]
    return conform(pd.DataFrame(rows, columns=list(schema.columns), dtype=object), schema)


# --- forgotten customers --------------------------------------------------------------------------------------------
