"""Named customers through a whole run: in PennyLane under their names, nowhere else where anybody might read them."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pandas as pd
import psycopg
import pytest

from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.client import Customer
from kash_pipeline.pennylane.pacing import NoPacing
from kash_pipeline.reference import store
from kash_pipeline.sandbox.pennylane import Fault
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import CUSTOMERS, ORDERS, Facts
from kash_pipeline_tests.orchestration.test_reference_in_step import Place, make_place
from kash_pipeline_tests.orchestration.till import MemoryTill, make_facts

__all__ = ["make_place"]  # fixture
DAY, NEXT = date(2025, 2, 27), date(2025, 2, 28)
PEOPLE = (
    {
        "customer_id": "7",
        "kind": "individual",
        "name": "Ana Quillivéré",
        "first_name": "Ana",
        "last_name": "Quillivéré",
    },
    {"customer_id": "8", "kind": "company", "name": "Zorglub SARL", "registration_number": "812345678"},
)
NAMES = ("Quillivéré", "QUILLIVER", "Zorglub", "812345678", "ana@zorg.example", "Impasse du Phare")


def with_customers(facts: Facts, *people: dict[str, str]) -> Facts:
    """The first order of each day is customer 7's, the second customer 8's; the others are nobody's."""
    rows = [{"email": "ana@zorg.example", "address": "3 Impasse du Phare", **person} for person in people]
    place = facts.orders["order_id"].astype(str).str.rpartition("-")[2]
    orders = facts.orders.assign(customer_id=place.map({"0": "7", "1": "8"}))
    return replace(
        facts,
        customers=conform(pd.DataFrame(rows, columns=list(CUSTOMERS.columns)).astype(object), CUSTOMERS),
        orders=conform(orders, ORDERS),
    )


def in_pennylane(here: Place) -> dict[str | None, Customer]:
    with connect(here.shop, here.engine, here.environment, pacing=NoPacing()) as client:
        return {customer.external_reference: customer for customer in client.customers()}


def recorded(here: Place, database_url: str) -> str:
    """All that Dagster recorded, and every row of the warehouse; of the lake the reference list may name people."""
    texts = []
    for run in here.instance.get_runs():
        texts += [repr(entry) for entry in here.instance.all_logs(run.run_id)]
        texts.append(json.dumps(run.tags))
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("select table_name from information_schema.tables where table_schema = 'kash'")
        for (table,) in tables.fetchall():
            texts += [str(row[0]) for row in connection.execute(f'select t::text from kash."{table}" t')]
    assert len(texts) > 100
    return "\n".join(texts)


def test_a_run_with_named_customers_records_and_prints_their_numbers_only(
    make_place: Callable[..., Place],
    warehouse_url: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    here = make_place(named_customers="own_account")
    first = with_customers(make_facts(DAY, NEXT), *PEOPLE)
    here.sandbox.faults.add(Fault("refuse", status=422, count=2, method="POST", path="company_customers$"))
    result = here.run(MemoryTill(first), DAY, DAY)
    failed = {check.check: check.detail for stage in result.stages for check in stage.failed_checks}
    assert "customer 8: PennyLane: creating customer kash-bakery-8: HTTP 422" in failed["nothing_missing"]["missing"]
    assert {"Ana Quillivéré"} == {customer.name for customer in in_pennylane(here).values()}

    moved = with_customers(make_facts(DAY, NEXT), {**PEOPLE[0], "address": "4 Impasse du Phare"}, PEOPLE[1])
    result = here.run(MemoryTill(moved), DAY, NEXT)
    assert {customer.name for customer in in_pennylane(here).values()} == {"Ana Quillivéré", "Zorglub SARL"}
    assert in_pennylane(here)["kash-bakery-7"].address[0] == "4 Impasse du Phare"
    assert here.pieces().keys() == here.booked()
    # Now the chart that is listed has accounts of theirs; who they are was listed today already.
    asked = here.sandbox.requests.count("GET", "/customers$")
    here.run(MemoryTill(moved), DAY, NEXT, stages=("publish",))
    assert here.sandbox.requests.count("GET", "/customers$") == asked

    printed = "".join(capfd.readouterr()) + caplog.text
    everything = recorded(here, warehouse_url) + printed
    assert [name for name in NAMES if name.casefold() in everything.casefold()] == []
    company = store.companies(here.engine, here.shop)[0]
    noted = store.versions(here.engine, here.shop, "pennylane", company_id=company, kind="customers")["customers"]
    assert [version.content["external_reference"] for version in noted] == ["kash-bakery-7"]
