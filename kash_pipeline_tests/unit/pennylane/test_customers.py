"""The till's customers in PennyLane: found or made once, kept in step, and nothing that a person did is undone."""

import multiprocessing
from collections.abc import Callable
from datetime import date
from typing import Any

import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa

from kash_pipeline.pennylane import connect, reference
from kash_pipeline.pennylane.client import Customer, PennylaneClient
from kash_pipeline.pennylane.customers import InStep, keep_in_step, stored_customers, sync_customers
from kash_pipeline.pennylane.errors import ReferenceMissing
from kash_pipeline.reference import personal, store
from kash_pipeline.reference.changes import report
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import CUSTOMERS
from kash_pipeline.warehouse.tables import FORGOTTEN_CUSTOMERS, PENNYLANE_CUSTOMERS
from kash_pipeline_tests.unit.pennylane import maker
from kash_pipeline_tests.unit.pennylane.test_reference import at_once, company
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books

ADDRESS = {"address": "1 rue du Port", "postal_code": "29000", "city": "Quimper", "country_alpha2": "FR"}


def customers(*rows: dict[str, Any]) -> pd.DataFrame:
    """Customers of the till; what is left out is null."""
    plain = [{"kind": "company", "name": "Chez Léa", **row} for row in rows]
    return conform(pd.DataFrame(plain, columns=list(CUSTOMERS.columns)).astype(object), CUSTOMERS)


def sync(here: World, client: PennylaneClient, frame: pd.DataFrame) -> dict[str, int]:
    wanted = frame["customer_id"].tolist()
    return sync_customers(client, here.engine, here.shop, company(client), frame, wanted)


def test_a_new_customer_is_made_once_with_an_account_though_six_try_at_once(pennylane: World) -> None:
    frame = customers(
        {"customer_id": "7", "registration_number": "812345678", "email": "lea@example.org"},
        {"customer_id": "8", "kind": "individual", "name": "Ana Li", "first_name": "Ana", "last_name": "Li"},
    )
    found = at_once(pennylane, lambda client: sync(pennylane, client, frame))
    assert all(accounts == found[0] for accounts in found)
    with pennylane.client() as client:
        made = {customer.external_reference: customer for customer in client.customers()}
        assert set(made) == {"kash-shop-7", "kash-shop-8"}
        assert made["kash-shop-7"].account_id == found[0]["7"]
        assert client.ledger_account(found[0]["7"]).number.startswith("411")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"external_reference": "kash-shop-7", "name": "Renamed"}, {}),
        ({"name": "LEA SARL", "vat_number": "FR 40 812345678", "reg_no": "812345678"}, {"vat_number": "FR40812345678"}),
        ({"name": "LEA SARL", "reg_no": "81234567800011"}, {"registration_number": "812 345 678 00011"}),
        ({"name": "Chez Léa", "emails": ["lea@example.org"]}, {"email": "lea@example.org"}),
    ],
    ids=["our reference", "VAT number", "registration number", "name and e-mail"],
)
def test_a_customer_who_is_there_is_found_and_their_account_used(
    pennylane: World, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    with pennylane.client() as client:
        there = client.create_company_customer({"billing_address": ADDRESS, **theirs})
        assert sync(pennylane, client, customers({"customer_id": "7", **ours})) == {"7": there.account_id}
        assert len(client.customers()) == 1


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ([{"name": "Chez Léa", "emails": ["other@example.org"]}], {"email": "lea@example.org"}),
        ([{"name": "Chez Léa"}], {}),
        (
            [{"name": "A", "reg_no": "812345678"}, {"name": "B", "reg_no": "812345678"}],
            {"registration_number": "812345678"},
        ),
    ],
    ids=["other e-mail", "name alone", "two fit"],
)
def test_a_customer_who_may_be_somebody_else_is_made_anew(
    pennylane: World, theirs: list[dict[str, Any]], ours: dict[str, Any]
) -> None:
    with pennylane.client() as client:
        there = [client.create_company_customer({"billing_address": ADDRESS, **one}) for one in theirs]
        account = sync(pennylane, client, customers({"customer_id": "7", **ours}))["7"]
        assert account not in [customer.account_id for customer in there]
        assert len(client.customers()) == len(theirs) + 1


