"""What the PennyLane sandbox promises about entries, lines and their lists: one test a promise."""

import json
from typing import Any

import httpx
import pytest

from kash_pipeline_tests.sandboxes import PennylaneHandle


def _entry(sandbox: PennylaneHandle, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "date": "2026-11-23",
        "label": "Z 0412",
        "journal_id": sandbox.admin.journal_id("VT"),
        "piece_number": "K1-Z0412",
        "ledger_entry_lines": [
            _line(sandbox, "530", debit="120.00", label="especes"),
            _line(sandbox, "706", credit="100.00", label="ventes"),
            _line(sandbox, "44571", credit="20.00", label="TVA"),
        ],
    }
    return body | changes


def _line(
    sandbox: PennylaneHandle, number: str, *, debit: str = "0.00", credit: str = "0.00", label: str = ""
) -> dict[str, Any]:
    account = sandbox.admin.account_id(number)
    return {"debit": debit, "credit": credit, "ledger_account_id": account, "label": label}


def _only(**condition: Any) -> dict[str, str]:
    return {"filter": json.dumps([condition])}


def test_an_entry_stands_in_the_ledger_as_sent(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=_entry(pennylane_sandbox))
    assert answer.status_code == 201
    [entry] = pennylane_sandbox.admin.entries()
    assert (entry.id, entry.journal, entry.piece_number) == (answer.json()["id"], "VT", "K1-Z0412")
    assert sorted((line.account, line.debit_cents, line.credit_cents) for line in entry.lines) == [
        ("44571", 0, 2000),
        ("530", 12000, 0),
        ("706", 0, 10000),
    ]
