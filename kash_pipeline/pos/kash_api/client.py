"""Asking Kash.click: one GET per call, only calls that read, retried within bounds, the key out of everything kept.

What is asked for and what the answers mean is source.py and mapping.py. A call is refused unless its name is on READS:
`webapp.php` records an order even on GET, as the publisher documents. The key travels in the query, as documented too;
here it is added below httpx, so that no log line, exception or request object above that point has it.
Failures: no answer, 408, 425, 429, 5xx, an empty or cut body may pass and are tried again; everything else is final.
"""

import hashlib
import io
import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from html import escape
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import quote, quote_plus

import httpx

from kash_pipeline.pos.errors import PosError, SourceChanged, SourceRefused, SourceUnreachable
from kash_pipeline.pos.kash_api import decoding
from kash_pipeline.pos.port import RawDocument

READS = frozenset(
    {
        "getOrders.php",
        "getOrder.php",
        "getPaymentModes.php",
        "getCashbox.php",
        "getVATs.php",
        "getDepartments.php",
        "getDepartmentGroups.php",
        "getClients.php",
        "getPlus.php",
        "getUsers.php",
        "getSales.php",
    }
)
"""Calls that only read: documented, or in the publisher's own client (getOrder.php, getVATs.php)."""

_OTHER_READ = re.compile(r"[A-Za-z]*[gG]et[A-Z][A-Za-z]*\.php")
"""A script of the shop file (`closings_script`) must at least be named like a read."""
_NO_READS = frozenset(
    {"getAuthToken.php", "getAuthTokenWithOTP.php", "getAuthTokenWithPassword.php", "getOTPForAccount.php"}
)

ATTEMPTS = 4
LONGEST_WAIT = 30.0
LONGEST = 600.0
"""Seconds for one answer: a server that goes on sending a little would never meet a timeout, which counts silence."""
LARGEST = 512 * 2**20
"""Bytes of one answer: more is a runaway page, or a window to be cut smaller."""
MASK = "***"

_log = logging.getLogger(__name__)


class _AddKey(httpx.BaseTransport):
    """Puts the key into the query of what really goes out."""

    def __init__(self, inner: httpx.BaseTransport, key: str) -> None:
        self._inner, self._key = inner, key

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_merge_params({"key": self._key})
        return self._inner.handle_request(
            httpx.Request(request.method, url, headers=request.headers, extensions=request.extensions)
        )

    def close(self) -> None:
        self._inner.close()


