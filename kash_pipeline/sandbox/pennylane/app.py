"""The ASGI app: from an HTTP request to a handler and back, with limit, scopes, contract and faults on the way.

Only HTTP belongs here. What the operations do belongs to chart.py, entries.py, lettering.py, customers.py, files.py,
changes.py and oauth.py.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from kash_pipeline.sandbox.errors import SandboxError
from kash_pipeline.sandbox.pennylane import (
    changes,
    chart,
    checks,
    customers,
    entries,
    files,
    identity,
    lettering,
    oauth,
    store,
)
from kash_pipeline.sandbox.pennylane.admin import Admin
from kash_pipeline.sandbox.pennylane.answers import JsonResponse, Problem, bad_request, error
from kash_pipeline.sandbox.pennylane.call import Answer, Call, Upload
from kash_pipeline.sandbox.pennylane.clock import Clock, now
from kash_pipeline.sandbox.pennylane.faults import Fault, Faults
from kash_pipeline.sandbox.pennylane.limiter import LIMIT, Limiter, Mode, Verdict
from kash_pipeline.sandbox.pennylane.listing import empty
from kash_pipeline.sandbox.pennylane.requests import Requests, Seen
from kash_pipeline.sandbox.server import ABORT

Clients = Mapping[str, tuple[str, Sequence[str]]]
"""client_id to (client secret, registered redirect URIs)."""

# An operation of the contract without a handler is answered with 404, like any path PennyLane does not have.
HANDLERS: dict[str, Callable[[Call], Answer]] = {
    **identity.HANDLERS,
    **chart.HANDLERS,
    **entries.HANDLERS,
    **lettering.HANDLERS,
    **customers.HANDLERS,
    **files.HANDLERS,
    **changes.HANDLERS,
    "getWebhookSubscriptions": empty,
    "getBankAccounts": empty,
    "getTransactions": empty,
}

_Result = TypeVar("_Result")


class PennylaneSandbox(Starlette):
    """The imitated PennyLane. Made by `create_app`; `admin`, `faults` and `requests` are the handles for tests.

    engine        only its URL is used: the sandbox opens connections of its own (see store.open_engine)
    company       made when there is none of that name, with `fiscal_years` (default: 2009 closed, then open)
    limiter       how 25 requests in 5 s are counted; None counts nothing and sends no ratelimit header
    clients       OAuth applications to register: client_id to (secret, redirect URIs)
    clock         the present instant, for token lives, windows and timestamps
    faults        a switch made elsewhere; its own is `faults`
    access_life, refresh_life   lives of the tokens given out from now on

    `close()` gives the database connections back; a closed sandbox opens new ones when it is asked again. A served
    one is closed when the server stops.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        company: str = "Boulangerie du Port",
        limiter: Mode | None = "token",
        clients: Clients | None = None,
        clock: Clock = now,
        faults: Faults | None = None,
        fiscal_years: Sequence[store.FiscalYear] | None = None,
        access_life: timedelta = oauth.ACCESS_LIFE,
        refresh_life: timedelta = oauth.REFRESH_LIFE,
    ) -> None:
        self._engine = store.open_engine(engine)
        self._workers: ThreadPoolExecutor | None = None
        self._clock = clock
        self._limiter = None if limiter is None else Limiter(limiter)
        self._access_life = access_life
        self._refresh_life = refresh_life
        self.faults = faults or Faults()
        self.requests = Requests()
        # No pool for the admin handle: it is used now and then, from any thread, also after close().
        direct = store.open_engine(engine, poolclass=NullPool)
        self.admin = Admin(direct, company, clock)
        store.prepare(direct)
        today = clock()
        years = store.default_fiscal_years(today.date()) if fiscal_years is None else fiscal_years
        with direct.begin() as connection:
            store.ensure_company(connection, company, reg_no="123456782", fiscal_years=years, now=today)
            store.set_clients(connection, clients or {})
        super().__init__(
            routes=self._routes(),
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _no_such_page, Exception: _crashed},
        )
        self.router.redirect_slashes = False

    def close(self) -> None:
        if self._workers is not None:
            self._workers.shutdown()
            self._workers = None
        self._engine.dispose()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.close()

    # Around every request: request id, faults, remembering ---------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_"):
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        scope["state"] = scope.get("state", {})
        method, path = scope["method"], scope["path"]
        request_id = str(uuid.uuid4())
        remembered = False

        def remember(status: int) -> None:
            nonlocal remembered
            remembered = True
            query, grant_type = scope["query_string"].decode("latin-1"), scope["state"].get("grant_type", "")
            self.requests.add(Seen(method, path, query, status, grant_type))

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["api-version-expires-at"] = ""
                remember(message["status"])  # before it is sent: who has the answer may count on being counted
            await send(message)

        fault = self.faults.take(method, path)
        try:
            if fault is None:
                await super().__call__(scope, receive, identified)
            else:
                await self._damaged(fault, scope, receive, identified, lambda: remember(0))
        except DBAPIError as reason:
            # A lost connection (the fault switch, a restarted server) has been answered with 500 and is nobody's bug;
            # anything else goes on to the server's log.
            if not reason.connection_invalidated:
                raise
        finally:
            if not remembered:
                remember(0)

    async def _damaged(
        self, fault: Fault, scope: Scope, receive: Receive, send: Send, before_cut: Callable[[], None]
    ) -> None:
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "cut_before":
            before_cut()
            return await _cut(scope, receive)
        if fault.kind in ("refuse", "rate_limit"):
            answer = _too_many(max(1, int(fault.seconds))) if fault.kind == "rate_limit" else _plain(fault.status)
            return await answer(scope, receive, send)
        if fault.kind in ("cut_after", "error_after", "delay_answer"):
            held: list[Message] = []

            async def hold(message: Message) -> None:
                held.append(message)

            await super().__call__(scope, receive, hold)
            if fault.kind == "cut_after":
                before_cut()
                return await _cut(scope, receive)
            if fault.kind == "error_after":
                return await _plain(fault.status)(scope, receive, send)
            await asyncio.sleep(fault.seconds)
            for message in held:
                await send(message)
            return None
        if fault.kind == "expire_token":
            token = _bearer(Request(scope))
            if token:
                await asyncio.to_thread(self.admin.expire_access_token, token)
        scope["state"]["fault"] = fault.kind
        return await super().__call__(scope, receive, send)

    # The API ---------------------------------------------------------------------------------------------------------

    def _routes(self) -> list[Route]:
        operations = checks.operations()
        return [
            Route("/oauth/authorize", self._authorize, methods=["GET"]),
            Route("/oauth/authorize", self._decide, methods=["POST"]),
            Route("/oauth/token", self._token, methods=["POST"]),
            Route("/oauth/revoke", self._revoke, methods=["POST"]),
            Route("/.well-known/oauth-authorization-server", self._metadata, methods=["GET"]),
            *(
                Route(
                    operations[name].path, self._endpoint(operations[name], handler), methods=[operations[name].method]
                )
                for name, handler in HANDLERS.items()
            ),
            Route("/_files/{id:int}", self._file, methods=["GET"]),
            Route("/_sandbox/faults", self._faults, methods=["GET", "POST", "DELETE"]),
            Route("/_sandbox/entries", self._entries, methods=["GET"]),
            Route("/_sandbox/requests", self._seen, methods=["GET"]),
            Route("/_sandbox/tokens", self._new_token, methods=["POST"]),
        ]

    def _endpoint(self, operation: checks.Operation, handler: Callable[[Call], Answer]) -> Callable[..., Any]:
        async def endpoint(request: Request) -> Response:
            now = self._clock()
            bearer = _bearer(request)
            headers: dict[str, str] = {}
            if self._limiter is not None:
                verdict = self._limiter.take(bearer or "", now.timestamp())
                headers = _limit_headers(verdict)
                if not verdict.allowed:
                    return _too_many(verdict.retry_after, headers)
            multipart = operation.media_type == "multipart/form-data"
            try:
                upload = await _upload(request) if multipart else None
                raw = b"" if multipart else await request.body()
                answer = await self._in_thread(
                    lambda connection: self._perform(connection, operation, handler, request, bearer, upload, raw, now),
                    fault=_fault(request),
                )
            except Problem as problem:
                return JsonResponse(problem.body, problem.status, headers)
            if answer.body is None:
                return Response(status_code=answer.status, headers=headers)
            return JsonResponse(answer.body, answer.status, headers)

        return endpoint

    def _perform(
        self,
        connection: Connection,
        operation: checks.Operation,
        handler: Callable[[Call], Answer],
        request: Request,
        bearer: str | None,
        upload: Upload | None,
        raw: bytes,
        now: datetime,
    ) -> Answer:
        """Who asks, may they, does it fit the contract, then the handler: the order of the statuses 401, 403, 400."""
        identity = oauth.identify(connection, bearer, now)
        if operation.scopes and not set(operation.scopes) & set(identity.scopes):
            raise error(403, f"The access token lacks a scope for this: {' or '.join(operation.scopes)}")
        return handler(
            Call(
                operation=operation,
                connection=connection,
                identity=identity,
                parameters=operation.check_parameters(request.path_params, request.query_params),
                body=upload or operation.check_json(request.headers.get("content-type", ""), raw),
                base_url=str(request.base_url).rstrip("/"),
                now=now,
            )
        )

    async def _in_thread(self, work: Callable[[Connection], _Result], *, fault: str = "") -> _Result:
        """`work` in one transaction, in a worker thread. Raises Problem, also for values PostgreSQL cannot hold."""
        if self._workers is None:
            self._workers = ThreadPoolExecutor(store.WORKERS, thread_name_prefix="pennylane-sandbox")

        def run() -> _Result:
            try:
                with self._engine.begin() as connection:
                    try:
                        result = work(connection)
                    except Problem as problem:
                        if not problem.keep:
                            raise
                        kept = problem
                    else:
                        if fault == "drop_database":
                            connection.exec_driver_sql("select pg_terminate_backend(pg_backend_pid())")
                        return result
                raise kept
            except DataError as reason:
                # A NUL character, a number beyond its column: PennyLane's database is PostgreSQL too, its answer ours.
                raise bad_request(f"value out of range: {str(reason.orig)[:200]}", "ValidateError") from None

        return await asyncio.get_running_loop().run_in_executor(self._workers, run)

    # OAuth -----------------------------------------------------------------------------------------------------------

    async def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        return await self._page(lambda connection: oauth.authorize(connection, query))

    async def _decide(self, request: Request) -> Response:
        form = await _form(request)
        now = self._clock()
        return await self._page(lambda connection: oauth.decide(connection, form, now))

    async def _page(self, work: Callable[[Connection], oauth.Page]) -> Response:
        try:
            page = await self._in_thread(work)
        except Problem:
            page = oauth.refusal("This request holds characters that cannot be stored.")
        if page.location:
            return RedirectResponse(page.location, 302)
        return HTMLResponse(page.html, headers={"cache-control": "no-store", "x-frame-options": "DENY"})

    async def _token(self, request: Request) -> Response:
        form = await _form(request)
        now = self._clock()
        request.state.grant_type = form.get("grant_type", "")
        try:
            body = await self._in_thread(
                lambda connection: oauth.token(
                    connection, form, now, access_life=self._access_life, refresh_life=self._refresh_life
                ),
                fault=_fault(request),
            )
        except Problem as problem:
            return JsonResponse(_oauth_body(problem), problem.status, {"cache-control": "no-store"})
        return JsonResponse(body, headers={"cache-control": "no-store"})

    async def _revoke(self, request: Request) -> Response:
        form = await _form(request)
        now = self._clock()
        try:
            await self._in_thread(lambda connection: oauth.revoke(connection, form, now))
        except Problem as problem:
            return JsonResponse(_oauth_body(problem), 401)
        return Response(status_code=200)

    async def _metadata(self, request: Request) -> Response:
        """RFC 8414. That PennyLane serves it, with S256, is weakly documented (section 3.1)."""
        base = str(request.base_url).rstrip("/")
        return JsonResponse(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}/oauth/authorize",
                "token_endpoint": f"{base}/oauth/token",
                "revocation_endpoint": f"{base}/oauth/revoke",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "code_challenge_methods_supported": ["S256"],
                "scopes_supported": list(oauth.working_scopes()),
            }
        )

    # Outside the contract --------------------------------------------------------------------------------------------

    async def _file(self, request: Request) -> Response:
        identifier = request.path_params["id"]
        row = await self._in_thread(
            lambda connection: connection.exec_driver_sql(
                "select content_type, content from files where id = %(id)s", {"id": identifier}
            ).one_or_none()
        )
        if row is None:
            raise HTTPException(404)
        return Response(bytes(row.content), media_type=row.content_type)

    async def _faults(self, request: Request) -> Response:
        """GET the faults that wait and those that struck, POST one (the fields of Fault), DELETE all that wait."""
        if request.method == "POST":
            try:
                self.faults.add(Fault(**await request.json()))
            except (TypeError, ValueError, SandboxError) as reason:
                return JsonResponse({"error": str(reason)}, 400)
        if request.method == "DELETE":
            self.faults.clear()
        return JsonResponse({"waiting": self.faults.waiting(), "hits": self.faults.hits()})

    async def _entries(self, _: Request) -> Response:
        found = await asyncio.to_thread(self.admin.entries)
        return JsonResponse([asdict(entry) for entry in found])

    async def _seen(self, request: Request) -> Response:
        """Requests counted by method, path without ids, and status."""
        del request
        counts: dict[str, int] = {}
        for seen in self.requests.all():
            path = "/".join("*" if part.isdigit() else part for part in seen.path.split("/"))
            key = f"{seen.method} {path} {seen.status}"
            counts[key] = counts.get(key, 0) + 1
        return JsonResponse({"counts": counts, "refreshes": self.requests.refreshes()})

    async def _new_token(self, request: Request) -> Response:
        """A company API token with the scopes of the JSON body's `scopes` (all, if left out)."""
        raw = await request.body()
        try:
            scopes = orjson.loads(raw).get("scopes") if raw else None
        except (ValueError, AttributeError):
            return JsonResponse({"error": 'a JSON object such as {"scopes": ["journals:all"]} is wanted'}, 400)
        token = await asyncio.to_thread(self.admin.company_token, scopes)
        return JsonResponse({"token": token}, 201)


