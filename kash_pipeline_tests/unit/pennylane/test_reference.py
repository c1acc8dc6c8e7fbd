"""Journals and accounts: found by what identifies them, made once whoever tries, never guessed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pennylane.errors import ReferenceMissing
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline_tests.unit.pennylane.world import World


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


def test_the_shop_file_may_name_another_of_several_ids_and_nothing_else_is_taken(
    make_pennylane: Callable[..., World],
) -> None:
    here = make_pennylane()
    with here.client() as client:
        other = next(item.id for item in client.ledger_accounts() if (item.number, item.vat_rate) == ("706", "FR_200"))

    def named(account_id: int) -> World:
        assert here.shop.pennylane is not None
        section = here.shop.pennylane.model_copy(update={"account_ids": {"706": account_id}})
        return replace(here, shop=here.shop.model_copy(update={"pennylane": section}))

    with here.client() as client:
        sync = (client, here.engine, named(other).shop, company(client))
        assert reference.sync_accounts(*sync, also=["706"])["706"] == other
        assert reference.stored_accounts(here.engine, named(other).shop, company(client))["706"] == other
        with pytest.raises(ReferenceMissing, match="no 706 of id 1, which account_ids names"):
            reference.sync_accounts(client, here.engine, named(1).shop, company(client), also=["706"])
    assert here.sandbox.requests.count("POST", "ledger_accounts$") == 0


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
    assert "5112 « Chèques à encaisser » is disabled" in caught.value.message
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
