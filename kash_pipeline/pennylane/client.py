"""Typed calls to PennyLane's Company API v2: what we use of it, and nothing else.

Paging, pacing, repeating what is safe to repeat and reading answers belong here. Which entry may be sent belongs to
publisher.py, who the token is to auth.py, what a failure means to errors.py.

Amounts are `Decimal` as PennyLane writes them ("100.0" for "100.00"); fields we do not rely on may come, go or be
null, those we rely on raise AnswerChanged. Source: PennyLane's OpenAPI file of Sep 2026, retold in
contracts/pennylane-openapi.yaml.
"""

import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol, Self, TypeVar

import httpx

from kash_pipeline.pennylane.errors import (
    AnswerChanged,
    ConnectAgain,
    NoToken,
    PennylaneError,
    RateLimited,
    Unauthorized,
    error_of,
    error_of_transport,
)
from kash_pipeline.pennylane.pacing import LONGEST_WAIT, Pacing

API = "/api/external/v2"
LINES_PER_ENTRY = 1000
LABEL_LENGTH = 255  # the limits of entry and line labels are undocumented; 255 is the shortest documented anywhere
# Both httpx and common servers drop idle connections after 5 s: a burst 5 s after the last one met closed
# connections in 4 of 44 cases. Dropping them ourselves first costs a handshake and never a POST.
KEEPALIVE_EXPIRY = 2.0
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
ADDRESS = ("address", "postal_code", "city", "country_alpha2")
T = TypeVar("T")


class _WithoutQuery(logging.Filter):
    """httpx logs each address from INFO on; a filter in the query may hold e-mail addresses of customers."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                str(part.copy_with(query=None)) if isinstance(part, httpx.URL) else part for part in record.args
            )
        return True


_WITHOUT_QUERY = _WithoutQuery()


class TokenSource(Protocol):
    """Who gives the access token (auth.py)."""

    def access_token(self) -> str:
        """A token that is good now; raises ConnectAgain when only a person can help."""
        ...

    def replace(self, rejected: str) -> str:
        """A token other than the one the server just rejected; raises ConnectAgain when there is none."""
        ...


@dataclass(frozen=True)
class Me:
    """Whose token this is: the company and the granted scopes."""

    company_id: int
    company_name: str
    reg_no: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class Journal:
    id: int
    code: str
    label: str
    type: str


@dataclass(frozen=True)
class LedgerAccount:
    """An account of the company's chart. One number may exist under several ids, one per VAT rate and country."""

    id: int
    number: str
    label: str
    vat_rate: str
    enabled: bool
    type: str
    letterable: bool


@dataclass(frozen=True)
class NewLine:
    """A line to send: exactly one of debit and credit above zero, in cents."""

    account_id: int
    debit_cents: int
    credit_cents: int
    label: str


@dataclass(frozen=True)
class NewEntry:
    """An entry to send. `piece_number` is the only key of our own that PennyLane keeps."""

    journal_id: int
    day: date
    piece_number: str
    label: str
    lines: tuple[NewLine, ...]
    file_attachment_id: int | None = None

    def body(self) -> dict[str, Any]:
        """The request body: amounts as strings with two decimals."""
        body: dict[str, Any] = {
            "date": self.day.isoformat(),
            "label": self.label[:LABEL_LENGTH],
            "journal_id": self.journal_id,
            "piece_number": self.piece_number,
            "currency": "EUR",
            "ledger_entry_lines": [
                {
                    "debit": euros(line.debit_cents),
                    "credit": euros(line.credit_cents),
                    "ledger_account_id": line.account_id,
                    "label": line.label[:LABEL_LENGTH],
                }
                for line in self.lines
            ],
        }
        if self.file_attachment_id is not None:
            body["file_attachment_id"] = self.file_attachment_id
        return body


@dataclass(frozen=True)
class EntryLine:
    """A line as PennyLane holds it. `lettered_with` are the ids of its lettering group, its own included."""

    id: int
    entry_id: int
    account_id: int
    account: str
    debit: Decimal
    credit: Decimal
    label: str
    journal_id: int | None = None
    day: date | None = None
    lettered_with: tuple[int, ...] = ()


