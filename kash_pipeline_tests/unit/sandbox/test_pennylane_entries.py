"""What the PennyLane sandbox promises about entries, lines and their lists: one test a promise."""

import json
from datetime import date
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


def test_a_repeat_makes_a_duplicate(pennylane_sandbox: PennylaneHandle) -> None:
    """PennyLane has no idempotency key: whoever sends twice books twice."""
    body = _entry(pennylane_sandbox)
    with pennylane_sandbox.client() as http:
        first, second = (http.post("/ledger_entries", json=body).json() for _ in range(2))
    assert first["id"] != second["id"]
    assert [entry.piece_number for entry in pennylane_sandbox.admin.entries()] == ["K1-Z0412"] * 2


def test_amounts_lose_their_trailing_zeros(pennylane_sandbox: PennylaneHandle) -> None:
    lines = [
        _line(pennylane_sandbox, "530", debit="100.00", label="a"),
        _line(pennylane_sandbox, "511", debit="12.50", label="b"),
        _line(pennylane_sandbox, "580", debit="0.05", label="c"),
        _line(pennylane_sandbox, "706", credit="112.55", label="d"),
    ]
    with pennylane_sandbox.client() as http:
        written = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=lines)).json()
        read = http.get(f"/ledger_entries/{written['id']}").json()
    for answer in (written, read):
        sides = {line["label"]: (line["debit"], line["credit"]) for line in answer["ledger_entry_lines"]}
        assert sides == {"a": ("100.0", "0.0"), "b": ("12.5", "0.0"), "c": ("0.05", "0.0"), "d": ("0.0", "112.55")}


def test_lines_come_back_in_another_order(pennylane_sandbox: PennylaneHandle) -> None:
    """Neither the answer, nor a later reading, nor sorting by id gives the order that was sent."""
    lines = [_line(pennylane_sandbox, "530", debit="1.00", label=str(number)) for number in range(30)]
    lines.append(_line(pennylane_sandbox, "706", credit="30.00", label="30"))
    with pennylane_sandbox.client() as http:
        written = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=lines)).json()
        read = http.get(f"/ledger_entries/{written['id']}").json()
    sent = [line["label"] for line in lines]
    for answer in (written, read):
        labels = [line["label"] for line in answer["ledger_entry_lines"]]
        by_id = [line["label"] for line in sorted(answer["ledger_entry_lines"], key=lambda line: line["id"])]
        assert sorted(labels) == sorted(by_id) == sorted(sent)
        assert sent not in (labels, by_id)


def test_unbalanced_entries_are_refused_and_leave_nothing(pennylane_sandbox: PennylaneHandle) -> None:
    lines = [_line(pennylane_sandbox, "530", debit="10.00"), _line(pennylane_sandbox, "706", credit="9.99")]
    with pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=lines))
    assert answer.status_code == 422
    assert answer.json() == {"error": "Entry lines are not balanced", "status": 422}
    assert pennylane_sandbox.admin.entries() == []


@pytest.mark.parametrize(
    ("debit", "credit"), [("0.00", "0.00"), ("1.00", "1.00"), ("-1.00", "0.00"), ("1.001", "0.00"), ("", "")]
)
def test_lines_need_one_side_in_whole_cents(pennylane_sandbox: PennylaneHandle, debit: str, credit: str) -> None:
    """What PennyLane does with these is unknown; ours must not come to rely on it."""
    lines = [_line(pennylane_sandbox, "530", debit=debit, credit=credit)] * 2
    with pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=lines))
    assert answer.status_code == 422
    assert pennylane_sandbox.admin.entries() == []


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"external_reference": "mine"}, "NotExistPropertyDefinition", None),
        ({"ledger_attachment_id": 12}, "NotExistPropertyDefinition", None),
        ({"date": "23/11/2026"}, "InvalidDateFormat", "date"),
        ({"label": None}, "NotNullError", "label"),
        ({"currency": "XYZ"}, "NotEnumInclude", "currency"),
        ({"journal_id": "12"}, "ValidateError", "journal_id"),
        ({"ledger_entry_lines": []}, "LessThanMinItems", "ledger_entry_lines"),
    ],
)
def test_objects_are_closed_and_typed(
    pennylane_sandbox: PennylaneHandle, change: dict[str, Any], code: str, field: str | None
) -> None:
    with pennylane_sandbox.contract.bad_requests_expected(), pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=_entry(pennylane_sandbox, **change))
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json().get("field")) == (code, field)
    assert pennylane_sandbox.admin.entries() == []


