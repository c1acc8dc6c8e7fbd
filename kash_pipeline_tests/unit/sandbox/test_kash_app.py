"""The Kash.click stand-in over real loopback HTTP: the documented calls, their windows, and how it refuses."""

import logging
from collections.abc import Iterator

import httpx
import pytest
import yaml

from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.sandbox.kash.shapes import euros
from kash_pipeline_tests.sandboxes import KashHandle, kash_served

SHOP, KEY = "4711", "a-key-of-the-sandbox"
ID = {"idboutique": SHOP, "key": KEY}
DAY = {"from_date_ISO8601": "2026-03-14T00:00:00Z", "to_date_ISO8601": "2026-03-14T23:59:59Z"}


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@pytest.fixture(scope="module")
def sandbox(bakery: Dataset) -> Iterator[KashHandle]:
    with kash_served(bakery, shop_id=SHOP, key=KEY) as served:
        yield served


@pytest.fixture(scope="module")
def http(sandbox: KashHandle) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{sandbox.url}/", timeout=10) as client:
        yield client


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """These tests put the key into the address as the documentation says, and httpx logs each address."""
    caplog.set_level(logging.WARNING, logger="httpx")


def test_every_documented_call_it_serves_is_in_the_contract(http: httpx.Client) -> None:
    """Paths and parameters are those of the documentation; getVATs.php is in the publisher's own client only."""
    from importlib.resources import files

    contract = yaml.safe_load((files("kash_pipeline.contracts") / "kash-openapi.yaml").read_text())
    documented = {path.removeprefix("/workers/") for path in contract["paths"]}
    served = {
        "getOrders.php", "getPaymentModes.php", "getCashbox.php", "getDepartments.php", "getDepartmentGroups.php",
        "getClients.php", "getPlus.php", "getUsers.php", "getSales.php",
    }  # fmt: skip
    assert served <= documented
    for script in (served | {"getVATs.php"}) - {"getSales.php"}:
        answer = http.get(script, params={**ID, "format": "json", **DAY})
        assert answer.status_code == 200, script
        assert isinstance(answer.json(), list), script
        assert answer.json(), script


def test_orders_are_whole_and_as_the_till_computed_them(http: httpx.Client, bakery: Dataset) -> None:
    orders = http.get("getOrders.php", params={**ID, **DAY, "validatedOrders": "true"}).json()
    day = bakery.facts.orders[bakery.facts.orders["business_day"] == "2026-03-14"]
    in_time = day.sort_values(["validated_at", "order_id"])
    assert [order["orderInternalID"] for order in orders] == in_time["order_id"].tolist()
    by_id = {order["orderInternalID"]: order for order in orders}
    ticket = by_id["312764"]
    assert (ticket["price"], ticket["clientID"] in ("C1", "C2", "C3", "C4", "C5", "C6")) == ("1.25", True)
    assert ticket["VATs"] == [{"rate": "5.5", "net": "1.18", "amount": "0.07"}]
    assert [payment["amount"] for payment in ticket["payments"]] in (["1.25"], ["1.25", "1.25"])
    assert sum(int(order["price"].replace(".", "")) for order in orders) == day["total_cents"].sum()
    one = http.get("getOrder.php", params={**ID, "order_id": "312764"}).json()
    assert one == ticket


def test_window_bounds_are_included_and_read_with_their_offset(http: httpx.Client) -> None:
    def ids(first: str, last: str) -> list[str]:
        window = {"from_date_ISO8601": first, "to_date_ISO8601": last}
        return [order["orderInternalID"] for order in http.get("getOrders.php", params={**ID, **window}).json()]

    assert ids("2026-03-01T06:12:00Z", "2026-03-01T06:12:00Z") == ["310001"]
    assert ids("2026-03-01T07:12:00+01:00", "2026-03-01T07:12:00+01:00") == ["310001"]
    assert ids("2026-03-01T06:12:01Z", "2026-03-01T06:20:00Z") == []


def test_quotes_are_none_and_another_delivery_method_too(http: httpx.Client) -> None:
    assert http.get("getOrders.php", params={**ID, **DAY, "validatedOrders": "false"}).json() == []
    assert http.get("getOrders.php", params={**ID, **DAY, "filterDeliveryMethod": "1"}).json() == []


