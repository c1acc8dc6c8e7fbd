"""Journals, accounts and customers: found by what identifies them, made once whoever tries, never guessed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest

from kash_pipeline.pennylane import customers as customer_sync
from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pennylane.errors import ReferenceMissing
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import CUSTOMERS
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books

ADDRESS = {"address": "1 rue du Port", "postal_code": "29000", "city": "Quimper", "country_alpha2": "FR"}


def customers(*rows: dict[str, Any]) -> pd.DataFrame:
    """Customers of the till; what is left out is null."""
    plain = [{"kind": "company", "name": "Chez Léa", **row} for row in rows]
    return conform(pd.DataFrame(plain, columns=list(CUSTOMERS.columns)).astype(object), CUSTOMERS)


def at_once(here: World, work: Callable[[PennylaneClient], Any], times: int = 6) -> list[Any]:
    """The same work by several clients at the same moment."""

    def one(_: int) -> Any:
        with here.client() as client:
            return work(client)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def company(client: PennylaneClient) -> int:
    return client.me().company_id


# --- journals ---------------------------------------------------------------------------------------------------------


def test_a_registers_journal_is_made_once_though_six_try_at_once(pennylane: World) -> None:
    args = (pennylane.engine, pennylane.shop)
    found = at_once(pennylane, lambda client: reference.sync_journals(client, *args, company(client)))
    assert all(journals == found[0] for journals in found)
    assert sorted(found[0]) == ["K1", "K2"]
    with pennylane.client() as client:
        codes = [journal.code for journal in client.journals()]
    assert (codes.count("K1"), codes.count("K2")) == (1, 1)
    assert pennylane.sandbox.requests.count("POST", "journals$") == 2
    assert reference.stored_journals(pennylane.engine, pennylane.shop, company_of(pennylane))["K1"] == found[0]["K1"]


def company_of(here: World) -> int:
    with here.client() as client:
        return company(client)


def test_a_journal_made_though_its_answer_was_lost_is_found_not_made_again(pennylane: World) -> None:
    pennylane.sandbox.faults.add(Fault("cut_after", method="POST", path="journals$"))
    with pennylane.client() as client:
        reference.sync_journals(client, pennylane.engine, pennylane.shop, company(client))
        assert [journal.code for journal in client.journals()].count("K1") == 1


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_of_several_ids_of_a_number_the_one_for_any_rate_is_taken(pennylane: World) -> None:
    with pennylane.client() as client:
        same = [account for account in client.ledger_accounts() if account.number == "706"]
        ids = reference.sync_accounts(client, pennylane.engine, pennylane.shop, company(client), also=["706"])
    assert len(same) > 1
    assert [account.vat_rate for account in same if account.id == ids["706"]] == ["any"]
    assert reference.stored_accounts(pennylane.engine, pennylane.shop, company_of(pennylane))["706"] == ids["706"]


def test_a_missing_account_is_made_with_label_and_rate_and_only_when_it_is_used(pennylane: World) -> None:
    with pennylane.client() as client:
        reference.sync_accounts(client, pennylane.engine, pennylane.shop, company(client), also=["701055", "445711055"])
        made = {account.number: account for account in client.ledger_accounts() if account.type == "custom"}
    assert {number: (one.label, one.vat_rate) for number, one in made.items()} == {
        "701055": ("Ventes TVA 5,5 %", "FR_55"),
        "445711055": ("TVA collectée 5,5 %", "FR_55"),
    }


def test_accounts_are_made_once_though_six_try_at_once(pennylane: World) -> None:
    args = (pennylane.engine, pennylane.shop)
    at_once(pennylane, lambda client: reference.sync_accounts(client, *args, company(client), also=["701055"]))
    assert pennylane.sandbox.requests.count("POST", "ledger_accounts$") == 1


def test_disabled_and_missing_accounts_are_named_together(make_pennylane: Callable[..., World]) -> None:
    here = make_pennylane(create_accounts=False)
    with here.client() as client, pytest.raises(ReferenceMissing) as caught:
        reference.sync_accounts(client, here.engine, here.shop, company(client), also=["5112", "999", "530"])
    assert "5112 is disabled" in caught.value.message
    assert "999 does not exist" in caught.value.message
    assert "530" not in caught.value.message


def test_a_customers_collective_account_is_found_by_its_number_without_closing_zeros_and_never_made(
    pennylane: World,
) -> None:
    with pennylane.client() as client:
        ids = reference.sync_accounts(client, pennylane.engine, pennylane.shop, company(client), also=["411000"])
        assert client.ledger_account(ids["411000"]).number == "411"
        with pytest.raises(ReferenceMissing, match="411777 does not exist"):
            reference.sync_accounts(client, pennylane.engine, pennylane.shop, company(client), also=["411777"])
    assert pennylane.sandbox.requests.count("POST", "ledger_accounts$") == 0


# --- customers --------------------------------------------------------------------------------------------------------


def sync(here: World, client: PennylaneClient, frame: pd.DataFrame) -> dict[str, int]:
    wanted = frame["customer_id"].tolist()
    return customer_sync.sync_customers(client, here.engine, here.shop, company(client), frame, wanted)


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
    with pennylane.client() as client, pytest.raises(ReferenceMissing, match="does not describe: 9"):
        customer_sync.sync_customers(client, pennylane.engine, pennylane.shop, company(client), customers(), ["9"])


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