def test_a_customer_made_though_the_answer_was_lost_is_found_not_made_again(pennylane: World) -> None:
    pennylane.sandbox.faults.add(Fault("cut_after", method="POST", path="company_customers$"))
    with pennylane.client() as client:
        sync(pennylane, client, customers({"customer_id": "7"}))
        assert len(client.customers()) == 1


def test_a_customer_the_till_does_not_describe_is_named(pennylane: World) -> None:
    with pennylane.client() as client, pytest.raises(ReferenceMissing, match="customer 9, whom it does not describe"):
        sync_customers(client, pennylane.engine, pennylane.shop, company(client), customers(), ["9"])


def test_an_entry_of_a_named_customer_stands_on_their_own_account(pennylane: World) -> None:
    days = days_from(FIRST, 1)
    pennylane.book(days, make_books(days, registers=["K1"], customer="7"))
    report = pennylane.publish(customers=customers({"customer_id": "7", "name": "Chez Léa"}))
    assert report.problems == []
    assert report.verified == 3
    with pennylane.client() as client:
        [lea] = client.customers()
    sale = next(entry for entry in pennylane.sandbox.admin.entries() if entry.piece_number.endswith("-V"))
    assert lea.account_id in {line.account_id for line in sale.lines}


def test_collective_customers_stand_on_the_collective_account(make_pennylane: Callable[..., World]) -> None:
    here = make_pennylane(shop={"named_customers": "collective"})
    days = days_from(FIRST, 1)
    here.book(days, make_books(days, registers=["K1"], customer="7"))
    assert here.publish().problems == []
    assert here.remote() == here.local()
    with here.client() as client:
        assert client.customers() == []


# --- kept in step -----------------------------------------------------------------------------------------------------

LEA = {"customer_id": "7", "email": "lea@example.org", "registration_number": "812345678", "city": "Quimper"}
ANA = {"customer_id": "8", "kind": "individual", "name": "Ana Li", "first_name": "Ana", "last_name": "Li"}


def step(here: World, client: PennylaneClient, *rows: dict[str, Any], listing: bool = True) -> InStep:
    return keep_in_step(client, here.engine, here.shop, company(client), customers(*rows), listing=listing)


def there(client: PennylaneClient) -> dict[str | None, Customer]:
    return {customer.external_reference: customer for customer in client.customers()}


def test_what_changed_in_the_till_is_changed_in_pennylane_by_one_request_each_and_the_listing(pennylane: World) -> None:
    with pennylane.client() as client:
        sync(pennylane, client, customers(LEA, ANA, {"customer_id": "9", "name": "Autre"}))
        assert step(pennylane, client, LEA, ANA, listing=False) == InStep()
        pennylane.sandbox.requests.clear()
        moved = {**LEA, "email": "bonjour@example.org", "city": "Brest", "registration_number": ""}
        married = {**ANA, "name": "Ana Roy", "last_name": "Roy"}
        found = step(pennylane, client, moved, married, listing=False)
        assert sorted(found.updated) == ["7", "8"]
        counted = pennylane.sandbox.requests
        assert (counted.count("GET", "/customers$"), counted.count("PUT")) == (1, 2)
        assert counted.count("PUT", "company_customers") == 1
        lea, ana = there(client)["kash-shop-7"], there(client)["kash-shop-8"]
        assert (lea.emails, lea.address[2], lea.reg_no, lea.name) == (
            ("bonjour@example.org",),
            "Brest",
            None,
            "Chez Léa",
        )
        assert (ana.first_name, ana.last_name) == ("Ana", "Roy")
        assert step(pennylane, client, moved, married) == InStep(listed=3)
        assert counted.count("PUT") == 2