@pytest.mark.parametrize(
    ("script", "change", "says"),
    [
        ("getOrders.php", {"key": "another"}, "Wrong API key"),
        ("getOrders.php", {"key": ""}, "Wrong API key"),
        ("getPaymentModes.php", {"idboutique": "1"}, "Unknown shop"),
        ("getOrders.php", {"from_date_ISO8601": "14/03/2026"}, "Invalid date"),
        ("getOrders.php", {"to_date_ISO8601": ""}, "Invalid date"),
        ("getOrder.php", {"order_id": "1"}, "Order not found"),
        ("getClients.php", {"format": "xml"}, "Unknown format"),
        ("getSales.php", {"formatExport": "CSV", "d": "31", "m": "2", "y": "2026"}, "Invalid date"),
        ("getSales.php", {"formatExport": "XLS"}, "formatExport"),
    ],
)
def test_a_refusal_is_an_error_body_with_status_200(
    http: httpx.Client, sandbox: KashHandle, script: str, change: dict[str, str], says: str
) -> None:
    with sandbox.contract.bad_requests_expected():
        answer = http.get(script, params={**ID, **DAY, **change})
    assert answer.status_code == 200
    assert answer.json()["success"] is False
    assert says in answer.json()["result"]
    assert KEY not in answer.text


@pytest.mark.parametrize("script", ["getNothing.php", "webapp.php", "editOrder.php"])
def test_unknown_scripts_and_writes_are_a_404_page(http: httpx.Client, sandbox: KashHandle, script: str) -> None:
    with sandbox.contract.bad_requests_expected():
        answer = http.get(script, params=ID)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (404, "text/html")


def test_the_daily_report_lists_what_is_paid_and_sums_what_is_sold(http: httpx.Client, bakery: Dataset) -> None:
    """The spreadsheet leaves out orders that are not paid (documented); the report has them."""
    asked = {**ID, "d": "14", "m": "3", "y": "2026"}
    rows = http.get("getSales.php", params={**asked, "formatExport": "CSV"}).text.splitlines()
    day = bakery.facts.orders[bakery.facts.orders["business_day"] == "2026-03-14"]
    assert rows[0] == "date;number;cashBox;client;total"
    unpaid = day[day["customer_id"] == "C6"]
    assert len(rows) - 1 == len(day) - len(unpaid)
    report = http.get("getSales.php", params={**asked, "formatExport": "Std"}).text
    total = euros(day["total_cents"].sum())
    assert f"<td>{total}</td>" in report
    yesterday = http.get("getSales.php", params={**ID, "formatExport": "Std"}).text
    assert "2026-04-30 - 2026-04-30" in yesterday
    year = http.get("getSales.php", params={**ID, "y": "2026", "formatExport": "Std"}).text
    assert "<td>49744.70</td>" in year
    assert "<td>2231.71</td>" in year


def test_lists_in_csv_and_html(http: httpx.Client) -> None:
    rows = http.get("getVATs.php", params={**ID, "format": "csv"}).text.splitlines()
    assert rows[:2] == ["id;title;rate;accountingChapter", "1;TVA 5,5 %;5.5;11055"]
    assert "<td>TVA 5,5 %</td>" in http.get("getVATs.php", params={**ID, "format": "html"}).text


def test_closings_come_from_a_call_named_as_the_sandboxs_own(http: httpx.Client, bakery: Dataset) -> None:
    body = http.get("sandboxGetClosings.php", params={**ID, **DAY}).json()
    closings = bakery.facts.closings
    of_day = closings[closings["business_day"] == "2026-03-14"]
    assert {z["id"] for z in body["closings"]} == set(of_day["closing_id"])
    assert all(count["expected"] for z in body["closings"] for count in z["counts"])
    monday = {"from_date_ISO8601": "2026-03-16T00:00:00Z", "to_date_ISO8601": "2026-03-16T23:59:59Z"}
    moved = http.get("sandboxGetClosings.php", params={**ID, **monday}).json()["cashMovements"]
    assert [movement["type"] for movement in moved] == ["withdrawal"]
