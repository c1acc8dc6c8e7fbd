"""Orders read one by one: only new or changed ones are asked for, a killed read goes on, nothing is missed."""

import hashlib
import json
import random
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from kash_pipeline.pos.errors import SourceChanged, SourceRefused, SourceUnreachable
from kash_pipeline.pos.kash_api.memory import FileMemory, Known
from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline_tests.unit.pos.kash_till import DictMemory, Till, assert_same, kash_till, tables

FIRST, LAST = date(2026, 3, 25), date(2026, 3, 27)  # the 25th is a Wednesday, nothing is sold
THE_26TH = pd.Timestamp("2026-03-26")


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@pytest.fixture(scope="module")
def server(bakery: Dataset) -> Iterator[Till]:
    with kash_till(bakery, headers_only=True) as till:
        yield till


@pytest.fixture(scope="module")
def loaded(server: Till) -> tuple[DictMemory, dict[str, pd.DataFrame]]:
    """What a first load remembers and reads."""
    memory = DictMemory()
    return memory, read(server, memory)


@pytest.fixture
def till(server: Till, loaded: Any) -> Iterator[Till]:
    server.faults.clear()
    server.faults.seen.clear()
    server.raw.clear()
    yield server
    server.faults.clear()


@pytest.fixture
def memory(loaded: tuple[DictMemory, Any]) -> DictMemory:
    copy = DictMemory()
    copy.days = {day: dict(orders) for day, orders in loaded[0].days.items()}
    return copy


