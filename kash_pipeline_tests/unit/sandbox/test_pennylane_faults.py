"""What the fault switch of the PennyLane sandbox promises: what the client sees, and what has happened all the same."""

from typing import Any

import httpx
import pytest

from kash_pipeline.sandbox.errors import SandboxError
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline_tests.sandboxes import PennylaneHandle

NEW_JOURNAL = {"code": "K1", "label": "Caisse 1"}


def _journal_exists(sandbox: PennylaneHandle) -> bool:
    try:
        sandbox.admin.journal_id("K1")
    except SandboxError:
        return False
    return True


def _post(sandbox: PennylaneHandle) -> httpx.Response:
    with sandbox.client() as http:
        return http.post("/journals", json=NEW_JOURNAL)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_refused_requests_have_no_effect(pennylane_sandbox: PennylaneHandle, status: int) -> None:
    pennylane_sandbox.faults.add(Fault("refuse", method="GET", path="/journals$", status=status))
    with pennylane_sandbox.client() as http:
        answers = [http.get("/journals") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, 200]


def test_a_cut_before_the_effect_leaves_nothing(pennylane_sandbox: PennylaneHandle) -> None:
    pennylane_sandbox.faults.add(Fault("cut_before", method="POST"))
    with pytest.raises(httpx.TransportError):
        _post(pennylane_sandbox)
    assert not _journal_exists(pennylane_sandbox)
    assert _post(pennylane_sandbox).status_code == 201


def test_a_cut_after_the_effect_leaves_it(pennylane_sandbox: PennylaneHandle) -> None:
    """The client cannot tell this from the cut before: that is the point."""
    pennylane_sandbox.faults.add(Fault("cut_after", method="POST"))
    with pytest.raises(httpx.TransportError):
        _post(pennylane_sandbox)
    assert _journal_exists(pennylane_sandbox)
    assert pennylane_sandbox.requests.count("POST", "/journals$", status=0) == 1


def test_500_after_commit(pennylane_sandbox: PennylaneHandle) -> None:
    pennylane_sandbox.faults.add(Fault("error_after", method="POST"))
    answer = _post(pennylane_sandbox)
    assert answer.status_code == 500
    assert not answer.headers["content-type"].startswith("application/json")
    assert _journal_exists(pennylane_sandbox)


def test_a_kept_back_answer_has_its_effect_before_the_client_gives_up(pennylane_sandbox: PennylaneHandle) -> None:
    pennylane_sandbox.faults.add(Fault("delay_answer", method="POST", seconds=1.0))
    with pennylane_sandbox.client() as http, pytest.raises(httpx.ReadTimeout):
        http.post("/journals", json=NEW_JOURNAL, timeout=0.5)
    assert _journal_exists(pennylane_sandbox)


def test_a_delayed_request_is_answered_later(pennylane_sandbox: PennylaneHandle) -> None:
    pennylane_sandbox.faults.add(Fault("delay", path="/me", seconds=0.3))
    with pennylane_sandbox.client() as http:
        answers = [http.get("/me") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].elapsed.total_seconds() >= 0.3


def test_a_429_storm_passes(pennylane_sandbox: PennylaneHandle) -> None:
    pennylane_sandbox.faults.add(Fault("rate_limit", count=3, seconds=2))
    answers = [_post(pennylane_sandbox) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 429, 429, 201]
    assert [answer.headers.get("retry-after") for answer in answers] == ["2", "2", "2", None]
    assert answers[0].text == "Rate limit exceeded. Please retry in 2 seconds.\n"


def test_a_token_expires_in_mid_batch(pennylane_sandbox: PennylaneHandle) -> None:
    pair = pennylane_sandbox.admin.connect(pennylane_sandbox.client_id)
    pennylane_sandbox.faults.add(Fault("expire_token", path="/me", skip=1))
    with pennylane_sandbox.client(pair.access_token) as http:
        assert [http.get("/me").status_code for _ in range(3)] == [200, 401, 401]
    body = {
        "grant_type": "refresh_token",
        "client_id": pennylane_sandbox.client_id,
        "client_secret": pennylane_sandbox.client_secret,
        "refresh_token": pair.refresh_token,
    }
    assert httpx.post(f"{pennylane_sandbox.url}/oauth/token", data=body).status_code == 200


def test_a_lost_refresh_answer_has_used_the_token_up(pennylane_sandbox: PennylaneHandle) -> None:
    pair = pennylane_sandbox.admin.connect(pennylane_sandbox.client_id)
    pennylane_sandbox.faults.add(Fault("cut_after", path="/oauth/token"))
    body = {
        "grant_type": "refresh_token",
        "client_id": pennylane_sandbox.client_id,
        "client_secret": pennylane_sandbox.client_secret,
        "refresh_token": pair.refresh_token,
    }
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{pennylane_sandbox.url}/oauth/token", data=body)
    assert httpx.post(f"{pennylane_sandbox.url}/oauth/token", data=body).json()["error"] == "invalid_grant"


def test_a_lost_database_connection_is_a_500_without_effect(pennylane_sandbox: PennylaneHandle) -> None:
    pennylane_sandbox.faults.add(Fault("drop_database", method="POST"))
    assert _post(pennylane_sandbox).status_code == 500
    assert not _journal_exists(pennylane_sandbox)
    assert _post(pennylane_sandbox).status_code == 201


def test_faults_choose_their_requests(pennylane_sandbox: PennylaneHandle) -> None:
    pennylane_sandbox.faults.add(Fault("refuse", method="GET", path=r"/journals/\d+$", count=None, status=503))
    with pennylane_sandbox.client() as http:
        journal = pennylane_sandbox.admin.journal_id("VT")
        seen = [http.get(path).status_code for path in ("/journals", f"/journals/{journal}", f"/journals/{journal}")]
        pennylane_sandbox.faults.clear()
        seen.append(http.get(f"/journals/{journal}").status_code)
    assert seen == [200, 503, 503, 200]
    assert [hit[0] for hit in pennylane_sandbox.faults.hits()] == ["refuse", "refuse"]


def test_faults_and_counts_can_be_reached_from_another_process(pennylane_sandbox: PennylaneHandle) -> None:
    """The child process of `kash-pipeline sandbox` has no Python handle, only HTTP."""
    base = f"{pennylane_sandbox.url}/_sandbox"
    fault: dict[str, Any] = {"kind": "refuse", "method": "POST", "status": 503}
    assert httpx.post(f"{base}/faults", json=fault).json()["waiting"][0]["status"] == 503
    assert _post(pennylane_sandbox).status_code == 503
    assert httpx.get(f"{base}/faults").json() == {
        "waiting": [],
        "hits": [["refuse", "POST", "/api/external/v2/journals"]],
    }
    counts = httpx.get(f"{base}/requests").json()
    assert counts == {"counts": {"POST /api/external/v2/journals 503": 1}, "refreshes": 0}
    token = httpx.post(f"{base}/tokens", json={"scopes": ["journals:readonly"]}).json()["token"]
    with pennylane_sandbox.client(token) as http:
        assert http.get("/me").json()["scopes"] == ["journals:readonly"]
    assert httpx.get(f"{base}/entries").json() == []


@pytest.mark.parametrize("fault", [{"kind": "explode"}, {"kind": "refuse", "path": "("}, {"color": "red"}, [1]])
def test_nonsense_is_no_fault(pennylane_sandbox: PennylaneHandle, fault: Any) -> None:
    answer = httpx.post(f"{pennylane_sandbox.url}/_sandbox/faults", json=fault)
    assert answer.status_code == 400
    assert pennylane_sandbox.faults.waiting() == []
