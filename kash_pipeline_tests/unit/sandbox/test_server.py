"""Serving over loopback: ready when the URL is there, clear when the port is not, gone when the block ends."""

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kash_pipeline.sandbox.errors import PortInUse, SandboxError, ServerDidNotStart
from kash_pipeline.sandbox.server import serving


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", _hello)])


def test_the_first_request_is_answered_and_the_port_is_free_again() -> None:
    with serving(APP) as url:
        assert httpx.get(url).text == "hello"
    port = urlsplit(url).port
    assert port
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    with serving(APP, port=port) as again:
        assert (again, httpx.get(again).text) == (url, "hello")


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port}.*in use") as caught, serving(APP, port=port):
            pass
    assert "choose another port" in caught.value.next_step


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SandboxError, match="192\\.0\\.2\\.1"), serving(APP, host="192.0.2.1"):
        pass


def test_a_failing_start_is_reported_not_waited_for() -> None:
    @asynccontextmanager
    async def no_start(_: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no start today")
        yield

    with pytest.raises(ServerDidNotStart, match="before it listened"), serving(Starlette(lifespan=no_start)):
        pass


def test_no_thread_is_left_behind() -> None:
    with serving(APP) as url:
        httpx.get(url)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("sandbox-")] == []
