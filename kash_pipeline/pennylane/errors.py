"""Every way a call to PennyLane can fail, sorted once: what it means, whether it may have had its effect, who repeats.

Only the classification belongs here. Waiting and repeating is client.py's business, deciding what an unclear posting
means is publisher.py's.

Sources: PennyLane's guide "Error handling and status codes" (read 30 Sep 2026) and its OpenAPI file of Sep 2026.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import httpx

from kash_pipeline.errors import KashPipelineError

_LONGEST_MESSAGE = 300


class PennylaneError(KashPipelineError):
    """Something went wrong between us and PennyLane.

    status      HTTP status, None when there was no answer
    request_id  PennyLane's `x-request-id`, for their support
    doubtful    the request may have had its effect: a write must be looked for before it is sent again
    retry       the same request may succeed in a moment; repeating is safe only when the request is a read, or when
                it is not doubtful
    """

    doubtful = False
    retry = False

    def __init__(
        self, message: str, *, next_step: str = "", status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.status = status
        self.request_id = request_id

    def hide(self, values: Iterable[object]) -> None:
        """Take these values (text, or text inside lists and objects) out of the message: they are personal."""
        for text in sorted({text for value in values for text in _texts(value)}, key=len, reverse=True):
            # Letters of a country's code stand in any word.
            if len(text) > 2:
                self.message = re.sub(re.escape(text), "…", self.message, flags=re.IGNORECASE)
        self.args = (self.message,)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


class NotSent(PennylaneError):
    """No connection could be made: the request never left."""

    retry = True


class NoToken(NotSent):
    """No access token could be had, though the connection has not ended: the request never left.

    Whatever the token endpoint said is nothing that was said of the request.
    """


class AnswerLost(PennylaneError):
    """The request left and no answer came back (timeout, reset): it may have been executed."""

    doubtful = True
    retry = True


class ServerFailed(PennylaneError):
    """408, 5xx: PennyLane failed, before or after the effect."""

    doubtful = True
    retry = True


class RateLimited(PennylaneError):
    """429. Presumably never executed, but nobody says so: a write counts as doubtful.

    `retry_after` is in seconds, from the header of that name.
    """

    doubtful = True
    retry = True
    retry_after: float | None = None


class Unauthorized(PennylaneError):
    """401: the access token is missing, expired, revoked or rotated away. Nothing was executed."""


class ConnectAgain(PennylaneError):
    """The connection to PennyLane is gone or was never made; only a person can consent again."""


class StateMismatch(ConnectAgain):
    """A callback that does not belong to the consent under way: forged, replayed or of an older attempt."""


class ScopeMissing(PennylaneError):
    """403: the consent does not cover this call."""


class BadRequest(PennylaneError):
    """400: the request does not fit PennyLane's schema, or its cursor is too old."""


class NotFound(PennylaneError):
    """404: no such record, or one of another company (a mapping copied between companies fails this way)."""


class Conflict(PennylaneError):
    """409: a unique value is taken, such as a customer's external reference."""


class RuleBroken(PennylaneError):
    """422: an accounting rule forbids it (unbalanced, closed period, wrong account). Never repeated."""

    @property
    def closed_period(self) -> bool:
        """Whether the text speaks of a date, a period, a closing or a freeze.

        The status of a posting into a closed or frozen period is not documented, and an accountant's freeze date is
        invisible to the API; the words are all there is.
        """
        return bool(_CLOSED.search(self.message))


_CLOSED = re.compile(
    r"clos(ed|ing|ure)|cl[oô]tur|fr[eo]+z|fig[ée]|lock|verrouill|fiscal|exercice|p[ée]riod|\bdate\b", re.IGNORECASE
)


class Refused(PennylaneError):
    """Any other 3xx or 4xx: not something waiting will cure."""


class AnswerChanged(PennylaneError):
    """PennyLane answered in a form we cannot rely on. A write may have had its effect."""

    doubtful = True


