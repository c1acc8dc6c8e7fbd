"""Hold every request and every answer against the contract, with openapi-core, while a test runs.

Only comparing belongs here. Serving a sandbox behind this check belongs to sandboxes.py; what a request may look like
belongs to the contract file alone.
"""

import copy
import email
import email.policy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.paths.exceptions import PathError
from openapi_schema_validator import OAS31Validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from werkzeug.datastructures import Headers, ImmutableMultiDict

from kash_pipeline import contracts

# Served by the sandbox, described by no contract: its own handles, RFC 8414, and pressing a button of the consent page.
OUTSIDE = (("", "/_"), ("GET", "/.well-known/"), ("POST", "/oauth/authorize"))


@dataclass(frozen=True)
class _Request:
    host_url: str
    path: str
    method: str
    parameters: RequestParameters
    content_type: str
    body: bytes | None


@dataclass(frozen=True)
class _Response:
    status_code: int
    content_type: str
    headers: Headers
    data: bytes


@cache
def _api(name: contracts.Name) -> OpenAPI:
    """The contract, loaded once a process: about half a second."""
    document = copy.deepcopy(contracts.load(name))
    schemes = document.get("components", {}).get("securitySchemes", {})
    for scheme in schemes.values():
        if scheme["type"] == "oauth2":
            # openapi-core knows no oauth2; on the wire it is a bearer token, and that one has to be there.
            scheme.clear()
            scheme |= {"type": "http", "scheme": "bearer"}
    return OpenAPI.from_dict(
        document, config=Config(extra_media_type_deserializers={"multipart/form-data": _multipart})
    )


def _multipart(body: bytes, **parameters: str) -> dict[str, str]:
    """Parts as text, file contents byte for byte as Latin-1: for openapi-core bytes are no string.

    A part the contract does not know is a ValueError, since openapi-core would not look at it.
    """
    head = f'Content-Type: multipart/form-data; boundary="{parameters["boundary"]}"\r\n\r\n'.encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts = {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True).decode("latin-1")
        for part in message.iter_parts()
    }
    known = contracts.load("pennylane")["components"]["schemas"]["FileUpload"]["properties"]
    if parts.keys() - known.keys():
        raise ValueError(f"unknown parts: {sorted(parts.keys() - known.keys())}")
    return parts


@cache
def _filter_validator(path: str) -> OAS31Validator | None:
    """The validator of the decoded `filter` of GET `path`: the contract puts its schema into contentSchema."""
    document = contracts.load("pennylane")
    for parameter in document["paths"].get(path, {}).get("get", {}).get("parameters", ()):
        if parameter.get("name") == "filter":
            return OAS31Validator({**parameter["schema"]["contentSchema"], "components": document["components"]})
    return None


def request_violation(
    name: contracts.Name, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
) -> str | None:
    """What is wrong with the request, or None."""
    request = _request(name, method, path, query, headers, body)
    try:
        _api(name).validate_request(request)
    except OpenAPIError as error:
        return _explained(error)
    return _filter_violation(path, query) if name == "pennylane" else None


def _filter_violation(path: str, query: str) -> str | None:
    # Of the listed paths only one has a parameter in it.
    parts = ["{ledger_entry_id}" if part.isdigit() else part for part in path.split("/")]
    validator = _filter_validator("/".join(parts))
    text = dict(parse_qsl(query)).get("filter")
    if validator is None or text is None:
        return None
    try:
        decoded = json.loads(text)
    except ValueError:
        return f"filter is no JSON: {text[:200]}"
    problem = next(iter(validator.iter_errors(decoded)), None)
    return None if problem is None else f"filter: {problem.message}"


def response_violation(
    name: contracts.Name,
    method: str,
    path: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
) -> str | None:
    """What is wrong with an answer to `method path`, or None."""
    given = Headers(dict(headers))
    response = _Response(status, given.get("content-type", ""), given, body)
    try:
        _api(name).validate_response(_request(name, method, path, "", {}, b""), response)
    except OpenAPIError as error:
        return _explained(error)
    return None


def _request(
    name: contracts.Name, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
) -> _Request:
    given = Headers(dict(headers))
    content_type = given.get("content-type", "")
    if content_type.startswith("application/x-www-form-urlencoded"):
        # PKCE (RFC 7636) is outside the contract and allowed all the same: the guide does not mention it.
        fields = body.decode("latin-1").split("&")
        body = "&".join(field for field in fields if not field.startswith("code_verifier=")).encode("latin-1")
    return _Request(
        host_url=contracts.load(name)["servers"][0]["url"],
        path=path,
        method=method.lower(),
        parameters=RequestParameters(
            query=ImmutableMultiDict(parse_qsl(query, keep_blank_values=True)),
            header=given,
            cookie=ImmutableMultiDict(),
        ),
        content_type=content_type,
        body=body or None,
    )


