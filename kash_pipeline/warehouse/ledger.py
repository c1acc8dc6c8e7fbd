"""The publication ledger: which entry may be sent to PennyLane, which was, and as what.

One row per piece number. Only states and their permitted changes belong here; what PennyLane is asked and answered is
in pennylane/publisher.py, what a correction's lines are in accounting/corrections.py.

    ready ──begin──▶ sending ──sent──▶ sent ──verified──▶ verified ──correct──▶ superseded
      ▲                │ │
      └─back_to_ready──┘ └─refused / hold──▶ refused, held ──back_to_ready──▶ ready

`sending` is committed before PennyLane is called, with the very lines that are sent: after any crash the row says what
may have arrived. `digest` is what the books say now, `sent_digest` what was handed over; where they differ in a sent
row, a correction is due.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import date
from typing import Any

import pandas as pd
import pyarrow as arrow
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from kash_pipeline.warehouse.errors import LedgerBusy, LedgerError
from kash_pipeline.warehouse.publication import (
    IN_PENNYLANE,
    Changed,
    Content,
    Decision,
    How,
    Intent,
    Line,
    ReadyDay,
    Row,
    State,
    SyncReport,
    decide,
    owner_alive,
    this_process,
)
from kash_pipeline.warehouse.tables import ENTRIES, ENTRY_LINES, HELD, PUBLICATION
from kash_pipeline.warehouse.windows import copy_in, lock_windows, sql_frame

__all__ = [
    "Changed",
    "Content",
    "Intent",
    "Line",
    "PublicationLedger",
    "ReadyDay",
    "Row",
    "State",
    "SyncReport",
    "Turn",
    "owner_alive",
    "this_process",
]

_P = PUBLICATION.c
# A replacement's lines are fixed when it is made; `sync` may meanwhile have noted that the books say something else.
_DIGEST_OF_CONTENT = sa.case(
    (sa.and_(_P.role == "replacement", _P.sent_digest.is_not(None)), _P.sent_digest), else_=_P.digest
)
_TURN_LOCK = 0x6B70  # "kp": class of the advisory locks that publishers hold
_ROW_COLUMNS = [_P[item.name] for item in fields(Row)]
_HEADER = ("kind", "business_day", "register_id", "journal", "date", "label", "line_count", "amount_cents", "digest")
_CONTENT_HEADER = ("kind", "business_day", "register_id", "journal", "date", "label")


def _row(mapping: Any) -> Row:
    values = dict(mapping)
    for name in ("remote_line_ids", "corrected_by"):
        values[name] = None if values[name] is None else tuple(values[name])
    return Row(**values)


def _wanted(entries: pd.DataFrame) -> dict[str, dict[str, Any]]:
    columns = {
        "kind": entries["kind"].astype("str"),
        "business_day": entries["business_day"].dt.date,
        "register_id": entries["register_id"].astype("str"),
        "journal": entries["journal"].astype("str"),
        "date": entries["date"].dt.date,
        "label": entries["label"].astype("str"),
        "line_count": entries["lines"],
        "amount_cents": entries["debit_cents"],
        "digest": entries["digest"].astype("str"),
    }
    rows = zip(*(columns[name].tolist() for name in _HEADER), strict=True)
    keys = entries["entry_key"].astype("str").tolist()
    return {key: dict(zip(_HEADER, row, strict=True)) for key, row in zip(keys, rows, strict=True)}


def _table(keys: list[str], headers: list[dict[str, Any]]) -> arrow.Table:
    columns = {name: [header[name] for header in headers] for name in _HEADER}
    return arrow.table({"key": keys, **columns})


class Turn:
    """The right to publish for a shop, as long as its database session lives."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._session = self._backend()

    def still_mine(self) -> bool:
        """Ask before every POST: a session that was cut has lost the turn, and another publisher may have it."""
        try:
            # SQLAlchemy opens a new session in place of a lost one, without the lock: it has another pid.
            return self._backend() == self._session
        except SQLAlchemyError:
            return False

    def _backend(self) -> int:
        return int(self._connection.execute(sa.text("select pg_backend_pid()")).scalar_one())


