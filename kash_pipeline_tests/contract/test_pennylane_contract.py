"""The PennyLane sandbox against its contract: requests made up by schemathesis, and proof that the check can fail.

Single behaviours are tested in unit/sandbox/; here only conformance is.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error, response_schema_conformance, status_code_conformance
from schemathesis.config import SchemathesisConfig

from kash_pipeline import contracts
from kash_pipeline.sandbox.pennylane.checks import operations
from kash_pipeline.sandbox.server import serving
from kash_pipeline_tests.contract.checking import ContractChecked, request_violation, response_violation
from kash_pipeline_tests.sandboxes import PennylaneHandle, new_database, pennylane_served

# The coverage phase makes some 2,500 boundary cases: minutes, so only in CI's profile.
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE", "default") != "default"
SCHEMA = schemathesis.openapi.from_dict(
    contracts.load("pennylane"),
    config=SchemathesisConfig.from_dict({"phases": {"coverage": {"enabled": THOROUGH}}}),
)


@dataclass(frozen=True)
class Furnished:
    """A sandbox with something in it, and the ids of that, by the path that leads to it."""

    sandbox: PennylaneHandle
    ids: dict[str, int]


@pytest.fixture(scope="module")
def furnished(postgres_url: str) -> Iterator[Furnished]:
    """One sandbox for all made-up requests: a customer of each kind, an entry on the company's account, a file.

    In a database of its own: a worker may run other tests between these.
    """
    with new_database(postgres_url, "contract") as url, pennylane_served(url, limiter=None) as sandbox:
        ids = _furnish(sandbox)
        with sandbox.contract.bad_requests_expected():
            yield Furnished(sandbox, ids)


def _furnish(sandbox: PennylaneHandle) -> dict[str, int]:
    address = {"address": "1 rue du Port", "postal_code": "29200", "city": "Brest", "country_alpha2": "FR"}
    with sandbox.client() as http:
        company = http.post("/company_customers", json={"name": "A", "billing_address": address}).json()
        person = http.post(
            "/individual_customers", json={"first_name": "B", "last_name": "C", "billing_address": address}
        ).json()
        account, journal = company["ledger_account"]["id"], sandbox.admin.journal_id("VT")
        lines = [
            {"debit": "30.00", "credit": "0.00", "ledger_account_id": account},
            {"debit": "0.00", "credit": "30.00", "ledger_account_id": account},
        ]
        entry = http.post(
            "/ledger_entries",
            json={"date": "2026-11-23", "label": "Z", "journal_id": journal, "ledger_entry_lines": lines},
        ).json()
        file = http.post("/file_attachments", files={"file": ("z.pdf", b"%PDF-1.4", "application/pdf")}).json()
    return {
        "journals": journal,
        "ledger_accounts": account,
        "ledger_entries": entry["id"],
        "ledger_entry_lines": entry["ledger_entry_lines"][0]["id"],
        "other line": entry["ledger_entry_lines"][1]["id"],
        "customers": company["id"],
        "company_customers": company["id"],
        "individual_customers": person["id"],
        "file_attachments": file["id"],
    }


def _at_home(case: Any, ids: dict[str, int]) -> None:
    """Turn every other valid request from ids nobody has to ids that exist, so that more than 404 is tried."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    resource = case.operation.path.removeprefix("/api/external/v2/").partition("/")[0]
    for name, value in (case.path_parameters or {}).items():
        if resource in ids and isinstance(value, int) and value % 2:
            case.path_parameters[name] = ids[resource]
    body = case.body
    if not isinstance(body, dict):
        return
    if "unbalanced_lettering_strategy" in body:
        body["ledger_entry_lines"] = [{"id": ids["ledger_entry_lines"]}, {"id": ids["other line"]}]
    if body.get("journal_id", 0) % 2:
        body |= {"journal_id": ids["journals"], "date": "2026-11-23"}
        body.pop("file_attachment_id", None)
        if isinstance(body.get("ledger_entry_lines"), list):
            sides = [("10.00", ""), ("0.0", "10")] * (len(body["ledger_entry_lines"]) // 2 + 1)
            body["ledger_entry_lines"] = [
                {**line, "debit": debit, "credit": credit, "ledger_account_id": ids["ledger_accounts"]}
                for line, (debit, credit) in zip(body["ledger_entry_lines"] * 2, sides, strict=False)
            ]


@SCHEMA.parametrize()
@settings(
    max_examples=25 if THOROUGH else 12,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_made_up_requests_get_declared_answers(case: Any, furnished: Furnished) -> None:
    """No crash, no status and no body the contract does not declare, whatever is sent."""
    _at_home(case, furnished.ids)
    case.call_and_validate(
        base_url=furnished.sandbox.url,
        headers={"authorization": f"Bearer {furnished.sandbox.token}"},
        checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
    )


# The check itself -----------------------------------------------------------------------------------------------------

API = "/api/external/v2"
TOKEN = {"authorization": "Bearer x"}
JSON = TOKEN | {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
ENTRY = {
    "date": "2026-11-23",
    "label": "Z",
    "journal_id": 1,
    "ledger_entry_lines": [{"debit": "1.00", "credit": "0.00", "ledger_account_id": 2}],
}


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body"),
    [
        ("POST", "/ledger_entries", "", JSON, ENTRY | {"external_reference": "x"}),
        ("POST", "/ledger_entries", "", JSON, ENTRY | {"date": "23/11/2026"}),
        ("POST", "/ledger_entries", "", JSON, {key: ENTRY[key] for key in ENTRY if key != "label"}),
        ("POST", "/ledger_entries", "", {"content-type": "application/json"}, ENTRY),
        ("POST", "/ledger_entries", "", JSON, None),
        ("DELETE", "/ledger_entry_lines/lettering", "", JSON, None),
        ("GET", "/ledger_entries", "limit=101", TOKEN, None),
        ("POST", "/ledger_entries", "", JSON, ENTRY | {"ledger_attachment_id": 1}),
        ("POST", "/ledger_attachments", "", JSON, {}),
        ("GET", "/ledger_entries", 'filter=[{"field":"created_at","operator":"gt","value":"2026-01-01"}]', TOKEN, None),
        ("GET", "/journals", "page=2&per_page=20", TOKEN, None),
        ("GET", "/ledger_entries", "sort=created_at", TOKEN, None),
        ("GET", "/ledger_entries", 'filter=[{"field":"piece_number","operator":"eq","value":"A"}]', TOKEN, None),
        ("GET", "/ledger_entries/7/ledger_entry_lines", "filter=nonsense", TOKEN, None),
        ("GET", "/ledger_entries/abc", "", TOKEN, None),
        ("DELETE", "/ledger_entries/7", "", TOKEN, None),
        ("GET", "/invoices", "", TOKEN, None),
    ],
)
def test_the_check_finds_bad_requests(
    method: str, path: str, query: str, headers: dict[str, str], body: dict[str, Any] | None
) -> None:
    sent = b"" if body is None else json.dumps(body).encode()
    assert request_violation("pennylane", method, API + path, query, headers, sent)


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body"),
    [
        ("POST", f"{API}/ledger_entries", "", JSON, json.dumps(ENTRY)),
        ("GET", f"{API}/ledger_entries", 'filter=[{"field":"date","operator":"eq","value":"2026-01-01"}]', TOKEN, ""),
        (
            "POST",
            "/oauth/token",
            "",
            FORM,
            "grant_type=refresh_token&client_id=a&client_secret=b&refresh_token=c&code_verifier=pkce",
        ),
        (
            "POST",
            f"{API}/file_attachments",
            "",
            TOKEN | {"content-type": "multipart/form-data; boundary=B"},
            '--B\r\nContent-Disposition: form-data; name="file"; filename="z.pdf"\r\n'
            "Content-Type: application/pdf\r\n\r\n%PDF\r\n--B--\r\n",
        ),
    ],
)
def test_the_check_lets_good_requests_pass(
    method: str, path: str, query: str, headers: dict[str, str], body: str
) -> None:
    assert request_violation("pennylane", method, path, query, headers, body.encode()) is None


def test_the_check_knows_the_parts_of_an_upload_and_the_fields_of_a_form() -> None:
    part = b'--B\r\nContent-Disposition: form-data; name="picture"; filename="z.pdf"\r\n\r\n%PDF\r\n--B--\r\n'
    headers = TOKEN | {"content-type": "multipart/form-data; boundary=B"}
    assert request_violation("pennylane", "POST", f"{API}/file_attachments", "", headers, part)
    form = b"grant_type=refresh_token&client_id=a&client_secret=b&refresh_token=c&scope=journals:all"
    assert request_violation("pennylane", "POST", "/oauth/token", "", FORM, form)


@pytest.mark.parametrize(
    ("number", "good"),
    [("411", True), ("4 1", False), ("4\ufeff1", False), ("411\n", False), ("4\x1c1", True), ("4\x851", True)],
)
def test_the_check_and_the_sandbox_read_a_pattern_alike(number: str, good: bool) -> None:
    r"""As ECMA-262, which JSON Schema names: Python's own `\S` and `$` say otherwise of the last four."""
    body = {"number": number, "label": "Ventes"}
    wrong = request_violation("pennylane", "POST", f"{API}/ledger_accounts", "", JSON, json.dumps(body).encode())
    sandbox = operations()["postLedgerAccounts"].body.is_valid(body)
    assert (wrong is None, sandbox) == (good, good)


@pytest.mark.parametrize(
    ("path", "status", "headers", "body"),
    [
        ("/journals/1", 200, {}, {"id": 1, "code": "VT", "label": "Ventes"}),
        ("/journals/1", 200, {}, {"id": 1, "code": "VT", "label": "Ventes", "type": "sales", "extra": 1}),
        ("/journals/1", 200, {}, {"id": "1", "code": "VT", "label": "Ventes", "type": "sales"}),
        ("/journals/1", 409, {}, {"error": "taken", "status": 409}),
        ("/journals/1", 200, {"ratelimit-limit": "many"}, {"id": 1, "code": "VT", "label": "V", "type": "sales"}),
        ("/journals/1", 429, {}, {"error": "too many", "status": 429}),
    ],
)
def test_the_check_finds_bad_answers(path: str, status: int, headers: dict[str, str], body: dict[str, Any]) -> None:
    given = {"content-type": "application/json"} | headers
    assert response_violation("pennylane", "GET", API + path, status, given, json.dumps(body).encode())


def test_the_check_stands_between_client_and_sandbox() -> None:
    """A sandbox that answers nonsense, or takes nonsense, is found out while it serves."""

    async def careless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b"{}"})

    checked = ContractChecked(careless)
    with serving(checked) as url:
        httpx.post(f"{url}{API}/journals", json={"code": "K1", "label": "Caisse"}, headers=TOKEN)
        with pytest.raises(AssertionError, match="answer 201 of POST /api/external/v2/journals"):
            checked.assert_kept()
        with checked.bad_requests_expected():
            httpx.post(f"{url}{API}/journals", json={"code": "TOO LONG", "label": "Caisse"}, headers=TOKEN)
        with pytest.raises(AssertionError, match="accepted with 201, though against the contract"):
            checked.assert_kept()
        httpx.post(f"{url}{API}/journals", json={"code": "TOO LONG", "label": "Caisse"}, headers=TOKEN)
        with pytest.raises(AssertionError, match="request POST /api/external/v2/journals"):
            checked.assert_kept()
    assert checked.checked == 3
