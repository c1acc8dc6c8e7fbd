"""Replacing and reading days: never doubled, never lost, types as declared."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline.schemas import entries as schemas
from kash_pipeline.schemas.columns import empty
from kash_pipeline.warehouse import windows
from kash_pipeline.warehouse.errors import LoadError
from kash_pipeline_tests.unit.warehouse.samples import MONDAY, TUESDAY, WEDNESDAY, entries, lines_of, replace


def read(
    engine: sa.Engine, table: str, first: date = MONDAY, last: date = WEDNESDAY, shop: str = "shop"
) -> pd.DataFrame:
    with engine.connect() as connection:
        return windows.read_days(connection, table, shop, first, last)


def test_what_was_written_is_read_back_as_it_was(engine: sa.Engine) -> None:
    """Null and empty text, quotes, line ends, accents and types survive."""
    frame = entries(("A", MONDAY, 12_00), ("B", TUESDAY, 2**53 + 1), label='Ventes; "K1"')
    assert replace(engine, [MONDAY, TUESDAY], frame) == {"entries": 2, "entry_lines": 4, "held": 0, "notices": 0}
    pd.testing.assert_frame_equal(read(engine, "entries"), frame)
    pd.testing.assert_frame_equal(read(engine, "entry_lines"), lines_of(frame))
    pd.testing.assert_frame_equal(read(engine, "held"), empty(schemas.HELD))


def test_replacing_a_day_twice_does_not_double_it(engine: sa.Engine) -> None:
    frame = entries(("A", MONDAY, 12_00))
    for _ in range(2):
        replace(engine, [MONDAY], frame)
    assert len(read(engine, "entries")) == 1
    assert len(read(engine, "entry_lines")) == 2


def test_a_day_without_rows_ends_empty_and_its_neighbours_stay(engine: sa.Engine) -> None:
    replace(engine, [MONDAY, TUESDAY], entries(("A", MONDAY, 1), ("B", TUESDAY, 2)))
    replace(engine, [TUESDAY], entries())
    assert list(read(engine, "entries").entry_key) == ["A"]
    assert set(read(engine, "entry_lines").entry_key) == {"A"}


def test_another_shop_of_the_same_database_is_untouched(engine: sa.Engine) -> None:
    replace(engine, [MONDAY], entries(("A", MONDAY, 1)), shop="north")
    replace(engine, [MONDAY], entries(), shop="south")
    assert len(read(engine, "entries", shop="north")) == 1


def test_a_row_of_a_day_not_replaced_is_refused(engine: sa.Engine) -> None:
    """It would stand beside its older self after the next replacement of its own day."""
    with pytest.raises(LoadError, match="2026-03-29"):
        replace(engine, [MONDAY], entries(("B", TUESDAY, 2)))
    assert read(engine, "entries").empty


def test_a_failed_replacement_leaves_the_day_as_it_was(engine: sa.Engine) -> None:
    replace(engine, [MONDAY], entries(("A", MONDAY, 1), label="before"))
    with pytest.raises(LoadError, match="NUL"):
        replace(engine, [MONDAY], entries(("A", MONDAY, 1), label="zero \x00 byte"))
    assert list(read(engine, "entries").label) == ["before"]


def test_a_line_without_its_entry_is_refused(engine: sa.Engine) -> None:
    frame = entries(("A", MONDAY, 1))
    with engine.begin() as connection, pytest.raises(LoadError, match="entry A"):
        windows.replace_entries(
            connection,
            "shop",
            [MONDAY],
            entries=entries(),
            entry_lines=lines_of(frame),
            held=empty(schemas.HELD),
            notices=empty(schemas.NOTICES),
        )


def test_a_line_that_comes_twice_is_refused(engine: sa.Engine) -> None:
    frame = entries(("A", MONDAY, 1))
    doubled = pd.concat([lines_of(frame), lines_of(frame)], ignore_index=True)
    with engine.begin() as connection, pytest.raises(LoadError, match="line 1 of entry A comes twice"):
        windows.replace_entries(
            connection,
            "shop",
            [MONDAY],
            entries=frame,
            entry_lines=doubled,
            held=empty(schemas.HELD),
            notices=empty(schemas.NOTICES),
        )


def test_writers_of_the_same_day_take_turns(engine: sa.Engine) -> None:
    """Without the lock both delete what was there and both insert."""
    frame = entries(*[(f"E{n}", MONDAY, n + 1) for n in range(50)])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: replace(engine, [MONDAY], frame), range(8)))
    assert len(read(engine, "entries")) == 50
    assert len(read(engine, "entry_lines")) == 100


def test_dictionary_coded_text_is_accepted(engine: sa.Engine) -> None:
    """Months are built on categoricals; loading them must not need another copy."""
    frame = entries(("A", MONDAY, 1), ("B", MONDAY, 2))
    coded = frame.astype({"entry_key": "category", "label": "category", "register_id": "category"})
    replace(engine, [MONDAY], coded)
    pd.testing.assert_frame_equal(read(engine, "entries"), frame)


def test_queries_never_answer_with_floats(engine: sa.Engine) -> None:
    """pandas' own reader turns a whole number beside a null into a float, and cents above 2**53 are then wrong."""
    with engine.connect() as connection:
        frame = windows.sql_frame(
            connection,
            "select sum(v) as total, max(w) as missing, date '2026-03-29' as day, now() as moment, 'x' as word,"
            " 1.5::numeric as share"
            " from (values (9007199254740993::bigint, null::bigint), (1, 9007199254740993)) t (v, w)"
            " where v >= :least group by v order by v",
            least=1,
        )
    assert frame.total.tolist() == [1, 9007199254740993]
    assert frame.missing.tolist() == [9007199254740993, pd.NA]
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "total": "int64",
        "missing": "Int64",
        "day": "datetime64[ms]",
        "moment": "datetime64[us, UTC]",
        "word": "str",
        "share": "object",
    }
