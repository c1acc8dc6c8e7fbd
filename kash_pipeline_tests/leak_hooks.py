"""When secrets are searched for (pytest hooks): after each test, before what it left behind is gone.

What is searched and how belongs to leaks.py. Under xdist each worker searches what its tests leave, and hands its
finds over as it ends; the controller fails the session for them.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from kash_pipeline_tests.leaks import EAR, WATCH

# The deployment's level. SQLAlchemy's would write each statement of each test.
LEVEL, STATEMENTS = logging.INFO, "sqlalchemy"


def pytest_configure() -> None:
    logging.getLogger(STATEMENTS).setLevel(logging.WARNING)
    logging.getLogger().setLevel(LEVEL)
    logging.getLogger().addHandler(EAR)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    WATCH.now.clear()
    EAR.take()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Before the fixtures end: the environment, the folder and the instance are still there."""
    fixtures: dict[str, Any] = getattr(item, "funcargs", {})
    folder = fixtures.get("tmp_path")
    WATCH.learn_environment()
    if isinstance(folder, Path):
        WATCH.learn_files(folder)
        WATCH.search_folder(folder)
    if "dagster" in sys.modules:
        for value in list(fixtures.values()):
            if isinstance(value, sys.modules["dagster"].DagsterInstance) and value.is_ephemeral:
                WATCH.search_dagster(value)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """After the fixtures ended: what was logged and what pytest captured, teardown included."""
    if report.when == "teardown" and not hasattr(report, "node"):  # xdist's controller hears of it too
        WATCH.search(f"{report.nodeid}: log", [EAR.take()])
        WATCH.search(
            f"{report.nodeid}: captured output", [text.encode(errors="replace") for _, text in report.sections]
        )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker of xdist found, kept by the controller."""
    told = getattr(node, "workeroutput", {}).get("leaks")
    if told is not None:
        WATCH.found += told["found"]
        WATCH.places += told["places"]
        WATCH.ever |= told["secrets"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        # Numbers instead of values: those stay in the worker.
        worker = session.config.workerinput["workerid"]  # type: ignore[attr-defined]
        secrets = {f"{worker}-{number}": kind for number, kind in enumerate(WATCH.ever.values())}
        output["leaks"] = {"found": WATCH.found, "places": WATCH.places, "secrets": secrets}
    elif WATCH.found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"secrets: {len(WATCH.ever)} searched for by value in {WATCH.places} places")
    if WATCH.found:
        terminalreporter.section("secrets found where they must not be", red=True)
        for line in dict.fromkeys(WATCH.found):
            terminalreporter.write_line(line)