class PublicationLedger:
    """The ledger of one shop. Every method but `sync` and `correct` is a transaction of its own, durable on return."""

    def __init__(self, engine: sa.Engine, shop_id: str) -> None:
        self._engine = engine
        self.shop_id = shop_id

    # --- what the books say ---------------------------------------------------------------------------------

    def sync(
        self, connection: sa.Connection, entries: pd.DataFrame, held: pd.DataFrame, days: Iterable[date]
    ) -> SyncReport:
        """Bring the rows of `days` in line with what the books now say, in the transaction that replaces the entries.

        `entries` and `held` are frames of schemas/entries.py. An unchanged digest changes nothing. A new key becomes
        ready. A key never sent takes the new content, or goes when the books lose it or hold its register-day. A key
        that is in PennyLane is never touched: when the books say something else, it is listed in
        `changed_after_sending` (and by `changed`) until `correct` names its correction. A row in `sending` keeps what
        is being sent and is compared when it is known to have arrived.
        """
        lock_windows(connection, self.shop_id)
        found = connection.execute(
            sa.select(*_ROW_COLUMNS)
            .where(_P.shop_id == self.shop_id, _P.business_day == sa.any_(sa.bindparam("days")))
            .order_by(_P.key)
            .with_for_update(),
            {"days": sorted(set(days))},
        ).mappings()
        wanted = _wanted(entries)
        register_days = set(
            zip(held["business_day"].dt.date.tolist(), held["register_id"].astype("str").tolist(), strict=True)
        )
        decision = decide([_row(row) for row in found], wanted, register_days)
        self._write(connection, decision, wanted)
        return SyncReport(
            new=len(decision.new),
            updated=len(decision.update),
            removed=len(decision.remove),
            unchanged=decision.unchanged,
            changed_after_sending=self._changed(connection, decision.changed),
        )

    def _write(self, connection: sa.Connection, decision: Decision, wanted: dict[str, dict[str, Any]]) -> None:
        if decision.remove:
            connection.execute(
                sa.delete(PUBLICATION).where(_P.shop_id == self.shop_id, _P.key == sa.any_(sa.bindparam("keys"))),
                {"keys": decision.remove},
            )
        if decision.new:
            rows = _table(decision.new, [wanted[key] for key in decision.new])
            constant = {"shop_id": self.shop_id, "role": "original", "state": "ready"}
            rows = rows.append_column("base_key", rows["key"])
            for name, value in constant.items():
                rows = rows.append_column(name, arrow.repeat(value, rows.num_rows))
            copy_in(connection, PUBLICATION, rows)
        # A new chart changes every entry of a year: those go in one statement, through a table of their own.
        renewed = [key for key, change in decision.update.items() if "kind" in change]
        if renewed:
            columns = ", ".join(("key", *_HEADER))
            connection.execute(
                sa.text(
                    f"create temporary table renewed on commit drop as select {columns} from kash.publication limit 0"
                )
            )
            copy_in(connection, "renewed", _table(renewed, [decision.update[key] for key in renewed]))
            assignments = ", ".join(f"{name} = r.{name}" for name in _HEADER)
            connection.execute(
                sa.text(
                    f"update kash.publication p set {assignments}, state = 'ready', error = null, attempts = 0,"
                    " remote_id = null, day_held = false, updated_at = clock_timestamp()"
                    " from renewed r where p.shop_id = :shop and p.key = r.key"
                ),
                {"shop": self.shop_id},
            )
            connection.execute(sa.text("drop table renewed"))
        for key, change in decision.update.items():
            if "kind" not in change:
                self._update(connection, _P.key == key, **change)

    def _changed(self, connection: sa.Connection, found: list[tuple[How, str]]) -> list[Changed]:
        rows = {
            row["key"]: row
            for row in connection.execute(
                sa.select(*_ROW_COLUMNS, _P.sent_entry).where(
                    _P.shop_id == self.shop_id, _P.key == sa.any_(sa.bindparam("keys"))
                ),
                {"keys": [key for _, key in found]},
            ).mappings()
        }
        out = []
        for how, key in found:
            values = dict(rows[key])
            sent = values.pop("sent_entry")
            row = _row(values)
            content = None if how == "reappeared" else Content.from_json(sent)
            out.append(Changed(how, row, content, row.digest))
        return out

    def changed(self, first: date, last: date) -> list[Changed]:
        """Every entry of `first..last` that is in PennyLane otherwise than the books say, and has no correction yet."""
        with self._engine.connect() as connection:
            rows = [
                _row(row)
                for row in connection.execute(
                    sa.select(*_ROW_COLUMNS)
                    .where(self._of_days(first, last), _P.role != "reversal")
                    .order_by(_P.business_day, _P.register_id, _P.key)
                ).mappings()
            ]
            live = {row.base_key for row in rows if row.state != "superseded"}
            found: list[tuple[How, str]] = []
            for row in rows:
                if row.due_for_correction and row.state != "sending":
                    found.append(("vanished" if row.digest is None else "changed", row.key))
                elif row.base_key not in live and row.digest is not None and not row.day_held:
                    found.append(("reappeared", row.key))
            return self._changed(connection, found)

    def correct(
        self, connection: sa.Connection, changed: Changed, *, reversal: Content | None, replacement: Content | None
    ) -> None:
        """Put the entries that correct `changed` into the ledger, ready to be sent; the three name each other.

        `reversal` takes back what was sent (None for `reappeared`), `replacement` is the new entry under its new key
        (None for `vanished`). What is taken back was found in PennyLane as it was sent: that counts as read back, for
        nobody reads it later and its customers' lines are lettered too.
        Raises LedgerError when the row has moved on meanwhile or a key is taken.
        """
        if (reversal is None) != (changed.how == "reappeared") or (replacement is None) != (changed.how == "vanished"):
            raise LedgerError(
                f"{changed.row.key} ({changed.how}) cannot be corrected with these entries",
                next_step="report this: a reversal belongs to what was sent, a replacement to what the books say",
            )
        old = self._locked_row(connection, changed.row.key)
        if (old.state, old.digest, old.corrected_by) != (
            changed.row.state,
            changed.row.digest,
            changed.row.corrected_by,
        ):
            raise LedgerError(f"{old.key} changed while it was being corrected", next_step="build its day again")
        keys = [content.key for content in (reversal, replacement) if content is not None]
        for role, content in (("reversal", reversal), ("replacement", replacement)):
            if content is None:
                continue
            inserted = connection.execute(
                insert(PUBLICATION)
                .values(
                    shop_id=self.shop_id,
                    key=content.key,
                    base_key=old.base_key,
                    role=role,
                    revision=old.revision + 1,
                    kind=content.kind,
                    # That of what it corrects, so that both are found together; `date` may be a later, open day.
                    business_day=old.business_day,
                    register_id=old.register_id,
                    journal=content.journal,
                    date=content.date,
                    label=content.label,
                    line_count=len(content.lines),
                    amount_cents=content.amount_cents,
                    digest=old.digest if role == "replacement" else old.sent_digest,
                    correction=content.to_json(),
                    corrects=old.key,
                    state="ready",
                )
                .on_conflict_do_nothing()
            )
            if not inserted.rowcount:
                raise LedgerError(
                    f"the key {content.key} is taken", next_step="report this: keys of corrections repeat"
                )
        self._update(
            connection,
            _P.key == old.key,
            state="superseded",
            verified_at=sa.func.coalesce(_P.verified_at, sa.func.clock_timestamp()),
            digest=None,
            corrected_by=[*(old.corrected_by or ()), *keys],
        )

    def corrections_of(self, keys: Iterable[str]) -> dict[str, list[Row]]:
        """The reversal and the replacement that correct each of these entries, by its key."""
        rows = self._rows(_P.corrects == sa.any_(sa.literal(sorted(set(keys)), ARRAY(sa.Text))))
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(str(row.corrects), []).append(row)
        return found

    def half_corrected(self) -> list[tuple[Row, Row]]:
        """Corrections of any day that stand in PennyLane by half: (what is not there, what is).

        What is being sent is neither.
        """
        other = PUBLICATION.alias()
        halves = self._rows(
            _P.role != "original",
            _P.sent_at.is_(None),
            _P.state != "sending",
            sa.exists().where(
                other.c.shop_id == _P.shop_id,
                other.c.corrects == _P.corrects,
                other.c.key != _P.key,
                other.c.sent_at.is_not(None),
            ),
        )
        pairs = self.corrections_of(str(row.corrects) for row in halves)
        return [(row, one) for row in halves for one in pairs[str(row.corrects)] if one.key != row.key and one.sent_at]

    # --- what is to be sent ---------------------------------------------------------------------------------

    def ready(self, first: date | None = None, last: date | None = None, *, limit: int | None = None) -> list[Row]:
        """Rows that may be sent, by day, register and key."""
        return self._rows(self._of_days(first, last), _P.state == "ready", limit=limit)

    def ready_days(self) -> list[ReadyDay]:
        """Days with rows that may be sent: one query on a partial index, for a sensor."""
        return self._days_with("state = 'ready'")

    def days_to_correct(self) -> list[ReadyDay]:
        """Days with entries that are in PennyLane otherwise than the books now say, for a sensor; see `changed`."""
        return self._days_with(
            "sent_at is not null and role <> 'reversal'"
            " and not day_held and (state in ('sent', 'verified') and digest is distinct from sent_digest"
            # It was taken back, and the books have it again.
            " or state = 'superseded' and digest is not null and not exists (select from kash.publication live"
            " where live.shop_id = p.shop_id and live.base_key = p.base_key and live.role <> 'reversal'"
            " and live.state <> 'superseded'))",
            # Those are of what was sent: a correction starts anew.
            attempts="0",
        )

    def days_not_read_back(self) -> list[ReadyDay]:
        """Days with entries that were sent and not read back, for a sensor: their publisher was killed in between."""
        return self._days_with("state = 'sent'", attempts="0", content="sent_at::text")

    def _days_with(self, rows: str, *, attempts: str = "max(attempts)", content: str = "digest") -> list[ReadyDay]:
        """Days of the rows that this SQL condition holds for; `content` is the column that tells an entry's news."""
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.text(
                    f"select business_day, count(*), {attempts},"
                    f" md5(string_agg(key || ' ' || coalesce({content}, ''), ',' order by key))"
                    f" from kash.publication p where shop_id = :shop and {rows}"
                    " group by business_day order by business_day"
                ),
                {"shop": self.shop_id},
            )
            return [ReadyDay(*row) for row in found]

    @contextmanager
    def turn(self, *, wait_seconds: float = 0) -> Iterator[Turn]:
        """Be the only publisher of this shop; raises LedgerBusy when another one is after `wait_seconds`.

        An advisory lock of a session of its own: PostgreSQL frees it when the process dies. It needs real sessions
        (no PgBouncer in transaction mode).
        """
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # 0 would mean to wait for ever.
            connection.execute(sa.text(f"set lock_timeout = {max(1, int(wait_seconds * 1000))}"))
            lock = {"class": _TURN_LOCK, "shop": self.shop_id}
            try:
                connection.execute(sa.text("select pg_advisory_lock(:class, hashtext(:shop))"), lock)
            except OperationalError as error:
                raise LedgerBusy(
                    f"another process is publishing for {self.shop_id}", next_step="wait until it has finished"
                ) from error
            try:
                yield Turn(connection)
            finally:
                # Ends the session, and with it the lock; a pooled connection would keep it.
                connection.invalidate()

    def begin(self, key: str, *, company_id: int, digest: str | None = None) -> Intent | None:
        """Declare that `key` is being sent; what to send, or None when it is not ready (any more).

        A compare-and-set: of any number of publishers one gets the intent. With `digest`, only that content is begun.
        On return the intent is durable: state `sending`, this process as owner, and the lines in `sent_entry`.
        """
        with self._engine.begin() as connection:
            conditions = [_P.key == key, _P.state == "ready", _P.digest.is_not(None)]
            if digest is not None:
                conditions.append(_P.digest == digest)
            row = self._update(
                connection,
                *conditions,
                state="sending",
                company_id=company_id,
                sent_digest=_P.digest,
                attempts=_P.attempts + 1,
                owner=this_process(),
                sending_at=sa.func.clock_timestamp(),
                error=None,
            )
            if row is None:
                return None
            content = self._content(connection, row)
            self._update(connection, _P.key == key, sent_entry=content.to_json())
            return Intent(row, content)

    def contents(self, rows: Sequence[Row]) -> dict[str, Content]:
        """What these rows would send, or did send, by key: for a plan and for look-ups before sending."""
        with self._engine.connect() as connection:
            stored = {
                key: Content.from_json(sent or correction)
                for key, sent, correction in connection.execute(
                    sa.select(_P.key, _P.sent_entry, _P.correction).where(
                        _P.shop_id == self.shop_id,
                        _P.key == sa.any_(sa.bindparam("keys")),
                        sa.or_(_P.sent_entry.is_not(None), _P.correction.is_not(None)),
                    ),
                    {"keys": [row.key for row in rows]},
                )
            }
            missing = [row.key for row in rows if row.key not in stored]
            return stored | self._built(connection, missing)

    def built(self, keys: Sequence[str]) -> dict[str, Content]:
        """What the entry tables hold under these keys, by key: what a replacement has to say."""
        with self._engine.connect() as connection:
            return self._built(connection, list(keys))

    def _content(self, connection: sa.Connection, row: Row) -> Content:
        correction = connection.execute(
            sa.select(_P.correction).where(_P.shop_id == self.shop_id, _P.key == row.key)
        ).scalar_one()
        if correction is not None:
            return Content.from_json(correction)
        built = self._built(connection, [row.key], digest=row.digest)
        if row.key not in built:
            raise LedgerError(
                f"the entry tables do not hold {row.key} as the ledger knows it",
                next_step=f"build {row.business_day} again",
            )
        return built[row.key]

    def _built(self, connection: sa.Connection, keys: list[str], *, digest: str | None = None) -> dict[str, Content]:
        entry, line = ENTRIES.c, ENTRY_LINES.c
        query = (
            sa.select(
                entry.entry_key,
                *(entry[name] for name in _CONTENT_HEADER),
                *(line[item.name].label(f"line_{item.name}") for item in fields(Line)),
            )
            .join_from(
                ENTRIES,
                ENTRY_LINES,
                sa.and_(
                    entry.shop_id == line.shop_id,
                    entry.business_day == line.business_day,
                    entry.entry_key == line.entry_key,
                ),
            )
            .where(entry.shop_id == self.shop_id, entry.entry_key == sa.any_(sa.bindparam("keys")))
            .order_by(entry.entry_key, line.line_no)
        )
        if digest is not None:
            query = query.where(entry.digest == digest)
        lines: dict[str, list[Line]] = {}
        headers: dict[str, sa.RowMapping] = {}
        for found in connection.execute(query, {"keys": keys}).mappings():
            key = str(found["entry_key"])
            headers[key] = found
            lines.setdefault(key, []).append(Line(**{item.name: found[f"line_{item.name}"] for item in fields(Line)}))
        return {
            key: Content(key=key, lines=tuple(lines[key]), **{name: header[name] for name in _CONTENT_HEADER})
            for key, header in headers.items()
        }

    # --- what became of it ----------------------------------------------------------------------------------

    def sent(self, key: str, remote_id: int, remote_line_ids: Sequence[int]) -> None:
        """PennyLane has it (posted, or found there with the same lines). Saying so twice is no error."""
        with self._engine.begin() as connection:
            row = self._update(
                connection,
                _P.key == key,
                _P.state == "sending",
                state="sent",
                remote_id=remote_id,
                remote_line_ids=list(remote_line_ids),
                sent_at=sa.func.clock_timestamp(),
                owner=None,
                error=None,
            )
            if row is None:
                now = self._locked_row(connection, key)
                if now.remote_id != remote_id or now.state not in IN_PENNYLANE:
                    raise self._not_allowed(now, "sent")

    def verified(self, *keys: str) -> None:
        """Read back from PennyLane and found equal."""
        with self._engine.begin() as connection:
            for key in sorted(keys):  # in the order in which `sync` locks them
                row = self._update(
                    connection,
                    _P.key == key,
                    _P.state == "sent",
                    state="verified",
                    verified_at=sa.func.clock_timestamp(),
                    error=None,
                )
                if row is None:
                    now = self._locked_row(connection, key)
                    if now.state not in ("verified", "superseded"):
                        raise self._not_allowed(now, "verified")

    def refused(self, key: str, error: str) -> None:
        """PennyLane said no for good: it stands until the facts, the chart or a person changes something."""
        self._put_aside(key, "refused", error)

    def hold(self, key: str, reason: str, *, remote_id: int | None = None) -> None:
        """Nobody may send it before a person has looked: PennyLane has another entry under this piece number, say."""
        self._put_aside(key, "held", reason, remote_id=remote_id)

    def _put_aside(self, key: str, state: State, error: str, *, remote_id: int | None = None) -> None:
        with self._engine.begin() as connection:
            self._lock_family(connection, key)
            sent = self._locked_row(connection, key)
            if sent.role == "original" and sent.state == "sending" and sent.digest not in (None, sent.sent_digest):
                # The books changed while it was being sent: what they say now, nobody has refused.
                state = "ready"
            row = self._update(
                connection,
                _P.key == key,
                _P.state.in_(("ready", "sending", "held", "refused")),
                state=state,
                error=error,
                remote_id=remote_id,
                digest=_DIGEST_OF_CONTENT,
                sent_digest=None,
                sent_entry=None,
                owner=None,
            )
            if row is None:
                raise self._not_allowed(sent, state)
            if state == "ready":
                self._refresh(connection, row)
            self._drop_if_unwanted(connection, row)
            self._dissolve_if_stale(connection, row)

    def move(self, key: str, day: date, why: str) -> None:
        """A correction that PennyLane refused for its date is to be sent on `day` instead, under the same key.

        Only for what is certainly not in PennyLane. Links and digests stay as they are. Raises LedgerError when it is
        not a correction that waits, or another process is sending it.
        """
        with self._engine.begin() as connection:
            self._lock_family(connection, key)
            row = self._update(
                connection,
                _P.key == key,
                _P.role != "original",
                sa.or_(_P.state == "ready", sa.and_(_P.state == "sending", _P.owner == this_process())),
                state="ready",
                date=day,
                correction=_P.correction.concat(sa.cast({"date": day.isoformat()}, JSONB)),
                # Tries on other days are no reason to give this one up.
                attempts=0,
                error=why,
                digest=_DIGEST_OF_CONTENT,
                sent_digest=None,
                sent_entry=None,
                owner=None,
            )
            if row is None:
                raise self._not_allowed(self._locked_row(connection, key), f"one of {day}")
            self._dissolve_if_stale(connection, row)

    def back_to_ready(self, key: str, error: str | None = None) -> None:
        """It is certainly not in PennyLane: it may be sent (again). `error` says what happened, for the reader."""
        with self._engine.begin() as connection:
            self._lock_family(connection, key)
            row = self._update(
                connection,
                _P.key == key,
                _P.state.in_(("sending", "refused", "held")),
                _P.sent_at.is_(None),
                state="ready",
                error=error,
                remote_id=None,
                digest=_DIGEST_OF_CONTENT,
                sent_digest=None,
                sent_entry=None,
                owner=None,
            )
            if row is None:
                raise self._not_allowed(self._locked_row(connection, key), "ready")
            self._refresh(connection, row)
            self._drop_if_unwanted(connection, row)
            self._dissolve_if_stale(connection, row)

    def _lock_family(self, connection: sa.Connection, key: str) -> None:
        """All rows of an entry with its corrections, in the order in which `sync` locks them."""
        family = sa.select(_P.base_key).where(_P.shop_id == self.shop_id, _P.key == key).scalar_subquery()
        connection.execute(
            sa.select(_P.key)
            .where(_P.shop_id == self.shop_id, _P.base_key == family)
            .order_by(_P.key)
            .with_for_update()
        )

    def _dissolve_if_stale(self, connection: sa.Connection, row: Row) -> None:
        """While a replacement was being sent, its facts changed: as it never arrived, it is made anew, see `changed`.

        Only `sync` compares otherwise, and it leaves what is being sent alone.
        """
        if row.role != "replacement":
            return
        entry = ENTRIES.c
        header = connection.execute(
            sa.select(
                *(entry[name] for name in ("kind", "business_day", "register_id", "journal", "date", "label")),
                entry.lines.label("line_count"),
                entry.debit_cents.label("amount_cents"),
                entry.digest,
            ).where(entry.shop_id == self.shop_id, entry.entry_key == row.base_key)
        ).mappings()
        found = header.one_or_none()
        wanted = {} if found is None else {row.base_key: dict(found)}
        is_held = connection.execute(
            sa.select(sa.func.count()).where(
                HELD.c.shop_id == self.shop_id,
                HELD.c.business_day == row.business_day,
                HELD.c.register_id == row.register_id,
            )
        ).scalar_one()
        family = connection.execute(
            sa.select(*_ROW_COLUMNS).where(_P.shop_id == self.shop_id, _P.base_key == row.base_key).order_by(_P.key)
        ).mappings()
        held = {(row.business_day, row.register_id)} if is_held else set()
        self._write(connection, decide([_row(one) for one in family], wanted, held), wanted)

    def _refresh(self, connection: sa.Connection, row: Row) -> None:
        """The facts may have changed while it was being sent: the header is then that of another content."""
        if row.role != "original":
            return
        connection.execute(
            sa.update(PUBLICATION)
            .where(
                _P.shop_id == self.shop_id,
                _P.key == row.key,
                ENTRIES.c.shop_id == _P.shop_id,
                ENTRIES.c.entry_key == _P.key,
            )
            .values(
                journal=ENTRIES.c.journal,
                date=ENTRIES.c.date,
                label=ENTRIES.c.label,
                line_count=ENTRIES.c.lines,
                amount_cents=ENTRIES.c.debit_cents,
                digest=ENTRIES.c.digest,
            )
        )

    def _drop_if_unwanted(self, connection: sa.Connection, row: Row) -> None:
        """While it was being sent, the books lost it or held its day: as it never arrived, it goes like any other."""
        if row.role == "original" and (row.digest is None or row.day_held):
            connection.execute(sa.delete(PUBLICATION).where(_P.shop_id == self.shop_id, _P.key == row.key))

    # --- reading --------------------------------------------------------------------------------------------

    def row(self, key: str) -> Row | None:
        rows = self._rows(_P.key == key)
        return rows[0] if rows else None

    def rows(self, first: date | None = None, last: date | None = None, *, states: Sequence[State] = ()) -> list[Row]:
        """All rows of `first..last`, or those in `states`."""
        return self._rows(self._of_days(first, last), *([_P.state.in_(states)] if states else []))

    def doubtful(self) -> list[Intent]:
        """Rows left in `sending`, with what was sent: look for them in PennyLane before anything else is done.

        With `turn` held they are those of a dead publisher, or of one that lost its database: see `owner_alive`.
        """
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(*_ROW_COLUMNS, _P.sent_entry)
                .where(_P.shop_id == self.shop_id, _P.state == "sending")
                .order_by(_P.sending_at, _P.key)
            ).mappings()
            out = []
            for mapping in found:
                values = dict(mapping)
                content = Content.from_json(values.pop("sent_entry"))
                out.append(Intent(_row(values), content))
            return out

    def published(self, first: date, last: date) -> list[Intent]:
        """Everything of `first..last` that is in PennyLane through us, corrected or not, with what was sent."""
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(*_ROW_COLUMNS, _P.sent_entry)
                .where(self._of_days(first, last), _P.sent_at.is_not(None))
                .order_by(_P.business_day, _P.register_id, _P.key)
            ).mappings()
            out = []
            for mapping in found:
                values = dict(mapping)
                content = Content.from_json(values.pop("sent_entry"))
                out.append(Intent(_row(values), content))
            return out

    def companies(self) -> set[int]:
        """Ids of the PennyLane companies that entries of this shop were sent to, or may have been."""
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(_P.company_id)
                .distinct()
                .where(_P.shop_id == self.shop_id, sa.or_(_P.sent_at.is_not(None), _P.state == "sending"))
            )
            return {int(company) for company in found.scalars() if company is not None}

    def status_by_day(self, first: date | None = None, last: date | None = None) -> pd.DataFrame:
        """business_day, register_id, state, entries (count), amount_cents (sum of debits)."""
        with self._engine.connect() as connection:
            return sql_frame(
                connection,
                sa.select(
                    _P.business_day,
                    _P.register_id,
                    _P.state,
                    sa.func.count().label("entries"),
                    sa.func.sum(_P.amount_cents).label("amount_cents"),
                )
                .where(self._of_days(first, last))
                .group_by(_P.business_day, _P.register_id, _P.state)
                .order_by(_P.business_day, _P.register_id, _P.state),
            )

    # --- helpers --------------------------------------------------------------------------------------------

    def _of_days(self, first: date | None, last: date | None) -> sa.ColumnElement[bool]:
        conditions = [_P.shop_id == self.shop_id]
        if first is not None:
            conditions.append(_P.business_day >= first)
        if last is not None:
            conditions.append(_P.business_day <= last)
        return sa.and_(*conditions)

    def _rows(self, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[Row]:
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(*_ROW_COLUMNS)
                .where(_P.shop_id == self.shop_id, *conditions)
                .order_by(_P.business_day, _P.register_id, _P.key)
                .limit(limit)
            )
            return [_row(row) for row in found.mappings()]

    def _update(self, connection: sa.Connection, *conditions: sa.ColumnElement[bool], **values: Any) -> Row | None:
        found = connection.execute(
            sa.update(PUBLICATION)
            .where(_P.shop_id == self.shop_id, *conditions)
            .values(**values, updated_at=sa.func.clock_timestamp())
            .returning(*_ROW_COLUMNS)
        ).mappings()
        row = found.one_or_none()
        return None if row is None else _row(row)

    def _locked_row(self, connection: sa.Connection, key: str) -> Row:
        found = connection.execute(
            sa.select(*_ROW_COLUMNS).where(_P.shop_id == self.shop_id, _P.key == key).with_for_update()
        ).mappings()
        row = found.one_or_none()
        if row is None:
            raise LedgerError(f"the ledger of {self.shop_id} has no entry {key}", next_step="build its day first")
        return _row(row)

    def _not_allowed(self, row: Row, state: str) -> LedgerError:
        return LedgerError(
            f"{row.key} is {row.state} and cannot become {state}",
            next_step="another process may have dealt with it: look at kash-pipeline plan",
        )
