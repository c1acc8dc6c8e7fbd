"""The address Kash.click calls when an order is validated or paid and when a register is closed: an ASGI app.

Only HTTP belongs here. What an event says is pos/kash_api/events.py, where it waits warehouse/wake_ups.py, which runs
it leads to defs/sensors.py. Kash.click documents neither method nor signature procedure: the path holds a secret,
bodies are small, an event is kept raw and counted once, and nothing is booked from what a caller may have made up.
"""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kash_pipeline.errors import SettingsError
from kash_pipeline.pos.errors import PosError
from kash_pipeline.pos.kash_api import events
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.reference.customers import keeper
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.errors import LakeError
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.wake_ups import WakeUps

LARGEST = 256 * 1024
"""Bytes of one event: an order of a thousand lines takes some 200 kB."""
SHORTEST_SECRET = 16
PATIENCE = 30.0
"""Seconds a body may take: one that never ends would hold its connection for ever."""

_log = logging.getLogger(__name__)


def create_app(
    shop: ShopFile,
    engine: sa.Engine,
    lake: Lake,
    *,
    secret: str,
    patience: float = PATIENCE,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Starlette:
    """POST /kash/<secret> receives; everything else is 404. Raises SettingsError for a secret that can be guessed.

    Answers: 200 kept (or known already), 400 nothing it understands (kept raw all the same), 408 not whole after
    `patience` seconds, 413 too large, 503 could not be kept: send it again.
    """
    if len(secret) < SHORTEST_SECRET or not secret.isascii() or "/" in secret:
        raise SettingsError(
            f"{shop.source.webhook_secret_env} is no secret for an address: it takes {SHORTEST_SECRET} letters or more",
            next_step='make one with: python -c "import secrets; print(secrets.token_urlsafe(24))"',
        )
    wake_ups = WakeUps(engine, shop.shop.id)

    def take(body: bytes) -> Response:
        received = now()
        digest = hashlib.sha256(body).hexdigest()
        zone, starts_at = shop.zone, shop.shop.day_starts_at
        try:
            event = events.read_event(body, zone, received)
        except PosError as error:
            _log.warning("%s", error.message)
            keeper(lake)(RawDocument(f"{events.CALL}.unknown", None, _URL, received, 400, digest, body))
            return PlainTextResponse("not understood", 400)
        day = events.day_of(event.moment, zone, starts_at)
        # The raw event first: a row that waits always has its voucher.
        keeper(lake)(RawDocument(f"{events.CALL}.{event.kind}", day, _URL, received, 200, digest, body))
        new = wake_ups.note(event.key, event.kind, day, received, digest)
        return PlainTextResponse("kept" if new else "known")

    async def receive(request: Request) -> Response:
        given = request.path_params["secret"]
        if not hmac.compare_digest(given.encode(), secret.encode()):
            return PlainTextResponse("not found", 404)
        try:
            async with asyncio.timeout(patience):
                body = await _body(request)
        except ClientDisconnect:
            return PlainTextResponse("incomplete", 400)
        except TimeoutError:
            return PlainTextResponse("too slow", 408, {"connection": "close"})
        if body is None:
            return PlainTextResponse("too large", 413)
        try:
            return await run_in_threadpool(take, body)
        except (sa.exc.SQLAlchemyError, LakeError) as error:
            _log.error("an event could not be kept: %s", type(error).__name__)
            return PlainTextResponse("try again", 503, {"retry-after": "60"})

    return Starlette(routes=[Route("/kash/{secret}", receive, methods=["POST"])])


_URL = "webhook:/kash/***"


async def _body(request: Request) -> bytes | None:
    """The body, or None as soon as it is larger than LARGEST, whatever its Content-Length said."""
    held = bytearray()
    async for part in request.stream():
        held += part
        if len(held) > LARGEST:
            return None
    return bytes(held)
