"""What went over the wire of a sandbox: each request with its answer, handed on or written down as it ends.

Only hearing both sides belongs here. Judging them is left to whoever listens (the tests hold them against the
contract); serving is server.py's.
"""

import base64
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRAFFIC_VARIABLE = "KASH_SANDBOX_TRAFFIC"
"""Names a folder in which `kash-pipeline sandbox` keeps its traffic, made-up tokens included (files of mode 0600)."""


@dataclass(frozen=True, repr=False)
class Exchange:
    """One request and what came back. `status` is 0 when nothing did, `complete` is false when the answer was cut."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    sent: bytes
    status: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    def line(self) -> str:
        """One line of JSON, bodies in base64."""
        coded = {name: base64.b64encode(getattr(self, name)).decode() for name in ("sent", "body")}
        return json.dumps(asdict(self) | coded)

    @classmethod
    def parse(cls, line: str) -> Self:
        told = json.loads(line)
        return cls(**told | {name: base64.b64decode(told[name]) for name in ("sent", "body")})


class Recording:
    """ASGI wrapper: passes everything through and gives each exchange to `keep`.

    `keep` is called before the last byte of the answer leaves, so that whoever has the answer finds it heard.
    """

    def __init__(self, app: ASGIApp, keep: Callable[[Exchange], None]) -> None:
        self.app = app
        self._keep = keep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The whole body is taken first and handed on afterwards: a refused request is heard too, though the app
        # never reads it.
        arrived = [await receive()]
        while arrived[-1].get("more_body", False):
            arrived.append(await receive())
        asked: dict[str, Any] = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "headers": _text(scope["headers"]),
            "sent": b"".join(message.get("body", b"") for message in arrived),
        }
        arrived.reverse()
        body = bytearray()
        heard = False

        async def hear() -> Message:
            return arrived.pop() if arrived else await receive()

        async def say(message: Message) -> None:
            nonlocal heard
            if message["type"] == "http.response.start":
                asked["status"], asked["answer_headers"] = message["status"], _text(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    heard = True
                    self._keep(Exchange(**asked, body=bytes(body), complete=True))
            await send(message)

        try:
            await self.app(scope, hear, say)
        finally:
            if not heard:
                self._keep(Exchange(**asked, body=bytes(body)))


def _text(headers: Any) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def kept(app: ASGIApp, name: str) -> ASGIApp:
    """`app`, its traffic written to `<folder>/<name>.jsonl` when the environment names a folder for it."""
    folder = os.environ.get(TRAFFIC_VARIABLE)
    if not folder:
        return app
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = Path(folder) / f"{name}.jsonl"

    def keep(exchange: Exchange) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(exchange.line() + "\n")

    return Recording(app, keep)
