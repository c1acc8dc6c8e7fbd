"""Serve an ASGI app over real loopback HTTP, in a thread, for as long as a `with` block lasts.

Only starting, stopping and cutting connections belong here. What is answered belongs to sandbox/kash and
sandbox/pennylane.
"""

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from kash_pipeline.sandbox.errors import PortInUse, SandboxError, ServerDidNotStart

ABORT = "kash_pipeline.abort"
"""Key in `scope["extensions"]`: a callable that cuts the connection without another byte."""


@contextmanager
def serving(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve `app` and yield its base URL, such as `http://127.0.0.1:8712`; port 0 takes a free one.

    Requests are accepted once the URL is yielded. On leaving, open requests get two seconds, then are cut.
    Raises PortInUse, SandboxError (another reason the address cannot be taken), ServerDidNotStart.
    """
    listener = _listen(host, port)
    # Only what is broken is logged: start and access lines would drown the display of the command that serves.
    config = uvicorn.Config(
        _WithAbort(app), log_config=None, log_level="error", access_log=False, timeout_graceful_shutdown=2
    )
    server = _Server(config)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run(sockets=[listener])
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread just below
            failures.append(error)
        finally:
            server.settled.set()

    thread = threading.Thread(target=run, name=f"sandbox-{listener.getsockname()[1]}", daemon=True)
    thread.start()
    server.settled.wait()
    try:
        if not server.started:
            raise ServerDidNotStart(
                f"the server for {host}:{port} ended before it listened",
                next_step="read the cause above; the app's start-up failed",
            ) from (failures[0] if failures else None)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} of {host} is in use by another program",
                next_step=f"stop it (`ss -ltnp 'sport = :{port}'` names it) or choose another port",
            ) from None
        raise SandboxError(
            f"{host}:{port} cannot be listened on ({error.strerror})",
            next_step="choose a port above 1023 and an address of this machine, such as 127.0.0.1",
        ) from None


class _Server(uvicorn.Server):
    """A server that tells when it listens, so that nobody has to poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()


class _WithAbort:
    """Put the means to cut the connection into the scope, where wrappers around `send` do not hide it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            transport = getattr(getattr(send, "__self__", None), "transport", None)
            if transport is not None:
                abort: Callable[[], None] = transport.abort
                scope.setdefault("extensions", {})[ABORT] = abort
        await self.app(scope, receive, send)
