"""Both sides' reference data for the mapping commands: as last stored, or read now.

Only gathering belongs here; what is looked for in it is mapping.py and proposal.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import sqlalchemy as sa

from kash_pipeline import pennylane, pos
from kash_pipeline.pennylane import reference
from kash_pipeline.reference import personal, store
from kash_pipeline.reference.customers import keeper
from kash_pipeline.reference.mapping import Company, CompanyAccount, CompanyJournal
from kash_pipeline.schemas.facts import REFERENCE, Facts
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.forgotten import forgotten_customers
from kash_pipeline.warehouse.lake import Lake, days_between
from kash_pipeline.warehouse.tables import PENNYLANE_ACCOUNTS, PENNYLANE_FISCAL_YEARS, PENNYLANE_JOURNALS


@dataclass(frozen=True)
class Sides:
    """The till's reference data, one `Facts` for each change within the period, in order, and PennyLane's company;
    `seen_at`: when PennyLane was read (None: no company)."""

    listings: Sequence[Facts]
    company: Company | None
    seen_at: datetime | None


def gather(
    engine: sa.Engine, shop: ShopFile, env: Environment, first: date, last: date, *, fresh: bool = False
) -> Sides:
    """Both sides: the till's as it was on the business days `first..last` by the versions noted, PennyLane's now.

    What was never stored is read now and stored; with `fresh` both are. A shop without [pennylane] has no company.
    Raises the errors of the till or of PennyLane when they have to be read and do not answer.
    """
    lake = Lake(env.lake_url, shop.shop.id)
    if fresh or not lake.has_reference("payment_methods"):
        read_till(engine, shop, lake)
    facts = Facts(**{name: lake.read_reference(name) for name in REFERENCE if lake.has_reference(name)})
    dated = store.Dated(engine, shop)
    listings = [dated.on(facts, window[0]) for window in dated.windows(days_between(first, last))]
    if shop.pennylane is None:
        return Sides(listings, None, None)
    company_id = None if fresh else stored_company(engine, shop)
    if company_id is None:
        company_id = read_company(engine, shop, env)
    company, seen_at = company_as_stored(engine, shop, company_id)
    return Sides(listings, company, seen_at)


def read_till(engine: sa.Engine, shop: ShopFile, lake: Lake) -> None:
    """Read the till's reference data, keep it in the lake and note its versions."""
    with pos.open_source(shop, keep=keeper(lake)) as source:
        tables = source.reference()
    tables["customers"] = personal.needed(tables["customers"], shop, forgotten_customers(engine, shop.shop.id))
    store.remember_till(engine, shop, tables, store.business_day(shop, datetime.now(UTC)))
    for name, frame in tables.items():
        lake.write_reference(name, frame)


def read_company(engine: sa.Engine, shop: ShopFile, env: Environment) -> int:
    """Read PennyLane's journals, accounts and fiscal years, store them and note their versions; the company's id.

    Nothing is made there: a journal or account that is missing stays missing.
    """
    with pennylane.connect(shop, engine, env) as client:
        company_id = client.me().company_id
        reference.store_listings(client, engine, shop, company_id)
    store.remember_company(engine, shop, company_id, store.business_day(shop, datetime.now(UTC)))
    return company_id


def stored_company(engine: sa.Engine, shop: ShopFile) -> int | None:
    """The company whose accounts were stored last; None before the first synchronisation."""
    table = PENNYLANE_ACCOUNTS.c
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(table.company_id)
            .where(table.shop_id == shop.shop.id)
            .group_by(table.company_id)
            .order_by(sa.func.max(table.seen_at).desc())
            .limit(1)
        ).scalar()
    return None if found is None else int(found)


def company_as_stored(engine: sa.Engine, shop: ShopFile, company_id: int) -> tuple[Company, datetime | None]:
    """The company as last synchronised, and when that was."""

    def own(table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.shop_id == shop.shop.id, table.c.company_id == company_id)

    accounts, journals, years = PENNYLANE_ACCOUNTS, PENNYLANE_JOURNALS, PENNYLANE_FISCAL_YEARS
    with engine.connect() as connection:
        seen_at: datetime | None = connection.execute(
            sa.select(sa.func.max(accounts.c.seen_at)).where(own(accounts))
        ).scalar()
        company = Company(
            accounts=[
                CompanyAccount(*row)
                for row in connection.execute(
                    sa.select(
                        accounts.c.id, accounts.c.number, accounts.c.label, accounts.c.vat_rate, accounts.c.enabled
                    ).where(own(accounts))
                )
            ],
            journals=[
                CompanyJournal(*row)
                for row in connection.execute(
                    sa.select(journals.c.code, journals.c.label, journals.c.type).where(own(journals))
                )
            ],
            years=[
                (start, finish, status)
                for start, finish, status in connection.execute(
                    sa.select(years.c.start, years.c.finish, years.c.status).where(own(years))
                )
            ],
        )
    return company, seen_at
