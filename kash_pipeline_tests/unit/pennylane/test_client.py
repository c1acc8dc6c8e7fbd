"""What the client does with each answer PennyLane may give: raise the right error, repeat only what is safe.

Every request is held against the contract. The statuses of pennylane-api.md section 6 are in STATUSES; of its section
12, "Traps", these concern us, each with the test that fails without the handling (files without a folder are beside
this one; sandbox means end_to_end/test_publish.py, where the sandbox shows the trap over HTTP):

     1  filter left out of page 2       test_filter_and_sort_go_with_every_page
     2  default page of 20              test_the_chart_is_read_in_pages_of_a_thousand
     3  trailing zeros dropped          test_amounts_are_sent_as_strings_..., test_comparing.py, sandbox
     4  order of lines changes          test_comparing.py, sandbox: test_remote_line_ids_...
     5  fields of older tutorials       contract/test_pennylane_contract.py: test_the_check_finds_bad_requests
     7  404 for another company's id    test_a_404_asks_whether_..., sandbox: ..._another_company_...
     8  403 names a scope, or `ledger`  test_a_403_names_its_scope, test_auth.py: test_scopes_are_the_least_...
     9  429 in plain text               test_both_error_shapes_and_the_plain_text_429_are_read
    10  411/401 makes a third party     test_a_customer_account_is_never_created_as_a_plain_account
    11  disabled accounts look alike    test_reference.py: test_disabled_and_missing_accounts_are_named_together
    12  no VAT field on lines           unit/accounting/test_orders.py, test_properties.py
    13  DELETE with a body              test_unlettering_is_a_delete_with_a_body
    14  a lost file id is a lost file   end_to_end/test_publish_evidence.py: ..._dropped_is_uploaded_again
    16  two refreshes end a connection  test_auth.py: test_twenty_processes_..., test_a_lost_new_pair_...
    17  client_secret_post              test_auth.py: test_a_consent_stores_... (the sandbox takes nothing else)
    18  freeze date invisible           test_a_422_about_dates_..., sandbox: test_a_freeze_date_...
    19  the accountant edits, deletes   end_to_end/test_publish_changes.py: test_edits_deletions_moves_...
    20  the host is app.pennylane.com   test_the_host_is_the_documented_one
     -  several ids for one number      test_reference.py: test_of_several_ids_of_a_number_...

Not ours: 6 (no id of before the switch is kept), 15 (no exports), 21, 22.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from urllib.parse import parse_qs

import httpx
import pytest

from kash_pipeline.pennylane import errors
from kash_pipeline.pennylane.client import LABEL_LENGTH, NewEntry, NewLine, PennylaneClient, euros
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.settings import PennylaneSection
from kash_pipeline_tests.contract.checking import request_violation

TOKEN = "tok-very-secret"


class Tokens:
    """Gives a token; when it is rejected, another one, once."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens or [TOKEN])

    def access_token(self) -> str:
        return self.tokens[0]

    def replace(self, rejected: str) -> str:
        if len(self.tokens) < 2:
            raise errors.ConnectAgain("the connection is gone", next_step="kash-pipeline pennylane login")
        assert self.tokens.pop(0) == rejected
        return self.tokens[0]


