"""First contact with an account: what answers, which dialect and clock it speaks, whether orders match its report.

Only finding out belongs here, by reads alone; the words for the user and the files are cli/kash.py. It follows the
checklist that the reference ends with (kash-api.md section 10). Nothing found here changes a setting: it is named.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pandas as pd

from kash_pipeline.pos import control
from kash_pipeline.pos.erasing import PERSONAL, is_id
from kash_pipeline.pos.errors import PosError, SourceUnreachable
from kash_pipeline.pos.kash_api import decoding, mapping, report
from kash_pipeline.pos.kash_api.client import KashClient
from kash_pipeline.pos.kash_api.days import day_start, next_day
from kash_pipeline.pos.kash_api.dialects import DIALECTS, Dialect
from kash_pipeline.pos.kash_api.source import iso
from kash_pipeline.settings import ShopFile

LISTS: dict[str, mapping.Shape | None] = {
    "getCashbox.php": mapping.CASHBOX,
    "getPaymentModes.php": mapping.PAYMENT_MODE,
    "getVATs.php": mapping.VAT,
    "getDepartments.php": mapping.DEPARTMENT,
    "getDepartmentGroups.php": mapping.DEPARTMENT_GROUP,
    "getClients.php": mapping.CLIENT,
    "getPlus.php": None,
    "getUsers.php": None,
}
SAMPLE_RECORDS = 3

_OF_PEOPLE = ("getClients.php", "getUsers.php")


@dataclass
class Answer:
    """One call: what for, how it went, how large the answer is, and which declared fields it has."""

    call: str
    asked: str
    purpose: str = ""
    outcome: str = "ok"
    milliseconds: int = 0
    size: int = 0
    records: int | None = None
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    retyped: list[str] = field(default_factory=list)
    body: bytes = field(default=b"", repr=False)


@dataclass
class Findings:
    """What was found out about an account on a day. `settings` are the lines of [source] that fit it; `orders` how many
    the day has; `differences` those between them and the daily report; `samples` redacted answers by call."""

    day: date
    answers: list[Answer] = field(default_factory=list)
    dialect: str | None = None
    time_rule: str | None = None
    order_detail: bool | None = None
    orders: int = 0
    notes: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    compared: int = 0
    samples: dict[str, bytes] = field(default_factory=dict)

    @property
    def trusted(self) -> bool:
        """Whether an adapter with these settings reads this account and agrees with its report."""
        known = self.dialect is not None and self.time_rule is not None
        return known and self.orders > 0 and self.compared > 0 and not self.differences


def probe(client: KashClient, shop: ShopFile, day: date, *, now: Callable[[], float] = time.monotonic) -> Findings:
    """Ask every read once, and find out dialect, clock and totals by the orders of `day`.

    Raises SourceUnreachable when the account does not answer at all, SourceRefused or SourceChanged when it answers no
    call with data (a wrong key, pages instead of JSON); whatever else goes wrong is a finding.
    """
    return _Probe(client, shop, day, now).run()


class _Probe:
    def __init__(self, client: KashClient, shop: ShopFile, day: date, now: Callable[[], float]) -> None:
        self.client, self.shop, self.day, self.now = client, shop, day, now
        self.found = Findings(day)

    def run(self) -> Findings:
        found = self.found
        first = self._ask("getCashbox.php", {"format": "json"}, must=True)
        lists = {"getCashbox.php": first}
        for call in LISTS:
            if call != first.call:
                lists[call] = self._ask(call, {"format": "json"})
        # A day on either side: whatever clock the server goes by, the day's orders are among these.
        wide = (self._start(self.day) - timedelta(days=1), self._start(next_day(self.day)) + timedelta(days=1))
        orders = self._orders(*wide, purpose="the day and its neighbours")
        if not any(_is_json(answer) for answer in (*lists.values(), orders)):
            # Nothing was learnt but the reason, and that is the first call's.
            self.client.read(first.call, {"format": "json"})
        dialect = self._which_dialect(lists, orders)
        if dialect is not None:
            self._diagnose_lists(lists, dialect)
            self._orders_in(orders, dialect)
        std, *_ = (self._ask(report.CALL, report.asked(self.day, form), purpose=form) for form in ("Std", "CSV", "PDF"))
        if dialect is not None and found.time_rule is not None:
            self._totals(lists, orders, std, dialect)
        self._settings()
        for answer in found.answers:
            if answer.outcome == "ok" and answer.call not in found.samples:
                found.samples[answer.call] = redacted(answer.call, answer.body)
        return found

    # --- asking ------------------------------------------------------------------------------------------------------

    def _ask(self, call: str, parameters: Mapping[str, str], *, purpose: str = "", must: bool = False) -> Answer:
        asked = "&".join(f"{name}={value}" for name, value in parameters.items())
        answer = Answer(call, asked, purpose)
        begun = self.now()
        try:
            answer.body = self.client.document(call, parameters, day=self.day)
        except SourceUnreachable as error:
            if must:
                raise
            answer.outcome = error.message
        except PosError as error:
            answer.outcome = error.message
        answer.milliseconds, answer.size = round((self.now() - begun) * 1000), len(answer.body)
        self.found.answers.append(answer)
        return answer

    def _orders(self, first: datetime, last: datetime, *, purpose: str, **more: str) -> Answer:
        bounds = {"from_date_ISO8601": iso(first), "to_date_ISO8601": iso(last)}
        return self._ask("getOrders.php", {**bounds, "validatedOrders": "true", **more}, purpose=purpose)

    def _start(self, day: date) -> datetime:
        return day_start(day, self.shop.zone, self.shop.shop.day_starts_at)

    # --- how it writes -----------------------------------------------------------------------------------------------

    def _which_dialect(self, lists: Mapping[str, Answer], orders: Answer) -> Dialect | None:
        """The dialect that reads most calls without a stop; the orders must be among them, if there are any."""
        best: tuple[int, int, Dialect] | None = None
        for rank, dialect in enumerate(DIALECTS.values()):
            fits = sum(
                _problem(lists[call], shape, dialect) is None
                for call, shape in LISTS.items()
                if shape is not None and lists[call].outcome == "ok"
            )
            if orders.outcome == "ok" and _orders_form(orders, dialect, self.shop) is not None:
                fits += len(LISTS) + 1
            if fits and (best is None or (fits, -rank) > best[:2]):
                best = (fits, -rank, dialect)
        if best is None:
            self.found.notes.append("no dialect reads any answer: write one in pos/kash_api/dialects.py")
            for call, answer in [*lists.items(), ("getOrders.php", orders)]:
                shape = mapping.ORDER if call == "getOrders.php" else LISTS[call]
                if shape is not None and answer.outcome == "ok":
                    _diagnose(answer, mapping.Form().of(shape), DIALECTS["english"])
            return None
        self.found.dialect = best[2].name
        return best[2]

    def _diagnose_lists(self, lists: Mapping[str, Answer], dialect: Dialect) -> None:
        form = mapping.Form(dialect)
        for call, shape in LISTS.items():
            if shape is not None and lists[call].outcome == "ok":
                _diagnose(lists[call], form.of(shape), dialect)
                if problem := _problem(lists[call], shape, dialect):
                    lists[call].outcome = problem

    def _orders_in(self, orders: Answer, dialect: Dialect) -> None:
        """Lines in the list or not, on which clock, and whether the bounds are read on the same one."""
        found = self.found
        if orders.outcome != "ok":
            return
        fitting = _orders_form(orders, dialect, self.shop)
        if fitting is None:
            _diagnose(orders, mapping.Form(dialect).of(mapping.ORDER), dialect)
            orders.outcome = _problem(orders, mapping.ORDER, dialect) or orders.outcome
            found.notes.append("the orders fit no dialect: no clock and no totals can be told")
            return
        form, detail = fitting
        shape = form.of(mapping.HEADER if detail else mapping.ORDER)
        _diagnose(orders, shape, dialect)
        answers_on = "local" if form.wall is not None else "utc"
        records = _records(orders, dialect)
        if not records:
            # An empty list fits every form: it tells neither the clock nor whether orders come with their lines.
            found.notes.append(f"no orders around {self.day}: give --day a day with sales; the clock cannot be told")
            return
        found.order_detail = detail
        columns = mapping.read(records, shape, mapping.Drift(aloud=False), call="getOrders.php")
        clock = mapping.Clock(self.shop.zone, self.shop.shop.day_starts_at)
        frame = pd.DataFrame(
            {
                "order_id": columns["order_id"].to_pylist(),
                "number": columns["number"].to_pylist(),
                "day": clock.days(columns["value_date"]).to_pylist(),
                "at": pd.Series(columns["value_date"].to_pylist()),
            }
        ).sort_values("at", ignore_index=True)
        self._hours(frame[frame["day"] == self.day])
        middle = frame.iloc[len(frame) // 2]
        at = middle["at"].to_pydatetime()
        wall = at.astimezone(self.shop.zone).replace(tzinfo=UTC)
        margin = timedelta(minutes=5)
        read_on = [
            rule
            for rule, moment in (("utc", at), ("local", wall))
            if middle["order_id"]
            in self._ids(self._orders(moment - margin, moment + margin, purpose=f"bounds as {rule}"), shape, dialect)
        ]
        found.notes.append(f"answers carry times {'on the clock of the shop' if form.wall else 'with their offset'}")
        if read_on == [answers_on]:
            found.time_rule = answers_on
            found.notes.append(f"bounds are read the same way ({answers_on})")
        else:
            found.notes.append(
                f"bounds are read as {' or '.join(read_on) or 'neither utc nor local'}, answers written as "
                f"{answers_on}: time_rule has no such pair; report it"
            )
        second = at if answers_on == "utc" else wall
        exact = self._ids(self._orders(second, second, purpose="bounds to the second"), shape, dialect)
        included = "included" if middle["order_id"] in exact else "NOT included: the last second of a window is lost"
        found.notes.append(f"both bounds of a window are {included}")
        not_validated = self._orders(at - margin, at + margin, purpose="quotes", validatedOrders="false")
        quotes = self._ids(not_validated, shape, dialect)
        if middle["order_id"] in quotes:
            found.notes.append("validatedOrders=false returns validated orders too")
        if found.order_detail:
            self._detail(str(middle["order_id"]), form)

    def _hours(self, of_day: pd.DataFrame) -> None:
        """The day's first and last order by their tickets' time: only a person can tell a wrong `timezone` by it."""
        self.found.orders = len(of_day)
        if of_day.empty:
            self.found.notes.append(f"no orders on {self.day} itself: give --day a day with sales to be sure")
            return
        ends = [
            f"{row.number} at {row.at.astimezone(self.shop.zone):%H:%M}"
            for row in of_day.iloc[[0, -1]].itertuples(index=False)
        ]
        self.found.notes.append(
            f"{len(of_day)} orders, from {' to '.join(ends)} ({self.shop.shop.timezone}): if these tickets say another "
            "time, correct timezone in [shop]"
        )

    def _detail(self, order_id: str, form: mapping.Form) -> None:
        answer = self._ask("getOrder.php", {"order_id": order_id})
        if answer.outcome != "ok":
            return
        try:
            order = form.dialect.unwrap("getOrder.php", _decoded(answer, form.dialect))
            got = mapping.read([order], form.of(mapping.ORDER), mapping.Drift(aloud=False), call="getOrder.php")
        except PosError as error:
            answer.outcome = error.message
            return
        if got["order_id"].to_pylist() != [order_id]:
            answer.outcome = f"order {order_id} was asked for, {got['order_id'].to_pylist()[0]} came"

    def _ids(self, answer: Answer, shape: mapping.Shape, dialect: Dialect) -> list[str]:
        if answer.outcome != "ok":
            return []
        try:
            records = _records(answer, dialect)
            columns = mapping.read(records, shape, mapping.Drift(aloud=False), call="getOrders.php")
        except PosError:
            return []  # another form than the wide window's: the note about the bounds then says "neither"
        return [str(order) for order in columns["order_id"].to_pylist()]

    # --- totals ------------------------------------------------------------------------------------------------------

    def _totals(self, lists: Mapping[str, Answer], orders: Answer, std: Answer, dialect: Dialect) -> None:
        found = self.found
        fitting = _orders_form(orders, dialect, self.shop)
        if std.outcome != "ok" or fitting is None or lists["getPaymentModes.php"].outcome != "ok":
            found.notes.append("control totals could not be compared: an answer is missing")
            return
        form, detail = fitting
        clock = mapping.Clock(self.shop.zone, self.shop.shop.day_starts_at)
        drift = mapping.Drift(aloud=False)
        try:
            told = report.control_totals(std.body, self.day, headings=dialect.headings, decimal=dialect.decimal)
            methods = mapping.payment_methods(
                dialect.unwrap("getPaymentModes.php", _decoded(lists["getPaymentModes.php"], dialect)), drift, form
            )
            records = _records(orders, dialect)
            if detail:
                heads = mapping.headers(records, drift, clock, form)
                records = [
                    dialect.unwrap("getOrder.php", self._order(order, dialect))
                    for order, day in zip(heads["order_id"], heads["business_day"], strict=True)
                    if day == self.day
                ]
            frames = mapping.sales(records, drift, clock, form)
        except PosError as error:
            found.notes.append(f"control totals could not be compared: {error.message}")
            return
        seen = drift.unknown.get(mapping.PAYMENT_MODE.call, set())
        if types := sorted(name for name in seen if not name.startswith(mapping.PAYMENT_MODE.what)):
            found.notes.append(
                f"payment methods of a type nobody declared ({', '.join(types)}): their days are held until "
                "methods_by_id in [[chart]] names an account"
            )
        within = drift.unknown.get(mapping.ORDER.call, set())
        if names := sorted(name for name in within if not name.startswith(f"{mapping.ORDER.what}.")):
            found.notes.append(f"fields within orders that nobody declared, kept raw and not used: {', '.join(names)}")
        till = control.till_totals(frames["orders"], frames["order_vat"], frames["payments"], methods)
        found.compared = len(told)
        for row in control.compare(till, told).itertuples():
            found.differences.append(
                f"{row.measure} {row.of}".strip() + f": orders {row.till_cents} cents, report {row.report_cents} cents"
            )
        if any(told.startswith("paid") for told in found.differences):
            found.notes.append(
                "a method may differ by payments of other days' orders, not all of them read here: probe another day"
            )
        of_day = frames["orders"][frames["orders"]["business_day"] == pd.Timestamp(self.day)]
        lost = [
            gap.first if gap.first == gap.last else f"{gap.first}..{gap.last}" for gap in control.gaps(of_day["number"])
        ]
        if lost:
            told = f"numbers missing in the sequence of the day: {', '.join(lost[:10])}"
            if self.shop.source.number_gaps == "hold":
                told += (
                    '; they hold the day: look them up in Kash.click, or, if it skips numbers, number_gaps = "ignore"'
                )
            found.notes.append(told)

    def _order(self, order_id: str, dialect: Dialect) -> Any:
        """An order decoded as this dialect has it: the client decodes as the shop file says, which may not fit yet."""
        body = self.client.document("getOrder.php", {"order_id": order_id}, day=self.day)
        try:
            return decoding.whole(body, exact=dialect.numbers)
        except ValueError:
            raise _no_json("getOrder.php") from None

    def _settings(self) -> None:
        """The lines of [source] that should read otherwise."""
        found, now = self.found, self.shop.source
        wanted: dict[str, tuple[Any, Any]] = {
            "dialect": (found.dialect, now.dialect),
            "time_rule": (found.time_rule, now.time_rule),
            "order_detail": (found.order_detail, now.order_detail),
        }
        for name, (fits, is_now) in wanted.items():
            if fits is not None and fits != is_now:
                found.settings[name] = f'"{fits}"' if isinstance(fits, str) else str(fits).lower()
        if found.compared and not found.differences and not now.control_totals:
            found.settings["control_totals"] = "true"


# --- reading with a dialect ------------------------------------------------------------------------------------------


def _decoded(answer: Answer, dialect: Dialect) -> Any:
    try:
        return decoding.whole(answer.body, exact=dialect.numbers)
    except ValueError:
        raise _no_json(answer.call) from None


def _is_json(answer: Answer) -> bool:
    try:
        decoding.whole(answer.body, exact=False)
    except ValueError:
        return False
    return answer.outcome == "ok"


def _no_json(call: str) -> PosError:
    return PosError(f"{call} answers with no JSON", next_step="look at the sample")


def _records(answer: Answer, dialect: Dialect) -> list[Any]:
    records = dialect.unwrap(answer.call, _decoded(answer, dialect))
    if not isinstance(records, list):
        raise PosError(f"{answer.call} answers with no list", next_step="look at the sample")
    return records


def _problem(answer: Answer, shape: mapping.Shape, dialect: Dialect) -> str | None:
    """Why this dialect does not read the answer; None when it does."""
    try:
        mapping.read(_records(answer, dialect), mapping.Form(dialect).of(shape), mapping.Drift(aloud=False))
    except PosError as error:
        return error.message
    return None


def _orders_form(orders: Answer, dialect: Dialect, shop: ShopFile) -> tuple[mapping.Form, bool] | None:
    """The form that reads the orders, and whether they are headers only."""
    clock = mapping.Clock(shop.zone, shop.shop.day_starts_at)
    for wall in (None, shop.zone):
        form = mapping.Form(dialect, wall)
        for detail in (False, True):
            try:
                records = _records(orders, dialect)
                if detail:
                    mapping.headers(records, mapping.Drift(aloud=False), clock, form)
                else:
                    mapping.sales(records, mapping.Drift(aloud=False), clock, form)
            except PosError:
                continue
            return form, detail
    return None


def _diagnose(answer: Answer, shape: mapping.Shape, dialect: Dialect) -> None:
    """Which declared fields are there, which are not, and which are there that nobody declared."""
    try:
        records = [record for record in _records(answer, dialect) if isinstance(record, dict)]
    except PosError as error:
        answer.outcome = error.message
        return
    answer.records = len(records)
    seen: dict[str, set[str]] = {}
    containers = {known.name.rpartition(".")[0] for known in shape.fields} - {""}
    for record in records:
        for name, value in record.items():
            if name in containers and isinstance(value, dict):
                for leaf, inner in value.items():
                    seen.setdefault(f"{name}.{leaf}", set()).add(type(inner).__name__)
            elif name not in containers:
                seen.setdefault(name, set()).add(type(value).__name__)
    declared = {known.name for known in shape.fields}
    if records:
        answer.missing = sorted(declared - set(seen))
        answer.unknown = sorted(f"{name} ({', '.join(sorted(seen[name]))})" for name in set(seen) - declared)


# --- samples ---------------------------------------------------------------------------------------------------------


def redacted(call: str, body: bytes) -> bytes:
    """The first records of an answer with every letter and digit of a personal field replaced, as JSON.

    Of a page or a file, the first two thousand bytes: its marks, the first row of every table and the first line as
    they are, every other letter and digit replaced, for it may list customers. The key was masked before it came here.
    """
    try:
        decoded = decoding.whole(body, exact=False)
    except ValueError:
        return _page(body[:2000].decode("utf-8", errors="replace")).encode()
    people = call in _OF_PEOPLE
    return orjson.dumps(_without_persons(_shortened(decoded), people=people), option=orjson.OPT_INDENT_2)


def _page(text: str) -> str:
    if "<" not in text:
        head, line_break, rest = text.partition("\n")
        return head + line_break + _replaced(rest)
    row, parts = 0, []
    for part in re.split(r"(<[^>]*>?)", text):
        tag = part[:3].casefold()
        row = 0 if tag in ("<ta", "</t") and "table" in part.casefold() else row + (tag == "<tr")
        parts.append(part if part.startswith("<") or row == 1 else _replaced(part))
    return "".join(parts)


def _replaced(text: str) -> str:
    return re.sub(r"\d", "0", re.sub(r"[^\W\d_]", "x", text))


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value[:SAMPLE_RECORDS]]
    return value


def _without_persons(value: Any, *, people: bool, name: str = "") -> Any:
    if isinstance(value, dict):
        # An object about the customer is personal as a whole, but for its ids.
        about = re.search(r"client|customer|user$", name, re.IGNORECASE) is not None
        return {key: _without_persons(inner, people=people or about, name=key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_persons(inner, people=people, name=name) for inner in value]
    if isinstance(value, str) and not is_id(name) and (people or PERSONAL.search(name)):
        return _replaced(value)
    return value
