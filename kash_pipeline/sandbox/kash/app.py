"""The Kash.click stand-in: the documented read calls over a data set, as an ASGI app.

Parameters, refusals and windows belong here; the form of what comes back is in shapes.py and is our guess. Parameters
follow the publisher's documentation (contracts/kash-openapi.yaml). Where it is silent: a refusal is HTTP 200 with
`{"success": false, "result": text}`, as its documented calls do; a script that does not exist is a 404 HTML page, as a
PHP host gives; window bounds are both included. Two time rules: `utc` reads bounds with their offset and answers in
UTC, `local` reads them on the shop's clock whatever their suffix says and answers on it, without offset. The only
writes are logins.
"""

import copy
import csv
import hmac
import html
import io
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pandas as pd
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from kash_pipeline.pos.kash_api.days import business_days
from kash_pipeline.pos.kash_api.dialects import DIALECTS
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.kash import shapes
from kash_pipeline.sandbox.kash.dialects import Writer
from kash_pipeline.sandbox.kash.faults import Faults
from kash_pipeline.settings import bp_to_rate, rate_to_bp

CLOSINGS_SCRIPT = "sandboxGetClosings.php"
"""Not a Kash.click call: it documents none that reads closings."""


class _Refusal(Exception):
    """Ends a request with an error body."""


def create_app(
    dataset: Dataset,
    *,
    shop_id: str,
    key: str,
    faults: Faults | None = None,
    today: Callable[[], date] | None = None,
    dialect: str = "english",
    time_rule: Literal["utc", "local"] = "utc",
    headers_only: bool = False,
    account: "Account | None" = None,
) -> Starlette:
    """The stand-in serving `dataset` under `/workers/<script>.php` to whoever sends this shop id and key.

    `today` decides what "yesterday" is for getSales.php without a date; default: the day after the last day of the set.
    `dialect` is one of pos/kash_api/dialects.py; with `headers_only` the list of orders has no lines and payments, only
    getOrder.php has; `account` may log in for the key.
    """
    service = _Service(
        dataset,
        shop_id,
        key,
        today or (lambda: dataset.last + timedelta(days=1)),
        Writer(DIALECTS[dialect], dataset.zone if time_rule == "local" else None),
        dataset.zone if time_rule == "local" else None,
        headers_only,
        faults or Faults(),
    )
    switch = service.switch

    async def call(request: Request) -> Response:
        script = request.path_params["script"]
        answer = await run_in_threadpool(service.answer, script, dict(request.query_params))
        return await switch.apply(script, answer)

    async def log_in(request: Request) -> Response:
        script = request.path_params["script"]
        form = {name: str(value) for name, value in (await request.form()).items()}
        answer = (account or Account()).answer(script, form, shop_id, key)
        return await switch.apply(script, answer or _not_found())

    return Starlette(
        routes=[
            Route("/workers/{script}", call, methods=["GET"]),
            Route("/workers/{script}", log_in, methods=["POST"]),
        ]
    )


@dataclass
class Account:
    """Who may log in: by one-time password (each works once; `mailbox` holds those sent) or by password.

    shops   titles by account id; with several of them a one-time password is sent for one that is named
    """

    email: str = ""
    password: str = ""
    mailbox: list[str] = field(default_factory=list)
    shops: dict[str, str] = field(default_factory=lambda: {"4711": "Boulangerie du Port"})

    def answer(self, script: str, form: dict[str, str], shop_id: str, key: str) -> Response | None:
        known = bool(self.email) and form.get("email", form.get("login")) == self.email
        granted = {"APIKEY": key, "SHOPID": shop_id}
        if script == "listShops.php":
            listed = self.shops if known else {}
            return _json(
                [
                    # Spelled so by the documentation.
                    {"accountID": number, "accountTitle": title, "getOPTForAccount": "getOTPForAccount.php"}
                    for number, title in listed.items()
                ]
            )
        if script == "getOTPForAccount.php":
            if not known or form.get("accountID") not in (None, *self.shops):
                return _json({"success": False, "result": "Unknown account"})
            if len(self.shops) > 1 and "accountID" not in form:
                return _json({"success": False, "result": "Several accounts"})
            self.mailbox.append(f"{secrets.randbelow(10**6):06d}")
            return _json({"success": True, "result": "OTP sent", "consumeOTPlink": "getAuthTokenWithOTP.php"})
        if script == "getAuthTokenWithOTP.php":
            if not known or form.get("otp") not in self.mailbox:
                return _json({"success": False, "result": "OTP not found"})
            self.mailbox.remove(form["otp"])
            return _json({"success": True, "result": "OK", **granted})
        if script == "getAuthToken.php":
            if not known or not self.password or form.get("password") != self.password:
                return _json({"result": "ERROR", "message": "Wrong login or password"})
            return _json({"result": "OK", **granted})
        return None


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _not_found() -> Response:
    return HTMLResponse(
        "<!DOCTYPE HTML><html><head><title>404 Not Found</title></head><body><h1>Not Found</h1>"
        "<p>The requested URL was not found on this server.</p></body></html>",
        status_code=404,
    )


