"""Kash.click as a source of the port: business days in, frames of facts out.

Which calls are made for which days belongs here. How a call is made is client.py, what its answer means is mapping.py,
what was read before is memory.py.
Only what Kash.click's reads are believed to hold is offered: closings need a script named in the shop file, for no
documented call reads them.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pandas as pd
import pandera.pandas as pandera

from kash_pipeline.pos import control
from kash_pipeline.pos.errors import SourceChanged, SourceRefused
from kash_pipeline.pos.kash_api import mapping, report
from kash_pipeline.pos.kash_api.client import KashClient
from kash_pipeline.pos.kash_api.days import day_start, next_day, windows
from kash_pipeline.pos.kash_api.dialects import ENGLISH, Dialect
from kash_pipeline.pos.kash_api.memory import Known, Memory, NoMemory
from kash_pipeline.pos.port import Capabilities, DayOfClosings, DayOfSales
from kash_pipeline.schemas import facts
from kash_pipeline.schemas.columns import conform, to_arrow
from kash_pipeline.warehouse.lake import FILED, content_digest

_log = logging.getLogger(__name__)

WINDOW_DAYS = 7
"""Days asked for at once: no paging and no limit is documented, so the answers are kept small."""

PARALLEL = 4
"""Orders asked for at once; no limit is documented, and a till's shop is served by the same machine."""
SAVED_EVERY = 200
"""Orders after which what was read is remembered: what a killed first load of a year loses at most."""

UNCONFIRMED = (
    "every field of every answer (nothing is documented)",
    "that getOrders.php returns lines, VAT and payments with each order",
    "that window bounds are included and read with their offset (UTC)",
    "that amounts include tax and refunds are negative",
)
UNCONFIRMED_DETAIL = (
    "every field of every answer (nothing is documented)",
    "that getOrder.php takes the internal id and returns lines, VAT and payments",
    "that an order's entry in the list changes whenever its lines or the amount paid change",
    "that amounts include tax and refunds are negative",
)
UNCONFIRMED_REPORT = ("the tables of the daily report, and that its day is the shop's business day",)

Frames = dict[str, pd.DataFrame]


