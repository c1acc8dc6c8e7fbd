"""The sandbox's state in PostgreSQL: connections, tables, what a new company starts with, hashing of secrets.

Only setting up belongs here. Reading and changing records belongs to ledger.py, customers.py, files.py and oauth.py.
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from importlib.resources import files
from typing import NamedTuple

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import Pool

WORKERS = 8
"""Threads, and so connections, of one sandbox: enough to keep PostgreSQL busy, few beside its limit of 100."""

# Codes, labels and types of the journals a company starts with (pennylane-api.md section 7.1, from recordings).
JOURNALS = (
    ("VT", "Ventes", "sales"),
    ("HA", "Achats", "purchases"),
    ("BQ1", "Banque 1", "finances"),
    ("OD", "Opérations diverses", "misc"),
    ("TVA", "TVA", "vat"),
    ("RT", "TVA en attente", "pending_vat"),
    ("AN", "À-nouveaux", "carryover"),
    ("SIT", "Situation", "situation"),
    ("PA", "Paie", "payroll"),
    ("EMP", "Emprunts", "loans"),
)


class FiscalYear(NamedTuple):
    start: date
    finish: date
    status: str


def open_engine(given: Engine, *, poolclass: type[Pool] | None = None) -> Engine:
    """An engine of the sandbox's own for the same database.

    Its connections see the sandbox's schema only, and commit without waiting for the disk: a stopped sandbox loses
    nothing, a crashed PostgreSQL may lose the last 0.6 s. The caller's engine keeps its own, stricter settings.
    """
    options = {"options": "-c search_path=sandbox_pennylane -c synchronous_commit=off -c timezone=UTC"}
    if poolclass is not None:
        return create_engine(given.url, poolclass=poolclass, connect_args=options)
    return create_engine(given.url, pool_size=WORKERS, max_overflow=0, connect_args=options)


def prepare(engine: Engine) -> None:
    """Create what is missing. Two sandboxes starting at once wait for each other."""
    with engine.begin() as connection:
        connection.exec_driver_sql("select pg_advisory_xact_lock(hashtext('sandbox_pennylane'))")
        # No bound values: psycopg then sends all statements of the file in one go.
        connection.exec_driver_sql(files(__package__).joinpath("schema.sql").read_text(encoding="utf-8"))


def ensure_company(
    connection: Connection, name: str, *, reg_no: str, fiscal_years: Iterable[FiscalYear], now: datetime
) -> int:
    """The id of the company `name`, made with chart and journals if it is new.

    Fiscal years are added where none stands yet, so that a sandbox kept from last time also serves newer data.
    """
    connection.exec_driver_sql("select pg_advisory_xact_lock(hashtext('sandbox_pennylane'))")
    found = connection.exec_driver_sql("select id from companies where name = %(name)s", {"name": name}).scalar()
    company = _new_company(connection, name, reg_no, now) if found is None else int(found)
    for year in fiscal_years:
        connection.exec_driver_sql(
            "insert into fiscal_years (company_id, start, finish, status, created_at, updated_at)"
            " select %(company)s, %(start)s, %(finish)s, %(status)s, %(now)s, %(now)s where not exists (select from"
            " fiscal_years where company_id = %(company)s and start <= %(finish)s and finish >= %(start)s)",
            {"company": company, "now": now} | year._asdict(),
        )
    return company


def _new_company(connection: Connection, name: str, reg_no: str, now: datetime) -> int:
    company: int = connection.exec_driver_sql(
        "insert into companies (name, reg_no) values (%(name)s, %(reg_no)s) returning id",
        {"name": name, "reg_no": reg_no},
    ).scalar_one()
    columns = [list(column) for column in zip(*_chart(), strict=True)]
    connection.exec_driver_sql(
        "insert into accounts (company_id, number, label, vat_rate, country_alpha2, enabled, type, letterable,"
        " created_at, updated_at) select %(company)s, u.*, %(now)s, %(now)s from unnest("
        "%(c0)s::text[], %(c1)s::text[], %(c2)s::text[], %(c3)s::text[], %(c4)s::bool[], %(c5)s::text[], %(c6)s::bool[]"
        ") as u",
        {"company": company, "now": now} | {f"c{number}": column for number, column in enumerate(columns)},
    )
    connection.exec_driver_sql(
        "insert into journals (company_id, code, label, type)"
        " select %(company)s, u.* from unnest(%(codes)s::text[], %(labels)s::text[], %(types)s::text[]) as u",
        {
            "company": company,
            "codes": [code for code, _, _ in JOURNALS],
            "labels": [label for _, label, _ in JOURNALS],
            "types": [kind for _, _, kind in JOURNALS],
        },
    )
    return company


def set_clients(connection: Connection, clients: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Register OAuth applications: id to (secret, redirect URIs). A known id gets the new secret and URIs."""
    for identifier, (secret, uris) in clients.items():
        connection.exec_driver_sql(
            "insert into clients (id, secret_sha256, redirect_uris) values (%(id)s, %(secret)s, %(uris)s)"
            " on conflict (id) do update set secret_sha256 = excluded.secret_sha256,"
            " redirect_uris = excluded.redirect_uris",
            {"id": identifier, "secret": sha256(secret), "uris": list(uris)},
        )


def default_fiscal_years(today: date) -> list[FiscalYear]:
    """Calendar years: 2009 closed, 2010 to next year open.

    Several open years, future ones too, were recorded (section 7.8); going back to 2010 is ours: the data sets that
    the sandbox is demonstrated with start in December 2010.
    """
    return [
        FiscalYear(date(year, 1, 1), date(year, 12, 31), "closed" if year == 2009 else "open")
        for year in range(2009, today.year + 2)
    ]


def sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _chart() -> list[tuple[str, str, str, str, bool, str, bool]]:
    """(number, label, vat_rate, country, enabled, type, letterable), one row per id: a number has one per VAT rate."""
    text = files(__package__).joinpath("chart.csv").read_text(encoding="utf-8")
    return [
        (
            row["number"],
            row["label"],
            rate,
            "FR" if rate.startswith("FR") else "any",
            row["enabled"] == "1",
            row["type"],
            row["letterable"] == "1",
        )
        for row in csv.DictReader(text.splitlines())
        for rate in row["vat_rates"].split()
    ]
