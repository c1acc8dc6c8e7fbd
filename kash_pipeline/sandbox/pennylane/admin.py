"""The other side of the sandbox: what a test, or the accountant in PennyLane's own screens, can see and do.

Nothing here is part of the imitated API, and no rule of it holds here: an accountant deletes entries, closes years,
changes what we posted. Faults are switched on in faults.py, requests counted in requests.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Engine

from kash_pipeline.sandbox.errors import SandboxError
from kash_pipeline.sandbox.pennylane import oauth
from kash_pipeline.sandbox.pennylane.changes import record
from kash_pipeline.sandbox.pennylane.clock import Clock
from kash_pipeline.sandbox.pennylane.oauth import TokenPair
from kash_pipeline.sandbox.pennylane.store import FiscalYear, default_fiscal_years, ensure_company, sha256


@dataclass(frozen=True)
class Line:
    """A line as it stands in the ledger, amounts in cents. `lettering` is the group's number or None."""

    id: int
    account_id: int
    account: str
    debit_cents: int
    credit_cents: int
    label: str
    lettering: int | None


@dataclass(frozen=True)
class Entry:
    id: int
    journal: str
    date: date
    label: str
    piece_number: str
    file_id: int | None
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class File:
    id: int
    filename: str
    content_type: str
    content: bytes