class KashApiSource:
    """`Source` over a `KashClient`. The client is the caller's to close.

    window_days       business days per call of getOrders.php and of the closings script
    closings_script   script asked for closings; None: the source has none
    pushed_closings   closings received by webhook, given first and last day; used where no script is named
    dialect           how the answers are written (dialects.py)
    time_rule         utc: bounds and instants carry their offset; local: both are on the shop's clock
    detail            the list has no lines: one getOrder.php per new or changed order, `parallel` at once
    memory            what was read of each order before, and what reports were kept of
    control_totals    each day's report is read too (`DayOfSales.control`)
    evidence          further forms of the report (CSV, PDF) to be kept: asked for when the day is over and its orders,
                      payments or totals are other than at the last time
    now               the time, passed in
    """

    def __init__(
        self,
        client: KashClient,
        *,
        zone: ZoneInfo,
        day_starts_at: time,
        window_days: int = WINDOW_DAYS,
        closings_script: str | None = None,
        pushed_closings: Callable[[date, date], Frames] | None = None,
        dialect: Dialect = ENGLISH,
        time_rule: str = "utc",
        detail: bool = False,
        parallel: int = PARALLEL,
        memory: Memory | None = None,
        control_totals: bool = False,
        evidence: Sequence[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._client, self._window_days, self._closings_script = client, window_days, closings_script
        self._pushed_closings = pushed_closings
        self._clock = mapping.Clock(zone, day_starts_at)
        self._form = mapping.Form(dialect, zone if time_rule == "local" else None)
        self._detail, self._parallel, self._memory = detail, parallel, memory or NoMemory()
        self._control_totals, self._evidence = control_totals, tuple(evidence)
        self._drift = mapping.Drift()
        self._method_names: pd.DataFrame | None = None

    @property
    def capabilities(self) -> Capabilities:
        has_closings = self._closings_script is not None or self._pushed_closings is not None
        return Capabilities(
            name="kash_api",
            payments=True,
            closings=has_closings,
            cash_movements=self._closings_script is not None,
            till_vat=True,
            customers=True,
            unconfirmed=(UNCONFIRMED_DETAIL if self._detail else UNCONFIRMED)
            + (UNCONFIRMED_REPORT if self._control_totals else ()),
            control_totals=self._control_totals,
        )

    @property
    def unknown_fields(self) -> dict[str, list[str]]:
        """Fields and codes met so far that mapping.py does not declare, by call; they are in the raw answers only."""
        return {call: sorted(names) for call, names in sorted(self._drift.unknown.items())}

    def reference(self, tables: Collection[str] = tuple(facts.REFERENCE)) -> dict[str, pd.DataFrame]:
        """Reference tables as they stand now: one request each."""
        drift, form = self._drift, self._form

        def plain(shape: mapping.Shape, schema: pandera.DataFrameSchema) -> pd.DataFrame:
            return mapping.plain(self._list(shape), shape, schema, drift, form)

        read: dict[str, Callable[[], pd.DataFrame]] = {
            "payment_methods": lambda: mapping.payment_methods(self._list(mapping.PAYMENT_MODE), drift, form),
            "vat_rates": lambda: mapping.vat_rates(self._list(mapping.VAT), drift, form),
            "registers": lambda: plain(mapping.CASHBOX, facts.REGISTERS),
            "departments": lambda: plain(mapping.DEPARTMENT, facts.DEPARTMENTS),
            "department_groups": lambda: plain(mapping.DEPARTMENT_GROUP, facts.DEPARTMENT_GROUPS),
            "customers": lambda: mapping.customers(self._list(mapping.CLIENT), drift, form),
        }
        found = {name: make() for name, make in read.items() if name in tables}
        for name, frame in found.items():
            (key,) = (facts.REFERENCE[name].metadata or {})["unique"]
            _unique(frame, key, name)
        return found

    def _list(self, shape: mapping.Shape) -> Any:
        return self._form.dialect.unwrap(shape.call, self._client.read(shape.call, {"format": "json"}))

    def sales(self, first: date, last: date) -> Iterator[DayOfSales]:
        """Validated orders by value date, a window of days per call; with `detail` those that are new or changed are
        asked for one by one, and what was read is remembered even when the window fails."""
        for begin, end in windows(first, last, self._window_days):
            reports = {day: self._report(day) for day in _days(begin, end)} if self._control_totals else {}
            frames = self._in_detail(begin, end, reports) if self._detail else self._whole(begin, end)
            _within(frames["orders"], "order_id", begin, end, "getOrders.php")
            _unique(frames["payments"], "payment_id", "getOrders.php")
            for day, parts in _by_day(frames, "orders", "order_id", begin, end):
                if self._evidence:
                    self._keep_evidence(day, {**parts, "control_totals": reports.get(day)})
                yield DayOfSales(day=day, **parts, control=reports.get(day))

    def _whole(self, begin: date, end: date) -> Frames:
        """Orders as the list gives them, a part of a large answer at a time."""
        parts = [
            mapping.sales(self._form.dialect.unwrap("getOrders.php", body), self._drift, self._clock, self._form)
            for body in self._orders(begin, end)
        ]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _orders(self, begin: date, end: date) -> Iterator[Any]:
        return self._client.records(
            "getOrders.php",
            {**self._bounds(begin, end), "validatedOrders": "true"},
            day=begin,
            envelope=self._form.dialect.envelopes.get("getOrders.php"),
        )

    def _in_detail(self, begin: date, end: date, reports: dict[date, pd.DataFrame]) -> Frames:
        listed: dict[str, tuple[date, str]] = {}
        for body in self._orders(begin, end):
            records = self._form.dialect.unwrap("getOrders.php", body)
            heads = mapping.headers(records, self._drift, self._clock, self._form)
            for record, order, day in zip(records, heads["order_id"], heads["business_day"], strict=True):
                if order in listed:
                    raise _twice("order", order, "getOrders.php")
                # Where the day lies outside the window is found by _within, once the orders are read.
                listed[order] = (day, hashlib.sha256(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).hexdigest())
        known: dict[str, Known] = {}
        for day in sorted({day for day, _ in listed.values()}):
            # An order that was moved stands in the file of its former day too: that one counts no more.
            remembered = self._memory.load(day).items()
            known |= {order: had for order, had in remembered if order in listed and listed[order][0] == day}
        stale = [order for order, (_, digest) in listed.items() if order not in known or known[order].listed != digest]
        self._read_orders(stale, listed, known)
        frames = self._frames_of(listed, known)
        doubtful = self._doubtful(frames, reports, set(stale))
        if doubtful:
            _log.warning("%d orders differ from the daily report and are read again", len(doubtful))
            self._read_orders(doubtful, listed, known)
            frames = self._frames_of(listed, known)
        return frames

    def _frames_of(self, listed: dict[str, tuple[date, str]], known: dict[str, Known]) -> Frames:
        orders = [known[order].order for order in listed]
        frames = mapping.sales(orders, self._drift, self._clock, self._form, call="getOrder.php")
        for asked, got in zip(listed, frames["orders"]["order_id"].tolist(), strict=True):
            if asked != got:
                raise SourceChanged(
                    f"getOrder.php: order {asked} was asked for, order {got} came",
                    next_step="compare the kept raw answers: getOrder.php may take another id than the internal one",
                )
        return frames

    def _doubtful(self, frames: Frames, reports: dict[date, pd.DataFrame], fresh: set[str]) -> list[str]:
        """Remembered orders of days whose report says otherwise: something changed that the list does not show."""
        if not reports:
            return []
        if self._method_names is None:
            self._method_names = mapping.payment_methods(self._list(mapping.PAYMENT_MODE), self._drift, self._form)
        till = control.till_totals(frames["orders"], frames["order_vat"], frames["payments"], self._method_names)
        report_of_days = pd.concat(reports.values(), ignore_index=True)
        differing = control.compare(till, report_of_days)["business_day"].unique()
        orders, payments = frames["orders"], frames["payments"]
        of_day = orders.loc[orders["business_day"].isin(differing), "order_id"].tolist()
        paid_then = payments.loc[payments["business_day"].isin(differing), "order_id"].tolist()
        return [order for order in dict.fromkeys([*of_day, *paid_then]) if order not in fresh]

    def _read_orders(self, orders: list[str], listed: dict[str, tuple[date, str]], known: dict[str, Known]) -> None:
        """Ask for these orders, `parallel` at once, into `known` and the memory; what came before a failure stays."""
        left = iter(orders)
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="getOrder") as pool:
            while batch := list(islice(left, SAVED_EVERY)):
                asked: dict[Future[Any], str] = {
                    pool.submit(self._order, order, listed[order][0]): order for order in batch
                }
                done, waiting = wait(asked, return_when=FIRST_EXCEPTION)
                for future in waiting:
                    future.cancel()
                done |= wait(waiting).done
                changed = set()
                failure: BaseException | None = None
                for future in done:
                    order = asked[future]
                    if future.cancelled():
                        continue
                    if (error := future.exception()) is not None:
                        failure = failure or error
                        continue
                    day, digest = listed[order]
                    known[order] = Known(digest, future.result())
                    changed.add(day)
                for day in sorted(changed):
                    self._memory.save(day, {order: had for order, had in known.items() if listed[order][0] == day})
                if failure is not None:
                    raise failure

    def _order(self, order: str, day: date) -> Any:
        body = self._client.read("getOrder.php", {"order_id": order}, day=day)
        return self._form.dialect.unwrap("getOrder.php", body)

    def _report(self, day: date) -> pd.DataFrame:
        body = self._client.document(report.CALL, report.asked(day, "Std"), day=day, begins=b"<")
        dialect = self._form.dialect
        return report.control_totals(body, day, headings=dialect.headings, decimal=dialect.decimal)

    def _keep_evidence(self, day: date, parts: Mapping[str, pd.DataFrame | None]) -> None:
        """The further forms of a day's report, unless they were kept of these very facts and totals.

        The totals are compared as they were read, not the page: a report prints when it was made. A report is signed
        once its period is over (documented), so none is asked for of a day that still runs.
        """
        if self._now() < day_start(next_day(day), self._clock.zone, self._clock.day_starts_at):
            return
        hasher = hashlib.sha256(repr(sorted(self._evidence)).encode())
        for name, frame in parts.items():
            if frame is not None:
                hasher.update(content_digest(to_arrow(frame, FILED[name])).encode())
        of = hasher.hexdigest()
        if self._memory.reported(day) == of:
            return
        for form in self._evidence:
            begins = b"%PDF" if form == "PDF" else b""
            self._client.document(report.CALL, report.asked(day, form), day=day, begins=begins)
        self._memory.note_report(day, of)

    def closings(self, first: date, last: date) -> Iterator[DayOfClosings]:
        """Closings and cash movements by the time they were made.

        Raises SourceRefused where no script is configured: none is not the same as not readable.
        """
        script = self._closings_script
        if script is None and self._pushed_closings is not None:
            for begin, end in windows(first, last, self._window_days):
                pushed = self._pushed_closings(begin, end)
                _within(pushed["closings"], "closing_id", begin, end, "webhook")
                for day, parts in _by_day({"closings": pushed["closings"]}, "closings", "closing_id", begin, end):
                    yield DayOfClosings(day=day, **parts)
            return
        if script is None:
            raise SourceRefused(
                "Kash.click documents no call that reads closings, and the shop file names none",
                next_step="go without closing entries, or name a script as closings_script in [source]",
            )
        for begin, end in windows(first, last, self._window_days):
            body = self._client.read(script, self._bounds(begin, end), day=begin)
            frames = mapping.closings(body, self._drift, self._clock, self._form, script)
            _within(frames["closings"], "closing_id", begin, end, script)
            _within(frames["cash_movements"], "movement_id", begin, end, script)
            moved = dict(_by_day({"cash_movements": frames.pop("cash_movements")}, "cash_movements", "", begin, end))
            for day, parts in _by_day(frames, "closings", "closing_id", begin, end):
                yield DayOfClosings(day=day, **parts, **moved[day])

    def _bounds(self, begin: date, end: date) -> dict[str, str]:
        """The window as the server is believed to read it. Both bounds are taken for included; a till's grain is the
        second. The suffix is Z either way: the publisher's own client sends no other."""
        zone, starts_at = self._clock.zone, self._clock.day_starts_at
        if self._form.wall is not None:
            # On the shop's clock, which the server is believed to read whatever the suffix says.
            start = datetime.combine(begin, starts_at, tzinfo=UTC)
            stop = datetime.combine(next_day(end), starts_at, tzinfo=UTC)
        else:
            start, stop = day_start(begin, zone, starts_at), day_start(next_day(end), zone, starts_at)
        return {"from_date_ISO8601": iso(start), "to_date_ISO8601": iso(stop - timedelta(seconds=1))}


def iso(moment: datetime) -> str:
    """As the publisher's client writes it: `2026-03-01T06:12:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _days(first: date, last: date) -> list[date]:
    return [date.fromordinal(at) for at in range(first.toordinal(), last.toordinal() + 1)]


def _joined(parts: list[Frames]) -> Frames:
    if not parts:
        return {
            name: conform(pd.DataFrame(columns=list(facts.FACTS[name].columns)), facts.FACTS[name]) for name in _SALES
        }
    return {
        name: conform(pd.concat([part[name] for part in parts], ignore_index=True), facts.FACTS[name])
        for name in _SALES
    }


_SALES = ("orders", "order_lines", "order_vat", "payments")


def _within(frame: pd.DataFrame, key: str, begin: date, end: date, call: str) -> None:
    """Every row lies in the window, and none came twice: a shift of hours would lose the sales at the other edge."""
    outside = frame[(frame["business_day"] < pd.Timestamp(begin)) | (frame["business_day"] > pd.Timestamp(end))]
    if len(outside):
        row = outside.iloc[0]
        raise SourceChanged(
            f"{call}: {key.removesuffix('_id')} {row[key]} of {row['business_day']:%Y-%m-%d} lies outside the "
            f"days asked for ({begin} to {end}); the server reads dates by another time zone than this adapter",
            next_step="run kash-pipeline kash probe, which names time_rule for [source]; compare timezone and "
            "day_starts_at in [shop] with the settings of the till",
        )
    _unique(frame, key, call)


def _unique(frame: pd.DataFrame, key: str, call: str) -> None:
    twice = frame.loc[frame[key].duplicated(), key]
    if len(twice):
        raise _twice(key.removesuffix("_id"), twice.iloc[0], call)


def _twice(what: str, key: str, call: str) -> SourceChanged:
    return SourceChanged(
        f"{call}: {what} {key} is there twice", next_step="look at the kept raw answer; nothing was replaced"
    )


def _by_day(
    frames: dict[str, pd.DataFrame], head: str, key: str, begin: date, end: date
) -> Iterator[tuple[date, dict[str, pd.DataFrame]]]:
    """Cut `head` and the frames that follow it by `key` into days, days without a row included."""
    heads = frames[head].sort_values("business_day", kind="stable", ignore_index=True)
    days = heads["business_day"].to_numpy()
    position = pd.Series(heads.index, index=heads[key]) if key else None
    sorted_frames: dict[str, tuple[pd.DataFrame, Any]] = {head: (heads, days)}
    for name, frame in frames.items():
        if name != head and position is not None:
            at = frame[key].map(position).to_numpy(dtype=np.int64)
            order = np.argsort(at, kind="stable")
            sorted_frames[name] = (frame.take(order), days[at[order]])
    day = begin
    while day <= end:
        parts = {}
        for name, (frame, of) in sorted_frames.items():
            low, high = (
                np.searchsorted(of, np.datetime64(day), "left"),
                np.searchsorted(of, np.datetime64(day), "right"),
            )
            parts[name] = frame.iloc[low:high].reset_index(drop=True)
        yield day, parts
        day = next_day(day)