def _explained(error: BaseException) -> str:
    causes = []
    current: BaseException | None = error
    while current is not None:
        try:
            causes.append(str(current)[:400] or type(current).__name__)
        except UnicodeDecodeError:  # openapi-core puts the body into the message, and a file is no text
            causes.append(type(current).__name__)
        details = getattr(current, "schema_errors", ())
        causes.extend(detail.message[:400] for detail in details)
        current = current.__cause__
    return " <- ".join(dict.fromkeys(causes))


class ContractChecked:
    """ASGI wrapper: passes everything through and remembers what broke the contract.

    A request is checked although the sandbox checks it too, by another library: each finds what the other misses.
    """

    def __init__(self, app: ASGIApp, name: contracts.Name = "pennylane") -> None:
        self.app = app
        self.name = name
        self.checked = 0
        self.violations: list[str] = []
        self._bad_requests_expected = False

    @contextmanager
    def bad_requests_expected(self) -> Iterator[None]:
        """For tests that send what the contract forbids: then an answer below 400 is the violation."""
        self._bad_requests_expected = True
        try:
            yield
        finally:
            self._bad_requests_expected = False

    def assert_kept(self) -> None:
        """Fail with every violation seen since the last call."""
        seen, self.violations = self.violations, []
        assert not seen, "the contract was broken:\n" + "\n".join(seen[:20])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or any(
            scope["method"].startswith(method) and scope["path"].startswith(start) for method, start in OUTSIDE
        ):
            await self.app(scope, receive, send)
            return
        # The whole body is taken first and handed on afterwards: a refused request is checked too, though the app
        # never reads it.
        arrived = [await receive()]
        while arrived[-1].get("more_body", False):
            arrived.append(await receive())
        sent = b"".join(message.get("body", b"") for message in arrived)
        arrived.reverse()
        answer: dict[str, Any] = {"body": bytearray()}
        expected = self._bad_requests_expected

        async def hear() -> Message:
            return arrived.pop() if arrived else await receive()

        def check() -> None:
            answer["checked"] = True
            try:
                self._check(scope, sent, answer, bad_request_expected=expected)
            except Exception as error:  # noqa: BLE001 - a check that fails must fail the test, not this connection
                self.violations.append(f"{scope['method']} {scope['path']} could not be checked: {error!r}")

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"], answer["headers"] = message["status"], message.get("headers", ())
            elif message["type"] == "http.response.body":
                answer["body"].extend(message.get("body", b""))
                if not message.get("more_body", False):
                    answer["complete"] = True
                    check()  # before the last byte leaves: whoever has the answer can look for violations
            await send(message)

        try:
            await self.app(scope, hear, say)
        finally:
            if "checked" not in answer:
                check()

    def _check(self, scope: Scope, sent: bytes, answer: dict[str, Any], *, bad_request_expected: bool) -> None:
        method, path = scope["method"], scope["path"]
        query = scope["query_string"].decode("latin-1")
        self.checked += 1
        status = answer.get("status", 0)
        # A body is read only once the caller is known and within the limit, and not when a fault cut the connection
        # (status 0) or answered in its place: without it nothing can be said of it.
        whole = bool(sent) or (200 <= status < 500 and status not in (401, 403, 429))
        wrong = request_violation(self.name, method, path, query, _text(scope["headers"]), sent) if whole else None
        if wrong and not bad_request_expected:
            self.violations.append(f"request {method} {path}?{query[:200]}: {wrong}")
        if wrong and bad_request_expected and 0 < status < 400 and not path.startswith("/oauth/authorize"):
            self.violations.append(f"accepted with {status}, though against the contract: {method} {path}: {wrong}")
        if answer.get("complete") and not (status == 404 and _unknown(self.name, method, path)):
            wrong = response_violation(self.name, method, path, status, _text(answer["headers"]), bytes(answer["body"]))
            if wrong:
                self.violations.append(f"answer {status} of {method} {path}: {wrong}")


def _text(headers: Any) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _unknown(name: contracts.Name, method: str, path: str) -> bool:
    try:
        _api(name).validate_request(_request(name, method, path, "", {}, b""))
    except PathError:
        return True
    except OpenAPIError:
        return False
    return False