async def _cut(scope: Scope, receive: Receive) -> None:
    abort = scope.get("extensions", {}).get(ABORT)
    if abort is None:
        raise ConnectionAbortedError("the fault switch cut the connection")
    abort()
    # The server would answer 500 for an app that returns without an answer; once it knows of the cut, it does not.
    while (await receive())["type"] != "http.disconnect":
        pass


def _fault(request: Request) -> str:
    """The fault that strikes inside the transaction of this request, if any."""
    return str(request.scope["state"].get("fault", ""))


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def _limit_headers(verdict: Verdict) -> dict[str, str]:
    return {
        "ratelimit-limit": str(LIMIT),
        "ratelimit-remaining": str(verdict.remaining),
        "ratelimit-reset": str(verdict.reset),
    }


def _too_many(seconds: int, headers: Mapping[str, str] | None = None) -> Response:
    """A plain-text 429 with `retry-after` (section 4)."""
    if headers is None:
        reset = int(datetime.now(UTC).timestamp()) + seconds
        headers = _limit_headers(Verdict(False, 0, reset, seconds))
    unit = "second" if seconds == 1 else "seconds"
    return PlainTextResponse(
        f"Rate limit exceeded. Please retry in {seconds} {unit}.\n",
        429,
        {**headers, "retry-after": str(seconds)},
    )


