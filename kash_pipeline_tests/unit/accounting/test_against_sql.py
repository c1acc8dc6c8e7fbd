"""The engine against one SQL statement that somebody else's database runs over the same Parquet files."""

from pathlib import Path

import pytest

from bench import engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("synthetic")
    engine.generate(place, 20_000)
    return place


def test_every_line_of_a_synthetic_year_equals_the_sql_statement(folder: Path) -> None:
    """8 registers, 4 rates, 5 methods, refunds and named customers: sales, payments and closings, all lines."""
    results = list(engine.ours(folder, engine.shop()))
    table = engine.anchor(folder)
    assert len(table) == sum(len(lines) for _, lines in results) > 20_000
    assert engine.our_digest(results) == engine.anchor_digest(table)


def test_months_streamed_give_the_lines_of_the_whole_year(folder: Path) -> None:
    by_month = list(engine.ours(folder, engine.shop(), limit=1))
    at_once = list(engine.ours(folder, engine.shop()))
    assert (len(by_month), len(at_once)) == (12, 1)
    assert engine.our_digest(by_month) == engine.our_digest(at_once)
    digests = [digest for entries, _ in by_month for digest in entries["digest"]]
    assert digests == list(at_once[0][0]["digest"])
