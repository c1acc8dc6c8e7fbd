"""Three ways of writing answers, two of reading clocks: with the right settings the facts are the same to the byte."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from typing import Any

import pandas as pd
import pyarrow as arrow
import pytest

from kash_pipeline.pos.errors import SourceChanged
from kash_pipeline.pos.kash_api.days import from_wall_clock
from kash_pipeline.pos.kash_api.dialects import DIALECTS
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.schemas.columns import to_arrow
from kash_pipeline.schemas.facts import FACTS
from kash_pipeline.warehouse.lake import content_digest
from kash_pipeline_tests.unit.pos.kash_till import PARIS, Till, assert_same, kash_till, tables

FIRST, LAST = date(2026, 3, 27), date(2026, 3, 31)  # the clocks go forward on the 29th


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@pytest.fixture(scope="module")
def till_of(bakery: Dataset) -> Iterator[Callable[[str, str], Till]]:
    tills: dict[tuple[str, str], Till] = {}
    with ExitStack() as stack:

        def serve(dialect: str, time_rule: str) -> Till:
            if (dialect, time_rule) not in tills:
                tills[dialect, time_rule] = stack.enter_context(kash_till(bakery, dialect=dialect, time_rule=time_rule))
            return tills[dialect, time_rule]

        yield serve


def read(till: Till, **options: Any) -> dict[str, pd.DataFrame]:
    with till.source(**options) as source:
        found = tables(list(source.sales(FIRST, LAST)))
        for day in source.closings(FIRST, LAST):
            for name in ("closings", "closing_counts", "cash_movements"):
                found[name] = pd.concat([found.get(name), getattr(day, name)], ignore_index=True)
        assert source.unknown_fields == {}
        return found | source.reference()


@pytest.fixture(scope="module")
def expected(till_of: Callable[[str, str], Till]) -> dict[str, pd.DataFrame]:
    return read(till_of("english", "utc"))


@pytest.mark.parametrize(
    ("dialect", "time_rule"),
    [("french", "utc"), ("nested", "utc"), ("english", "local"), ("french", "local"), ("nested", "local")],
)
def test_the_facts_are_the_same_to_the_byte(
    till_of: Callable[[str, str], Till],
    bakery: Dataset,
    expected: dict[str, pd.DataFrame],
    dialect: str,
    time_rule: str,
) -> None:
    got = read(till_of(dialect, time_rule))
    assert_same(got, expected)
    orders = bakery.facts.orders[bakery.facts.orders["business_day"].between("2026-03-27", "2026-03-31")]
    pd.testing.assert_frame_equal(got["orders"], orders.sort_values(["order_id", "number"], ignore_index=True))
    for name, frame in got.items():
        assert content_digest(to_arrow(frame, FACTS[name])) == content_digest(to_arrow(expected[name], FACTS[name]))


def test_the_dialects_really_differ(till_of: Callable[[str, str], Till]) -> None:
    """Field names, nesting, decimal marks, JSON numbers and clocks: otherwise the test above would say nothing."""
    first = {}
    for dialect, rule in (("english", "utc"), ("french", "local"), ("nested", "utc")):
        till = till_of(dialect, rule)
        with till.source() as source:
            list(source.sales(FIRST, FIRST))
        first[dialect] = json.loads(till.raw[-1].body)
    english, french, nested = first["english"][0], first["french"][0], first["nested"]["orders"][0]
    assert english["price"] == french["total"].replace(",", ".")
    assert "," in french["total"]
    assert isinstance(nested["amounts"]["total"], float | int)
    assert english["valueDate"] == nested["dates"]["value"]
    assert english["valueDate"].endswith("Z")
    assert not french["dateValeur"].endswith("Z")
    assert {"orderID", "items", "payments"} <= set(english)
    assert not {"orderID", "items"} & set(french)


@pytest.mark.parametrize(
    ("served", "rule", "read_as", "read_rule", "says"),
    [
        ("french", "utc", "english", "utc", "field 'orderInternalID' of order is missing"),
        ("nested", "utc", "english", "utc", "order is an object, a list was expected"),
        ("english", "utc", "nested", "utc", "an object with the field 'orders' was expected"),
        ("english", "local", "english", "utc", "a date and time with offset"),
        ("english", "utc", "english", "local", "of Europe/Paris without offset"),
    ],
)
def test_the_wrong_setting_stops_and_is_named(
    till_of: Callable[[str, str], Till], served: str, rule: str, read_as: str, read_rule: str, says: str
) -> None:
    with (
        till_of(served, rule).source(dialect=DIALECTS[read_as], time_rule=read_rule) as source,
        pytest.raises(SourceChanged, match=says) as caught,
    ):
        list(source.sales(FIRST, LAST))
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("dialect", "change", "says"),
    [
        ("french", lambda order: order.update(price="12.50.1"), r"field 'total' of order 3\d+ is '12,50,1'"),
        ("nested", lambda order: order.update(clientID=["C1"]), r"field 'customer.id' of order 3\d+ is a list"),
        ("nested", lambda order: order.pop("valueDate"), r"field 'dates.value' of order 3\d+ is missing"),
        ("nested", lambda order: order.update(price="12.505"), r"field 'amounts.total' of order 3\d+ is '12.505'"),
    ],
)
def test_drift_is_named_as_the_account_spells_it(
    till_of: Callable[[str, str], Till], dialect: str, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    till = till_of(dialect, "utc")

    def reshape(script: str, body: Any) -> Any:
        if script == "getOrders.php":
            change(body[9])
        return body

    till.faults.reshape = reshape
    try:
        with till.source() as source, pytest.raises(SourceChanged, match=says):
            list(source.sales(FIRST, LAST))
    finally:
        till.faults.clear()


def test_an_unknown_field_in_a_nested_object_is_reported(till_of: Callable[[str, str], Till]) -> None:
    till = till_of("nested", "utc")
    with till.source() as source:
        list(source.sales(FIRST, FIRST))
    # The writer of the sandbox has no name for it, so the record itself gets it.
    till.faults.reshape = lambda script, body: (
        [{**order, "table": 4} for order in body] if script == "getOrders.php" else body
    )
    try:
        with till.source() as source:
            list(source.sales(FIRST, FIRST))
            assert source.unknown_fields == {"getOrders.php": ["order.table"]}
    finally:
        till.faults.clear()


def test_wall_clocks_over_the_changes_of_the_year() -> None:
    """The hour shown twice is the first one; the hour skipped is the moment the clocks go forward; null stays null."""
    texts = ["2026-03-29T01:59:59", "2026-03-29T02:30:00", "2026-03-29T03:00:00", "2026-10-25T02:30:00", None]
    cells = from_wall_clock(arrow.array(texts), PARIS)
    assert [str(moment) for moment in cells.values.cast(arrow.timestamp("s")).to_pylist()] == [
        "2026-03-29 00:59:59", "2026-03-29 01:00:00", "2026-03-29 01:00:00", "2026-10-25 00:30:00", "None",
    ]  # fmt: skip
    assert len(cells.bad) == 0
    for wrong in ("2026-03-14T09:00:00Z", "2026-02-30T09:00:00", "yesterday"):
        assert from_wall_clock(arrow.array([wrong, texts[0]]), PARIS).bad.tolist() == [0]