@pytest.fixture
def facts(loaded: tuple[Any, dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    return loaded[1]


def read(till: Till, memory: Any, first: date = FIRST, last: date = LAST, **options: Any) -> dict[str, pd.DataFrame]:
    with till.source(memory=memory, **options) as source:
        return tables(list(source.sales(first, last)))


def an_order(facts: dict[str, pd.DataFrame], day: pd.Timestamp = THE_26TH) -> str:
    orders = facts["orders"]
    return str(orders.loc[(orders["business_day"] == day) & orders["customer_id"].isna(), "order_id"].iloc[5])


def test_a_first_load_asks_for_each_order_once_and_reads_what_the_till_has(
    server: Till, bakery: Dataset, facts: dict[str, pd.DataFrame]
) -> None:
    for name in ("orders", "order_lines", "order_vat"):
        ids = set(facts["orders"]["order_id"])
        whole = getattr(bakery.facts, name)
        expected = whole[whole["order_id"].isin(ids)]
        pd.testing.assert_frame_equal(facts[name], expected.sort_values(list(expected.columns[:2]), ignore_index=True))
    between = bakery.facts.orders["business_day"].between(pd.Timestamp(FIRST), pd.Timestamp(LAST))
    assert len(facts["orders"]) == between.sum() > 300


def test_an_unchanged_window_is_read_again_without_one_detail_request(
    till: Till, memory: DictMemory, facts: dict[str, pd.DataFrame]
) -> None:
    assert_same(read(till, memory), facts)
    assert list(till.faults.seen) == ["getOrders.php"]


def test_a_late_order_is_the_only_one_asked_for(till: Till, memory: DictMemory, facts: dict[str, pd.DataFrame]) -> None:
    """Made offline: at the first load it was not there."""
    late = an_order(facts)
    till.faults.hidden.add(late)
    fresh = DictMemory()
    fresh.days = memory.days
    before = read(till, fresh)
    assert late not in set(before["orders"]["order_id"])
    for day in fresh.days.values():
        day.pop(late, None)
    till.faults.clear()
    till.faults.seen.clear()
    assert_same(read(till, fresh), facts)
    assert till.asked("getOrder.php") == 1


def test_an_order_moved_across_midnight_is_asked_for_and_filed_once(
    till: Till, memory: DictMemory, facts: dict[str, pd.DataFrame]
) -> None:
    """Its value date was set back over four in the morning, where the shop's day begins: one order, another day."""
    moved = an_order(facts)

    def change(order: dict[str, Any]) -> None:
        order["valueDate"] = "2026-03-26T02:59:59Z"

    till.faults.changed[moved] = change
    after = read(till, memory)
    assert till.asked("getOrder.php") == 1
    rows = after["orders"][after["orders"]["order_id"] == moved]
    assert rows["business_day"].dt.strftime("%Y-%m-%d").tolist() == ["2026-03-25"]
    assert len(after["orders"]) == len(facts["orders"])
    # Remembered under its new day: the next read asks for nothing.
    till.faults.seen.clear()
    assert_same(read(till, memory), after)
    assert till.asked("getOrder.php") == 0


def test_a_back_dated_order_appears_in_the_past_window_only(
    till: Till, memory: DictMemory, bakery: Dataset, facts: dict[str, pd.DataFrame]
) -> None:
    """Recorded on 2 April with a value date of 27 March: found by the look-back, gone from the day it was made on."""
    april = bakery.facts.orders[bakery.facts.orders["business_day"] == "2026-04-02"]["order_id"].iloc[0]
    till.faults.changed[april] = lambda order: order.update(valueDate="2026-03-27T09:00:00Z")
    after = read(till, memory)
    assert till.asked("getOrder.php") == 1
    assert set(after["orders"]["order_id"]) - set(facts["orders"]["order_id"]) == {april}
    day = read(till, DictMemory(), date(2026, 4, 2), date(2026, 4, 2))
    assert april not in set(day["orders"]["order_id"])


def test_a_payment_made_later_changes_the_entry_in_the_list(
    till: Till, memory: DictMemory, facts: dict[str, pd.DataFrame]
) -> None:
    order_id = an_order(facts)
    till.faults.changed[order_id] = lambda order: order["payments"].pop()
    assert len(read(till, memory)["payments"]) == len(facts["payments"]) - 1
    till.faults.clear()
    till.faults.seen.clear()
    assert_same(read(till, memory), facts)
    assert till.asked("getOrder.php") == 1


def other_method(order: dict[str, Any]) -> None:
    payment = order["payments"][0]
    payment["paymentModeID"] = "2" if payment["paymentModeID"] != "2" else "1"


def test_an_edited_payment_that_the_list_does_not_show_is_found_by_the_daily_report(
    till: Till, memory: DictMemory, facts: dict[str, pd.DataFrame]
) -> None:
    """Cash corrected to card: same amount, same entry in the list. The report per method differs, so that day's orders
    are read again, and no other day's."""
    order_id = an_order(facts)
    till.faults.changed[order_id] = other_method
    assert_same(read(till, memory), facts)  # without the report it goes unnoticed
    till.faults.seen.clear()
    after = read(till, memory, control_totals=True)
    changed = after["payments"]["method_id"] != facts["payments"]["method_id"]
    assert after["payments"].loc[changed, "order_id"].tolist() == [order_id]
    of_day = (facts["orders"]["business_day"] == THE_26TH).sum()
    assert of_day <= till.asked("getOrder.php") <= of_day + 5
    till.faults.seen.clear()
    assert_same(read(till, memory, control_totals=True), after)
    assert till.asked("getOrder.php") == 0


def test_a_key_revoked_in_mid_run_stops_by_name_and_what_came_before_is_not_asked_for_again(
    till: Till, facts: dict[str, pd.DataFrame]
) -> None:
    memory = DictMemory()
    till.faults.revoke_after = 251
    with pytest.raises(SourceRefused, match=r"getOrder\.php: Kash.click refuses: 'Wrong API key'") as caught:
        read(till, memory)
    assert "KASH_API_KEY" in caught.value.next_step
    known = sum(map(len, memory.days.values()))
    assert 200 <= known <= 250 + 4  # those under way at that moment
    till.faults.clear()
    till.faults.seen.clear()
    assert_same(read(till, memory), facts)
    assert till.asked("getOrder.php") == len(facts["orders"]) - known


def test_a_failing_order_leaves_no_day_and_ends_the_window(
    till: Till, memory: DictMemory, facts: dict[str, pd.DataFrame]
) -> None:
    memory.days.clear()
    till.faults.set("down", script="getOrder.php")
    with till.source(memory=memory) as source:
        days = source.sales(FIRST, LAST)
        with pytest.raises(SourceUnreachable, match=r"getOrder\.php .* answers 503"):
            next(days)


def test_another_order_than_asked_for_stops(till: Till, memory: DictMemory, facts: dict[str, pd.DataFrame]) -> None:
    """getOrder.php may take the accounting number instead of the internal id: nobody documents it."""
    order_id = an_order(facts)
    memory.days[date(2026, 3, 26)].pop(order_id)

    def reshape(script: str, body: Any) -> Any:
        return {**body, "orderInternalID": "1"} if script == "getOrder.php" else body

    till.faults.reshape = reshape
    with pytest.raises(SourceChanged, match=f"order {order_id} was asked for, order 1 came"):
        read(till, memory)


class Counting(httpx.HTTPTransport):
    """The true transport, which knows how many requests were under way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return super().handle_request(request)
        finally:
            with self.lock:
                self.now -= 1


@pytest.mark.parametrize("parallel", [1, 3])
def test_details_are_asked_for_side_by_side_within_bounds(till: Till, memory: DictMemory, parallel: int) -> None:
    wire = Counting()
    remembered = memory.days[date(2026, 3, 26)]
    for order in list(remembered)[:20]:
        del remembered[order]
    till.faults.set("slow", script="getOrder.php", seconds=0.02)
    read(till, memory, client={"transport": wire}, parallel=parallel)
    assert till.asked("getOrder.php") == 20
    assert wire.most == parallel


def test_raw_answers_of_details_are_kept_and_say_which_order(till: Till, memory: DictMemory) -> None:
    memory.days[date(2026, 3, 26)].clear()
    read(till, memory, date(2026, 3, 26), date(2026, 3, 26))
    details = [document for document in till.raw if document.call == "getOrder.php"]
    assert len(details) == till.asked("getOrder.php") > 100
    for document in details[:5]:
        assert json.loads(document.body)["orderInternalID"] in document.url
        assert hashlib.sha256(document.body).hexdigest() == document.sha256


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_a_memory_of_files_survives_and_a_damaged_one_costs_requests_only(tmp_path: Path) -> None:
    memory = FileMemory(str(tmp_path), "shop")
    day = date(2026, 3, 14)
    assert memory.load(day) == {}
    orders = {"1": Known("abc", {"id": "1", "price": "12.50", "nested": [None, True]}), "2": Known("def", {"id": "2"})}
    memory.save(day, orders)
    assert FileMemory(str(tmp_path), "shop").load(day) == orders
    assert FileMemory(str(tmp_path), "other").load(day) == {}
    file = next(tmp_path.rglob("*.json.gz"))
    whole = file.read_bytes()
    chance = random.Random(6)
    for _ in range(20):
        file.write_bytes(whole[: chance.randrange(len(whole))])
        assert memory.load(day) in ({}, orders)
    memory.save(day, orders)
    assert memory.load(day) == orders
    assert [path.name for path in file.parent.iterdir()] == ["2026-03-14.json.gz"]