def test_amounts_must_be_strings(pennylane_sandbox: PennylaneHandle) -> None:
    lines = [_line(pennylane_sandbox, "530") | {"debit": 120.0}, _line(pennylane_sandbox, "706", credit="120.00")]
    with pennylane_sandbox.contract.bad_requests_expected(), pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=lines))
    assert (answer.status_code, answer.json()["field"]) == (400, "ledger_entry_lines.0.debit")


def test_a_missing_field_is_named(pennylane_sandbox: PennylaneHandle) -> None:
    body = _entry(pennylane_sandbox)
    del body["label"]
    with pennylane_sandbox.contract.bad_requests_expected(), pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "NotExistRequiredKey")
    assert "label" in answer.json()["message"]


def test_a_thousand_lines_pass_and_one_more_does_not(pennylane_sandbox: PennylaneHandle) -> None:
    pair = [_line(pennylane_sandbox, "530", debit="1.00"), _line(pennylane_sandbox, "706", credit="1.00")]
    with pennylane_sandbox.client() as http:
        full = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=pair * 500))
        with pennylane_sandbox.contract.bad_requests_expected():
            over = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=pair * 501))
    assert (full.status_code, over.status_code) == (201, 400)
    assert over.json()["code"] == "MoreThanMaxItems"


@pytest.mark.parametrize("day", ["2009-12-31", "2008-01-01", "2099-01-01"])
def test_days_outside_open_years_are_refused(pennylane_sandbox: PennylaneHandle, day: str) -> None:
    """Closed year, before every year, after every year."""
    with pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=_entry(pennylane_sandbox, date=day))
    assert answer.status_code == 422
    assert "year" in answer.json()["error"]
    assert pennylane_sandbox.admin.entries() == []


def test_a_disabled_account_is_refused(pennylane_sandbox: PennylaneHandle) -> None:
    """531 and 5112, favourites of accountants, are off in the default chart."""
    for number in ("531", "5112", "4197"):
        lines = [_line(pennylane_sandbox, number, debit="1.00"), _line(pennylane_sandbox, "706", credit="1.00")]
        with pennylane_sandbox.client() as http:
            answer = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=lines))
        assert answer.status_code == 422
        assert number in answer.json()["error"]


def test_ids_of_another_company_are_not_found(pennylane_sandbox: PennylaneHandle) -> None:
    """A mapping copied between companies fails like this: the same numbers have other ids there."""
    pennylane_sandbox.admin.add_company("Autre Société")
    theirs = pennylane_sandbox.admin.account_id("706", "Autre Société")
    assert theirs != pennylane_sandbox.admin.account_id("706")
    lines = [
        _line(pennylane_sandbox, "530", debit="1.00"),
        {"debit": "0.00", "credit": "1.00", "ledger_account_id": theirs},
    ]
    with pennylane_sandbox.client() as http:
        by_account = http.post("/ledger_entries", json=_entry(pennylane_sandbox, ledger_entry_lines=lines))
        journal = pennylane_sandbox.admin.journal_id("VT", "Autre Société")
        by_journal = http.post("/ledger_entries", json=_entry(pennylane_sandbox, journal_id=journal))
        entry = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
    assert (by_account.status_code, by_journal.status_code) == (404, 404)
    assert by_account.json()["error"] == f"Couldn't find LedgerAccount with 'id'={theirs}"
    other = pennylane_sandbox.admin.company_token(company="Autre Société")
    with pennylane_sandbox.client(other) as http:
        assert http.get(f"/ledger_entries/{entry['id']}").status_code == 404
        assert http.get("/ledger_entries").json()["items"] == []


def test_without_a_piece_number_pennylane_makes_one(pennylane_sandbox: PennylaneHandle) -> None:
    body = _entry(pennylane_sandbox)
    del body["piece_number"]
    with pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=body).json()
    assert len(answer["piece_number"]) == 10
    assert answer["piece_number"].isalnum()