def test_what_a_person_changed_in_pennylane_stays_and_is_told_without_its_value(pennylane: World) -> None:
    with pennylane.client() as client:
        sync(pennylane, client, customers(LEA))
        client.update_customer(there(client)["kash-shop-7"], {"name": "Léa et fils"})
        assert step(pennylane, client, LEA).left_alone == []
        found = step(pennylane, client, {**LEA, "email": "bonjour@example.org"})
        assert found.updated == []
        assert found.left_alone == [("7", "e-mail, name differ, and somebody changed this customer in PennyLane")]
        lea = there(client)["kash-shop-7"]
        assert (lea.name, lea.emails) == ("Léa et fils", ("lea@example.org",))
        # Made the same by hand, they are in step again, and the next change goes through.
        same = {**LEA, "name": "Léa et fils"}
        assert step(pennylane, client, same) == InStep(listed=1)
        assert step(pennylane, client, {**same, "city": "Brest"}).updated == ["7"]


def test_a_customer_who_was_matched_is_never_edited(pennylane: World) -> None:
    with pennylane.client() as client:
        client.create_company_customer({"billing_address": ADDRESS, "name": "LEA SARL", "reg_no": "812345678"})
        sync(pennylane, client, customers(LEA))
        assert step(pennylane, client, {**LEA, "email": "bonjour@example.org"}) == InStep(listed=1)
        assert [customer.name for customer in client.customers()] == ["LEA SARL"]
    assert pennylane.sandbox.requests.count("PUT") == 0


def test_a_change_whose_answer_was_lost_is_no_persons_edit(pennylane: World) -> None:
    pennylane.sandbox.faults.add(Fault("cut_after", method="PUT", path="company_customers", count=None))
    brest = {**LEA, "city": "Brest"}
    with pennylane.client(sleep=lambda _: None) as client:
        sync(pennylane, client, customers(LEA))
        with pytest.raises(Exception, match="the answer was lost"):
            step(pennylane, client, brest)
        pennylane.sandbox.faults.clear()
        assert step(pennylane, client, brest) == InStep(listed=1)
        assert step(pennylane, client, {**brest, "city": "Vannes"}).updated == ["7"]


def test_a_customer_whom_pennylane_refuses_stops_only_their_own_entries_and_is_not_named(pennylane: World) -> None:
    pennylane.sandbox.faults.add(Fault("refuse", status=422, method="POST", path="company_customers$"))
    with pennylane.client() as client:
        with pytest.raises(ReferenceMissing, match=r"customer 7: .*422") as caught:
            sync(pennylane, client, customers(LEA, ANA))
        assert "Léa" not in str(caught.value)
        assert "example.org" not in str(caught.value)
        assert list(stored_customers(pennylane.engine, pennylane.shop, company(client))) == ["8"]
        assert sorted(sync(pennylane, client, customers(LEA, ANA))) == ["7", "8"]


def test_a_deleted_customer_is_noticed_gets_no_new_entries_and_is_made_again_once(pennylane: World) -> None:
    days = days_from(FIRST, 2)
    pennylane.book(days[:1], make_books(days[:1], registers=["K1"], customer="7"))
    frame = customers({"customer_id": "7", "name": "Chez Léa"})
    assert pennylane.publish(customers=frame).problems == []
    with pennylane.client() as client:
        [lea] = client.customers()
        pennylane.sandbox.admin.delete_customer(lea.id)
        found = step(pennylane, client, {"customer_id": "7"})
        assert (found.gone, found.listed) == (["7"], 0)
        assert stored_customers(pennylane.engine, pennylane.shop, company(client)) == {}
        assert step(pennylane, client, {"customer_id": "7"}).gone == []
        assert client.customers() == []  # nobody needs them yet

    pennylane.book(days[1:], make_books(days[1:], registers=["K1"], customer="7"))
    report = pennylane.publish(customers=frame)
    assert report.problems == []
    assert report.verified == 3
    with pennylane.client() as client:
        [again] = client.customers()
        sales = {entry.date: entry for entry in pennylane.sandbox.admin.entries() if entry.piece_number.endswith("-V")}
        assert lea.account_id in {line.account_id for line in sales[days[0]].lines}
        assert again.account_id in {line.account_id for line in sales[days[1]].lines}
        assert again.account_id != lea.account_id
        # What stands on the former account is as we sent it: nobody's edit.
        books = reference.stored_books(pennylane.engine, pennylane.shop, company(client))
        for intent in pennylane.ledger.published(*days):
            lines = client.lines_of_entry(intent.row.remote_id or 0)
            assert books.compared(intent.content, lines) is None


