"""The lake: what was written is read back, a missing day is not an empty one, nothing is ever half there."""

import gzip
import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from kash_pipeline.schemas import facts as schemas
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.warehouse.errors import LakeError, MissingDays
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline_tests.unit.warehouse.samples import MONDAY, TUESDAY, WEDNESDAY


@dataclass(frozen=True)
class Answer:
    call: str
    day: date | None
    body: bytes
    url: str = "https://kash.click/workers/getOrders.php?key=***"
    fetched_at: datetime = datetime(2026, 3, 30, 2, 15, tzinfo=UTC)
    status: int = 200

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def orders(day: date, *ids: str) -> pd.DataFrame:
    return conform(
        pd.DataFrame(
            {
                "order_id": list(ids),
                "number": [f"T{n}" for n in ids],
                "register_id": "K1",
                "business_day": day,
                "validated_at": pd.Timestamp("2026-03-29T23:59:59.123456Z"),
                "customer_id": None,
                "refund_of": None,
                "total_cents": [-(2**53) - 1 + n for n in range(len(ids))],
            }
        ),
        schemas.ORDERS,
    )


@pytest.fixture(params=["directory", "memory"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "la ke") if request.param == "directory" else f"memory://{tmp_path.name}/lake", "shop")


def test_days_come_back_in_order_with_their_types(lake: Lake) -> None:
    lake.write_day("orders", TUESDAY, orders(TUESDAY, "3"))
    lake.write_day("orders", MONDAY, orders(MONDAY, "1", "2"))
    expected = pd.concat([orders(MONDAY, "1", "2"), orders(TUESDAY, "3")], ignore_index=True)
    pd.testing.assert_frame_equal(lake.read_days("orders", MONDAY, TUESDAY), conform(expected, schemas.ORDERS))
    assert lake.days("orders") == [MONDAY, TUESDAY]


def test_a_missing_day_is_an_error_and_an_empty_day_is_not(lake: Lake) -> None:
    """Otherwise a day that could not be read would be booked as a day without sales."""
    lake.write_day("orders", MONDAY, empty(schemas.ORDERS))
    assert lake.read_days("orders", MONDAY, MONDAY).empty
    with pytest.raises(MissingDays, match="2026-03-29, 2026-03-30 was never read"):
        lake.read_days("orders", MONDAY, WEDNESDAY)
    assert lake.missing("orders", MONDAY, WEDNESDAY) == [TUESDAY, WEDNESDAY]
    assert lake.read_days("orders", MONDAY, WEDNESDAY, missing="skip").empty
    with pytest.raises(MissingDays, match="order_lines"):
        lake.read_facts(MONDAY, MONDAY)


def test_only_the_columns_asked_for(lake: Lake) -> None:
    lake.write_day("orders", MONDAY, orders(MONDAY, "1"))
    frame = lake.read_days("orders", MONDAY, MONDAY, ["order_id", "total_cents"])
    assert list(frame.columns) == ["order_id", "total_cents"]


def test_dictionary_coded_text_over_many_files(lake: Lake) -> None:
    """Each file has its own dictionary; read together they must be one, and say the same."""
    lake.write_day("orders", MONDAY, orders(MONDAY, "1", "2"))
    lake.write_day("orders", TUESDAY, orders(TUESDAY, "2", "3"))
    coded = lake.read_days("orders", MONDAY, TUESDAY, categories=True)
    assert isinstance(coded.order_id.dtype, pd.CategoricalDtype)
    assert coded.order_id.tolist() == ["1", "2", "2", "3"]
    assert coded.customer_id.isna().all()
    assert lake.read_days("orders", MONDAY, TUESDAY).order_id.tolist() == coded.order_id.tolist()


def test_a_day_is_replaced_whole(lake: Lake) -> None:
    first = lake.write_day("orders", MONDAY, orders(MONDAY, "1", "2"))
    second = lake.write_day("orders", MONDAY, orders(MONDAY, "3"))
    assert lake.read_days("orders", MONDAY, MONDAY).order_id.tolist() == ["3"]
    assert first != second
    assert lake.digest("orders", MONDAY) == second