def _plain(status: int) -> Response:
    """A refusal without a cause: the error shape below 500, a page of the web server above (body not documented)."""
    if status == 429:
        return _too_many(1)
    if status < 500:
        return JsonResponse({"error": "Refused by the fault switch", "status": status}, status)
    return HTMLResponse("<html><body><h1>We're sorry, but something went wrong.</h1></body></html>", status)


def _oauth_body(problem: Problem) -> dict[str, Any]:
    body = problem.body
    return body if "error" in body else {"error": "invalid_request", "error_description": body["message"]}


async def _form(request: Request) -> dict[str, str]:
    """The text fields of a form body; another kind of body counts as empty."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {}
    async with request.form() as form:
        return {name: value for name, value in form.multi_items() if isinstance(value, str)}


async def _upload(request: Request) -> Upload:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise bad_request("request body must be multipart/form-data", "NotAMultipartFile")
    try:
        async with request.form() as form:
            fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
            parts = {
                name: (value.filename or "file", value.content_type or "", await value.read())
                for name, value in form.multi_items()
                if isinstance(value, UploadFile)
            }
    except HTTPException as reason:
        raise bad_request(reason.detail, "NotAMultipartFile") from None
    return Upload(fields, parts)


async def _no_such_page(request: Request, reason: Exception) -> Response:
    """Paths and methods that do not exist, or not here: 404 in PennyLane's error shape."""
    status = reason.status_code if isinstance(reason, HTTPException) else 404
    if status in (404, 405):
        return JsonResponse({"error": f"No route matches {request.method} {request.url.path}", "status": 404}, 404)
    return JsonResponse({"error": str(reason), "status": status}, status)


async def _crashed(request: Request, reason: Exception) -> Response:
    """A 500 as a client of the real service would see it; the cause goes to the log, never to the client."""
    del request, reason
    return _plain(500)