def test_a_customer_made_again_by_a_person_under_our_reference_is_taken_and_theirs(pennylane: World) -> None:
    with pennylane.client() as client:
        sync(pennylane, client, customers(LEA))
        pennylane.sandbox.admin.delete_customer(there(client)["kash-shop-7"].id)
        made = client.create_company_customer(
            {"billing_address": ADDRESS, "name": "Léa bis", "external_reference": "kash-shop-7"}
        )
        found = step(pennylane, client, {**LEA, "city": "Brest"})
        assert (found.moved, found.updated) == (["7"], [])
        assert stored_customers(pennylane.engine, pennylane.shop, company(client)) == {"7": made.account_id}
        assert there(client)["kash-shop-7"].name == "Léa bis"


def test_a_customer_made_again_is_noted_as_such_and_nobody_is_named(pennylane: World) -> None:
    first, second = date(2026, 3, 1), date(2026, 3, 5)
    with pennylane.client() as client:
        here = (pennylane.engine, pennylane.shop, company(client))
        sync(pennylane, client, customers(LEA, ANA))
        step(pennylane, client, LEA, ANA)
        store.remember_company(*here, first)
        old = there(client)["kash-shop-7"]
        pennylane.sandbox.admin.delete_customer(old.id)
        step(pennylane, client, LEA, ANA)
        sync(pennylane, client, customers(LEA, ANA))
        step(pennylane, client, LEA, ANA)
        store.remember_company(*here, second)
        new = there(client)["kash-shop-7"]
    [line] = [line for line in report(pennylane.engine, pennylane.shop, second) if "customer" in line.what]
    assert line.what.startswith(f"customer {new.id}")
    assert f"made again, it was id {old.id}" in line.what
    noted = store.versions(pennylane.engine, pennylane.shop, "pennylane", company_id=here[2], kind="customers")
    assert {name for version in noted["customers"] for name in version.content} == {
        "kind",
        "external_reference",
        "ledger_account_id",
    }


def test_a_forgotten_customer_stays_in_pennylane_as_they_are_and_one_who_buys_again_is_a_number(
    pennylane: World,
) -> None:
    with pennylane.engine.begin() as connection:
        gone = [{"shop_id": "shop", "customer_id": customer_id} for customer_id in ("7", "8")]
        connection.execute(sa.insert(FORGOTTEN_CUSTOMERS), gone)
    frame = personal.needed(customers(LEA, ANA), pennylane.shop, {"7", "8"})
    with pennylane.client() as client:
        sync(pennylane, client, customers(LEA))
        assert keep_in_step(client, pennylane.engine, pennylane.shop, company(client), frame, listing=True) == InStep(1)
        assert there(client)["kash-shop-7"].emails == ("lea@example.org",)
        sync(pennylane, client, frame)
        assert there(client)["kash-shop-8"].name == "Client 8"
    assert pennylane.sandbox.requests.count("PUT") == 0


# --- many -------------------------------------------------------------------------------------------------------------


