"""What the PennyLane sandbox promises about chart, journals, customers, files, periods, and about being restarted."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from kash_pipeline.sandbox import pennylane
from kash_pipeline.sandbox.errors import SandboxError
from kash_pipeline.sandbox.pennylane import files
from kash_pipeline.sandbox.pennylane.answers import Problem
from kash_pipeline.sandbox.pennylane.call import Upload
from kash_pipeline.sandbox.server import serving
from kash_pipeline_tests.contract.checking import ContractChecked
from kash_pipeline_tests.sandboxes import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, PennylaneHandle

ADDRESS = {"address": "1 rue du Port", "postal_code": "29200", "city": "Brest", "country_alpha2": "FR"}


def _everything(http: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    items, cursor = [], None
    while True:
        page = http.get(path, params={"limit": "100", **params} | ({"cursor": cursor} if cursor else {})).json()
        items += page["items"]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            return items


def _where(field: str, operator: str, value: Any) -> dict[str, str]:
    return {"filter": json.dumps([{"field": field, "operator": operator, "value": value}])}


# Chart and journals -------------------------------------------------------------------------------------------------


def test_one_number_has_several_ids_and_the_first_listed_is_the_wrong_one(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        found = http.get("/ledger_accounts", params=_where("number", "eq", "706")).json()["items"]
    assert [(item["vat_rate"], item["country_alpha2"]) for item in found] == [("FR_200", "FR"), ("any", "any")]
    assert len({item["id"] for item in found}) == 2


def test_disabled_accounts_are_listed_like_the_others(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        cash = http.get("/ledger_accounts", params=_where("number", "start_with", "53")).json()["items"]
        enabled = _everything(http, "/ledger_accounts", **_where("enabled", "eq", "true"))
    assert {item["number"]: item["enabled"] for item in cash} == {
        "530": True,
        "531": False,
        "5311": False,
        "532": False,
    }
    assert all(item["enabled"] for item in enabled)
    assert {"511", "580", "658", "758", "467", "471", "4191"} <= {item["number"] for item in enabled}


def test_a_chart_needs_more_than_one_page(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        default = http.get("/ledger_accounts").json()
        whole = http.get("/ledger_accounts", params={"limit": "1000"}).json()
        paged = _everything(http, "/ledger_accounts")
    assert (len(default["items"]), default["has_more"]) == (20, True)
    assert (len(whole["items"]), whole["has_more"]) == (len(paged), False)
    assert len(paged) > 700
    assert [item["id"] for item in paged] == [item["id"] for item in whole["items"]]


def test_recorded_letterable_flags(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        items = http.get("/ledger_accounts", params={"limit": "1000"}).json()["items"]
    flags = {item["number"]: item["letterable"] for item in items}
    assert {number: flags[number] for number in ("530", "411", "511", "580", "44571009")} == {
        "530": False,
        "411": True,
        "511": True,
        "580": True,
        "44571009": True,
    }


def test_an_account_can_be_made_and_renamed_but_not_twice(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        made = http.post("/ledger_accounts", json={"number": "701055", "label": "Ventes 5,5 %"})
        again = http.post("/ledger_accounts", json={"number": "701055", "label": "Ventes"})
        other_rate = http.post(
            "/ledger_accounts",
            json={"number": "701055", "label": "Ventes", "vat_rate": "FR_55", "country_alpha2": "FR"},
        )
        path = f"/ledger_accounts/{made.json()['id']}"
        renamed = http.put(path, json={"label": "Pains 5,5 %"})
        with pennylane_sandbox.contract.bad_requests_expected():
            enabled = http.put(path, json={"enabled": False})
        read = http.get(path).json()
    assert (made.status_code, again.status_code, other_rate.status_code) == (201, 422, 201)
    assert (made.json()["type"], made.json()["enabled"], made.json()["vat_rate"]) == ("custom", True, "any")
    assert (renamed.status_code, enabled.status_code, read["label"]) == (200, 400, "Pains 5,5 %")


def test_creating_a_411_account_makes_a_customer_for_ever(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        account = http.post("/ledger_accounts", json={"number": "411000", "label": "Clients divers"}).json()
        customers = http.get("/customers").json()["items"]
    assert account["type"] == "customer"
    assert [(item["name"], item["customer_type"], item["ledger_account"]) for item in customers] == [
        ("Clients divers", "company", {"id": account["id"]})
    ]


def test_journals_start_with_the_usual_ones_and_take_new_ones(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        made = http.post("/journals", json={"code": "K1", "label": "Caisse 1"})
        again = http.post("/journals", json={"code": "K1", "label": "Caisse 1"})
        listed = {item["code"]: item["type"] for item in http.get("/journals", params={"limit": "100"}).json()["items"]}
        custom = http.get("/journals", params=_where("type", "eq", "custom")).json()["items"]
        with pennylane_sandbox.contract.bad_requests_expected():
            long = http.post("/journals", json={"code": "CAISSE1", "label": "Caisse 1"})
    assert (made.status_code, again.status_code, long.status_code) == (201, 422, 400)
    assert (listed["VT"], listed["HA"], listed["K1"]) == ("sales", "purchases", "custom")
    assert [item["id"] for item in custom] == [made.json()["id"]]


# Customers ----------------------------------------------------------------------------------------------------------


def test_a_customer_gets_a_411_account_of_its_own(pennylane_sandbox: PennylaneHandle) -> None:
    body = {"name": "Café de l'Été", "billing_address": ADDRESS, "external_reference": "kash-7", "emails": ["a@b.fr"]}
    with pennylane_sandbox.client() as http:
        made = http.post("/company_customers", json=body).json()
        twin = http.post("/company_customers", json=body | {"external_reference": "kash-8"}).json()
        accounts = [http.get(f"/ledger_accounts/{item['ledger_account']['id']}").json() for item in (made, twin)]
        found = http.get("/customers", params=_where("external_reference", "eq", "kash-7")).json()["items"]
        by_mail = http.get("/customers", params=_where("emails", "in", ["a@b.fr"])).json()["items"]
    assert all(account["number"].startswith("411") and account["type"] == "customer" for account in accounts)
    assert accounts[0]["number"] != accounts[1]["number"]
    assert accounts[0]["letterable"]
    assert [(item["id"], item["customer_type"]) for item in found] == [(made["id"], "company")]
    assert len(by_mail) == 2
    assert made["delivery_address"] == {"address": "", "postal_code": "", "city": "", "country_alpha2": ""}


def test_an_external_reference_is_taken_once(pennylane_sandbox: PennylaneHandle) -> None:
    person = {"first_name": "Ana", "last_name": "Le Goff", "billing_address": ADDRESS, "external_reference": "kash-9"}
    with pennylane_sandbox.client() as http:
        made = http.post("/individual_customers", json=person)
        again = http.post("/individual_customers", json=person)
        company = http.post(
            "/company_customers", json={"name": "X", "billing_address": ADDRESS, "external_reference": "kash-9"}
        )
        other = http.post("/company_customers", json={"name": "Y", "billing_address": ADDRESS}).json()
        moved = http.put(f"/company_customers/{other['id']}", json={"external_reference": "kash-9"})
    assert (made.status_code, again.status_code, company.status_code, moved.status_code) == (201, 409, 409, 409)
    assert made.json()["name"] == "Ana Le Goff"


def test_a_customer_deleted_by_a_person_leaves_the_account_and_a_line_in_the_changelog(
    pennylane_sandbox: PennylaneHandle,
) -> None:
    body = {"name": "Y", "billing_address": ADDRESS, "external_reference": "kash-7"}
    with pennylane_sandbox.client() as http:
        made = http.post("/company_customers", json=body).json()
        pennylane_sandbox.admin.delete_customer(made["id"])
        assert http.get("/customers").json()["items"] == []
        assert http.get(f"/ledger_accounts/{made['ledger_account']['id']}").status_code == 200
        assert http.get("/changelogs/customers").json()["items"][-1]["operation"] == "delete"
        assert http.post("/company_customers", json=body).status_code == 201
    with pytest.raises(SandboxError, match="no customer"):
        pennylane_sandbox.admin.delete_customer(made["id"])


def test_a_customer_is_changed_in_parts(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        made = http.post("/company_customers", json={"name": "Y", "billing_address": ADDRESS}).json()
        path = f"/company_customers/{made['id']}"
        changed = http.put(path, json={"billing_address": {"city": "Quimper"}, "vat_number": "FR00123456782"}).json()
        with pennylane_sandbox.contract.bad_requests_expected():
            account = http.put(path, json={"ledger_account": {"number": "411X"}})
        assert http.get(f"/individual_customers/{made['id']}").status_code == 404
        changes = http.get("/changelogs/customers").json()["items"]
    assert changed["billing_address"] == ADDRESS | {"city": "Quimper"}
    assert (changed["name"], changed["vat_number"]) == ("Y", "FR00123456782")
    assert account.status_code == 400
    assert [(item["id"], item["operation"]) for item in changes] == [(made["id"], "insert"), (made["id"], "update")]


# Files --------------------------------------------------------------------------------------------------------------

PDF = b"%PDF-1.4\n\x00\xff trailer"


def test_a_file_is_kept_and_shows_on_its_entry(pennylane_sandbox: PennylaneHandle) -> None:
    admin = pennylane_sandbox.admin
    with pennylane_sandbox.client() as http:
        file = http.post("/file_attachments", files={"file": ("z.pdf", PDF, "application/pdf")}).json()
        entry = http.post(
            "/ledger_entries",
            json={
                "date": "2026-11-23",
                "label": "Z",
                "journal_id": admin.journal_id("VT"),
                "file_attachment_id": file["id"],
                "ledger_entry_lines": [
                    {"debit": "1.00", "credit": "0.00", "ledger_account_id": admin.account_id("530")},
                    {"debit": "0.00", "credit": "1.00", "ledger_account_id": admin.account_id("706")},
                ],
            },
        ).json()
        assert http.get(entry["attachment"]["url"]).content == PDF
    assert entry["attachment"]["filename"] == "z.pdf"
    assert [stored.content for stored in admin.files()] == [PDF]


def test_only_pdf_and_images_are_taken(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        text = http.post("/file_attachments", files={"file": ("z.txt", b"Z", "text/plain")})
        with pennylane_sandbox.contract.bad_requests_expected():
            nothing = http.post("/file_attachments", files={"other": ("z.pdf", PDF, "application/pdf")})
            as_json = http.post("/file_attachments", json={"file": "z"})
            listed = http.get("/file_attachments")
    assert [answer.status_code for answer in (text, nothing, as_json, listed)] == [422, 400, 400, 404]


def test_a_file_has_a_name_of_at_most_255(pennylane_sandbox: PennylaneHandle) -> None:
    file = {"file": ("z.pdf", PDF, "application/pdf")}
    with pennylane_sandbox.client() as http:
        longest = http.post("/file_attachments", files=file, data={"filename": "z" * 255})
        with pennylane_sandbox.contract.bad_requests_expected():
            longer = http.post("/file_attachments", files=file, data={"filename": "z" * 256})
    assert [answer.status_code for answer in (longest, longer)] == [201, 400]
    assert [stored.filename for stored in pennylane_sandbox.admin.files()] == ["z" * 255]


def test_a_file_of_more_than_100_mb_is_refused() -> None:
    """Without HTTP: the copies that server and contract check make of 100 MB take 1.7 GB."""
    too_large = Upload({}, {"file": ("z.pdf", "application/pdf", bytes(100 * 1024 * 1024 + 1))})
    with pytest.raises(Problem) as refused:
        files.upload(SimpleNamespace(body=too_large))  # type: ignore[arg-type]
    assert (refused.value.status, "100 MB" in str(refused.value.body)) == (400, True)


# Periods ------------------------------------------------------------------------------------------------------------


def test_several_years_are_open_and_one_is_closed(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        years = _everything(http, "/fiscal_years", sort="start")
    assert [year["start"] for year in years if year["status"] == "closed"] == ["2009-01-01"]
    assert len([year for year in years if year["status"] == "open"]) > 2
    assert years[0]["start"] == "2009-01-01"


def test_a_year_the_accountant_closes_refuses_entries(pennylane_sandbox: PennylaneHandle) -> None:
    admin = pennylane_sandbox.admin
    admin.set_fiscal_year(pennylane.FiscalYear(date(2025, 1, 1), date(2025, 12, 31), "frozen"))
    line = {"debit": "1.00", "credit": "0.00", "ledger_account_id": admin.account_id("530")}
    body = {
        "date": "2025-06-01",
        "label": "Z",
        "journal_id": admin.journal_id("VT"),
        "ledger_entry_lines": [line, line | {"debit": "0.00", "credit": "1.00"}],
    }
    with pennylane_sandbox.client() as http:
        refused = http.post("/ledger_entries", json=body)
        admin.set_fiscal_year(pennylane.FiscalYear(date(2025, 1, 1), date(2025, 12, 31), "reopen"))
        taken = http.post("/ledger_entries", json=body)
    assert (refused.status_code, taken.status_code) == (422, 201)


def test_the_trial_balance_sums_ids_of_one_number(pennylane_sandbox: PennylaneHandle) -> None:
    admin = pennylane_sandbox.admin
    lines = [
        {"debit": "30.00", "credit": "0.00", "ledger_account_id": admin.account_id("530")},
        {"debit": "0.00", "credit": "10.00", "ledger_account_id": admin.account_id("706")},
        {"debit": "0.00", "credit": "20.00", "ledger_account_id": admin.account_id("706", vat_rate="FR_200")},
    ]
    body = {
        "date": "2026-11-23",
        "label": "Z",
        "journal_id": admin.journal_id("VT"),
        "ledger_entry_lines": lines,
    }
    period = {"period_start": "2026-11-01", "period_end": "2026-11-30"}
    with pennylane_sandbox.client() as http:
        http.post("/ledger_entries", json=body)
        http.post("/ledger_entries", json=body | {"date": "2026-12-01"})
        items = http.get("/trial_balance", params=period).json()["items"]
    assert [(item["number"], item["debits"], item["credits"]) for item in items] == [
        ("530", "30.0", "0.0"),
        ("706", "0.0", "30.0"),
    ]


# What is not there, what survives -----------------------------------------------------------------------------------


def test_operations_without_a_stand_in_are_not_found(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        answer = http.post("/exports/fecs", json={"period_start": "2026-01-01", "period_end": "2026-12-31"})
        assert answer.status_code == 404
        with pennylane_sandbox.contract.bad_requests_expected():
            assert http.get("/ledger_attachments").status_code == 404
            assert http.post("/me").status_code == 404


def test_a_restarted_sandbox_has_lost_nothing(make_pennylane_sandbox: Callable[..., PennylaneHandle]) -> None:
    first = make_pennylane_sandbox(limiter=None)
    pair = first.admin.connect(CLIENT_ID)
    with first.client() as http:
        journal = http.post("/journals", json={"code": "K1", "label": "Caisse 1"}).json()
    again = pennylane.create_app(first.engine, limiter=None, clients={CLIENT_ID: (CLIENT_SECRET, (REDIRECT_URI,))})
    checked = ContractChecked(again)
    with serving(checked) as url, httpx.Client(base_url=f"{url}/api/external/v2") as http:
        headers = {"authorization": f"Bearer {pair.access_token}"}
        assert http.get(f"/journals/{journal['id']}", headers=headers).json()["code"] == "K1"
        assert len(http.get("/ledger_accounts", params={"limit": "1000"}, headers=headers).json()["items"]) < 1000
    checked.assert_kept()


def test_values_postgresql_cannot_hold_are_bad_requests(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        nul = http.post("/journals", json={"code": "K9", "label": "a\x00b"})
        with pennylane_sandbox.contract.bad_requests_expected():
            huge = http.get(f"/journals/{10**30}")
    assert (nul.status_code, huge.status_code) == (400, 404)


def test_a_kept_sandbox_opens_the_years_of_newer_data(
    make_pennylane_sandbox: Callable[..., PennylaneHandle],
) -> None:
    """Known years stay as the accountant left them."""
    first = make_pennylane_sandbox(
        limiter=None, fiscal_years=[pennylane.FiscalYear(date(2024, 1, 1), date(2024, 12, 31), "closed")]
    )
    wanted = [pennylane.FiscalYear(date(year, 1, 1), date(year, 12, 31), "open") for year in (2024, 2025)]
    pennylane.create_app(first.engine, limiter=None, fiscal_years=wanted)
    with first.client() as http:
        years = _everything(http, "/fiscal_years", sort="start")
    assert [(year["start"], year["status"]) for year in years] == [("2024-01-01", "closed"), ("2025-01-01", "open")]


def test_sandboxes_starting_at_once_do_not_collide(pennylane_database: str) -> None:
    with psycopg.connect(pennylane_database, autocommit=True) as connection:
        connection.execute("drop schema if exists sandbox_pennylane cascade")
    url = sa.make_url(pennylane_database).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, poolclass=NullPool)
    with ThreadPoolExecutor(4) as pool:
        apps = list(pool.map(lambda _: pennylane.create_app(engine), range(4)))
    assert len({app.admin.account_id("530") for app in apps}) == 1