class KashClient:
    """The read calls of one shop.

    base_url      up to and including `/workers`
    keep          receives every answer, failed ones included, with the key masked
    key_name      where the key comes from, for messages (an environment variable)
    exact         numbers with decimals are read as the text they are written as (dialects.py, `numbers`)
    largest       bytes of an answer that are read before it is refused
    timeout       seconds of silence after which an answer is given up; `longest` those of an answer as a whole

    It may be used by several threads at once; `keep` is called by one of them at a time.
    sleep, jitter passed in so that a test waits for nothing; jitter() lies in 0..1
    """

    def __init__(
        self,
        base_url: str,
        shop_id: str,
        key: str,
        *,
        keep: Callable[[RawDocument], None] | None = None,
        more_reads: frozenset[str] = frozenset(),
        key_name: str = "the API key",
        exact: bool = False,
        largest: int = LARGEST,
        timeout: float = 60.0,
        longest: float = LONGEST,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        for script in sorted(more_reads - READS):
            if not _OTHER_READ.fullmatch(script) or script in _NO_READS:
                raise SourceRefused(
                    f"{script!r} is not called: it is not named like a call that reads",
                    next_step="closings_script in [source] names a script such as sandboxGetClosings.php",
                )
        self.base_url = base_url.rstrip("/")
        self._shop_id, self._keep, self._key_name = shop_id, keep, key_name
        self._reads = READS | more_reads
        self._attempts, self._sleep, self._jitter, self._now = attempts, sleep, jitter, now
        self._timeout, self._longest, self._exact, self._largest = timeout, longest, exact, largest
        self._keeping = threading.Lock()
        in_json = json.dumps(key)[1:-1]
        # As a server may echo it: plain, in a URL, in JSON (PHP writes \/ for /), in a page.
        forms = {
            key,
            quote(key),
            quote(key, safe=""),
            quote_plus(key),
            in_json,
            in_json.replace("/", "\\/"),
            escape(key),
        }
        self._secrets = [form.encode() for form in sorted(forms - {""}, key=len, reverse=True)]
        # httpx and many servers drop an idle connection after 5 s: dropping it first avoids the race.
        inner = transport or httpx.HTTPTransport(limits=httpx.Limits(keepalive_expiry=3))
        self._http = httpx.Client(
            transport=_AddKey(inner, key),
            timeout=httpx.Timeout(timeout, connect=min(10.0, timeout)),
            headers={"Accept": "application/json"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def read(self, script: str, parameters: Mapping[str, str] | None = None, *, day: date | None = None) -> Any:
        """The decoded JSON of one call; `day` is the first business day asked for, for the raw document.

        Raises SourceUnreachable (another try may help), SourceRefused (it will not), SourceChanged (no JSON), and
        PosError for a call that is not on the list. An answer that is an error is never returned as data.
        """
        return self._not_an_error(script, self._ask(script, parameters, day, self._json))

    def records(
        self,
        script: str,
        parameters: Mapping[str, str] | None = None,
        *,
        day: date | None = None,
        envelope: str | None = None,
    ) -> Iterator[Any]:
        """The decoded JSON of one call in parts: a list of records (or of the list `envelope`) some at a time.

        An answer up to decoding.WHOLE bytes comes in one part as it is, envelope and all; of a larger one the decoded
        objects of a few records are there at a time, beside the body, which is kept whole as the voucher.
        Raises as `read` does.
        """
        answer = self._ask(script, parameters, day, self._json_unless_large)
        parts = decoding.in_batches(answer, envelope, exact=self._exact) if isinstance(answer, bytes) else None
        if parts is None:
            decoded = self._json(script, answer) if isinstance(answer, bytes) else answer
            if isinstance(decoded, _Passing):
                raise decoded.error
            yield self._not_an_error(script, decoded)
            return
        try:
            for part in parts:
                yield {envelope: part} if envelope else part
        except decoding.CutShort:
            raise self._passing(script, f"answers with JSON cut short after {len(answer)} bytes").error from None
        except (UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(script, str(error)) from None

    def document(
        self, script: str, parameters: Mapping[str, str] | None = None, *, day: date | None = None, begins: bytes = b""
    ) -> bytes:
        """The body of a call that answers with a page or a file, which begins with `begins` (after white space).

        Raises as `read` does; SourceChanged when it begins otherwise.
        """
        body: bytes = self._ask(script, parameters, day, lambda script, body: body)
        if decoding.plain(body)[:1] in (b"{", b"["):
            decoded = self._json(script, body)
            if isinstance(decoded, _Passing):
                raise decoded.error
            self._not_an_error(script, decoded)
        if not decoding.plain(body).startswith(begins):
            raise SourceChanged(
                f"{script} answers with something else than was asked for: {self._excerpt(body)}",
                next_step="look at the kept raw answer; correct evidence or control_totals in [source]",
            )
        return body

    def _ask(
        self,
        script: str,
        parameters: Mapping[str, str] | None,
        day: date | None,
        decode: Callable[[str, bytes], Any],
    ) -> Any:
        """One call with its attempts; `decode` may say that the answer is a passing failure."""
        if script not in self._reads:
            raise PosError(
                f"{script} is not on the list of calls that only read; it was not called",
                next_step="add it to READS in pos/kash_api/client.py only if it cannot write",
            )
        query = {"idboutique": self._shop_id, **(parameters or {})}
        failure = SourceUnreachable(f"{script}: not asked", next_step="give at least one attempt")
        for attempt in range(1, self._attempts + 1):
            outcome = self._once(script, query, day, decode)
            if not isinstance(outcome, _Passing):
                return outcome
            failure = outcome.error
            if attempt < self._attempts:
                wait = min(outcome.retry_after or 0.5 * 2**attempt * (0.5 + self._jitter() / 2), LONGEST_WAIT)
                _log.warning("%s, attempt %d of %d; again in %.1f s", failure.message, attempt, self._attempts, wait)
                self._sleep(wait)
        raise failure

    def _once(self, script: str, query: dict[str, str], day: date | None, decode: Callable[[str, bytes], Any]) -> Any:
        url = f"{self.base_url}/{script}"
        try:
            with self._http.stream("GET", url, params=query) as response:
                body = self._body(script, response)
        except _TooSlow:
            return self._passing(script, f"has not ended its answer after {self._longest:g} s")
        except httpx.TimeoutException as error:
            connected = not isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
            what = f"does not answer within {self._timeout:g} s" if connected else "cannot be reached in time"
            return self._passing(script, what)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise SourceRefused(
                f"{self.base_url!r} is no usable address: {self._masked(str(error))}",
                next_step='correct url in [source], such as "https://kash.click/workers"',
            ) from None
        except httpx.RequestError as error:
            return self._passing(script, f"cannot be reached: {self._masked(str(error) or type(error).__name__)}")
        body = self._mask(body)
        if self._keep is not None:
            document = RawDocument(
                call=script,
                day=day,
                url=self._masked(f"{response.request.url}&key={MASK}"),
                fetched_at=self._now(),
                status=response.status_code,
                sha256=hashlib.sha256(body).hexdigest(),
                body=body,
            )
            with self._keeping:
                self._keep(document)
        return self._status(script, response, body) or decode(script, body)

    def _body(self, script: str, response: httpx.Response) -> bytes:
        """The body as it comes in, held once, up to `largest` bytes and for `longest` seconds."""
        held = io.BytesIO()
        begun = time.monotonic()
        for part in response.iter_bytes():
            if time.monotonic() - begun > self._longest:
                raise _TooSlow
            if held.tell() + len(part) > self._largest:
                raise SourceRefused(
                    f"{script} answers with more than {self._largest // 2**20} MiB; the rest was not read",
                    next_step="ask for fewer days at once: lower window_days in [source]",
                )
            held.write(part)
        return held.getvalue()

    def _status(self, script: str, response: httpx.Response, body: bytes) -> "_Passing | None":
        """A failure told by the status; None when the body is worth reading."""
        status = response.status_code
        if status in (408, 425, 429) or status >= 500:
            asked = response.headers.get("Retry-After", "")
            return self._passing(
                script, f"answers {status}", float(asked) if re.fullmatch("[0-9]{1,9}", asked) else None
            )
        if status != 200:
            raise SourceRefused(
                f"{script} at {self.base_url} answers {status}: {self._excerpt(body)}",
                next_step="check url in [source]: it ends with /workers, and the script exists on that host",
            )
        if not body[:64].strip() and not body.strip():
            return self._passing(script, "answers with an empty body")
        return None

    def _json_unless_large(self, script: str, body: bytes) -> Any:
        return body if len(body) > decoding.WHOLE else self._json(script, body)

    def _json(self, script: str, body: bytes) -> Any:
        try:
            return decoding.whole(body, exact=self._exact)
        except ValueError as error:
            text, reason = decoding.plain(body), str(error)
        if text[:1] + text.rstrip()[-1:] in (b"{}", b"[]"):
            raise _unreadable(script, reason)
        if text[:1] in (b"{", b"["):
            return self._passing(script, f"answers with JSON cut short after {len(body)} bytes")
        if text[:1] == b"<":
            raise SourceRefused(
                f"{script} answers with a page instead of JSON: {self._excerpt(body)}",
                next_step="open the shop's Kash.click pages: maintenance, a login, or a licence without webservices",
            )
        raise SourceChanged(
            f"{script} answers neither JSON nor a page: {self._excerpt(body)}",
            next_step=f"look at the kept raw answer; check that {self.base_url} is the shop's Kash.click address",
        )

    def _not_an_error(self, script: str, body: Any) -> Any:
        """Recognise both conventions of refusal that come with status 200.

        `success: false` with `result` is documented for writes, `result: "ERROR"` with `message` is in the publisher's
        own client; how a read fails is documented nowhere.
        """
        if isinstance(body, dict):
            refused = body.get("success") is False or body.get("result") in ("ERROR", "error")
            text = next(
                (
                    body[name]
                    for name in ("errorMessage", "error", "message", "result")
                    if isinstance(body.get(name), str)
                ),
                "no reason given",
            )
            if refused or body.get("errorMessage") or body.get("error"):
                self._refuse(script, text)
        return body

    def _refuse(self, script: str, text: str) -> NoReturn:
        raise SourceRefused(
            f"{script}: Kash.click refuses: {text[:200]!r}",
            next_step=f"check the shop id and {self._key_name} (Kash.click: Configuration, Webservices)",
        )

    def _passing(self, script: str, what: str, retry_after: float | None = None) -> "_Passing":
        error = SourceUnreachable(
            f"{script} at {self.base_url} {what}",
            next_step="try again later; if it stays so, check url in [source] and the network",
        )
        return _Passing(error, retry_after)

    def _mask(self, body: bytes) -> bytes:
        for form in self._secrets:
            body = body.replace(form, MASK.encode())
        return body

    def _masked(self, text: str) -> str:
        return self._mask(text.encode()).decode(errors="replace")

    def _excerpt(self, body: bytes) -> str:
        """What a person needs to recognise a page: its words, at most 120 characters, printable."""
        text = re.sub(r"<[^>]*>", " ", body[:2000].decode("utf-8", errors="replace"))
        words = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
        return repr(words[:120]) if words else "(nothing readable)"


def _unreadable(script: str, reason: str) -> SourceChanged:
    return SourceChanged(
        f"{script} answers with JSON that cannot be read: {reason[:120]}",
        next_step="look at the kept raw answer: another encoding than UTF-8, or a number that is none",
    )


class _TooSlow(Exception):
    """An answer is still coming in after the time it is given."""


class _Passing:
    """A failure that another try may cure."""

    def __init__(self, error: SourceUnreachable, retry_after: float | None) -> None:
        self.error, self.retry_after = error, retry_after