@dataclass(frozen=True)
class EntrySummary:
    """An entry of a list, without lines. The date is null on drafts."""

    id: int
    journal_id: int
    day: date | None
    piece_number: str | None
    label: str


@dataclass(frozen=True)
class Entry:
    """An entry with its lines, in no particular order."""

    id: int
    journal_id: int
    day: date
    piece_number: str | None
    label: str
    lines: tuple[EntryLine, ...]


@dataclass(frozen=True)
class Customer:
    """A customer of either kind; `account_id` is the auxiliary account PennyLane made for them.

    `address`: street, postal code, city, country (two letters) of the billing address; what is not set is empty.
    """

    id: int
    kind: str
    name: str
    external_reference: str | None
    reg_no: str | None
    vat_number: str | None
    emails: tuple[str, ...]
    account_id: int | None
    first_name: str = ""
    last_name: str = ""
    address: tuple[str, str, str, str] = ("", "", "", "")


@dataclass(frozen=True)
class FiscalYear:
    """A fiscal year; `status` is open, reopen, closed or frozen."""

    id: int
    start: date
    finish: date
    status: str

    @property
    def open(self) -> bool:
        return self.status in ("open", "reopen")


@dataclass(frozen=True)
class Change:
    """One event of a changelog: `operation` is insert, update or delete of the record `id`."""

    id: int
    operation: str
    processed_at: datetime


@dataclass(frozen=True)
class StoredFile:
    id: int
    filename: str


def euros(cents: int) -> str:
    """12345 to `"123.45"`, the form PennyLane takes."""
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{rest:02d}"


def condition(field: str, operator: str, value: object) -> dict[str, object]:
    """One condition of a list's filter; all conditions are joined by AND."""
    return {"field": field, "operator": operator, "value": value}


