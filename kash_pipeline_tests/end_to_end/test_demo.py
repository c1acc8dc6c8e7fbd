"""The demo as a newcomer types it: real processes, real Dagster runs, real PostgreSQL, real HTTP."""

import re
import signal
import socket

import pytest

from kash_pipeline_tests.contract.checking import judge_traffic
from kash_pipeline_tests.end_to_end.machine import Machine

DAYS = ["--from", "2026-03-01", "--to", "2026-03-03"]


@pytest.mark.long
def test_days_are_posted_once_then_nothing_and_an_unreachable_till_loses_nothing(machine: Machine) -> None:
    first = machine.run("demo", *DAYS, "--no-rate-limit")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "DIFFERENT" not in first.stdout
    assert re.search(r"\d+ entries posted and read back", first.stdout)
    posted = machine.piece_numbers()
    assert set(posted) == machine.entry_keys()
    assert set(posted.values()) == {1}
    assert judge_traffic(machine.traffic) > sum(posted.values())  # both sandboxes, held against their contracts

    second = machine.run("demo", *DAYS, "--no-rate-limit")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "nothing to post" in second.stdout
    assert machine.piece_numbers() == posted

    # The sandboxes are gone now: the run names the server that does not answer, and the books stay as they are.
    keys = machine.entry_keys()
    failed = machine.run("run", "--shop", "shops/sandbox.toml", *DAYS)
    assert failed.returncode == 1
    assert "127.0.0.1" in failed.stderr
    assert "next step:" in failed.stderr
    assert "Traceback" not in failed.stderr
    for name in ("KASH_API_KEY", "PENNYLANE_CLIENT_SECRET"):
        assert machine.secrets()[name] not in first.stdout + first.stderr + failed.stderr + failed.stdout
    assert (machine.piece_numbers(), machine.entry_keys()) == (posted, keys)


@pytest.mark.long
def test_a_killed_demo_goes_on_where_it_was(machine: Machine) -> None:
    """SIGKILL in the middle of publishing: no server is left behind, the next run posts the rest, nothing twice."""
    process = machine.start("demo", *DAYS)  # with the rate limit, so that publishing takes a while
    assert process.stdout is not None
    for line in process.stdout:
        if "entries: accounting/entries" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = machine.run("demo", *DAYS, "--no-rate-limit")
    assert again.returncode == 0, again.stdout + again.stderr
    posted = machine.piece_numbers()
    assert set(posted) == machine.entry_keys()
    assert set(posted.values()) == {1}


def test_a_port_in_use_is_named_and_nothing_is_started(machine: Machine) -> None:
    shop = (machine.folder / "shops" / "sandbox.toml").read_text()
    port = int(re.findall(r"127\.0\.0\.1:(\d+)/workers", shop)[0])
    with socket.create_server(("127.0.0.1", port)):
        failed = machine.run("demo", *DAYS)
    assert failed.returncode == 1
    assert f"port {port}" in failed.stderr
    assert "next step:" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo", "--data", "nowhere.csv"], "nowhere.csv"),
        (["run", "--shop", "none.toml", *DAYS], "none.toml"),
        (["run", "--shop", "shops/sandbox.toml", "--from", "2026-03-03", "--to", "2026-03-01"], "before --from"),
    ],
)
def test_wrong_input_is_answered_with_the_next_step(machine: Machine, words: list[str], said: str) -> None:
    failed = machine.run(*words)
    assert failed.returncode == 1
    assert said in failed.stderr
    assert "next step:" in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
