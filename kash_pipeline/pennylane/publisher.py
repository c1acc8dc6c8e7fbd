"""Post what the publication ledger says is ready, each entry exactly once, and read it back.

The order of calls and what each ending means belong here: when a look-up is needed, when an entry already there is
taken for ours, when one is sent again. States are warehouse/ledger.py's, calls client.py's, ids reference.py's.

PennyLane keeps duplicates and deletes nothing, so the rules are:
- the intent is committed before the call, under the one turn of this shop's publishers, checked again when it leaves;
- before the first posting of a journal and day, and after every doubtful end, the ledger is looked at: an entry with
  our piece number and our lines is adopted, one with other lines is held with both versions;
- "not there" counts only when the request is old enough to have been executed or lost (`settle`);
- what was posted is read back in batches and compared as a multiset of (account, side, amount, label), because
  PennyLane changes the order of lines and the form of amounts;
- Z evidence (`attach_z`) is uploaded before the intent: whatever becomes of an upload, its entry is still ready;
- the reversal of a correction follows its replacement, once that stands: if one is refused, the books are as they were.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from kash_pipeline.errors import KashPipelineError
from kash_pipeline.evidence.reading import ZReports
from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.attaching import SCOPE, Attached, Evidence
from kash_pipeline.pennylane.client import (
    LINES_PER_ENTRY,
    EntrySummary,
    FiscalYear,
    Me,
    NewEntry,
    NewLine,
    PennylaneClient,
)
from kash_pipeline.pennylane.comparing import Books
from kash_pipeline.pennylane.correcting import calendar_day, corrections_of, half_told, later_day, waits_for
from kash_pipeline.pennylane.errors import (
    ConnectAgain,
    NotFound,
    NotSent,
    PennylaneError,
    RuleBroken,
    ScopeMissing,
    Unauthorized,
    WrongCompany,
)
from kash_pipeline.pennylane.holding import Held, held_entries, touched
from kash_pipeline.pennylane.lettering import LetteringReport, days_to_letter, letter_customers, letters
from kash_pipeline.pennylane.needs import NOT_BUILT, Needs
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import Content, Intent, PublicationLedger, Row, Turn, owner_alive, this_process

WORKERS = 8
# A request may last 5 s to connect and 30 s each to write and be answered (client.TIMEOUT): after that a publisher
# that lost its turn has nothing under way any more.
PATIENCE_SECONDS = 70.0
# How long after sending "not there" begins to count: the delay between an entry's creation and its place in the list
# is undocumented, as is how long PennyLane works on a request whose caller has gone.
SETTLE_SECONDS = 10.0
ROUNDS = 4
MOST_UNCLEAR = 2 * WORKERS
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """An entry that did not go the normal way: its key, its day, and why.

    `on_record` is `why` without what persons typed in PennyLane: for records that must hold nobody's name.
    """

    key: str
    business_day: date
    register_id: str
    why: str
    on_record: str


@dataclass
class PublishReport:
    """What `publish` did, in entries.

    posted     sent now                            verified  read back and found equal
    adopted    found there, equal, taken for ours  refused   PennyLane or a closed period said no
    held       another entry has the piece number  blocked   account, journal, customer or evidence missing: stays ready
    waiting    no clear answer yet: looked for at the next run
    differing  in PennyLane otherwise than we sent it
    attached   posted with Z evidence; `unclosed` counts register-days that have no entry to attach it to
    corrections  sent before, and their facts changed: `why` names the reversal and the new entry, which count as
                 posted when they are          to_correct  the same, but a person or the shop file decides
    half_corrected  of their correction one entry stands and this one does not: the day counts twice, or not at all
    """

    posted: int = 0
    adopted: int = 0
    verified: int = 0
    attached: int = 0
    unclosed: int = 0
    refused: list[Problem] = field(default_factory=list)
    held: list[Problem] = field(default_factory=list)
    blocked: list[Problem] = field(default_factory=list)
    waiting: list[Problem] = field(default_factory=list)
    differing: list[Problem] = field(default_factory=list)
    corrections: list[Problem] = field(default_factory=list)
    to_correct: list[Problem] = field(default_factory=list)
    half_corrected: list[Problem] = field(default_factory=list)
    lettering: LetteringReport = field(default_factory=LetteringReport)
    posted_by_day: Counter[date] = field(default_factory=Counter)
    requests: int = 0
    seconds: float = 0.0

    @property
    def corrected(self) -> int:
        """Entries that got their correction."""
        return len(self.corrections)

    @property
    def nothing_to_do(self) -> bool:
        """Nothing was sent, taken over or read back, and nothing waits."""
        return not (self.posted or self.adopted or self.verified or self.problems)

    @property
    def problems(self) -> list[Problem]:
        return [
            *self.half_corrected,
            *self.refused,
            *self.held,
            *self.blocked,
            *self.waiting,
            *self.differing,
            *self.to_correct,
        ]

    @property
    def requests_per_entry(self) -> float | None:
        """All requests of the run over the entries it posted; None when it posted none."""
        return self.requests / self.posted if self.posted else None


class PublishingStopped(PennylaneError):
    """Publishing ended before its time; nothing is lost. `report` says what was done until then."""

    def __init__(self, cause: PennylaneError, report: PublishReport) -> None:
        super().__init__(cause.message, next_step=cause.next_step, status=cause.status, request_id=cause.request_id)
        self.cause = cause
        self.report = report


class _TurnLost(PennylaneError):
    """The database session that held the turn is gone; the request did not leave."""


def _told(error: PennylaneError | DBAPIError) -> PennylaneError:
    if isinstance(error, PennylaneError):
        return error
    return PennylaneError(
        f"the database connection was lost while publishing ({type(error.orig).__name__})",
        next_step="run again; what was sent is looked for before it is sent again",
    )


# --- publishing -----------------------------------------------------------------------------------------------------


class Publisher:
    """Publishes the entries of one shop to the company that `client` is connected to.

    customers   the till's customers (schemas/facts.py CUSTOMERS), needed when entries name some not yet in PennyLane
    lake        the till's facts, needed with `attach_z`: Z evidence is made of them
    settle      seconds after sending from which "not there" counts
    patience    seconds to wait for a living publisher that lost its turn
    today       no correction is moved beyond it; default: the shop's calendar
    `sleep` can be passed in.
    """

    def __init__(
        self,
        client: PennylaneClient,
        engine: sa.Engine,
        shop: ShopFile,
        *,
        customers: pd.DataFrame | None = None,
        lake: Lake | None = None,
        workers: int = WORKERS,
        settle: float = SETTLE_SECONDS,
        patience: float = PATIENCE_SECONDS,
        today: date | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._engine = engine
        self._shop = shop
        self._customers = customers
        self._workers = workers
        self._settle = settle
        self._patience = patience
        self._today = today or calendar_day(shop)
        self._sleep = sleep
        self._ledger = PublicationLedger(engine, shop.shop.id)
        self._attach_z = shop.pennylane is not None and shop.pennylane.attach_z
        if self._attach_z and lake is None:
            raise ValueError("attach_z needs the lake")
        self._lake = lake
        # Asked once a publisher, not once a call: a year is published month by month.
        self.me: Me | None = None
        self.years: list[FiscalYear] | None = None
        self.halves: set[str] = set()

    def publish(
        self,
        first: date | None = None,
        last: date | None = None,
        *,
        only: Mapping[str, str | None] | None = None,
        progress: Callable[[int, int], None] | None = None,
        wait_seconds: float = 30.0,
    ) -> PublishReport:
        """Send what is ready of the business days `first..last` (None: no limit) and read it back.

        What an earlier run left unclear is settled first, whatever its day; then entries whose facts changed after
        sending get their correction (shop file: `correct`). With `only` (key to digest, as planning.py shows them)
        nothing else is sent or corrected. `progress(done, of)` counts entries.
        Another publisher of this shop is waited for up to `wait_seconds`.

        Raises LedgerBusy when it is still at work then, WrongCompany when entries of this shop went to another
        company, PublishingStopped when PennyLane cannot be reached, the connection must be made again or a scope is
        missing: everything until then is recorded, and the next run continues.
        """
        start, before = time.monotonic(), self._client.sent
        report = PublishReport()
        try:
            with self._ledger.turn(wait_seconds=wait_seconds) as turn:
                run = _Run(self, turn, report, progress, only)
                doubtful = self._ledger.doubtful()
                changed = self._ledger.changed(first or date.min, last or date.max)
                if (
                    doubtful
                    or changed
                    or self._ledger.ready(first, last, limit=1)
                    or self._ledger.rows(first, last, states=["sent"])
                    or any(missing.key not in self.halves for missing, _ in self._ledger.half_corrected())
                    or days_to_letter(self._engine, self._shop)
                ):
                    run.run(first, last, doubtful)
        except (PennylaneError, DBAPIError) as error:
            report.requests, report.seconds = self._client.sent - before, time.monotonic() - start
            raise PublishingStopped(_told(error), report) from error
        report.requests, report.seconds = self._client.sent - before, time.monotonic() - start
        return report


def reconsider(engine: sa.Engine, shop: ShopFile, first: date, last: date) -> int:
    """Make refused and held entries of `first..last` ready again, after a person mended the cause; how many."""
    ledger = PublicationLedger(engine, shop.shop.id)
    rows = ledger.rows(first, last, states=["refused", "held"])
    for row in rows:
        ledger.back_to_ready(row.key)
    return len(rows)


class _Run:
    """One call of `publish`: its maps of ids, its stop sign, its report."""

    def __init__(
        self,
        publisher: Publisher,
        turn: Turn,
        report: PublishReport,
        progress: Callable[[int, int], None] | None,
        only: Mapping[str, str | None] | None,
    ) -> None:
        self.publisher = publisher
        self.client = publisher._client
        self.engine = publisher._engine
        self.shop = publisher._shop
        self.ledger = publisher._ledger
        self.workers = publisher._workers
        self.settle = publisher._settle
        self.patience = publisher._patience
        self.today = publisher._today
        self.sleep = publisher._sleep
        self.turn = turn
        self.report = report
        self.progress = progress
        self.only = only
        self.lock = threading.Lock()
        self.turn_lock = threading.Lock()
        self.stop: PennylaneError | None = None
        self.done = 0
        self.total = 0
        self.company_id = 0
        self.needs: Needs
        # The entries of each correction by what it corrects, for those that are sent now.
        self.corrections: dict[str, list[Row]] = {}
        self.evidence: Evidence | None = None
        # Entries whose Z evidence could not be had: not tried again in this run.
        self.without: set[str] = set()
        # Corrections whose day PennyLane calls closed, with its words; then the keys of those given a later day.
        self.too_late: list[tuple[Row, str]] = []
        self.moved: list[str] = []
        self.no_day_left: set[str] = set()
        self.years_asked_again = False

    def run(self, first: date | None, last: date | None, doubtful: list[Intent]) -> None:
        self._who()
        self.needs = Needs(self.client, self.engine, self.shop, self.company_id, self.publisher._customers)
        self._settle_old(doubtful)
        self._correct_changed(first, last)
        # What was just settled is part of the work, whatever its day; so is the missing half of a correction.
        settled = [row for intent in doubtful if (row := self.ledger.row(intent.row.key)) is not None]
        halves = self._halves_again()
        work = _once([*self.ledger.ready(first, last), *(row for row in [*settled, *halves] if row.state == "ready")])
        unread = _once(
            [*self.ledger.rows(first, last, states=["sent"]), *(row for row in settled if row.state == "sent")]
        )
        if self.only is not None:
            work = [row for row in work if self.only.get(row.key) == row.digest]
        self._prepare_evidence(work)
        self.total = self.done + len(work)
        self.corrections = self.ledger.corrections_of(row.corrects for row in work if row.corrects is not None)
        second = [row for row in work if row.role == "reversal" and self._other(row) is not None]
        # Reading back a window overlaps with posting the next one.
        with ThreadPoolExecutor(1, thread_name_prefix="read-back") as reader:
            readings = self._post_and_read(reader, [row for row in work if row not in second], unread)
            if self.stop is None and second:
                readings += self._post_and_read(reader, self._may_follow(second), [])
            for reading in readings:
                reading.result()
        if self.stop is not None:
            raise self.stop
        self._tell_halves({row.key for row in [*work, *halves]})
        if letters(self.shop):
            self.report.lettering = letter_customers(self.client, self.engine, self.shop, self.company_id)

    def _post_and_read(self, reader: ThreadPoolExecutor, work: list[Row], unread: list[Row]) -> list[Future[None]]:
        """Post `work` month by month; what is to be read back is given to `reader`."""
        readings = []
        for month in sorted({_month(row) for row in [*work, *unread]}):
            rows = [row for row in work if _month(row) == month]
            posted = self._post_window(rows) if rows else []
            to_read = [*posted, *(row for row in unread if _month(row) == month)]
            if to_read:
                readings.append(reader.submit(self._read_back, to_read))
            if self.stop is not None:
                break
        if posted := self._post_moved():
            readings.append(reader.submit(self._read_back, posted))
        return readings

    @property
    def journals(self) -> dict[str, int]:
        return self.needs.journals

    @property
    def books(self) -> Books:
        return self.needs.books

    # --- the two entries of a correction --------------------------------------------------------------------------

    def _other(self, row: Row) -> Row | None:
        """The other entry of the correction that `row` is half of, if there is one."""
        return next((other for other in self.corrections.get(row.corrects or "", ()) if other.key != row.key), None)

    def _may_follow(self, reversals: list[Row]) -> list[Row]:
        """Those whose replacement stands in PennyLane by now, dated like it.

        In this order, because what is new is what may be refused: the books then stay as they were. The reversal names
        accounts and amounts that PennyLane took before.
        """
        self.corrections = self.ledger.corrections_of(row.corrects for row in reversals if row.corrects is not None)
        due = []
        for row in self._as_they_are(reversals):
            new = self._other(row)
            if row.state != "ready" or new is None:
                continue  # the facts changed meanwhile, and the ledger dissolved the correction
            if new.sent_at is None:
                found = next((problem.on_record for problem in self.report.problems if problem.key == new.key), None)
                self._problem(self.report.blocked, row, waits_for(new, found or new.error or new.state))
                continue
            if new.date > row.date:
                self.ledger.move(row.key, new.date, f"dated like {new.key}")
            due.append(self.ledger.row(row.key) or row)
        return due

    def _halves_again(self) -> list[Row]:
        """Entries whose correction stands by half. Those that PennyLane refused are tried again, once a publisher: the
        reason may have passed, and meanwhile the day counts twice or not at all."""
        rows = [missing for missing, _ in self.ledger.half_corrected()]
        rows = [row for row in rows if row.key not in self.publisher.halves]
        self.publisher.halves |= {row.key for row in rows}
        for row in rows:
            if row.state == "refused" and (self.only is None or self.only.get(row.key) == row.digest):
                self.ledger.back_to_ready(row.key, row.error)
        return [self.ledger.row(row.key) or row for row in rows]

    def _tell_halves(self, concerned: set[str]) -> None:
        """Those of these entries whose correction stands by half are problems of their own, with both piece numbers."""
        for row, standing in self.ledger.half_corrected():
            if row.key not in concerned:
                continue
            found = [problem for problem in self.report.problems if problem.key == row.key]
            for problems in (self.report.refused, self.report.held, self.report.blocked, self.report.waiting):
                problems[:] = [problem for problem in problems if problem.key != row.key]
            reasons = (found[0].why, found[0].on_record) if found else (row.error or row.state,) * 2
            why, on_record = (half_told(row, standing, reason) for reason in reasons)
            self._problem(self.report.half_corrected, row, why, on_record)

    # --- facts that changed after sending -------------------------------------------------------------------------

    def _correct_changed(self, first: date | None, last: date | None) -> None:
        """A sent entry whose facts changed becomes a reversal and a new entry, unless a person touched it."""
        changed = self.ledger.changed(first or date.min, last or date.max)
        if self.only is not None:
            changed = [item for item in changed if self.only.get(item.row.key, "") == item.wanted_digest]
        if not changed or self.shop.pennylane is None:
            return
        if self.shop.pennylane.correct == "hold":
            for item in changed:
                why = f'{item.how} after sending; the shop file says correct = "hold"'
                self._problem(self.report.to_correct, item.row, why)
            return
        sent = [Intent(item.row, item.sent) for item in changed if item.sent is not None]
        held = held_entries(self.client, self.journals, _with_ids(sent))
        built = self.ledger.built([item.row.base_key for item in changed])
        for item in changed:
            hand = item.sent and touched(self.books, item.sent, held.get(item.row.remote_id or 0, Held()))
            if hand:
                how = f"{item.how} after sending, and somebody changed it in PennyLane"
                self._problem(self.report.to_correct, item.row, f"{how}: {hand}", how)
                continue
            try:
                reversal, replacement = corrections_of(item, built.get(item.row.base_key), self._years())
            except ValueError as error:
                self._problem(self.report.to_correct, item.row, f"{item.how} after sending: {error}")
                continue
            with self.engine.begin() as connection:
                self.ledger.correct(connection, item, reversal=reversal, replacement=replacement)
            if self.only is not None:
                made = [row for one in (reversal, replacement) if one and (row := self.ledger.row(one.key))]
                self.only = {**self.only, **{row.key: row.digest for row in made}}
            names = " and ".join(one.key for one in (reversal, replacement) if one)
            self._problem(self.report.corrections, item.row, f"{item.how} after sending: {names}")

    # --- whose books, and what its things are called ------------------------------------------------------------

    def _who(self) -> None:
        me = self.publisher.me = self.publisher.me or self.client.me()
        self.company_id = me.company_id
        others = self.ledger.companies() - {me.company_id}
        if others:
            raise WrongCompany(
                f"entries of {self.shop.shop.id} were sent to company {min(others)}, and the connection is now to "
                f"{me.company_name} ({me.company_id})",
                next_step="connect to the company the entries are in, or give the shop another id",
            )

    def _years(self) -> list[FiscalYear]:
        if self.publisher.years is None:
            self.publisher.years = reference.sync_fiscal_years(self.client, self.engine, self.shop, self.company_id)
        return self.publisher.years

    # --- Z evidence -----------------------------------------------------------------------------------------------

    def _prepare_evidence(self, work: list[Row]) -> None:
        """Raises ScopeMissing when evidence is due and the consent does not cover uploads: said once, nothing sent."""
        lake = self.publisher._lake
        if not self.publisher._attach_z or lake is None or not work:
            return
        reports = ZReports(self.engine, lake, self.shop)
        self.evidence = Evidence(
            self.client, self.engine, reports, shop_id=self.shop.shop.id, company_id=self.company_id
        )
        me = self.publisher.me
        if me is not None and SCOPE not in me.scopes and any(map(Evidence.belongs_to, work)):
            raise ScopeMissing(
                f"attach_z = true needs the scope {SCOPE}, which the connection to {me.company_name} does not have",
                next_step="connect again and grant it: kash-pipeline pennylane login; or set attach_z = false",
            )
        days = [row.business_day for row in work]
        closed = {
            (row.business_day, row.register_id)
            for row in self.ledger.rows(min(days), max(days))
            if Evidence.belongs_to(row)
        }
        unclosed = {(row.business_day, row.register_id) for row in work} - closed
        self.report.unclosed = len(unclosed)
        if unclosed:
            first = " ".join(map(str, min(unclosed)))
            _log.info("%d register-days have no closing entry, so no Z evidence: first %s", len(unclosed), first)

    def _attach(self, row: Row) -> Attached | None:
        """The entry's Z evidence; None when it carries none, or when it could not be had: `without`, or a stop."""
        if self.evidence is None:
            return None
        try:
            return self.evidence.attach(row)
        except (NotSent, ConnectAgain, Unauthorized, ScopeMissing) as error:
            self._stop(error)
        except KashPipelineError as error:
            with self.lock:
                self.without.add(row.key)
            self._problem(self.report.blocked, row, error.message)
        return None

    # --- what an earlier publisher, or this one, left unclear -------------------------------------------------------

    def _settle_old(self, doubtful: list[Intent]) -> None:
        """Rows left in `sending` by a publisher before us. We hold the turn, so it is dead or has lost its database."""
        if not doubtful:
            return
        mine = this_process()
        if any(intent.row.owner != mine and owner_alive(intent.row.owner) is not False for intent in doubtful):
            _log.warning("a publisher that lost its turn may still wait for an answer: waiting %.0f s", self.patience)
            self.sleep(self.patience)
        self._resolve(doubtful)

    def _resolve(self, intents: list[Intent]) -> None:
        """Adopt what is in PennyLane; make ready again what surely is not.

        Looked for in every journal: the code of the one it was sent to may since have been given to another.
        """
        left = list(intents)
        everywhere = [journal.id for journal in self.client.journals()]
        for age in (0.0, self.settle, 2 * self.settle):
            oldest_allowed = self._youngest_age(left)
            if oldest_allowed < age:
                self.sleep(age - oldest_allowed)
            found = self._look_for([intent.content for intent in left], everywhere)
            for intent in left:
                if found.get(intent.row.key):
                    self._adopt(intent, found[intent.row.key])
            left = [intent for intent in left if not found.get(intent.row.key)]
            if not left:
                return
        for intent in left:
            self.ledger.back_to_ready(intent.row.key, "the answer was lost and PennyLane does not have it")

    def _youngest_age(self, intents: list[Intent]) -> float:
        """Seconds since the last of them was sent, by the database's clock."""
        with self.engine.connect() as connection:
            now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        # A clock that was set back shows a sending to come: of that, too, no more than the whole time is waited.
        return max(0.0, min((now - (intent.row.sending_at or now)).total_seconds() for intent in intents))

    def _look_for(
        self, contents: list[Content], everywhere: list[int] | None = None, *, until: date | None = None
    ) -> dict[str, list[EntrySummary]]:
        """PennyLane's entries with our piece numbers: one listing per month, of the days concerned, and of the journals
        concerned or those of `everywhere` (ids). With `until`, one listing of all days to that one."""
        found: dict[str, list[EntrySummary]] = {}
        keys = {content.key for content in contents}
        for _, group in groupby(
            sorted(contents, key=lambda item: item.date),
            key=lambda item: None if until else item.date.replace(day=1),
        ):
            month = list(group)
            journals = everywhere or sorted(
                {self.journals[item.journal] for item in month if item.journal in self.journals}
            )
            if not journals:
                continue
            for entry in self.client.ledger_entries(journals, month[0].date, max(month[-1].date, until or date.min)):
                if entry.piece_number in keys:
                    found.setdefault(str(entry.piece_number), []).append(entry)
        return found

    def _adopt(self, intent: Intent, entries: list[EntrySummary]) -> None:
        """An entry with our piece number is ours when its lines are; anything else waits for a person."""
        row, content = intent.row, intent.content
        if len(entries) > 1:
            several = self.books.not_ours(content, [(entry.id, ()) for entry in entries]) or ""
            self._hold(row, several, several)
            return
        entry = self.client.ledger_entry(entries[0].id)
        self.needs.find([content])
        problem = self.books.not_ours(content, [(entry.id, entry.lines)])
        if problem is not None:
            on_record = self.books.not_ours(content, [(entry.id, entry.lines)], labels=False) or ""
            self._hold(row, problem, on_record, entry.id)
            return
        self._record_sent(row, entry.id, self.books.line_ids(content, entry.lines))
        with self.lock:
            self.report.adopted += 1
        self._advance()

    def _hold(self, row: Row, why: str, on_record: str, remote_id: int | None = None) -> None:
        self.ledger.hold(row.key, on_record, remote_id=remote_id)
        self._problem(self.report.held, row, why, on_record)
        self._advance()

    # --- posting ------------------------------------------------------------------------------------------------

    def _post_window(self, rows: list[Row]) -> list[Row]:
        """Post the rows of one month; those that are now in PennyLane and not yet read back."""
        reversals = {row.key: self._other(row) for row in rows if row.role == "replacement"}
        contents = self.ledger.contents([*rows, *(row for row in reversals.values() if row is not None)])
        self.needs.find(contents.values())
        rows = [row for row in rows if self._may_be_sent(row, contents, reversals.get(row.key))]
        if not rows:
            return []
        found = self._look_for([contents[row.key] for row in rows if row.role == "original"])
        if corrections := [contents[row.key] for row in rows if row.role != "original"]:
            # One that a ledger restored from a backup knows nothing of may have been dated on any later day.
            until = max([self.today, *(year.finish for year in self._years() if year.open)])
            found |= self._look_for(corrections, until=until)
        for row in rows:
            if found.get(row.key):
                stands = found[row.key][0].day
                if row.role != "original" and stands not in (None, row.date):
                    self.ledger.move(row.key, stands, "it stands there on that day")
                intent = self.ledger.begin(row.key, company_id=self.company_id, digest=row.digest)
                if intent is not None:
                    self._adopt(intent, found[row.key])
        # What stands in a closed year was posted while it was open: taken over all the same.
        left = [row for row in rows if not found.get(row.key) and self._period_is_open(row)]
        self._move_too_late()
        for _ in range(ROUNDS):
            unclear = self._post_all(left)
            if unclear and not isinstance(self.stop, _TurnLost):
                self._resolve(unclear)
            self._move_too_late()
            left = [row for row in self._as_they_are(left) if row.state == "ready" and row.key not in self.moved]
            if not left or self.stop is not None:
                break
        for row in left if self.stop is None else ():
            self._problem(self.report.waiting, row, row.error or "PennyLane gave no clear answer")
        return [row for row in self._as_they_are(rows) if row.state == "sent"]

    def _as_they_are(self, rows: list[Row]) -> list[Row]:
        """These rows as the ledger has them now, without those it has no more and those that lack their evidence."""
        if not rows:
            return []
        days = [row.business_day for row in rows]
        now = {row.key: row for row in self.ledger.rows(min(days), max(days))}
        return [now[row.key] for row in rows if row.key in now and row.key not in self.without]

    def _may_be_sent(self, row: Row, contents: Mapping[str, Content], reversal: Row | None) -> bool:
        content = contents.get(row.key)
        if content is None:
            self._problem(self.report.blocked, row, NOT_BUILT)
            return False
        blocked = self.needs.blocked(content) or self.needs.blocked_pair(reversal, contents)
        if blocked is not None:
            self._problem(self.report.blocked, row, blocked)
            return False
        if len(content.lines) > LINES_PER_ENTRY:
            self._refuse(row, f"{len(content.lines)} lines, PennyLane takes {LINES_PER_ENTRY} at most")
            return False
        return True

    def _period_is_open(self, row: Row) -> bool:
        closed = reference.period_problem(self._years(), row.date)
        if closed is not None:
            self._period_closed(row, f"nothing can be posted on {row.date}: {closed}")
        return closed is None

    # --- corrections of a closed period ---------------------------------------------------------------------------

    def _period_closed(self, row: Row, why: str) -> None:
        """Nothing of it is in PennyLane: an entry is refused, a correction gets a later day when all are sent."""
        if row.role == "original":
            self._refuse(row, why)
            return
        with self.lock:
            self.too_late.append((row, why))

    def _move_too_late(self) -> None:
        """Give corrections whose day is closed the next day to try; those that have none left are refused."""
        closed, self.too_late = self.too_late, []
        if closed and not self.years_asked_again:
            # The year may have been closed since it was asked; a freeze date shows nowhere.
            self.publisher.years, self.years_asked_again = None, True
        for row, why in closed:
            day = later_day(self._years(), row.date, self.today)
            if day is None:
                self.no_day_left.add(row.key)
                self._refuse(row, f"{why}; no later day up to {self.today} is open for it either")
            else:
                self.ledger.move(row.key, day, why)
                self.moved.append(row.key)

    def _post_moved(self) -> list[Row]:
        """Post corrections on their later day, one ahead: when its day is refused too, the others need not ask."""
        posted: list[Row] = []
        while self.moved and self.stop is None:
            keys, self.moved = set(self.moved), []
            rows = sorted((row for key in keys if (row := self.ledger.row(key))), key=lambda row: (row.date, row.key))
            if not rows:
                break  # their facts changed meanwhile, and the ledger dissolved them
            ahead, others = rows[0], [row for row in rows[1:] if row.date == rows[0].date]
            self.moved = [row.key for row in rows if row.date != ahead.date]
            posted += self._post_window([ahead])
            if ahead.key in self.moved or ahead.key in self.no_day_left:
                self.too_late = [(row, f"as {ahead.key}: closed on {ahead.date}") for row in others]
                self._move_too_late()
            elif others and self.stop is None:
                posted += self._post_window(others)
        return posted

    def _post_all(self, rows: list[Row]) -> list[Intent]:
        """Post concurrently; the intents whose end is unclear. Stops early when told, or when too much is unclear."""
        unclear: list[Intent] = []

        def post(row: Row) -> None:
            if self.stop is not None or len(unclear) >= MOST_UNCLEAR:
                return
            attached = self._attach(row)
            if self.stop is not None or row.key in self.without:
                return
            intent = self.ledger.begin(row.key, company_id=self.company_id, digest=row.digest)
            if intent is not None and not self._post(intent, attached):
                unclear.append(intent)

        with ThreadPoolExecutor(self.workers, thread_name_prefix="post") as pool:
            futures = [pool.submit(post, row) for row in rows]
            try:
                for future in futures:
                    future.result()
            finally:
                for future in futures:
                    future.cancel()
        return unclear

    def _post(self, intent: Intent, attached: Attached | None) -> bool:
        """Send one entry and record how it ended; False when the end is unclear."""
        row, content = intent.row, intent.content
        ids = self.books.names(content).ids
        names = self.books.line_names(content)
        entry = NewEntry(
            journal_id=self.journals[content.journal],
            day=content.date,
            piece_number=content.key,
            label=content.label,
            lines=tuple(
                NewLine(ids[name], line.debit_cents, line.credit_cents, line.label)
                for name, line in zip(names, content.lines, strict=True)
            ),
            file_attachment_id=attached.file_id if attached else None,
        )
        try:
            written = self.client.create_ledger_entry(entry, leaving=self._still_our_turn)
        except _TurnLost as error:
            self._stop(error)
            return False
        except PennylaneError as error:
            if isinstance(error, NotFound) and attached and attached.known and self.evidence is not None:
                # Not executed. The file may be what is not there any more: it is uploaded again, once.
                self.evidence.forget(row.key)
                self.ledger.back_to_ready(row.key, error.message)
                return True
            return self._ended_badly(row, error)
        self._record_sent(row, written.id, self.books.line_ids(content, written.lines))
        with self.lock:
            self.report.posted += 1
            self.report.attached += attached is not None
            self.report.posted_by_day[content.business_day] += 1
        self._advance()
        return True

    def _ended_badly(self, row: Row, error: PennylaneError) -> bool:
        if error.doubtful:
            _log.warning("%s: %s; it will be looked for", row.key, error.message)
            return False
        if isinstance(error, NotSent | ConnectAgain | Unauthorized | ScopeMissing):
            # Surely not executed, and the next one would end the same way.
            self.ledger.back_to_ready(row.key, error.message)
            self._stop(error)
            return True
        if isinstance(error, RuleBroken) and error.closed_period:
            self._period_closed(row, error.message)
        else:
            self._refuse(row, error.message)
        return True

    def _still_our_turn(self) -> None:
        with self.turn_lock:
            if not self.turn.still_mine():
                raise _TurnLost(
                    "the database connection that says whose turn it is to publish was lost",
                    next_step="run again; what was sent is looked for before it is sent again",
                )

    def _record_sent(self, row: Row, remote_id: int, line_ids: list[int]) -> None:
        """The entry is there: worth trying again when the database just lost this connection."""
        for attempt in (1, 2, 3):
            try:
                self.ledger.sent(row.key, remote_id, line_ids)
            except DBAPIError:
                if attempt == 3:
                    raise
                self.sleep(0.2 * attempt)
            else:
                return

    # --- reading back ---------------------------------------------------------------------------------------------

    def _read_back(self, rows: list[Row]) -> None:
        """Compare what PennyLane holds with what was sent, a hundred lines a request."""
        days, keys = [row.business_day for row in rows], {row.key for row in rows}
        intents = [one for one in self.ledger.published(min(days), max(days)) if one.row.key in keys]
        held = held_entries(self.client, self.journals, _with_ids(intents))
        equal = []
        for intent in intents:
            lines = held.get(intent.row.remote_id or 0, Held()).lines
            problem = self.books.compared(intent.content, lines)
            if problem is None:
                equal.append(intent.row.key)
            else:
                on_record = self.books.compared(intent.content, lines, labels=False)
                self._problem(self.report.differing, intent.row, problem, on_record)
        self.ledger.verified(*equal)
        with self.lock:
            self.report.verified += len(equal)

    # --- telling --------------------------------------------------------------------------------------------------

    def _refuse(self, row: Row, why: str) -> None:
        self.ledger.refused(row.key, why)
        self._problem(self.report.refused, row, why)
        self._advance()

    def _problem(self, where: list[Problem], row: Row, why: str, on_record: str | None = None) -> None:
        with self.lock:
            where.append(Problem(row.key, row.business_day, row.register_id, why, on_record or why))

    def _stop(self, error: PennylaneError) -> None:
        with self.lock:
            self.stop = self.stop or error

    def _advance(self) -> None:
        with self.lock:
            self.done += 1
            done = self.done
        if self.progress is not None:
            self.progress(done, self.total)


def _once(rows: list[Row]) -> list[Row]:
    return list({row.key: row for row in rows}.values())


def _month(row: Row) -> date:
    return row.date.replace(day=1)


def _with_ids(intents: Iterable[Intent]) -> list[tuple[int, Content]]:
    return [(intent.row.remote_id, intent.content) for intent in intents if intent.row.remote_id is not None]
