"""The data sets: the sums their README states, what is derived and what is left out, and the same facts every time."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kash_pipeline.sandbox import datasets
from kash_pipeline.sandbox.datasets import Dataset, DatasetError, derive
from kash_pipeline.schemas.facts import FACTS
from kash_pipeline.settings import bp_to_rate, load_shop
from kash_pipeline_tests.conftest import SHARED_DATA

ONLINE_RETAIL = SHARED_DATA / "online_retail.csv.gz"
PIZZAPLACE = SHARED_DATA / "pizzaplace.csv.gz"


@pytest.fixture(scope="module")
def bakery() -> Dataset:
    return datasets.load("bakery")


@pytest.fixture(scope="module")
def online_retail() -> Dataset:
    if not ONLINE_RETAIL.exists():
        pytest.skip("online_retail.csv.gz is not here; its origin is in kash_pipeline/sandbox/datasets/README.md")
    return datasets.load(ONLINE_RETAIL)


@pytest.fixture(scope="module")
def pizzaplace() -> Dataset:
    if not PIZZAPLACE.exists():
        pytest.skip("pizzaplace.csv.gz is not here; its origin is in kash_pipeline/sandbox/datasets/README.md")
    return datasets.load(PIZZAPLACE)


def amounts(frame: pd.DataFrame, key: str, value: str) -> dict[object, int]:
    return dict(zip(frame[key].tolist(), frame[value].tolist(), strict=True))


# --- bakery ----------------------------------------------------------------------------------------------------------


def test_bakery_sums_per_rate(bakery: Dataset) -> None:
    """VAT half up per ticket and rate; per line it would be 2,242.14 for 5.5 %, per day 2,223.70."""
    sums = bakery.sums_by_rate()
    assert amounts(sums, "vat_rate_bp", "gross_cents") == {550: 4_265_460, 1000: 682_390, 2000: 26_620}
    assert amounts(sums, "vat_rate_bp", "vat_cents") == {550: 223_171, 1000: 62_012, 2000: 4_439}
    assert sums["gross_cents"].sum() == 4_974_470 == bakery.facts.orders["total_cents"].sum()
    assert (sums["net_cents"] + sums["vat_cents"] == sums["gross_cents"]).all()


def test_bakery_sums_per_method(bakery: Dataset) -> None:
    sums = amounts(bakery.sums_by_method(), "name", "amount_cents")
    settled_later = sums.pop("VIREMENT")
    assert sums == {
        "CB": 2_256_855,
        "ESPECES": 2_327_590,
        "TICKET RESTO": 256_335,
        "CHEQUE": 90_805,
        "EN COMPTE": 42_885,
    }
    assert 0 < settled_later < sums["EN COMPTE"]


def test_bakery_keeps_its_oddities(bakery: Dataset) -> None:
    orders, lines = bakery.facts.orders, bakery.facts.order_lines
    assert (len(orders), len(lines), bakery.source_rows) == (12_142, 19_735, 19_735)
    assert len(bakery.excluded) == 0
    signs = np.sign(lines["total_cents"]).groupby(lines["order_id"]).agg(["min", "max"])
    assert ((signs["min"] == -1) & (signs["max"] == 1)).sum() == 2
    assert (orders["total_cents"] == 0).sum() == 1
    assert lines.duplicated(["order_id", "label", "quantity_milli", "total_cents"]).sum() == 88
    assert (lines["quantity_milli"].abs() == 200_000).sum() == 2
    assert "PLATPREPARE7,00" in set(lines["label"])
    assert (bakery.first.isoformat(), bakery.last.isoformat()) == ("2026-03-01", "2026-04-30")


def test_bakery_customers_are_those_of_tickets_on_account(bakery: Dataset) -> None:
    facts = bakery.facts
    on_account = facts.payments[facts.payments["method_id"] == "5"]
    named = facts.orders[facts.orders["customer_id"].notna()]
    assert set(named["order_id"]) == set(on_account["order_id"])
    assert set(named["customer_id"]) == set(facts.customers["customer_id"])
    # Who settles, settles March to the cent, in one go, on an open day of April; the others stay open.
    transfers = facts.payments[facts.payments["method_id"] == "6"]
    assert transfers["business_day"].unique().tolist() == [pd.Timestamp("2026-04-07")]
    owed = on_account[on_account["business_day"] < pd.Timestamp("2026-04-01")]
    owed = owed.merge(named[["order_id"]].assign(customer=named["customer_id"]), on="order_id")
    settled = owed[owed["customer"] != "C6"]
    assert amounts(transfers, "order_id", "amount_cents") == amounts(settled, "order_id", "amount_cents")
    assert 0 < len(settled) < len(owed)


def test_bakery_closings_count_what_was_paid(bakery: Dataset) -> None:
    facts = bakery.facts
    open_days = facts.orders["business_day"].nunique()
    assert (open_days, len(facts.closings)) == (52, 104)
    key = ["register_id", "business_day"]
    counts = facts.closing_counts.merge(facts.closings[["closing_id", *key]], on="closing_id")
    paid = facts.payments.groupby([*key, "method_id"])["amount_cents"].sum()
    moved = facts.cash_movements.groupby(key)["amount_cents"].sum()
    for row in counts.itertuples():
        expected = paid.get((row.register_id, row.business_day, row.method_id), 0)
        if row.method_id == "1":
            expected += 10_000 + moved.get((row.register_id, row.business_day), 0)
        assert row.expected_cents == expected, row
    assert set(counts["method_id"]) == {"1", "2", "3", "4"}  # nobody counts an account or a transfer
    off = counts[counts["counted_cents"] != counts["expected_cents"]]
    assert (off["method_id"] == "1").sum() >= 5
    assert (off["counted_cents"] > off["expected_cents"]).any()
    assert (off["counted_cents"] < off["expected_cents"]).any()
    assert (counts["counted_cents"] >= 0).all()
    assert facts.closings["total_cents"].sum() == 4_974_470
    assert (facts.closings["opened_at"] < facts.closings["closed_at"]).all()


@pytest.mark.parametrize("name", ["bakery", "pizzaplace", "online_retail"])
def test_facts_hold_together(name: str, request: pytest.FixtureRequest) -> None:
    """Tables are what their schema says, ids unique, references lead somewhere, each order is the sum of its lines."""
    dataset: Dataset = request.getfixturevalue(name)
    facts = dataset.facts
    for table, frame in facts.tables().items():
        FACTS[table].validate(frame)
        assert not frame.duplicated((FACTS[table].metadata or {})["unique"]).any(), table
    orders = facts.orders.set_index("order_id")
    for child in (facts.order_lines, facts.order_vat, facts.payments):
        assert child["order_id"].isin(orders.index).all()
    lines = facts.order_lines.groupby("order_id")["total_cents"].sum()
    vat = facts.order_vat.groupby("order_id")[["net_cents", "vat_cents"]].sum()
    if dataset.prices == "tax_included":
        assert (lines.reindex(orders.index) == orders["total_cents"]).all()
    else:
        assert (lines.reindex(orders.index) == vat["net_cents"].reindex(orders.index)).all()
    assert (vat.sum(axis=1).reindex(orders.index) == orders["total_cents"]).all()
    kind = facts.payments["method_id"].map(facts.payment_methods.set_index("method_id")["kind"])
    later = facts.payments["business_day"] != facts.payments["order_id"].map(orders["business_day"])
    at_sale = facts.payments[~later].groupby("order_id")["amount_cents"].sum()
    assert (at_sale.reindex(orders.index).fillna(0).astype("int64") == orders["total_cents"]).all()
    assert (kind[later] == "transfer").all()
    kinds = facts.closing_counts["method_id"].map(facts.payment_methods.set_index("method_id")["kind"])
    assert (facts.closing_counts.loc[kinds == "cash", "counted_cents"] >= 0).all()  # a drawer holds no debt
    assert len(facts.order_lines) + len(dataset.excluded) == dataset.source_rows


@pytest.mark.parametrize("name", ["bakery", "pizzaplace", "online_retail"])
def test_the_shop_file_fits(name: str, request: pytest.FixtureRequest) -> None:
    """Registers, rates and methods of the set are all mapped, and both sides agree on zone, day and kind of price."""
    dataset: Dataset = request.getfixturevalue(name)
    shop = load_shop(dataset.shop_path)
    assert (shop.zone, shop.shop.day_starts_at, shop.shop.prices) == (
        dataset.zone,
        dataset.day_starts_at,
        dataset.prices,
    )
    assert shop.source.closings_script == "sandboxGetClosings.php"
    chart = shop.chart[0]
    assert chart.start <= dataset.first
    assert set(dataset.facts.registers["register_id"]) <= set(shop.journals)
    assert set(dataset.facts.payment_methods["kind"]) - {"on_account"} <= set(chart.methods)
    rates = {bp_to_rate(rate) for rate in dataset.facts.order_vat["vat_rate_bp"].unique()}
    assert rates <= set(chart.sales)
    assert rates <= set(chart.vat)
    assert set(dataset.facts.cash_movements["kind"]) <= set(chart.cash_movements)


def test_the_same_seed_gives_the_same_facts_and_another_seed_the_same_sums(bakery: Dataset) -> None:
    again = datasets.load("bakery", seed=bakery.seed)
    for table, frame in bakery.facts.tables().items():
        pd.testing.assert_frame_equal(frame, again.facts.tables()[table])
    other = datasets.load("bakery", seed=7)
    pd.testing.assert_frame_equal(other.sums_by_rate(), bakery.sums_by_rate())
    assert not other.facts.closing_counts.equals(bakery.facts.closing_counts)


def test_sums_of_a_part_of_the_days(bakery: Dataset) -> None:
    march = bakery.sums_by_rate(last=pd.Timestamp("2026-03-31").date())
    april = bakery.sums_by_rate(first=pd.Timestamp("2026-04-01").date())
    assert march["gross_cents"].sum() + april["gross_cents"].sum() == 4_974_470
    assert march["gross_cents"].sum() > 0
    assert april["gross_cents"].sum() > 0


# --- the sets read by path -------------------------------------------------------------------------------------------


def test_online_retail_loses_nothing(online_retail: Dataset) -> None:
    """Kept and excluded are all lines; their amounts are 9,747,747.934 less 0.004 that four lines lose in rounding."""
    assert online_retail.source_rows == 541_909
    assert len(online_retail.facts.order_lines) + len(online_retail.excluded) == 541_909
    kept = int(online_retail.facts.order_lines["total_cents"].sum())
    assert kept + int(online_retail.excluded["amount_cents"].sum()) == 974_774_793
    assert online_retail.excluded["reason"].value_counts().to_dict() == {
        "stock_write_off": 1_336,
        "no_price": 1_139,
        "fee": 87,
        "bad_debt": 3,
    }
    assert online_retail.excluded["source_row"].is_unique
    assert set(online_retail.sums_by_rate()["vat_rate_bp"]) == {2000}


def test_online_retail_has_what_makes_it_worth_reading(online_retail: Dataset) -> None:
    facts = online_retail.facts
    refunds = facts.orders[facts.orders["order_id"].str.startswith("C")]
    assert len(refunds) > 3_700
    assert (refunds["total_cents"] <= 0).all()
    assert facts.orders["customer_id"].nunique() == len(facts.customers) > 4_300
    assert (facts.order_lines["nature"] == "voucher_single").sum() > 20
    assert set(facts.order_lines["department_id"]) == {"1", "2", "3", "4", "5", "6"}
    kinds = facts.payments["method_id"].map(facts.payment_methods.set_index("method_id")["kind"])
    assert set(kinds) == {"cash", "card", "transfer", "on_account"}
    assert facts.payments.loc[kinds == "cash", "amount_cents"].between(1, 100_000).all()
    sale_day = facts.payments["order_id"].map(facts.orders.set_index("order_id")["business_day"])
    wait = (facts.payments["business_day"] - sale_day).dt.days
    # 25 to 40 days, then the next open day: the longest run of closed days is the turn of the year (11).
    assert wait[wait > 0].between(25, 51).all()
    on_account = facts.payments.loc[kinds == "on_account", "amount_cents"].sum()
    settled = facts.payments.loc[wait > 0, "amount_cents"].sum()
    assert 0 < settled < on_account
    assert facts.payments["business_day"].max() == facts.orders["business_day"].max()


def test_pizzaplace_sums_and_late_orders(pizzaplace: Dataset) -> None:
    assert pizzaplace.facts.orders["total_cents"].sum() == 81_786_005
    assert (len(pizzaplace.facts.orders), len(pizzaplace.facts.order_lines)) == (21_350, 49_574)
    latest = pizzaplace.facts.orders["validated_at"].dt.tz_convert(pizzaplace.zone).dt.strftime("%H:%M").max()
    assert latest == "23:05"
    assert set(pizzaplace.facts.orders["register_id"]) == {"K1", "K2"}
    assert amounts(pizzaplace.sums_by_rate(), "vat_rate_bp", "gross_cents") == {1000: 81_786_005}


HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def small(tmp_path: Path, *rows: str) -> Dataset:
    file = tmp_path / "online_retail.csv.gz"
    file.write_bytes(gzip.compress((HEADER + "".join(row + "\n" for row in rows)).encode()))
    return datasets.load(file)


def test_what_is_no_sale_is_listed_with_its_reason(tmp_path: Path) -> None:
    dataset = small(
        tmp_path,
        "536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom",
        "536365,22222,GIFT,1,2010-12-01 08:26:00,0.0,17850,United Kingdom",
        "536366,22222,,10,2010-12-01 09:00:00,0.0,,United Kingdom",
        "536367,22222,smashed,-10,2010-12-01 09:01:00,0.0,,United Kingdom",
        "A563186,B,Adjust bad debt,1,2010-12-01 09:02:00,-11062.06,,United Kingdom",
        "C536368,AMAZONFEE,AMAZON FEE,-1,2010-12-01 09:03:00,13541.33,,United Kingdom",
        "C536369,85123A,HEART,-1,2010-12-01 09:04:00,2.55,17850,United Kingdom",
        "536370,gift_0001_20,Voucher,1,2010-12-01 09:05:00,16.67,,United Kingdom",
    )
    assert dataset.excluded.to_dict("records") == [
        {"source_row": 3, "invoice": "536366", "reason": "no_price", "amount_cents": 0},
        {"source_row": 4, "invoice": "536367", "reason": "stock_write_off", "amount_cents": 0},
        {"source_row": 5, "invoice": "A563186", "reason": "bad_debt", "amount_cents": -1_106_206},
        {"source_row": 6, "invoice": "C536368", "reason": "fee", "amount_cents": -1_354_133},
    ]
    orders = amounts(dataset.facts.orders, "order_id", "total_cents")
    # 15.30 + 20 %, its refund of 2.55 + 0.51, and a voucher of 16.67 + 3.33 = 20.00.
    assert orders == {"536365": 1_836, "C536369": -306, "536370": 2_000}
    assert dataset.facts.order_lines["total_cents"].tolist() == [1_530, 0, -255, 1_667]


def test_prices_finer_than_a_cent_are_rounded_half_up_per_line(tmp_path: Path) -> None:
    dataset = small(
        tmp_path,
        "1,A,a,1,2010-12-01 08:00:00,0.001,1,France",
        "2,A,a,5,2010-12-01 08:01:00,0.001,1,France",
        "C3,A,a,-5,2010-12-01 08:02:00,0.001,1,France",
        "4,A,a,1000,2010-12-01 08:03:00,0.001,1,France",
    )
    assert dataset.facts.order_lines["total_cents"].tolist() == [0, 1, -1, 100]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1,A,a,1,2010-12-01 08:00:00,1.2345,1,France", "UnitPrice '1.2345'"),
        ("1,A,a,1,2010-12-01 08:00:00,abc,1,France", "UnitPrice 'abc'"),
        ("1,A,a,1,2010-12-01 08:00:00,,1,France", "UnitPrice is empty in row 1"),
        ("1,A,a,x,2010-12-01 08:00:00,1,1,France", "cannot be read"),
        ("1,A,a", "cannot be read"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        small(tmp_path, row)


def test_a_small_pizzaplace_file_without_gzip(tmp_path: Path) -> None:
    file = tmp_path / "anything.csv"
    file.write_text(
        "id,date,time,name,size,type,price\n"
        "2015-000001,2015-01-01,23:05:01,hawaiian,M,classic,13.25\n"
        "2015-000001,2015-01-01,23:05:01,mexicana,L,veggie,16\n"
    )
    dataset = datasets.load(file)
    assert amounts(dataset.facts.orders, "order_id", "total_cents") == {"2015-000001": 2_925}
    assert amounts(dataset.facts.order_vat, "order_id", "vat_cents") == {"2015-000001": 266}


def test_unknown_sets_are_refused_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such data set or file") as missing:
        datasets.load(tmp_path / "nowhere.csv")
    assert "bakery" in missing.value.next_step
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="its columns are a, b"):
        datasets.load(other)
    other.write_bytes(b"\x1f\x8bnot gzip at all")
    with pytest.raises(DatasetError, match="cannot be read"):
        datasets.load(other)
    with pytest.raises(DatasetError, match="cannot be read"):
        datasets.load(tmp_path)


# --- the arithmetic under them ---------------------------------------------------------------------------------------


def test_draws_are_pinned() -> None:
    """A change here changes every derived payment and closing, and with them digests kept from earlier runs."""
    drawn = derive.draw(np.array([1, 2, 3, 310_001], dtype=np.int64), 20_260_301, "payment", 100)
    assert drawn.tolist() == [84, 48, 42, 21]
    many = derive.draw(np.arange(10_000, dtype=np.int64), 1, "anything", 10)
    assert np.bincount(many, minlength=10).min() > 900


def test_half_up_mirrors_refunds() -> None:
    values = np.array([5, 15, 14, -5, -15, -14, 0], dtype=np.int64)
    assert derive.half_up(values, 10).tolist() == [1, 2, 1, -1, -2, -1, 0]