class _Service:
    def __init__(
        self,
        dataset: Dataset,
        shop_id: str,
        key: str,
        today: Callable[[], date],
        writer: Writer,
        local: ZoneInfo | None,
        headers_only: bool,
        switch: Faults,
    ) -> None:
        self.dataset, self.shop_id, self.key, self.today = dataset, shop_id, key, today
        self.writer, self.local, self.headers_only, self.switch = writer, local, headers_only, switch
        self.book = shapes.OrderBook(dataset)
        # Cutting one order out of the frames costs 5 ms, as much as cutting out a hundred.
        self._block = lru_cache(maxsize=64)(self._blocks)
        self.lists = shapes.reference(dataset)

    def answer(self, script: str, query: dict[str, str]) -> Response:
        scripts: dict[str, Callable[[dict[str, str]], Any]] = {
            "getOrders.php": self.orders,
            "getOrder.php": self.order,
            CLOSINGS_SCRIPT: self.closings,
            "getSales.php": self.sales,
        }
        if script not in scripts and script not in self.lists:
            return _not_found()
        try:
            self._check_key(query)
            if script in self.lists:
                body: Any = self.lists[script]
                form = query.get("format", "json")
                if form not in ("json", "csv", "html"):
                    raise _Refusal(f"Unknown format {form!r}")
                if form != "json":
                    return _table(body, form)
            else:
                body = scripts[script](query)
        except _Refusal as refusal:
            body = {"success": False, "result": str(refusal)}
        if isinstance(body, Response):
            return body
        if self.switch.reshape is not None:
            body = self.switch.reshape(script, copy.deepcopy(body))
        return _json(self.writer.write(script, body))

    def _check_key(self, query: dict[str, str]) -> None:
        shop = query.get("idboutique", query.get("shopID", ""))
        if not hmac.compare_digest(shop.encode(), self.shop_id.encode()):
            raise _Refusal("Unknown shop")
        right = hmac.compare_digest(query.get("key", "").encode(), self.key.encode())
        if not right or self.switch.revoked:
            raise _Refusal("Wrong API key")

    def orders(self, query: dict[str, str]) -> list[shapes.Record]:
        # PHP takes the word "false" for true; here it means false, as the publisher's own client expects.
        if query.get("validatedOrders", "true").lower() in ("false", "0", ""):
            return []  # every order of a data set is validated
        wanted = query.get("filterDeliveryMethod")
        if wanted is not None and wanted != str(shapes.COUNTER_SALE):
            return []
        first, last = _window(query, self.local)
        touched = self.switch.hidden | set(self.switch.changed)
        begin, end = self.book.window(_naive(first), _naive(last))
        records = [order for order in self.book.records(begin, end) if order["orderInternalID"] not in touched]
        for order in self._changed():
            if first <= datetime.fromisoformat(order["valueDate"]) <= last:
                records.append(order)
        return [_header(order) for order in records] if self.headers_only else records

    def order(self, query: dict[str, str]) -> shapes.Record:
        asked = query.get("order_id", "")
        if asked not in self.book.position or asked in self.switch.hidden:
            raise _Refusal("Order not found")
        order = self._original(asked)
        if asked in self.switch.changed:
            self.switch.changed[asked](order)
        return order

    def _original(self, order_id: str) -> shapes.Record:
        block, place = divmod(int(self.book.position[order_id]), _BLOCK)
        return copy.deepcopy(self._block(block)[place])

    def _blocks(self, number: int) -> list[shapes.Record]:
        begin = number * _BLOCK
        return list(self.book.records(begin, min(begin + _BLOCK, len(self.book.orders))))

    def _changed(self) -> list[shapes.Record]:
        """Orders as a test edited them (faults.py), without those it hides."""
        return [self.order({"order_id": order}) for order in self.switch.changed if order not in self.switch.hidden]

    def closings(self, query: dict[str, str]) -> shapes.Record:
        first, last = _window(query, self.local)
        return shapes.closings(self.dataset, pd.Timestamp(first), pd.Timestamp(last))

    def sales(self, query: dict[str, str]) -> Response:
        """The report of a day, month or year: `CSV` lists orders paid in full, `Std` sums per rate and method, `PDF`
        is one line that says which day it is."""
        form = query.get("formatExport", "")
        if form not in ("CSV", "Std", "PDF"):
            raise _Refusal(f"formatExport {form!r}: this stand-in serves CSV, Std and PDF")
        first, last = self._period(query)
        if form == "PDF":
            return Response(f"%PDF-1.7\n% sales {first} - {last}\n%%EOF\n", media_type="application/pdf")
        orders = self.book.orders[self.book.orders["business_day"].between(pd.Timestamp(first), pd.Timestamp(last))]
        if form == "CSV":
            payments = self.dataset.facts.payments
            methods = self.dataset.facts.payment_methods
            on_account = methods.loc[methods["kind"] == "on_account", "method_id"]
            settled = payments[~payments["method_id"].isin(on_account)].groupby("order_id")["amount_cents"].sum()
            paid = orders[orders["order_id"].map(settled).fillna(0).astype("int64") == orders["total_cents"]]
            return _table(
                [
                    {
                        "date": at,
                        "number": row["number"],
                        "cashBox": row["register_id"],
                        "client": row["customer_id"],
                        "total": shapes.euros(row["total_cents"]),
                    }
                    for row, at in zip(shapes.rows(paid), shapes.moments(paid["validated_at"]), strict=True)
                ],
                "csv",
                head=("date", "number", "cashBox", "client", "total"),
            )
        sums = self._sums(first, last)
        number = self.writer.number
        headings = {name: self.writer.dialect.headings.get(name, name) for name in _HEADINGS}
        general = [(f"{first} - {last}", len(orders), number(shapes.euros(sums.pop(("total", "", "")))))]
        rates = sorted({int(of) for what, of, _ in sums if what == "rate"})
        vat = [
            (
                number(bp_to_rate(bp)),
                *(number(shapes.euros(sums[("rate", str(bp), part)])) for part in ("gross", "net", "vat")),
            )
            for bp in rates
        ]
        names = dict(
            zip(
                self.dataset.facts.payment_methods["method_id"],
                self.dataset.facts.payment_methods["name"],
                strict=True,
            )
        )
        paid_by = [
            (names[of], number(shapes.euros(cents))) for (what, of, _), cents in sorted(sums.items()) if what == "paid"
        ]
        tables = (
            (("period", headings["orders"], headings["total"]), general),
            ((headings["rate"], headings["total"], headings["net"], headings["VAT"]), vat),
            ((headings["method"], headings["amount"]), paid_by),
        )
        return HTMLResponse("".join(_html_rows(head, rows) for head, rows in tables))

    def _sums(self, first: date, last: date) -> Counter[tuple[str, str, str]]:
        """Cents of a period: total, per rate (gross, net, vat) and per method; edits of faults.py included."""
        sums: Counter[tuple[str, str, str]] = Counter({("total", "", ""): 0})
        for row in shapes.rows(self.dataset.sums_by_rate(first, last)):
            for part in ("gross", "net", "vat"):
                sums["rate", str(row["vat_rate_bp"]), part] += row[f"{part}_cents"]
            sums["total", "", ""] += row["gross_cents"]
        for row in shapes.rows(self.dataset.sums_by_method(first, last)):
            sums["paid", row["method_id"], ""] += row["amount_cents"]
        for order_id in self.switch.hidden | set(self.switch.changed):
            self._count(sums, self._original(order_id), first, last, -1)
        for order in self._changed():
            self._count(sums, order, first, last, 1)
        return sums

    def _count(
        self, sums: Counter[tuple[str, str, str]], order: shapes.Record, first: date, last: date, sign: int
    ) -> None:
        if first <= self._day(order["valueDate"]) <= last:
            for rate in order["VATs"]:
                net, vat = _cents(rate["net"]), _cents(rate["amount"])
                bp = str(rate_to_bp(rate["rate"]))
                for part, cents in (("gross", net + vat), ("net", net), ("vat", vat)):
                    sums["rate", bp, part] += sign * cents
                sums["total", "", ""] += sign * (net + vat)
        for payment in order["payments"]:
            if first <= self._day(payment["date"]) <= last:
                sums["paid", payment["paymentModeID"], ""] += sign * _cents(payment["amount"])

    def _day(self, moment: str) -> date:
        at = np.array([_naive(datetime.fromisoformat(moment))])
        found: date = business_days(at, self.dataset.zone, self.dataset.day_starts_at)[0].item()
        return found

    def _period(self, query: dict[str, str]) -> tuple[date, date]:
        given = {name: query[name] for name in ("d", "m", "y") if query.get(name)}
        try:
            numbers = {name: int(value) for name, value in given.items()}
            if not numbers:
                yesterday = self.today() - timedelta(days=1)
                return yesterday, yesterday
            if set(numbers) == {"d", "m", "y"}:
                day = date(numbers["y"], numbers["m"], numbers["d"])
                return day, day
            if set(numbers) == {"m", "y"}:
                first = date(numbers["y"], numbers["m"], 1)
                return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
            if set(numbers) == {"y"}:
                return date(numbers["y"], 1, 1), date(numbers["y"], 12, 31)
        except ValueError:
            pass
        raise _Refusal(f"Invalid date {given}")