class ReferenceMissing(PennylaneError):
    """Journals, accounts or customers that entries need are not usable in this company.

    `each` says why, by what entries call them: "journal K1", "707200", "customer 7".
    """

    def __init__(self, message: str, *, next_step: str, each: Mapping[str, str]) -> None:
        super().__init__(message, next_step=next_step)
        self.each = dict(each)


REFUSALS = (BadRequest, Conflict, NotFound, Refused, RuleBroken)
"""Answers about one record: the others go on."""


class EvidenceMissing(PennylaneError):
    """The Z evidence of an entry could not be uploaded: the entry waits for it."""


class WrongCompany(PennylaneError):
    """The connection is to another company than the one the entries of this shop are in."""


@dataclass(frozen=True)
class Kind:
    """What a status means: the error to raise and the step to propose."""

    error: type[PennylaneError]
    next_step: str


_BY_STATUS: dict[int, Kind] = {
    400: Kind(BadRequest, "report this with the request id: the request does not fit PennyLane's interface"),
    401: Kind(Unauthorized, "connect again: kash-pipeline pennylane login"),
    403: Kind(ScopeMissing, "connect again and grant the scope named above: kash-pipeline pennylane login"),
    404: Kind(NotFound, "check that the connection belongs to this company: kash-pipeline pennylane status"),
    408: Kind(ServerFailed, "run again; what was sent is looked for before it is sent again"),
    409: Kind(Conflict, "look at the record of this name in PennyLane"),
    422: Kind(RuleBroken, "correct what PennyLane names, or show it to the accountant"),
    429: Kind(RateLimited, "wait a few seconds; check that nothing else uses the same connection"),
}


def kind_of(status: int) -> Kind | None:
    """What an HTTP status means; None for success."""
    if 200 <= status < 300:
        return None
    if status >= 500:
        return Kind(ServerFailed, "run again later; what was sent is looked for before it is sent again")
    return _BY_STATUS.get(status, Kind(Refused, "report this with the request id"))


def message_of(response: httpx.Response) -> str:
    """PennyLane's own words: `message` or `error` of a JSON body (both are in use), else the text, cut short.

    A 429 has a plain-text body, so a body is parsed only when it says it is JSON.
    """
    text = response.text.strip()
    if "json" in response.headers.get("content-type", ""):
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if isinstance(body, dict):
            for name in ("message", "error_description", "error"):
                if isinstance(body.get(name), str) and body[name].strip():
                    return str(body[name]).strip()[:_LONGEST_MESSAGE]
    elif "html" in response.headers.get("content-type", ""):
        return "an HTML page instead of an answer"
    return text[:_LONGEST_MESSAGE]


def error_of(response: httpx.Response, doing: str) -> PennylaneError | None:
    """The error of an answer, None when it is a success. `doing` says what was tried, in a user's words."""
    kind = kind_of(response.status_code)
    if kind is None:
        return None
    request_id = response.headers.get("x-request-id")
    said = message_of(response)
    message = f"PennyLane: {doing}: HTTP {response.status_code}"
    if said:
        message += f": {said}"
    if request_id:
        message += f" (request {request_id})"
    error = kind.error(message, next_step=kind.next_step, status=response.status_code, request_id=request_id)
    if isinstance(error, RateLimited):
        error.retry_after = seconds(response.headers.get("retry-after"))
    return error


def error_of_transport(error: httpx.RequestError, doing: str) -> PennylaneError:
    """The error of a call without an answer. Only a connection that was never made is sure not to have arrived."""
    what = type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol):
        return NotSent(
            f"PennyLane: {doing}: no connection ({what})",
            next_step="check the address ([pennylane] url) and the network, then run again",
        )
    return AnswerLost(
        f"PennyLane: {doing}: the answer was lost ({what})",
        next_step="run again; what was sent is looked for before it is sent again",
    )


def seconds(header: str | None) -> float | None:
    """A `retry-after` header in seconds; None when absent or not a number."""
    try:
        value = float(header or "")
    except ValueError:
        return None
    return value if 0 <= value < 86_400 else None
