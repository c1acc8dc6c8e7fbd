"""`make ui`: the webserver answers with our assets, and Ctrl-C leaves no process behind."""

import signal
import time

import httpx
import psutil
import pytest

from kash_pipeline_tests.end_to_end.machine import Machine, free_port

ASSETS = """{ assetsOrError { ... on AssetConnection { nodes { key { path } definition { isPartitioned } } }
  ... on PythonError { message } } }"""


def answer(url: str, seconds: int) -> list[dict[str, object]]:
    """The assets of the UI, once it serves the code location."""
    until = time.monotonic() + seconds
    while True:
        try:
            told = httpx.post(f"{url}/graphql", json={"query": ASSETS}, timeout=30).json()["data"]["assetsOrError"]
            if any(node["definition"] for node in told["nodes"]):
                found: list[dict[str, object]] = told["nodes"]
                return found
        except httpx.TransportError:
            pass  # not listening yet
        assert time.monotonic() < until, "the UI did not answer"
        time.sleep(0.5)


@pytest.mark.long
def test_the_ui_serves_the_shop_and_ctrl_c_ends_every_process(machine: Machine) -> None:
    port = free_port()
    process = machine.start("ui", "--port", str(port))
    nodes = answer(f"http://127.0.0.1:{port}", 120)
    daily = {"/".join(node["key"]["path"]) for node in nodes if node["definition"]["isPartitioned"]}  # type: ignore[index]
    assert daily == {
        "boulangerie/pos/sales",
        "boulangerie/pos/payments",
        "boulangerie/pos/closings",
        "boulangerie/accounting/entries",
        "boulangerie/pennylane/published_entries",
    }
    started = psutil.Process(process.pid).children(recursive=True)
    assert any("dagster_webserver" in " ".join(child.cmdline()) for child in started)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, out + err
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