def multiply(here: World, database_url: str, count: int) -> None:
    """Copies of the one customer, numbered from 2, in the sandbox and as ours from before there were fingerprints.

    Made by requests, 5,000 would only test the sandbox.
    """
    with psycopg.connect(database_url) as connection:
        connection.execute("set search_path to sandbox_pennylane")
        connection.execute(
            "insert into accounts (company_id, number, label, vat_rate, country_alpha2, enabled, type, letterable,"
            " created_at, updated_at) select c.company_id, '411N' || n, 'Client ' || n, 'any', 'any', true, 'customer',"
            " true, now(), now() from customers c, generate_series(2, %s) n",
            [count],
        )
        made = connection.execute(
            "insert into customers (company_id, customer_type, account_id, name, vat_number, reg_no, emails,"
            " external_reference, details, created_at, updated_at) select c.company_id, 'company', a.id, a.label, '',"
            " '', array[substr(a.number, 5) || '@example.org'], 'kash-shop-' || substr(a.number, 5), c.details, now(),"
            " now() from customers c, accounts a where a.number like '411N%%'"
            " returning id, company_id, account_id, external_reference"
        ).fetchall()
    rows = [
        {
            "shop_id": "shop",
            "company_id": company_id,
            "customer_id": reference.rpartition("-")[2],
            "remote_id": remote,
            "kind": "company",
            "external_reference": reference,
            "ledger_account_id": account,
            "matched_by": "created",
        }
        for remote, company_id, account, reference in made
    ]
    with here.engine.begin() as connection:
        connection.execute(sa.insert(PENNYLANE_CUSTOMERS), rows)


def till_of(count: int, changed: int) -> pd.DataFrame:
    frame = pd.DataFrame({"customer_id": [str(n) for n in range(1, count + 1)], "kind": "company"})
    frame["name"] = "Client " + frame["customer_id"]
    frame["email"] = frame["customer_id"] + "@example.org"
    frame["city"] = ["Brest"] * changed + [None] * (count - changed)
    return conform(frame.reindex(columns=list(CUSTOMERS.columns)).astype(object), CUSTOMERS)


def test_five_thousand_customers_cost_their_listing_and_one_request_for_each_that_changed(
    pennylane: World, pennylane_database: str
) -> None:
    count, changed = 5000, 60
    before, after = till_of(count, 0), till_of(count, changed)
    counted = pennylane.sandbox.requests
    with pennylane.client() as client:
        here = (client, pennylane.engine, pennylane.shop, company(client))
        sync_customers(*here, before, ["1"])
        multiply(pennylane, pennylane_database, count)
        counted.clear()
        assert len(sync_customers(*here, before, before["customer_id"])) == count
        assert counted.count() == 0
        # The listing tells that they are as we would write them: from now on a person's change would be noticed.
        assert keep_in_step(*here, before, listing=True) == InStep(listed=count)
        assert counted.count() == 50
        counted.clear()
        assert keep_in_step(*here, before, listing=False) == InStep()
        assert counted.count() == 0
        found = keep_in_step(*here, after, listing=False)
        assert (len(found.updated), found.left_alone, found.gone) == (changed, [], [])
        assert (counted.count("GET", "customers"), counted.count("PUT"), counted.count()) == (1, changed, 1 + changed)


def test_making_and_changing_customers_meets_no_429(make_pennylane: Callable[..., World]) -> None:
    here = make_pennylane(sandbox={"limiter": "sliding"})
    with connect(here.shop, here.engine, here.env) as client:
        args = (client, here.engine, here.shop, company(client))
        sync_customers(*args, till_of(20, 0), till_of(20, 0)["customer_id"])
        assert len(keep_in_step(*args, till_of(20, 20), listing=True).updated) == 20
    assert here.sandbox.requests.count(status=429) == 0
    assert here.sandbox.requests.count() <= 45


# --- processes --------------------------------------------------------------------------------------------------------


def test_processes_that_need_the_same_customer_and_journal_make_them_once(pennylane: World, database_url: str) -> None:
    # Whoever lists while the other still makes must not make it too.
    for path in ("journals$", "_customers$"):
        pennylane.sandbox.faults.add(Fault("delay", method="POST", path=path, seconds=0.5))
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(2), context.Queue()
    args = (pennylane.url, database_url, str(pennylane.env.home), start, answers)
    processes = [context.Process(target=maker.make, args=args) for _ in range(2)]
    for process in processes:
        process.start()
    got = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert got[0] == got[1]
    with pennylane.client() as client:
        assert set(there(client)) == {"kash-shop-7", "kash-shop-8"}
        assert [journal.code for journal in client.journals()].count("K1") == 1
    assert pennylane.sandbox.requests.count("POST", "_customers$") == 2
    assert pennylane.sandbox.requests.count("POST", "journals$") == 2