class Admin:
    """Reads and changes the state directly. Every method is one transaction and may be called from any thread.

    `company` is a name; left out, it is the one the sandbox was made for. SandboxError says what was not found.
    """

    def __init__(self, engine: Engine, company: str, clock: Clock) -> None:
        self._engine = engine
        self._company = company
        self._clock = clock

    # The books

    def entries(self, company: str | None = None) -> list[Entry]:
        """Every entry with its lines, in the order in which they came."""
        with self._engine.begin() as connection:
            # One statement, one snapshot: entries may be written meanwhile.
            rows = connection.exec_driver_sql(
                "select e.id as entry_id, j.code, e.date, e.label as entry_label, e.piece_number, e.file_id,"
                " l.id, l.account_id, a.number, l.debit_cents, l.credit_cents, l.label, l.lettering"
                " from entries e join journals j on j.id = e.journal_id join lines l on l.entry_id = e.id"
                " join accounts a on a.id = l.account_id where e.company_id = %(company)s order by e.id, l.id",
                {"company": self._id(connection, company)},
            ).all()
        entries = []
        for _, group in groupby(rows, key=attrgetter("entry_id")):
            lines = list(group)
            head = lines[0]
            entries.append(
                Entry(
                    id=head.entry_id,
                    journal=head.code,
                    date=head.date,
                    label=head.entry_label,
                    piece_number=head.piece_number,
                    file_id=head.file_id,
                    lines=tuple(Line(*row[6:]) for row in lines),
                )
            )
        return entries

    def delete_entry(self, entry_id: int) -> None:
        """As the accountant can in the application: the line changelog is all that tells of it."""
        with self._engine.begin() as connection:
            rows = connection.exec_driver_sql(
                "delete from lines where entry_id = %(id)s returning id, company_id, created_at", {"id": entry_id}
            ).all()
            if not rows:
                raise SandboxError(f"there is no entry {entry_id}", next_step="take an id of Admin.entries()")
            connection.exec_driver_sql("delete from entries where id = %(id)s", {"id": entry_id})
            self._changed(connection, rows, "delete")

    def edit_entry(self, entry_id: int, *, label: str | None = None, day: date | None = None) -> None:
        """Another text or day, as the accountant may type it."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "update entries set label = coalesce(%(label)s, label), date = coalesce(%(day)s, date),"
                " updated_at = %(now)s where id = %(id)s",
                {"label": label, "day": day, "now": self._clock(), "id": entry_id},
            )
            self._touch(connection, "entry_id = %(id)s", {"id": entry_id})

    def edit_line(
        self,
        line_id: int,
        *,
        debit_cents: int | None = None,
        credit_cents: int | None = None,
        label: str | None = None,
        account: str | None = None,
    ) -> None:
        """Change a line; nothing checks that the entry still balances."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "update lines l set debit_cents = coalesce(%(debit)s, debit_cents),"
                " credit_cents = coalesce(%(credit)s, credit_cents), label = coalesce(%(label)s, label),"
                " account_id = coalesce((select min(a.id) from accounts a where a.company_id = l.company_id"
                " and a.number = %(account)s), account_id) where id = %(id)s",
                {"debit": debit_cents, "credit": credit_cents, "label": label, "account": account, "id": line_id},
            )
            self._touch(connection, "id = %(id)s", {"id": line_id})

    def letter(self, line_ids: Iterable[int]) -> None:
        """Letter lines as the accountant would."""
        ids = sorted(line_ids)
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "update lines set lettering = %(group)s where id = any(%(ids)s::bigint[])",
                {"group": ids[0], "ids": ids},
            )
            self._touch(connection, "id = any(%(ids)s::bigint[])", {"ids": ids})

    def files(self, company: str | None = None) -> list[File]:
        with self._engine.begin() as connection:
            return [
                File(row.id, row.filename, row.content_type, bytes(row.content))
                for row in connection.exec_driver_sql(
                    "select id, filename, content_type, content from files where company_id = %(company)s order by id",
                    {"company": self._id(connection, company)},
                )
            ]

    # The company

    def add_company(self, name: str, *, reg_no: str = "552100554") -> int:
        """Another company with its own ids for the same chart, if there is none of that name; returns its id."""
        now = self._clock()
        with self._engine.begin() as connection:
            return ensure_company(
                connection, name, reg_no=reg_no, fiscal_years=default_fiscal_years(now.date()), now=now
            )

    def journal_id(self, code: str, company: str | None = None) -> int:
        return self._find(
            "select min(id) from journals where company_id = %(company)s and code = %(key)s", code, company
        )

    def account_id(self, number: str, company: str | None = None, *, vat_rate: str = "any") -> int:
        """The id of an account of the chart; `vat_rate` chooses among several ids of one number."""
        return self._find(
            "select min(id) from accounts where company_id = %(company)s and number = %(key)s and vat_rate = %(rate)s",
            number,
            company,
            rate=vat_rate,
        )

    def enable_account(self, number: str, enabled: bool, company: str | None = None) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "update accounts set enabled = %(enabled)s where company_id = %(company)s and number = %(number)s",
                {"enabled": enabled, "company": self._id(connection, company), "number": number},
            )

    def set_fiscal_year(self, year: FiscalYear, company: str | None = None) -> None:
        """Add a fiscal year, or change finish and status (open, reopen, closed, frozen) of the one starting there."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "insert into fiscal_years (company_id, start, finish, status, created_at, updated_at)"
                " values (%(company)s, %(start)s, %(finish)s, %(status)s, %(now)s, %(now)s)"
                " on conflict (company_id, start) do update set finish = excluded.finish, status = excluded.status,"
                " updated_at = excluded.updated_at",
                {"company": self._id(connection, company), "now": self._clock()} | year._asdict(),
            )

    def freeze(self, before: date | None, company: str | None = None) -> None:
        """Set (or lift) the date before which nothing may change; the API does not show it (section 7.8)."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "update companies set frozen_before = %(before)s where id = %(company)s",
                {"before": before, "company": self._id(connection, company)},
            )

    def delete_customer(self, customer_id: int) -> None:
        """As a person can in the application; whether the account goes too is unknown: here it stays."""
        with self._engine.begin() as connection:
            row = connection.exec_driver_sql(
                "delete from customers where id = %(id)s returning id, company_id, created_at", {"id": customer_id}
            ).one_or_none()
            if row is None:
                raise SandboxError(f"there is no customer {customer_id}", next_step="take an id of GET /customers")
            record(connection, row.company_id, "customers", "delete", [row.id], self._clock(), row.created_at)

    # Access

    def company_token(
        self,
        scopes: Iterable[str] | None = None,
        company: str | None = None,
        *,
        expires_at: datetime | None = None,
    ) -> str:
        """A company API token, as made in the settings of a company; all scopes unless told."""
        wanted = oauth.working_scopes() if scopes is None else list(scopes)
        with self._engine.begin() as connection:
            grant = oauth.new_grant(connection, self._id(connection, company), None, wanted, self._clock())
            return oauth.new_company_token(connection, grant, expires_at)

    def connect(
        self,
        client_id: str,
        scopes: Iterable[str] | None = None,
        company: str | None = None,
        *,
        access_life: timedelta = oauth.ACCESS_LIFE,
        refresh_life: timedelta = oauth.REFRESH_LIFE,
    ) -> TokenPair:
        """The token pair of a consent, without walking through the consent page."""
        wanted = oauth.working_scopes() if scopes is None else list(scopes)
        now = self._clock()
        with self._engine.begin() as connection:
            grant = oauth.new_grant(connection, self._id(connection, company), client_id, wanted, now)
            return oauth.new_pair(connection, grant, now, access_life=access_life, refresh_life=refresh_life)

    def expire_access_tokens(self) -> None:
        """Every access token is expired from now on; refresh tokens stay good."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("update tokens set access_expires_at = %(now)s", {"now": self._clock()})

    def expire_access_token(self, token: str) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "update tokens set access_expires_at = %(now)s where access_sha256 = %(token)s",
                {"now": self._clock(), "token": sha256(token)},
            )

    def withdraw_consent(self, client_id: str) -> None:
        """The user takes the consent back: access and refresh tokens of the client stop."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "update grants set revoked_at = %(now)s where client_id = %(client)s and revoked_at is null",
                {"now": self._clock(), "client": client_id},
            )

    def _id(self, connection: Connection, company: str | None) -> int:
        name = company or self._company
        found = connection.exec_driver_sql("select id from companies where name = %(name)s", {"name": name}).scalar()
        if found is None:
            raise SandboxError(f"there is no company {name!r}", next_step="make it with Admin.add_company")
        return int(found)

    def _find(self, query: str, key: str, company: str | None, **bound: Any) -> int:
        with self._engine.begin() as connection:
            found = connection.exec_driver_sql(
                query, {"company": self._id(connection, company), "key": key, **bound}
            ).scalar()
        if found is None:
            raise SandboxError(f"{key!r} is not in the chart or the journals", next_step="create it over the API first")
        return int(found)

    def _touch(self, connection: Connection, where: str, bound: dict[str, Any]) -> None:
        rows = connection.exec_driver_sql(
            f"update lines set updated_at = %(now)s where {where} returning id, company_id, created_at",
            {"now": self._clock(), **bound},
        ).all()
        if not rows:
            raise SandboxError("there is no such entry or line", next_step="take an id of Admin.entries()")
        self._changed(connection, rows, "update")

    def _changed(self, connection: Connection, rows: Iterable[Any], operation: str) -> None:
        for row in rows:
            record(connection, row.company_id, "ledger_entry_lines", operation, [row.id], self._clock(), row.created_at)
