"""The Kash.click stand-in: the documented read calls over a data set, as an ASGI app.

Parameters, refusals and windows belong here; the form of what comes back is in shapes.py and is our guess. Parameters
follow the publisher's documentation (contracts/kash-openapi.yaml). Where it is silent: a refusal is HTTP 200 with
`{"success": false, "result": text}`, as its documented calls do; a script that does not exist is a 404 HTML page, as a
PHP host gives; window bounds are both included and read with their offset. There are no writes.
"""

import copy
import csv
import hmac
import html
import io
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pandas as pd
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.kash import shapes
from kash_pipeline.sandbox.kash.faults import Faults
from kash_pipeline.settings import bp_to_rate

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
) -> Starlette:
    """The stand-in serving `dataset` under `/workers/<script>.php` to whoever sends this shop id and key.

    `today` decides what "yesterday" is for getSales.php without a date; default: the day after the last day of the set.
    """
    service = _Service(dataset, shop_id, key, today or (lambda: dataset.last + timedelta(days=1)))
    switch = faults or Faults()

    async def call(request: Request) -> Response:
        script = request.path_params["script"]
        answer = await run_in_threadpool(service.answer, script, dict(request.query_params), switch)
        return await switch.apply(script, answer)

    return Starlette(routes=[Route("/workers/{script}", call, methods=["GET"])])


class _Service:
    def __init__(self, dataset: Dataset, shop_id: str, key: str, today: Callable[[], date]) -> None:
        self.dataset, self.shop_id, self.key, self.today = dataset, shop_id, key, today
        self.book = shapes.OrderBook(dataset)
        self.lists = shapes.reference(dataset)

    def answer(self, script: str, query: dict[str, str], switch: Faults) -> Response:
        scripts: dict[str, Callable[[dict[str, str]], Any]] = {
            "getOrders.php": self.orders,
            "getOrder.php": self.order,
            CLOSINGS_SCRIPT: self.closings,
            "getSales.php": self.sales,
        }
        if script not in scripts and script not in self.lists:
            return HTMLResponse(
                "<!DOCTYPE HTML><html><head><title>404 Not Found</title></head><body><h1>Not Found</h1>"
                "<p>The requested URL was not found on this server.</p></body></html>",
                status_code=404,
            )
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
        if switch.reshape is not None:
            body = switch.reshape(script, copy.deepcopy(body))
        return Response(orjson.dumps(body), media_type="application/json")

    def _check_key(self, query: dict[str, str]) -> None:
        shop = query.get("idboutique", query.get("shopID", ""))
        if not hmac.compare_digest(shop.encode(), self.shop_id.encode()):
            raise _Refusal("Unknown shop")
        if not hmac.compare_digest(query.get("key", "").encode(), self.key.encode()):
            raise _Refusal("Wrong API key")

    def orders(self, query: dict[str, str]) -> list[shapes.Record]:
        # PHP takes the word "false" for true; here it means false, as the publisher's own client expects.
        if query.get("validatedOrders", "true").lower() in ("false", "0", ""):
            return []  # every order of a data set is validated
        first, last = _window(query)
        begin, end = self.book.window(_naive(first), _naive(last))
        wanted = query.get("filterDeliveryMethod")
        if wanted is not None and wanted != str(shapes.COUNTER_SALE):
            return []
        return list(self.book.records(begin, end))

    def order(self, query: dict[str, str]) -> shapes.Record:
        position = self.book.position.get(query.get("order_id", ""))
        if position is None:
            raise _Refusal("Order not found")
        return next(self.book.records(int(position), int(position) + 1))

    def closings(self, query: dict[str, str]) -> shapes.Record:
        first, last = _window(query)
        return shapes.closings(self.dataset, pd.Timestamp(first), pd.Timestamp(last))

    def sales(self, query: dict[str, str]) -> Response:
        """The report of a day, month or year: `CSV` lists orders paid in full, `Std` sums per rate and method."""
        form = query.get("formatExport", "")
        if form not in ("CSV", "Std"):
            raise _Refusal(f"formatExport {form!r}: this stand-in serves CSV and Std")
        first, last = self._period(query)
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
            )
        rates = self.dataset.sums_by_rate(first, last)
        methods = self.dataset.sums_by_method(first, last)
        general = [
            {"period": f"{first} - {last}", "orders": len(orders), "total": shapes.euros(orders["total_cents"].sum())}
        ]
        vat = [
            {
                "rate": bp_to_rate(row["vat_rate_bp"]),
                "total": shapes.euros(row["gross_cents"]),
                "net": shapes.euros(row["net_cents"]),
                "VAT": shapes.euros(row["vat_cents"]),
            }
            for row in shapes.rows(rates)
        ]
        paid_by = [{"method": row["name"], "amount": shapes.euros(row["amount_cents"])} for row in shapes.rows(methods)]
        return HTMLResponse("".join(_html_table(part) for part in (general, vat, paid_by)))

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


def _window(query: dict[str, str]) -> tuple[datetime, datetime]:
    bounds = []
    for name in ("from_date_ISO8601", "to_date_ISO8601"):
        text = query.get(name, "")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise _Refusal(f"Invalid date {name}={text!r}") from None
        bounds.append(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    return bounds[0], bounds[1]


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None), "us")


def _table(records: list[shapes.Record], form: str) -> Response:
    if form == "html":
        return HTMLResponse(_html_table(records))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\n")
    if records:
        writer.writerow(records[0])
        writer.writerows(record.values() for record in records)
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8")


def _html_table(records: list[shapes.Record]) -> str:
    def cells(tag: str, values: Iterable[Any]) -> str:
        return "".join(f"<{tag}>{html.escape('' if value is None else str(value))}</{tag}>" for value in values)

    body = "".join(f"<tr>{cells('td', record.values())}</tr>" for record in records)
    return f"<table><tr>{cells('th', records[0] if records else ())}</tr>{body}</table>"