class Server:
    """Answers from a script, the last one for ever; keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        headers = dict(request.headers)
        wrong = request_violation(
            "pennylane", request.method, request.url.path, request.url.query.decode(), headers, request.read()
        )
        assert wrong is None
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    def client(self, tokens: Tokens | None = None) -> PennylaneClient:
        return PennylaneClient(
            "https://pennylane.test",
            tokens or Tokens(),
            NoPacing(),
            transport=httpx.MockTransport(self),
            sleep=self.waits.append,
        )


def page(*items: dict[str, object], cursor: str | None = None, **leftovers: object) -> httpx.Response:
    return httpx.Response(
        200, json={"items": list(items), "has_more": bool(cursor), "next_cursor": cursor, **leftovers}
    )


def entry(**changes: object) -> dict[str, object]:
    line = {"label": "", "ledger_account": {"id": 7, "number": "706", "url": "u"}, "ledger_account_id": 7}
    return {
        "id": 55,
        "label": "Z",
        "piece_number": "B-1",
        "date": "2026-03-01",
        "journal": {"id": 3, "url": "u"},
        "ledger_entry_lines": [
            {"id": 1, "debit": "100.0", "credit": "0.0", **line},
            {"id": 2, "debit": "0.0", "credit": "100.0", **line},
        ],
        **changes,
    }


NEW = NewEntry(3, date(2026, 3, 1), "B-1", "Z", (NewLine(7, 10_000, 0, "a"), NewLine(8, 0, 10_000, "b")))

STATUSES = [
    (400, errors.BadRequest, False),
    (401, errors.ConnectAgain, False),
    (403, errors.ScopeMissing, False),
    (404, errors.NotFound, False),
    (409, errors.Conflict, False),
    (422, errors.RuleBroken, False),
    (429, errors.RateLimited, True),
    (500, errors.ServerFailed, True),
    (503, errors.ServerFailed, True),
    (302, errors.Refused, False),
]


@pytest.mark.parametrize(("status", "error", "doubtful"), STATUSES)
def test_each_status_is_one_error_and_a_posting_is_never_repeated_by_itself(
    status: int, error: type[errors.PennylaneError], doubtful: bool
) -> None:
    server = Server(
        httpx.Response(status, json={"error": "what they said", "status": status}, headers={"x-request-id": "req-9"})
    )
    with pytest.raises(error) as caught:
        server.client().create_ledger_entry(NEW)
    assert caught.value.doubtful is doubtful
    assert len(server.seen) == 1
    if status != 401:  # there the message is about the connection
        assert "what they said" in str(caught.value)
        assert "req-9" in str(caught.value)
        assert caught.value.request_id == "req-9"
    assert caught.value.next_step
    assert TOKEN not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_a_read_is_repeated_until_it_works(status: int) -> None:
    server = Server(httpx.Response(status, text="busy"), httpx.Response(status, text="busy"), page())
    assert server.client().journals() == []
    assert len(server.seen) == 3


def test_a_read_is_given_up_after_six_attempts() -> None:
    server = Server(httpx.Response(503))
    with pytest.raises(errors.ServerFailed):
        server.client().journals()
    assert len(server.seen) == 6
    assert sum(server.waits) < 60


@pytest.mark.parametrize(
    ("failure", "attempts", "error", "doubtful"),
    [
        (httpx.ConnectError("refused"), 1, errors.NotSent, False),
        (httpx.ConnectTimeout("slow"), 1, errors.NotSent, False),
        (httpx.ReadTimeout("slow"), 1, errors.AnswerLost, True),
        (httpx.RemoteProtocolError("cut"), 1, errors.AnswerLost, True),
        (httpx.ReadError("reset"), 1, errors.AnswerLost, True),
        (httpx.WriteError("reset"), 1, errors.AnswerLost, True),
    ],
)
def test_a_posting_without_an_answer_is_not_repeated_and_known_as_doubtful_or_not(
    failure: Exception, attempts: int, error: type[errors.PennylaneError], doubtful: bool
) -> None:
    server = Server(failure)
    with pytest.raises(error) as caught:
        server.client().create_ledger_entry(NEW)
    assert len(server.seen) == attempts
    assert caught.value.doubtful is doubtful


def test_another_creation_is_repeated_only_when_it_surely_never_left() -> None:
    server = Server(httpx.ConnectError("refused"), httpx.Response(201, json={"id": 1, "code": "K1"}))
    assert server.client().create_journal("K1", "Till").id == 1
    server = Server(httpx.ReadTimeout("slow"), httpx.Response(201, json={"id": 1, "code": "K1"}))
    with pytest.raises(errors.AnswerLost):
        server.client().create_journal("K1", "Till")


def test_a_posting_can_be_called_back_at_the_last_moment() -> None:
    server = Server(httpx.Response(201, json=entry()))

    def no() -> None:
        raise RuntimeError("the turn is lost")

    with pytest.raises(RuntimeError):
        server.client().create_ledger_entry(NEW, leaving=no)
    assert server.seen == []


def test_an_answer_to_a_posting_that_cannot_be_read_leaves_it_doubtful() -> None:
    for answer in (httpx.Response(201, text="<html>"), httpx.Response(201, json=entry(id="55")), httpx.Response(201)):
        with pytest.raises(errors.AnswerChanged) as caught:
            Server(answer).client().create_ledger_entry(NEW)
        assert caught.value.doubtful


def test_both_error_shapes_and_the_plain_text_429_are_read() -> None:
    guide = {"error": "unbalanced_entry", "message": "Debit 1 is not credit 2", "details": {"debit_total": "1.0"}}
    with pytest.raises(errors.RuleBroken, match="Debit 1 is not credit 2"):
        Server(httpx.Response(422, json=guide)).client().create_ledger_entry(NEW)
    text = httpx.Response(429, text="Rate limit exceeded. Please retry in 3 seconds.", headers={"retry-after": "3"})
    server = Server(text, page())
    server.client().journals()
    assert server.waits == [3.0]


@pytest.mark.parametrize(
    "body",
    [
        {"error": "date is missing", "status": 400},
        {"message": "date is missing"},
        {"message": "date is missing", "code": "NotExistRequiredKey"},
        {"message": "date is missing", "code": "NotExistRequiredKey", "field": "date"},
        {"message": "date is missing", "code": "NotExistRequiredKey", "payload": {"a": 1}},
        {"message": "date is missing", "code": "NotExistRequiredKey", "field": "date", "payload": {"a": 1}},
    ],
)
def test_each_shape_of_a_400_says_what_is_wrong(body: dict[str, object]) -> None:
    with pytest.raises(errors.BadRequest, match="HTTP 400: date is missing"):
        Server(httpx.Response(400, json=body)).client().create_ledger_entry(NEW)


def test_a_403_names_its_scope() -> None:
    body = {"error": "forbidden", "message": "Required scope(s): ledger_entries:all"}
    with pytest.raises(errors.ScopeMissing, match="ledger_entries:all") as caught:
        Server(httpx.Response(403, json=body)).client().create_ledger_entry(NEW)
    assert "login" in caught.value.next_step


def test_a_404_asks_whether_this_is_the_right_company() -> None:
    answer = httpx.Response(404, json={"error": "Couldn't find LedgerAccount with 'id'=7", "status": 404})
    with pytest.raises(errors.NotFound, match="'id'=7") as caught:
        Server(answer).client().create_ledger_entry(NEW)
    assert "this company" in caught.value.next_step


def test_the_host_is_the_documented_one() -> None:
    assert PennylaneSection().url == "https://app.pennylane.com"


def test_an_expired_token_is_replaced_once_and_the_call_sent_again() -> None:
    tokens = Tokens("old", "new")
    server = Server(httpx.Response(401, json={"error": "The access token is invalid", "status": 401}), page())
    server.client(tokens).journals()
    assert [request.headers["authorization"] for request in server.seen] == ["Bearer old", "Bearer new"]


def test_a_token_rejected_twice_ends_in_connect_again() -> None:
    server = Server(httpx.Response(401, json={"error": "The access token is invalid", "status": 401}))
    with pytest.raises(errors.ConnectAgain, match="login"):
        server.client(Tokens("old", "new")).create_ledger_entry(NEW)
    assert len(server.seen) == 2


def test_filter_and_sort_go_with_every_page() -> None:
    first = page({"id": 1, "journal": {"id": 3}, "date": "2026-03-01", "piece_number": "B-1"}, cursor="c2")
    server = Server(first, page({"id": 2, "journal": {"id": 3}, "date": None}))
    found = list(server.client().ledger_entries([3, 4], date(2026, 3, 1), date(2026, 3, 31)))
    assert [item.id for item in found] == [1, 2]
    one, two = (parse_qs(request.url.query.decode()) for request in server.seen)
    assert two.pop("cursor") == ["c2"]
    assert one == two
    assert json.loads(one["filter"][0]) == [
        {"field": "journal_id", "operator": "in", "value": [3, 4]},
        {"field": "date", "operator": "gteq", "value": "2026-03-01"},
        {"field": "date", "operator": "lteq", "value": "2026-03-31"},
    ]
    assert one["limit"] == ["100"]


def test_the_chart_is_read_in_pages_of_a_thousand() -> None:
    server = Server(page())
    server.client().ledger_accounts()
    assert parse_qs(server.seen[0].url.query.decode())["limit"] == ["1000"]


def test_the_start_of_a_changelog_is_never_sent_with_a_cursor() -> None:
    change = {"id": 1, "operation": "delete", "processed_at": "2026-03-01T10:00:00.123456Z"}
    server = Server(page(change, cursor="c2"), page(change))
    changes = list(server.client().line_changes(datetime(2026, 3, 1, tzinfo=UTC)))
    assert [item.operation for item in changes] == ["delete", "delete"]
    one, two = (parse_qs(request.url.query.decode()) for request in server.seen)
    assert "start_date" in one
    assert "cursor" not in one
    assert two == {"limit": ["1000"], "cursor": ["c2"]}


def test_cursors_that_go_in_circles_and_pages_without_a_cursor_are_refused() -> None:
    with pytest.raises(errors.AnswerChanged, match="circles"):
        Server(page(cursor="c")).client().journals()
    missing = httpx.Response(200, json={"items": [], "has_more": True, "next_cursor": None})
    with pytest.raises(errors.AnswerChanged, match="no cursor"):
        Server(missing).client().journals()


def test_leftovers_are_tolerated_and_what_we_rely_on_is_not() -> None:
    item = {"id": 1, "code": "K1", "label": "Till", "type": "custom", "brand_new_field": 1}
    server = Server(page(item, total_pages=None, current_page=None, per_page=None, total_items=None))
    assert server.client().journals()[0].code == "K1"
    with pytest.raises(errors.AnswerChanged, match="'code' is missing"):
        Server(page({"id": 1})).client().journals()


def test_amounts_are_sent_as_strings_and_read_as_decimals() -> None:
    server = Server(httpx.Response(201, json=entry()))
    written = server.client().create_ledger_entry(NEW)
    sent = json.loads(server.seen[0].content)
    assert [line["debit"] for line in sent["ledger_entry_lines"]] == ["100.00", "0.00"]
    assert [line.debit for line in written.lines] == [Decimal(100), Decimal(0)]
    assert [euros(cents) for cents in (0, 5, 123456, -7)] == ["0.00", "0.05", "1234.56", "-0.07"]


@pytest.mark.parametrize("amount", ["", "1,50", "NaN", "Infinity", 1.5, None])
def test_what_is_no_amount_is_never_taken_for_one(amount: object) -> None:
    answer = entry()
    answer["ledger_entry_lines"][0]["debit"] = amount  # type: ignore[index]
    with pytest.raises(errors.AnswerChanged, match="'debit'") as caught:
        Server(httpx.Response(201, json=answer)).client().create_ledger_entry(NEW)
    assert caught.value.doubtful


def test_labels_are_cut_at_the_shortest_documented_limit() -> None:
    long = NewEntry(3, date(2026, 3, 1), "B-1", "x" * 999, (NewLine(7, 1, 0, "y" * 999), NewLine(7, 0, 1, "")))
    body = long.body()
    assert len(body["label"]) == len(body["ledger_entry_lines"][0]["label"]) == LABEL_LENGTH


def test_unlettering_is_a_delete_with_a_body() -> None:
    server = Server(httpx.Response(204))
    server.client().unletter([1, 2])
    assert server.seen[0].method == "DELETE"
    assert json.loads(server.seen[0].content)["ledger_entry_lines"] == [{"id": 1}, {"id": 2}]


def test_a_customer_account_is_never_created_as_a_plain_account() -> None:
    server = Server(httpx.Response(201))
    for number in ("411000", "4110001", "401000"):
        with pytest.raises(ValueError, match="must not be created"):
            server.client().create_ledger_account(number, "x")
    assert server.seen == []


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("The fiscal year is closed", True),
        ("Date must be after the freeze date", True),
        ("L'exercice est clôturé", True),
        ("Entry lines are not balanced", False),
        ("Ledger account is disabled", False),
    ],
)
def test_a_422_about_dates_is_known_as_a_closed_period(text: str, closed: bool) -> None:
    with pytest.raises(errors.RuleBroken) as caught:
        Server(httpx.Response(422, json={"error": text, "status": 422})).client().create_ledger_entry(NEW)
    assert caught.value.closed_period is closed


def test_requests_are_counted_by_kind_and_the_client_shows_no_secret() -> None:
    server = Server(httpx.Response(200, json=entry()))
    client = server.client()
    client.ledger_entry(55)
    client.ledger_entry(56)
    assert client.requests == {"GET /ledger_entries/{id}": 2}
    assert client.sent == 2
    assert TOKEN not in repr(client)


@pytest.mark.parametrize("status", [400, 422, 503])
def test_an_error_about_a_customer_quotes_nothing_of_what_was_sent(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    said = "Email lea@example.org of CHEZ LÉA, 3 rue du Port, is invalid"
    server = Server(httpx.Response(status, json={"error": said, "status": status}))
    body = {
        "name": "Chez Léa",
        "emails": ["lea@example.org"],
        "billing_address": {
            "address": "3 rue du Port",
            "postal_code": "29000",
            "city": "Brest",
            "country_alpha2": "FR",
        },
        "external_reference": "kash-shop-7",
    }
    with caplog.at_level("DEBUG"), server.client() as client:
        with pytest.raises(errors.PennylaneError, match="kash-shop-7") as caught:
            client.create_company_customer(body)
        with pytest.raises(errors.PennylaneError, match="Email … of"):
            client.customers({"field": "emails", "operator": "in", "value": ["lea@example.org"]})
    assert "Email … of …, …, is invalid" in str(caught.value)
    assert "%40" not in caplog.text
    assert "lea@" not in caplog.text