class PennylaneClient:
    """One company's books. Usable from several threads; close it, or use it in a `with`.

    url        origin, such as https://app.pennylane.com
    tokens     who gives the access token
    pacing     who says when a request may leave
    attempts   how often a repeatable request is tried in all
    `sleep` and `transport` can be passed in. `requests` counts what was sent, per method and path pattern.
    """

    def __init__(
        self,
        url: str,
        tokens: TokenSource,
        pacing: Pacing,
        *,
        attempts: int = 6,
        timeout: httpx.Timeout | float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._tokens = tokens
        self._pacing = pacing
        self._attempts = attempts
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=self.url + API,
            timeout=timeout,
            transport=transport,
            limits=httpx.Limits(max_connections=25, keepalive_expiry=KEEPALIVE_EXPIRY),
            headers={"accept": "application/json", "user-agent": "kash-pipeline"},
            follow_redirects=False,
        )
        # The same object twice is added once.
        logging.getLogger("httpx").addFilter(_WITHOUT_QUERY)
        self.requests: Counter[str] = Counter()
        self._counting = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PennylaneClient({self.url!r})"

    def close(self) -> None:
        self._http.close()

    @property
    def sent(self) -> int:
        """How many requests left so far."""
        with self._counting:
            return self.requests.total()

    # --- identity ---------------------------------------------------------------------------------------------

    def me(self) -> Me:
        """`GET /me`: needs no scope."""
        body = self._json("GET", "/me", "asking who we are")
        company = _get(body, "company", dict)
        return Me(
            company_id=_get(company, "id", int),
            company_name=_get(company, "name", str),
            reg_no=str(company.get("reg_no") or ""),
            scopes=frozenset(str(scope) for scope in _get(body, "scopes", list)),
        )

    # --- journals, accounts, years ----------------------------------------------------------------------------

    def journals(self) -> list[Journal]:
        return [_journal(item) for item in self._pages("/journals", "listing the journals")]

    def create_journal(self, code: str, label: str) -> Journal:
        """Not repeated by itself: list first, list again when this ends unclearly."""
        doing = f"creating journal {code}"
        return _journal(self._json("POST", "/journals", doing, body={"code": code, "label": label}))

    def ledger_accounts(self, *, numbers: Sequence[str] | None = None) -> list[LedgerAccount]:
        """The chart (some 1,400 accounts, hence pages of 1000), or only some numbers of it."""
        filters = [condition("number", "in", list(numbers))] if numbers is not None else None
        pages = self._pages("/ledger_accounts", "listing the accounts", filters=filters, limit=1000)
        return [_account(item) for item in pages]

    def ledger_account(self, account_id: int) -> LedgerAccount:
        return _account(self._json("GET", f"/ledger_accounts/{account_id}", f"reading account id {account_id}"))

    def create_ledger_account(self, number: str, label: str, *, vat_rate: str | None = None) -> LedgerAccount:
        """`vat_rate` is a code such as FR_200. A number in 411 or 401 would make a customer or supplier for ever:
        raises ValueError, use the customer calls."""
        if number.startswith(("411", "401")):
            raise ValueError(f"account {number} must not be created as a plain account")
        body: dict[str, Any] = {"number": number, "label": label}
        if vat_rate is not None:
            body |= {"vat_rate": vat_rate, "country_alpha2": "FR"}
        return _account(self._json("POST", "/ledger_accounts", f"creating account {number}", body=body))

    def fiscal_years(self) -> list[FiscalYear]:
        pages = self._pages("/fiscal_years", "listing the fiscal years", sort="start")
        return [
            FiscalYear(
                id=_get(item, "id", int),
                start=_date(item, "start"),
                finish=_date(item, "finish"),
                status=_get(item, "status", str),
            )
            for item in pages
        ]

    # --- entries ----------------------------------------------------------------------------------------------

    def create_ledger_entry(self, entry: NewEntry, *, leaving: Callable[[], None] | None = None) -> Entry:
        """Send one entry. Never repeated here: PennyLane accepts duplicates and deletes nothing.

        `leaving` is called when the rate limit lets the request go, right before it leaves; what it raises keeps the
        request from leaving. Raises a PennylaneError whose `doubtful` says whether the entry may be there all the same.
        """
        doing = f"posting entry {entry.piece_number}"
        return _entry(
            _object(self._call("POST", "/ledger_entries", doing, body=entry.body(), leaving=leaving, attempts=1))
        )

    def ledger_entries(self, journal_ids: Sequence[int], first: date, last: date) -> Iterator[EntrySummary]:
        """Entries of some journals and days, oldest first. The list cannot be filtered on the piece number."""
        filters = _journals_and_days(journal_ids, first, last)
        for item in self._pages("/ledger_entries", "looking for entries", filters=filters, sort="id"):
            yield EntrySummary(
                id=_get(item, "id", int),
                journal_id=_get(_get(item, "journal", dict), "id", int),
                day=_date(item, "date") if item.get("date") else None,
                piece_number=item.get("piece_number"),
                label=str(item.get("label") or ""),
            )

    def ledger_entry(self, entry_id: int) -> Entry:
        """One entry with its lines; raises NotFound when it was deleted in the application."""
        return _entry(self._json("GET", f"/ledger_entries/{entry_id}", f"reading entry id {entry_id}"))

    def lines_of_entry(self, entry_id: int) -> list[EntryLine]:
        pages = self._pages(f"/ledger_entries/{entry_id}/ledger_entry_lines", f"reading lines of entry id {entry_id}")
        return [_line(item, entry_id) for item in pages]

    def ledger_entry_lines(self, journal_ids: Sequence[int], first: date, last: date) -> Iterator[EntryLine]:
        """Lines of some journals and days: a hundred lines a request, of as many entries as they belong to."""
        filters = _journals_and_days(journal_ids, first, last)
        for item in self._pages("/ledger_entry_lines", "reading back lines", filters=filters, sort="id"):
            yield _line(item, _get(_get(item, "ledger_entry", dict), "id", int))

    def letter(self, line_ids: Sequence[int]) -> list[int]:
        """Letter lines together; a group that does not sum to zero is refused. Gives the whole group's ids.

        Lettering lines that are lettered together already changes nothing, so it is repeated when the end is unclear.
        """
        answer = self._call("POST", "/ledger_entry_lines/lettering", "lettering", body=_lettering(line_ids), safe=True)
        return [_get(item, "id", int) for item in _list(answer)]

    def unletter(self, line_ids: Sequence[int]) -> None:
        """Take lines out of their lettering: a DELETE with a body."""
        path = "/ledger_entry_lines/lettering"
        self._call("DELETE", path, "taking back a lettering", body=_lettering(line_ids), safe=True)

    def line_changes(self, since: datetime) -> Iterator[Change]:
        """Inserts, updates and deletes of entry lines since an instant at most four weeks ago, oldest first.

        The only place where a deletion in the application shows. `start_date` must not be sent with a cursor.
        """
        start = {"start_date": since.isoformat().replace("+00:00", "Z")}
        pages = self._pages(
            "/changelogs/ledger_entry_lines", "reading changes", sort=None, limit=1000, first_page=start
        )
        for item in pages:
            yield Change(
                id=_get(item, "id", int),
                operation=_get(item, "operation", str),
                processed_at=_instant(item, "processed_at"),
            )

    def upload_file(self, filename: str, content: bytes, content_type: str = "application/pdf") -> StoredFile:
        """Upload a PDF or an image. Files cannot be listed: keep the id, a lost one means another upload.

        Repeated when the end is unclear: a file that no entry names shows nowhere.
        """
        doing = f"uploading {filename}"
        files = {"file": (filename, content, content_type)}
        data = {"filename": filename[:255]}
        body = _object(self._call("POST", "/file_attachments", doing, files=files, data=data, safe=True))
        return StoredFile(id=_get(body, "id", int), filename=str(body.get("filename") or filename))

    # --- customers --------------------------------------------------------------------------------------------

    def customers(self, *conditions: dict[str, object]) -> list[Customer]:
        """Customers of both kinds that fulfil all `conditions`."""
        try:
            pages = self._pages("/customers", "looking for customers", filters=list(conditions) or None)
            return [_customer(item) for item in pages]
        except PennylaneError as error:
            error.hide(each["value"] for each in conditions if each["field"] != "external_reference")
            raise

    def create_company_customer(self, body: dict[str, Any]) -> Customer:
        """Raises Conflict when the external reference is taken."""
        return self._write_customer("POST", "/company_customers", "company", "creating", body)

    def create_individual_customer(self, body: dict[str, Any]) -> Customer:
        """Raises Conflict when the external reference is taken."""
        return self._write_customer("POST", "/individual_customers", "individual", "creating", body)

    def update_customer(self, customer: Customer, changes: dict[str, Any]) -> Customer:
        """Change these fields, by the endpoint of the customer's kind: the other kind's damages it.

        Repeated when the end is unclear: the same fields twice are the same customer. Raises NotFound when it is gone.
        """
        path = f"/{customer.kind}_customers/{customer.id}"
        return self._write_customer("PUT", path, customer.kind, f"changing customer id {customer.id}", changes)

    def _write_customer(self, method: str, path: str, kind: str, doing: str, body: dict[str, Any]) -> Customer:
        """What PennyLane says of a person's data may quote it: an error shows none of the values sent."""
        if method == "POST":
            doing = f"{doing} customer {body.get('external_reference') or ''}".rstrip()
        try:
            return _customer(_object(self._call(method, path, doing, body=body, safe=method == "PUT")), kind=kind)
        except PennylaneError as error:
            error.hide(value for name, value in body.items() if name != "external_reference")
            raise

    # --- plumbing ---------------------------------------------------------------------------------------------

    def _pages(
        self,
        path: str,
        doing: str,
        *,
        filters: list[dict[str, object]] | None = None,
        sort: str | None = "id",
        limit: int = 100,
        first_page: dict[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Every item of a list. A cursor holds a position only, so filter and sort go with each page; what may not
        stand beside a cursor is in `first_page`."""
        steady: dict[str, str] = {"limit": str(limit)}
        if filters:
            steady["filter"] = json.dumps(filters, separators=(",", ":"))
        if sort:
            steady["sort"] = sort
        params = steady | (first_page or {})
        seen: set[str] = set()
        while True:
            body = self._json("GET", path, doing, params=params)
            for item in _get(body, "items", list):
                yield _object(item)
            cursor = body.get("next_cursor")
            if not cursor:
                if body.get("has_more"):
                    raise AnswerChanged(f"PennyLane: {doing}: more pages announced but no cursor given")
                return
            if not isinstance(cursor, str) or cursor in seen:
                raise AnswerChanged(f"PennyLane: {doing}: the cursor of the pages goes in circles")
            seen.add(cursor)
            params = steady | {"cursor": cursor}

    def _json(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        params: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        return _object(self._call(method, path, doing, params=params, body=body))

    def _call(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        params: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        data: dict[str, str] | None = None,
        files: dict[str, tuple[str, bytes, str]] | None = None,
        safe: bool = False,
        leaving: Callable[[], None] | None = None,
        attempts: int | None = None,
    ) -> Any:
        """One call, repeated only where that is safe: reads, calls marked safe, and what surely never left."""
        repeatable = safe or method == "GET"
        rejected_once = False
        token = _had(self._tokens.access_token)
        attempt = 0
        while True:
            attempt += 1
            answer = self._send(method, path, doing, token, leaving, params=params, json=body, data=data, files=files)
            if isinstance(answer, httpx.Response):
                return _parsed(answer, doing)
            error = answer
            if isinstance(error, Unauthorized) and not rejected_once:
                # A 401 was never executed. The token may have been refreshed by another process a moment ago.
                rejected_once = True
                token = _had(self._tokens.replace, token)
                continue
            if isinstance(error, Unauthorized):
                raise ConnectAgain(
                    error.message, next_step=error.next_step, status=error.status, request_id=error.request_id
                ) from None
            if not error.retry or attempt >= (attempts or self._attempts) or (error.doubtful and not repeatable):
                raise error
            self._sleep(_wait(error, attempt))

    def _send(
        self, method: str, path: str, doing: str, token: str, leaving: Callable[[], None] | None, **content: Any
    ) -> httpx.Response | PennylaneError:
        content = {name: value for name, value in content.items() if value is not None}
        with self._pacing.slot() as slot:
            if leaving is not None:
                leaving()
            with self._counting:
                self.requests[f"{method} {_pattern(path)}"] += 1
            try:
                response = self._http.request(method, path, headers={"authorization": f"Bearer {token}"}, **content)
            except httpx.RequestError as error:
                return error_of_transport(error, doing)
            slot.answered(response.headers)
        return error_of(response, doing) or response


def _had(source: Callable[..., str], *rejected: str) -> str:
    """A token; a failure to get one is never taken for one of the request it was wanted for."""
    try:
        return source(*rejected)
    except ConnectAgain:
        raise
    except PennylaneError as error:
        raise NoToken(
            error.message, next_step=error.next_step, status=error.status, request_id=error.request_id
        ) from error


def _wait(error: PennylaneError, attempt: int) -> float:
    """Seconds before the next attempt: what the server asks for, else doubling from half a second, with jitter."""
    if isinstance(error, RateLimited) and error.retry_after is not None:
        return min(error.retry_after, LONGEST_WAIT)
    return float(min(0.5 * 2 ** (attempt - 1), 20.0) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret


def _pattern(path: str) -> str:
    return "/".join("{id}" if part.isdigit() else part for part in path.split("/"))


def _journals_and_days(journal_ids: Sequence[int], first: date, last: date) -> list[dict[str, object]]:
    days = (
        [condition("date", "eq", first.isoformat())]
        if first == last
        else [condition("date", "gteq", first.isoformat()), condition("date", "lteq", last.isoformat())]
    )
    return [condition("journal_id", "in", list(journal_ids)), *days]


def _lettering(line_ids: Sequence[int]) -> dict[str, Any]:
    return {"unbalanced_lettering_strategy": "none", "ledger_entry_lines": [{"id": line_id} for line_id in line_ids]}


def _parsed(response: httpx.Response, doing: str) -> Any:
    if response.status_code == 204 or not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise AnswerChanged(
            f"PennyLane: {doing}: the answer is no JSON", request_id=response.headers.get("x-request-id")
        ) from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise AnswerChanged(f"PennyLane answered {type(value).__name__} where an object was expected")
    return value


def _list(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise AnswerChanged(f"PennyLane answered {type(value).__name__} where a list was expected")
    return [_object(item) for item in value]


def _get(item: dict[str, Any], name: str, kind: type[T]) -> T:
    value = item.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        shown = "missing" if name not in item else type(value).__name__
        raise AnswerChanged(f"PennyLane: field {name!r} is {shown}, expected {kind.__name__}")
    return value


def _amount(item: dict[str, Any], name: str) -> Decimal:
    text = _get(item, name, str)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite():
        raise AnswerChanged(f"PennyLane: field {name!r} is no amount: {text[:40]!r}")
    return amount


def _date(item: dict[str, Any], name: str) -> date:
    text = _get(item, name, str)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise AnswerChanged(f"PennyLane: field {name!r} is no date: {text[:40]!r}") from None


def _instant(item: dict[str, Any], name: str) -> datetime:
    text = _get(item, name, str)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise AnswerChanged(f"PennyLane: field {name!r} is no instant: {text[:40]!r}") from None


def _journal(item: dict[str, Any]) -> Journal:
    return Journal(
        id=_get(item, "id", int),
        code=_get(item, "code", str),
        label=str(item.get("label") or ""),
        type=str(item.get("type") or ""),
    )


def _account(item: dict[str, Any]) -> LedgerAccount:
    return LedgerAccount(
        id=_get(item, "id", int),
        number=_get(item, "number", str),
        label=str(item.get("label") or ""),
        vat_rate=str(item.get("vat_rate") or "any"),
        enabled=_get(item, "enabled", bool),
        type=str(item.get("type") or ""),
        letterable=bool(item.get("letterable")),
    )


def _line(item: dict[str, Any], entry_id: int) -> EntryLine:
    account = _get(item, "ledger_account", dict)
    journal = item.get("journal")
    lettered = item.get("lettered_ledger_entry_lines")
    return EntryLine(
        id=_get(item, "id", int),
        entry_id=entry_id,
        account_id=_get(account, "id", int),
        account=str(account.get("number") or ""),
        debit=_amount(item, "debit"),
        credit=_amount(item, "credit"),
        label=str(item.get("label") or ""),
        journal_id=_get(journal, "id", int) if isinstance(journal, dict) else None,
        day=_date(item, "date") if item.get("date") else None,
        lettered_with=tuple(lettered.get("ids") or ()) if isinstance(lettered, dict) else (),
    )


def _entry(item: dict[str, Any]) -> Entry:
    entry_id = _get(item, "id", int)
    return Entry(
        id=entry_id,
        journal_id=_get(_get(item, "journal", dict), "id", int),
        day=_date(item, "date"),
        piece_number=item.get("piece_number"),
        label=str(item.get("label") or ""),
        lines=tuple(_line(_object(line), entry_id) for line in _get(item, "ledger_entry_lines", list)),
    )


def _customer(item: dict[str, Any], kind: str | None = None) -> Customer:
    account = item.get("ledger_account")
    address = item.get("billing_address")
    where = address if isinstance(address, dict) else {}
    return Customer(
        id=_get(item, "id", int),
        kind=kind or str(item.get("customer_type") or ""),
        name=str(item.get("name") or ""),
        external_reference=item.get("external_reference"),
        reg_no=item.get("reg_no") or None,
        vat_number=item.get("vat_number") or None,
        emails=tuple(str(email) for email in item.get("emails") or ()),
        account_id=_get(account, "id", int) if isinstance(account, dict) else None,
        first_name=str(item.get("first_name") or ""),
        last_name=str(item.get("last_name") or ""),
        address=tuple(str(where.get(name) or "") for name in ADDRESS),  # type: ignore[arg-type]
    )
