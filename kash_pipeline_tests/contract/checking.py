"""Hold every request and every answer against the contract, with openapi-core, while a test runs.

Only comparing belongs here. Serving a sandbox behind this check belongs to sandboxes.py; what a request may look like
belongs to the contract file alone.
"""

import copy
import email
import email.policy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.paths.exceptions import PathError
from openapi_schema_validator import OAS31Validator
from starlette.types import ASGIApp, Receive, Scope, Send
from werkzeug.datastructures import Headers, ImmutableMultiDict

from kash_pipeline import contracts
from kash_pipeline.sandbox.recording import Exchange, Recording
from kash_pipeline_tests.leaks import WATCH

# Served by the sandbox, described by no contract: its own handles, RFC 8414, and pressing a button of the consent page.
OUTSIDE = (("", "/_"), ("GET", "/.well-known/"), ("POST", "/oauth/authorize"))
# Kash.click scripts that we read and no documentation describes (kash-api.md), and the sandbox's own.
UNDOCUMENTED = ("getOrder.php", "getVATs.php", "sandboxGetClosings.php")


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
    _read_patterns_as_ecma(document)
    deserializers = {"multipart/form-data": _multipart} | dict.fromkeys(("text/csv", "application/xml"), _as_text)
    return OpenAPI.from_dict(document, config=Config(extra_media_type_deserializers=deserializers))


# What ECMA-262 means and Python's re does not: its \s takes U+001C to U+001F and U+0085 too but not U+FEFF, its \d
# any digit of Unicode, and its $ also stands before a last line feed.
_ECMA_SPACE = r"\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_ECMA = {r"\s": f"[{_ECMA_SPACE}]", r"\S": f"[^{_ECMA_SPACE}]", r"\d": "[0-9]", r"\D": "[^0-9]", "$": r"\Z"}


def _read_patterns_as_ecma(part: object) -> None:
    """Rewrite every `pattern` in `part`, so that Python's re reads it as JSON Schema means it, in ECMA-262.

    For patterns without classes that hold one of these, which the contracts do not have.
    """
    if isinstance(part, list):
        for one in part:
            _read_patterns_as_ecma(one)
    elif isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            part["pattern"] = re.sub(r"\\.|\$", lambda found: _ECMA.get(found[0], found[0]), part["pattern"])
        for one in part.values():
            _read_patterns_as_ecma(one)


def _as_text(body: bytes, **parameters: str) -> str:
    return body.decode(parameters.get("charset", "utf-8"))


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
    if name == "pennylane":
        return _filter_violation(path, query) or _unknown_parameters(method, path, query)
    return None


@cache
def _parameters(method: str, path: str) -> frozenset[str]:
    """The names of the query parameters that the contract has for `method path`."""
    document = contracts.load("pennylane")
    for template, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path) and method.lower() in operations:
            declared = [*operations.get("parameters", ()), *operations[method.lower()].get("parameters", ())]
            resolved = [
                document["components"]["parameters"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
                for one in declared
            ]
            return frozenset(one["name"] for one in resolved if one["in"] == "query")
    return frozenset()


def _unknown_parameters(method: str, path: str, query: str) -> str | None:
    """openapi-core lets unknown ones pass; `page`, of tutorials older than 2026, would be one and do nothing."""
    pkce = {"code_challenge", "code_challenge_method"} if path == "/oauth/authorize" else set()
    unknown = dict(parse_qsl(query, keep_blank_values=True)).keys() - _parameters(method, path) - pkce
    return f"unknown query parameters: {sorted(unknown)}" if unknown else None


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


class Contract:
    """Judges exchanges, of a sandbox here or of one in another process, and remembers what broke the contract.

    A request is judged although the sandbox checks it too, by another library: each finds what the other misses.
    `excused` says of an answer that a fault switch made it, so that only the request is judged.
    """

    def __init__(self, name: contracts.Name = "pennylane", excused: Callable[[], bool] = lambda: False) -> None:
        self.name = name
        self.checked = 0
        self.violations: list[str] = []
        self._excused = excused
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

    def judge(self, exchange: Exchange) -> None:
        WATCH.learn(exchange)
        if any(exchange.method.startswith(method) and exchange.path.startswith(start) for method, start in OUTSIDE):
            return
        try:
            self._judge(exchange)
        except Exception as error:  # noqa: BLE001 - a check that fails must fail the test, not this connection
            self.violations.append(f"{exchange.method} {exchange.path} could not be checked: {error!r}")

    def _judge(self, exchange: Exchange) -> None:
        method, path, status, sent = exchange.method, exchange.path, exchange.status, exchange.sent
        self.checked += 1
        folder, _, script = path.rpartition("/")
        if self.name == "kash" and (script in UNDOCUMENTED or folder != "/workers"):
            return  # elsewhere than in /workers is an address typed wrong, which tests try
        expected = self._bad_requests_expected
        # A body is read only once the caller is known and within the limit, and not when a fault cut the connection
        # (status 0) or answered in its place: without it nothing can be said of it.
        whole = bool(sent) or (200 <= status < 500 and status not in (401, 403, 429))
        wrong = request_violation(self.name, method, path, exchange.query, exchange.headers, sent) if whole else None
        refused = self.name == "kash" and _refuses(exchange.body)
        if wrong and not expected:
            # Kash.click's key travels in the query.
            query = "" if self.name == "kash" else f"?{exchange.query[:200]}"
            self.violations.append(f"request {method} {path}{query}: {wrong}")
        # A query parameter that nobody declared is the caller's fault alone: a server ignores it.
        ignored = wrong is not None and wrong.startswith("unknown query parameters")
        taken = 0 < status < 400 and not refused and not ignored
        if wrong and expected and taken and not path.startswith("/oauth/authorize"):
            self.violations.append(f"accepted with {status}, though against the contract: {method} {path}: {wrong}")
        if not exchange.complete or refused or self._excused() or (status == 404 and _unknown(self.name, method, path)):
            return
        wrong = response_violation(self.name, method, path, status, exchange.answer_headers, exchange.body)
        if wrong:
            self.violations.append(f"answer {status} of {method} {path}: {wrong}")


class ContractChecked(Contract):
    """ASGI wrapper: passes everything through and judges it while it passes."""

    def __init__(
        self, app: ASGIApp, name: contracts.Name = "pennylane", excused: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(name, excused)
        self._recording = Recording(app, self.judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._recording(scope, receive, send)


def judge_traffic(folder: Path) -> int:
    """Hold what sandboxes in other processes kept (sandbox/recording.py) against the contract; how many exchanges.

    Raises AssertionError with what broke it. A last line that a kill cut short is left out.
    """
    checked = 0
    for file in sorted(folder.glob("*.jsonl")):
        contract = Contract("kash" if file.stem == "kash" else "pennylane")
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                contract.judge(Exchange.parse(line))
        contract.assert_kept()
        checked += contract.checked
    return checked


def _refuses(body: bytes) -> bool:
    """Whether Kash.click says no: with status 200, in JSON whatever was asked for, documented for no read."""
    try:
        told = json.loads(body)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("success") is False


def _unknown(name: contracts.Name, method: str, path: str) -> bool:
    try:
        _api(name).validate_request(_request(name, method, path, "", {}, b""))
    except PathError:
        return True
    except OpenAPIError:
        return False
    return False