_BLOCK = 100
_HEADINGS = ("orders", "total", "rate", "net", "VAT", "method", "amount")


def _header(order: shapes.Record) -> shapes.Record:
    """An order as a list without lines and payments has it."""
    paid = sum(_cents(payment["amount"]) for payment in order["payments"])
    kept = {name: value for name, value in order.items() if name not in ("items", "VATs", "payments")}
    return kept | {"paid": shapes.euros(paid)}


def _cents(text: str) -> int:
    """What shapes.euros wrote."""
    return int(text.replace(".", ""))


def _window(query: dict[str, str], local: ZoneInfo | None) -> tuple[datetime, datetime]:
    bounds = []
    for name in ("from_date_ISO8601", "to_date_ISO8601"):
        text = query.get(name, "")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise _Refusal(f"Invalid date {name}={text!r}") from None
        if local is not None:
            moment = moment.replace(tzinfo=local)
        bounds.append(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    return bounds[0], bounds[1]


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None), "us")


def _table(records: list[shapes.Record], form: str, head: Iterable[str] = ()) -> Response:
    """`head` stands alone where there is no record: a page without anything says nothing."""
    if form == "html":
        return HTMLResponse(_html_table(records))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\n")
    if head := records[0] if records else head:
        writer.writerow(head)
    writer.writerows(record.values() for record in records)
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8")


def _html_table(records: list[shapes.Record]) -> str:
    return _html_rows(records[0] if records else (), (record.values() for record in records))


def _html_rows(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    def cells(tag: str, values: Iterable[Any]) -> str:
        return "".join(f"<{tag}>{html.escape('' if value is None else str(value))}</{tag}>" for value in values)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', head)}</tr>{body}</table>"