def test_the_digest_tells_a_changed_day_and_only_that(lake: Lake) -> None:
    rows = orders(MONDAY, "1", "2")
    digest = lake.write_day("orders", MONDAY, rows)
    assert lake.write_day("orders", MONDAY, rows.iloc[::-1].reset_index(drop=True)) == digest
    assert lake.write_day("orders", MONDAY, rows.assign(total_cents=rows.total_cents + 1)) != digest
    assert lake.digest("orders", TUESDAY) is None


def test_all_facts_of_a_window(lake: Lake) -> None:
    lake.write_day("orders", MONDAY, orders(MONDAY, "1"))
    lake.write_day("order_lines", MONDAY, empty(schemas.ORDER_LINES))
    registers = pd.DataFrame({"register_id": ["K1"], "name": ["Caisse"], "chapter": [None]})
    lake.write_reference("registers", conform(registers, schemas.REGISTERS))
    found = lake.read_facts(MONDAY, MONDAY)
    assert found.orders.order_id.tolist() == ["1"]
    assert found.registers.name.tolist() == ["Caisse"]
    assert found.closings.empty
    lake.write_day("closings", TUESDAY, empty(schemas.CLOSINGS))
    with pytest.raises(MissingDays, match="pos/closings"):
        lake.read_facts(MONDAY, MONDAY)


def test_a_reference_table_never_written_is_an_error(lake: Lake) -> None:
    with pytest.raises(LakeError, match=r"reference/registers.parquet was never written"):
        lake.read_reference("registers")


def test_two_shops_in_one_lake(tmp_path: Path) -> None:
    north, south = Lake(str(tmp_path), "north"), Lake(str(tmp_path), "south")
    north.write_day("orders", MONDAY, orders(MONDAY, "1"))
    assert south.days("orders") == []


def test_a_wrong_frame_or_table_is_refused(lake: Lake) -> None:
    with pytest.raises(LakeError, match="orders: not a frame"):
        lake.write_day("orders", MONDAY, orders(MONDAY, "1").drop(columns="total_cents"))
    with pytest.raises(LakeError, match="'order' is no table"):
        lake.days("order")


def test_a_damaged_file_is_named_with_the_cure(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "shop")
    lake.write_day("orders", MONDAY, orders(MONDAY, "1"))
    file = tmp_path / "shop/facts/orders/2026-03-28.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(LakeError, match=r"2026-03-28.parquet cannot be read") as caught:
        lake.read_days("orders", MONDAY, MONDAY)
    assert "delete this file" in caught.value.next_step


def test_a_killed_writer_leaves_no_day_behind(tmp_path: Path) -> None:
    """Whatever a writer left beside is no day."""
    lake = Lake(str(tmp_path), "shop")
    lake.write_day("orders", MONDAY, orders(MONDAY, "1"))
    (tmp_path / "shop/facts/orders/2026-03-29.parquet.0123abcd.part").write_bytes(b"half")
    assert lake.days("orders") == [MONDAY]


def test_a_raw_answer_is_kept_once_and_found_again(lake: Lake) -> None:
    answer = Answer("getOrders", MONDAY, b'{"orders": []}')
    path = lake.keep(answer)
    assert lake.keep(Answer("getOrders", MONDAY, answer.body, fetched_at=datetime(2026, 4, 1, tzinfo=UTC))) == path
    lake.keep(Answer("getOrders", TUESDAY, answer.body))
    lake.keep(Answer("getVATs", None, b"[]"))
    (kept,) = lake.raw("getOrders", MONDAY)
    assert kept | {"path": path} == kept
    assert (kept["url"], kept["status"], kept["fetched_at"]) == (answer.url, 200, "2026-03-30T02:15:00+00:00")
    assert lake.read_raw(path) == answer.body
    assert len(lake.raw("getOrders")) == 2
    assert lake.raw("getVATs")[0]["day"] is None
    assert lake.raw("getSales") == []


def test_a_raw_answer_that_was_changed_is_found_out(tmp_path: Path) -> None:
    """The kept answers are evidence: they must not change silently."""
    lake = Lake(str(tmp_path), "shop")
    path = lake.keep(Answer("getOrders", MONDAY, b"1234"))
    (tmp_path / "shop" / f"{path}.gz").write_bytes(gzip.compress(b"1235"))
    with pytest.raises(LakeError, match="was changed"):
        lake.read_raw(path)


def test_keys_in_the_lake_url_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(LakeError) as caught:
        Lake("nofs://user:s3cret@host/bucket?key=s3cret", "shop")
    assert "s3cret" not in str(caught.value)