def test_ids_do_not_fit_32_bits(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        answer = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
    ids = [answer["id"], answer["journal"]["id"], *(line["id"] for line in answer["ledger_entry_lines"])]
    assert min(ids) > 2**32


# Lists --------------------------------------------------------------------------------------------------------------


def _post_days(sandbox: PennylaneHandle, http: httpx.Client, count: int) -> list[int]:
    return [
        http.post("/ledger_entries", json=_entry(sandbox, date=f"2026-10-{day:02d}", piece_number=f"P{day}")).json()[
            "id"
        ]
        for day in range(1, count + 1)
    ]


def test_lists_give_twenty_newest_first(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        ids = _post_days(pennylane_sandbox, http, 25)
        page = http.get("/ledger_entries").json()
    assert [item["id"] for item in page["items"]] == ids[::-1][:20]
    assert page["has_more"] is True
    assert [page[key] for key in ("total_pages", "current_page", "per_page", "total_items")] == [None] * 4


def test_a_cursor_forgets_the_filter_that_is_not_sent_again(pennylane_sandbox: PennylaneHandle) -> None:
    """The trap: page 2 without the filter quietly holds everything."""
    with pennylane_sandbox.client() as http:
        own = http.post("/journals", json={"code": "POS1", "label": "Caisse 1"}).json()["id"]
        others = [http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()["id"] for _ in range(3)]
        mine = [
            http.post("/ledger_entries", json=_entry(pennylane_sandbox, journal_id=own)).json()["id"] for _ in range(3)
        ]
        asked = _only(field="journal_id", operator="eq", value=own) | {"limit": "2"}
        first = http.get("/ledger_entries", params=asked).json()
        assert [item["id"] for item in first["items"]] == [mine[2], mine[1]]
        sent_again = http.get("/ledger_entries", params=asked | {"cursor": first["next_cursor"]}).json()
        forgotten = http.get("/ledger_entries", params={"limit": "2", "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in sent_again["items"]] == [mine[0]]
    assert sent_again["next_cursor"] is None
    assert [item["id"] for item in forgotten["items"]] == [mine[0], others[2]]


@pytest.mark.parametrize("sort", ["id", "-id", "date", "-date"])
def test_paging_gives_every_entry_once_in_every_order(pennylane_sandbox: PennylaneHandle, sort: str) -> None:
    with pennylane_sandbox.client() as http:
        ids = _post_days(pennylane_sandbox, http, 7) + _post_days(pennylane_sandbox, http, 4)
        found, cursor = [], None
        while True:
            page = http.get(
                "/ledger_entries", params={"limit": "3", "sort": sort} | ({"cursor": cursor} if cursor else {})
            ).json()
            found += [(item["date"], item["id"]) for item in page["items"]]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
    assert sorted(number for _, number in found) == sorted(ids)
    key = (lambda pair: pair[1]) if sort.endswith("id") else None
    assert found == sorted(found, key=key, reverse=sort.startswith("-"))


def test_entries_are_found_by_journal_and_day(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        ids = _post_days(pennylane_sandbox, http, 3)
        journal = pennylane_sandbox.admin.journal_id("VT")
        conditions = [
            {"field": "journal_id", "operator": "eq", "value": journal},
            {"field": "date", "operator": "eq", "value": "2026-10-02"},
        ]
        one = http.get("/ledger_entries", params={"filter": json.dumps(conditions)}).json()["items"]
        later = http.get("/ledger_entries", params=_only(field="date", operator="gteq", value="2026-10-02")).json()
        some = http.get("/ledger_entries", params=_only(field="id", operator="in", value=[ids[0], ids[2], 7])).json()
    assert [(item["id"], item["piece_number"]) for item in one] == [(ids[1], "P2")]
    assert [item["id"] for item in later["items"]] == [ids[2], ids[1]]
    assert [item["id"] for item in some["items"]] == [ids[2], ids[0]]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "101"},
        {"limit": "0"},
        {"limit": "many"},
        {"sort": "created_at"},
        {"cursor": "bm9uc2Vuc2U="},
        {"filter": "not json"},
        {"filter": '[{"field": "piece_number", "operator": "eq", "value": "K1-Z0412"}]'},
        {"filter": '[{"field": "date", "operator": "gte", "value": "2026-01-01"}]'},
        {"filter": '[{"field": "date", "operator": "eq", "value": "yesterday"}]'},
        {"filter": '[{"field": "journal_id", "operator": "eq", "value": "VT"}]'},
    ],
)
def test_lists_refuse_what_they_cannot_do(pennylane_sandbox: PennylaneHandle, params: dict[str, str]) -> None:
    """Above all: no list can be asked for a piece number."""
    with pennylane_sandbox.contract.bad_requests_expected(), pennylane_sandbox.client() as http:
        answer = http.get("/ledger_entries", params=params)
    assert answer.status_code == 400
    assert answer.json()["message"]


# Changing -----------------------------------------------------------------------------------------------------------


def test_an_entry_can_be_changed_while_it_balances(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        entry = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
        line = {item["ledger_account"]["number"]: item["id"] for item in entry["ledger_entry_lines"]}
        patch = {
            "update": [{"id": line["530"], "debit": "60.00"}],
            "delete": [{"id": line["44571"]}],
            "create": [_line(pennylane_sandbox, "511", debit="40.00", label="cheques")],
        }
        changed = http.put(f"/ledger_entries/{entry['id']}", json={"label": "Z 0412 b", "ledger_entry_lines": patch})
        lopsided = {"ledger_entry_lines": {"update": [{"id": line["530"], "debit": "61.00"}]}}
        refused = http.put(f"/ledger_entries/{entry['id']}", json=lopsided)
    assert (changed.status_code, refused.status_code) == (200, 422)
    [now] = pennylane_sandbox.admin.entries()
    assert now.label == "Z 0412 b"
    assert sorted((item.account, item.debit_cents - item.credit_cents) for item in now.lines) == [
        ("511", 4000),
        ("530", 6000),
        ("706", -10000),
    ]


def test_an_entry_does_not_move_into_a_closed_year(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        entry = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
        answer = http.put(f"/ledger_entries/{entry['id']}", json={"date": "2009-06-01"})
    assert answer.status_code == 422
    assert [str(item.date) for item in pennylane_sandbox.admin.entries()] == ["2026-11-23"]


def test_there_is_no_deletion(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.contract.bad_requests_expected(), pennylane_sandbox.client() as http:
        entry = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
        assert http.delete(f"/ledger_entries/{entry['id']}").status_code == 404
    assert len(pennylane_sandbox.admin.entries()) == 1


# Lettering ----------------------------------------------------------------------------------------------------------


def _customer_lines(sandbox: PennylaneHandle, http: httpx.Client) -> list[int]:
    """Ids of three lines on 411: 30.00 debit, 20.00 credit, 10.00 credit."""
    account = sandbox.admin.account_id("411")
    ids = []
    for debit, credit in (("30.00", "0.00"), ("0.00", "20.00"), ("0.00", "10.00")):
        lines = [
            {"debit": debit, "credit": credit, "ledger_account_id": account},
            _line(sandbox, "471", debit=credit, credit=debit),
        ]
        entry = http.post("/ledger_entries", json=_entry(sandbox, ledger_entry_lines=lines)).json()
        ids += [line["id"] for line in entry["ledger_entry_lines"] if line["ledger_account"]["number"] == "411"]
    return ids


def _body(*ids: int, strategy: str = "none") -> dict[str, Any]:
    return {
        "unbalanced_lettering_strategy": strategy,
        "ledger_entry_lines": [{"id": identifier} for identifier in ids],
    }


def test_balanced_lines_are_lettered_and_unlettered_with_a_body(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        ids = _customer_lines(pennylane_sandbox, http)
        lettered = http.post("/ledger_entry_lines/lettering", json=_body(*ids))
        assert (lettered.status_code, lettered.json()) == (200, [{"id": identifier} for identifier in sorted(ids)])
        line = http.get(f"/ledger_entry_lines/{ids[0]}").json()
        assert line["lettered_ledger_entry_lines"]["ids"] == sorted(ids)
        page = http.get(f"/ledger_entry_lines/{ids[0]}/lettered_ledger_entry_lines").json()
        assert sorted(item["id"] for item in page["items"]) == sorted(ids)
        gone = http.request("DELETE", "/ledger_entry_lines/lettering", json=_body(*ids))
        assert (gone.status_code, gone.content) == (204, b"")
        assert http.get(f"/ledger_entry_lines/{ids[0]}").json()["lettered_ledger_entry_lines"]["ids"] == []


def test_unlettering_without_its_body_is_refused(pennylane_sandbox: PennylaneHandle) -> None:
    """The trap: many HTTP helpers drop the body of a DELETE."""
    with pennylane_sandbox.contract.bad_requests_expected(), pennylane_sandbox.client() as http:
        ids = _customer_lines(pennylane_sandbox, http)
        http.post("/ledger_entry_lines/lettering", json=_body(*ids))
        assert http.delete("/ledger_entry_lines/lettering").status_code == 400
        assert http.get(f"/ledger_entry_lines/{ids[0]}").json()["lettered_ledger_entry_lines"]["ids"] == sorted(ids)


def test_an_unbalanced_group_needs_the_partial_strategy(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        ids = _customer_lines(pennylane_sandbox, http)
        assert http.post("/ledger_entry_lines/lettering", json=_body(*ids[:2])).status_code == 422
        assert http.post("/ledger_entry_lines/lettering", json=_body(*ids[:2], strategy="partial")).status_code == 200
        merged = http.post("/ledger_entry_lines/lettering", json=_body(ids[0], ids[2])).json()
    assert sorted(line["id"] for line in merged) == sorted(ids)


def test_accounts_that_are_not_letterable_refuse(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        entry = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
        ids = [line["id"] for line in entry["ledger_entry_lines"]]
        answer = http.post("/ledger_entry_lines/lettering", json=_body(*ids))
    assert answer.status_code == 422


def test_a_lettered_line_keeps_its_amount(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        ids = _customer_lines(pennylane_sandbox, http)
        http.post("/ledger_entry_lines/lettering", json=_body(*ids))
        line = http.get(f"/ledger_entry_lines/{ids[0]}").json()
        lines = http.get(f"/ledger_entries/{line['ledger_entry']['id']}/ledger_entry_lines").json()["items"]
        other = next(item["id"] for item in lines if item["id"] != ids[0])
        patch = {"update": [{"id": ids[0], "debit": "31.00"}, {"id": other, "credit": "31.00"}]}
        answer = http.put(f"/ledger_entries/{line['ledger_entry']['id']}", json={"ledger_entry_lines": patch})
    assert answer.status_code == 422


# The accountant's hand ----------------------------------------------------------------------------------------------


def test_the_accountant_deletes_and_only_the_line_changelog_tells(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        entry = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
        pennylane_sandbox.admin.delete_entry(entry["id"])
        assert http.get(f"/ledger_entries/{entry['id']}").status_code == 404
        changes = http.get("/changelogs/ledger_entry_lines", params={"limit": "1000"}).json()["items"]
    ids = sorted(line["id"] for line in entry["ledger_entry_lines"])
    assert sorted(item["id"] for item in changes if item["operation"] == "insert") == ids
    assert sorted(item["id"] for item in changes if item["operation"] == "delete") == ids


def test_edits_and_the_freeze_date(pennylane_sandbox: PennylaneHandle) -> None:
    """A freeze date stops writing before it, and no field of the API shows it."""
    with pennylane_sandbox.client() as http:
        entry = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
        pennylane_sandbox.admin.edit_entry(entry["id"], label="corrigé")
        pennylane_sandbox.admin.freeze(date(2026, 12, 1))
        assert http.get(f"/ledger_entries/{entry['id']}").json()["label"] == "corrigé"
        frozen = http.post("/ledger_entries", json=_entry(pennylane_sandbox))
        later = http.post("/ledger_entries", json=_entry(pennylane_sandbox, date="2026-12-01"))
        assert "frozen" not in http.get("/fiscal_years").text
    assert (frozen.status_code, later.status_code) == (422, 201)
    assert "frozen" in frozen.json()["error"]


def test_the_line_changelog_knows_what_was_updated(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        entry = http.post("/ledger_entries", json=_entry(pennylane_sandbox)).json()
        touched = entry["ledger_entry_lines"][0]["id"]
        pennylane_sandbox.admin.edit_line(touched, label="autre libellé")
        changes = http.get("/changelogs/ledger_entry_lines").json()["items"]
    assert [item["id"] for item in changes if item["operation"] == "update"] == [touched]


def test_changelogs_reach_back_four_weeks(pennylane_sandbox: PennylaneHandle) -> None:
    with pennylane_sandbox.client() as http:
        old = http.get("/changelogs/ledger_entry_lines", params={"start_date": "2020-01-01T00:00:00Z"})
        http.post("/ledger_entries", json=_entry(pennylane_sandbox))
        cursor = http.get("/changelogs/ledger_entry_lines", params={"limit": "1"}).json()["next_cursor"]
        both = http.get(
            "/changelogs/ledger_entry_lines", params={"start_date": "2099-01-01T00:00:00Z", "cursor": cursor}
        )
    assert (old.status_code, both.status_code) == (422, 400)
