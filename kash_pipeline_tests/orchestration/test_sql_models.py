"""dbt_like_sql/ on a real PostgreSQL: figures of the marts, and every test of schema.yml met by rows that break it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kash_pipeline.warehouse.sql_models import (
    SqlModelError,
    SqlProject,
    build_model,
    load_project,
    run_tests,
)

PROJECT = load_project()

# One day of one register: a sale of 12.00 at 20 % paid in cash, 0.50 missing at closing, a second register held.
ROWS = """
insert into kash.entries values
  ('s', 'S-1', 'sale', '2026-03-14', 'K1', 'K1', '2026-03-14', 'sales', 3, 1200, 1200, 'd1'),
  ('s', 'P-1', 'payment', '2026-03-14', 'K1', 'K1', '2026-03-14', 'payments', 2, 1200, 1200, 'd2'),
  ('s', 'C-1', 'closing', '2026-03-14', 'K1', 'K1', '2026-03-14', 'cash short', 2, 50, 50, 'd3');
insert into kash.entry_lines
  (shop_id, entry_key, line_no, account, customer_id, vat_rate_bp, method_id, debit_cents, credit_cents, label,
   business_day)
values
  ('s', 'S-1', 1, '580100', null, null, null, 1200, 0, '', '2026-03-14'),
  ('s', 'S-1', 2, '707200', null, 2000, null, 0, 1000, '', '2026-03-14'),
  ('s', 'S-1', 3, '445711200', null, 2000, null, 0, 200, '', '2026-03-14'),
  ('s', 'P-1', 1, '530000', null, null, 'cash', 1200, 0, '', '2026-03-14'),
  ('s', 'P-1', 2, '580200', null, null, null, 0, 1200, '', '2026-03-14'),
  ('s', 'C-1', 1, '658000', null, null, null, 50, 0, '', '2026-03-14'),
  ('s', 'C-1', 2, '530000', null, null, 'cash', 0, 50, '', '2026-03-14');
insert into kash.held values
  ('s', '2026-03-15', 'K2', 'unmapped_method', 'method 17', 'add "17" to methods_by_id');
insert into kash.publication
  (shop_id, key, base_key, role, kind, business_day, register_id, journal, date, label, line_count, amount_cents,
   digest, state)
select shop_id, entry_key, entry_key, 'original', kind, business_day, register_id, journal, date, label, lines,
       debit_cents, digest, case kind when 'closing' then 'ready' else 'verified' end
from kash.entries;
"""

# What breaks each test. The warehouse's own constraints would refuse most of it, so all of them are taken off first.
LOOSEN = """
do $$
declare found record;
begin
  for found in select conrelid::regclass as t, conname as n from pg_constraint
    where connamespace = 'kash'::regnamespace and contype in ('p', 'u', 'c') loop
    execute format('alter table %s drop constraint %I', found.t, found.n);
  end loop;
  for found in select indexrelid::regclass as i from pg_index
    join pg_class on pg_class.oid = indexrelid where relnamespace = 'kash'::regnamespace and indisunique loop
    execute format('drop index %s', found.i);
  end loop;
  for found in select attrelid::regclass as t, attname as n from pg_attribute join pg_class on pg_class.oid = attrelid
    where relnamespace = 'kash'::regnamespace and relkind = 'r' and attnotnull and attnum > 0 loop
    execute format('alter table %s alter %I drop not null', found.t, found.n);
  end loop;
end $$
"""
DOUBLE_LINE = "insert into kash.entry_lines select * from kash.entry_lines where entry_key = 'P-1' and line_no = 2"
LINE_WITHOUT_KEY = "update kash.entry_lines set entry_key = null where entry_key = 'C-1' and line_no = 1"


def _mart(model: str, key: str) -> dict[tuple[str, str], str]:
    return {
        (model, f"unique_{key}"): f"insert into marts.{model} select * from marts.{model} limit 1",
        (
            model,
            f"not_null_{key}",
        ): f"update marts.{model} set {key} = null where {key} = (select min({key}) from marts.{model})",
    }


BREAKING = {
    ("stg_entries", "unique_entry_id"): "insert into kash.entries select * from kash.entries where entry_key = 'S-1'",
    ("stg_entries", "not_null_entry_id"): "update kash.entries set entry_key = null where entry_key = 'S-1'",
    ("stg_entries", "accepted_values_kind"): "update kash.entries set kind = 'sales' where entry_key = 'S-1'",
    ("stg_entry_lines", "unique_line_id"): DOUBLE_LINE,
    ("stg_entry_lines", "not_null_line_id"): LINE_WITHOUT_KEY,
    ("stg_entry_lines", "not_null_entry_id"): LINE_WITHOUT_KEY,
    ("stg_entry_lines", "relationships_entry_id"): "update kash.entry_lines set entry_key = 'X' where line_no = 3",
    (
        "stg_entry_lines",
        "assert_entries_balance",
    ): "update kash.entry_lines set debit_cents = 1199 where account = '580100'",
    ("stg_held", "not_null_reason"): "update kash.held set reason = null",
    ("stg_held", "not_null_next_step"): "update kash.held set next_step = null",
    ("stg_publication", "unique_publication_id"): (
        "insert into kash.publication select * from kash.publication where key = 'S-1'"
    ),
    ("stg_publication", "not_null_publication_id"): "update kash.publication set key = null where key = 'S-1'",
    ("stg_publication", "not_null_entry_id"): "update kash.publication set base_key = null where key = 'S-1'",
    ("stg_publication", "accepted_values_role"): "update kash.publication set role = 'storno' where key = 'S-1'",
    ("stg_publication", "accepted_values_state"): "update kash.publication set state = 'lost' where key = 'S-1'",
    ("int_entry_lines", "unique_line_id"): DOUBLE_LINE,
    ("int_entry_lines", "not_null_line_id"): "update kash.entry_lines set line_no = null where account = '580100'",
    ("int_entry_lines", "assert_sales_have_a_rate"): (
        "update kash.entry_lines set vat_rate_bp = null where account = '707200'"
    ),
    **_mart("revenue_by_day", "revenue_id"),
    **_mart("takings_by_method", "takings_id"),
    **_mart("trial_balance_by_month", "balance_id"),
    ("trial_balance_by_month", "assert_months_balance"): (
        "update marts.trial_balance_by_month set balance_cents = balance_cents + 1 where account = '707200'"
    ),
    **_mart("publication_by_day", "day_id"),
    ("publication_by_day", "accepted_values_status"): (
        "update marts.publication_by_day set status = 'fine' where status = 'held'"
    ),
    **_mart("till_differences", "difference_id"),
    ("till_differences", "accepted_values_side"): "update marts.till_differences set side = 'up'",
}


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.begin() as opened:
        opened.exec_driver_sql(ROWS)
        for name in PROJECT.models:
            build_model(opened, PROJECT, name)
    with engine.connect() as opened:
        yield opened


def _rows(connection: sa.Connection, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(sql)]


def test_good_rows_pass_every_test(connection: sa.Connection) -> None:
    for name in PROJECT.models:
        assert [result for result in run_tests(connection, PROJECT, name) if not result.passed] == []


def test_every_test_has_rows_here_that_break_it() -> None:
    """A test nobody ever saw failing proves nothing."""
    assert {(model.name, test.name) for model in PROJECT.models.values() for test in model.tests} == set(BREAKING)


@pytest.mark.parametrize(("model", "test"), sorted(BREAKING), ids=lambda value: value)
def test_broken_rows_are_found_and_shown(connection: sa.Connection, model: str, test: str) -> None:
    connection.execution_options(no_parameters=True).exec_driver_sql(LOOSEN)
    connection.exec_driver_sql(BREAKING[model, test])
    [result] = run_tests(connection, PROJECT, model, only=[test])
    assert result.failures == len(result.sample) == 1
    assert not result.passed


def test_the_marts_figures(connection: sa.Connection) -> None:
    assert _rows(connection, "select vat_rate_bp, net_cents, vat_cents, gross_cents from marts.revenue_by_day") == [
        (2000, 1000, 200, 1200)
    ]
    assert _rows(
        connection, "select method_id, received_cents, given_back_cents, takings_cents from marts.takings_by_method"
    ) == [("cash", 1200, 0, 1200)]
    assert _rows(connection, "select method_id, account, side, difference_cents from marts.till_differences") == [
        ("cash", "658000", "short", -50)
    ]
    assert _rows(
        connection,
        "select account, balance_cents from marts.trial_balance_by_month where month = '2026-03-01' order by account",
    ) == [
        ("445711200", -200),
        ("530000", 1150),
        ("580100", 1200),
        ("580200", -1200),
        ("658000", 50),
        ("707200", -1000),
    ]
    assert _rows(
        connection,
        "select business_day::text, status, held_registers, entry_count, ready_count, verified_count, verified_cents "
        "from marts.publication_by_day order by 1",
    ) == [("2026-03-14", "ready", 0, 3, 1, 2, 2400), ("2026-03-15", "held", 1, 0, 0, 0, 0)]


def test_a_z_entry_tells_the_same_as_the_three_it_replaces(connection: sa.Connection) -> None:
    """Granularity z has sale, payment and difference in one entry; no mart may lose or double them."""
    queries = (
        "select vat_rate_bp, net_cents, vat_cents from marts.revenue_by_day",
        "select method_id, takings_cents from marts.takings_by_method",
        "select method_id, side, difference_cents from marts.till_differences",
    )
    by_kind = [_rows(connection, query) for query in queries]
    connection.exec_driver_sql(
        """
        delete from kash.entries; delete from kash.entry_lines;
        insert into kash.entries values
          ('s', 'Z-1', 'z', '2026-03-14', 'K1', 'K1', '2026-03-14', 'z', 4, 1200, 1200, 'd');
        insert into kash.entry_lines
          (shop_id, entry_key, line_no, account, vat_rate_bp, method_id, debit_cents, credit_cents, label, business_day)
        values
          ('s', 'Z-1', 1, '530000', null, 'cash', 1150, 0, '', '2026-03-14'),
          ('s', 'Z-1', 2, '658000', null, 'cash', 50, 0, '', '2026-03-14'),
          ('s', 'Z-1', 3, '707200', 2000, null, 0, 1000, '', '2026-03-14'),
          ('s', 'Z-1', 4, '445711200', 2000, null, 0, 200, '', '2026-03-14');
        """
    )
    for name in PROJECT.models:
        build_model(connection, PROJECT, name)
    assert [_rows(connection, query) for query in queries] == by_kind


def test_building_again_keeps_what_analysts_put_on_the_views(connection: sa.Connection) -> None:
    """A nightly rebuild must not drop the view somebody made on a staging model."""
    connection.exec_driver_sql("create view public.mine as select entry_key from marts.stg_entries")
    for name in PROJECT.models:
        build_model(connection, PROJECT, name)
    assert len(_rows(connection, "select * from public.mine")) == 3


# --- the loader's refusals -------------------------------------------------------------------------------------------

PROPERTIES = """
sources: [{name: kash, schema: kash, tables: [{name: entries}]}]
models:
  - name: first
    description: First.
    columns: [{name: n, data_type: integer, description: A number.}]
"""


def _project(folder: Path, sql: str = "select 1 as n", properties: str = PROPERTIES, **more: str) -> Path:
    (folder / "models").mkdir()
    (folder / "dbt_project.yml").write_text("name: p\n")
    (folder / "models" / "first.sql").write_text(sql)
    (folder / "models" / "schema.yml").write_text(properties)
    for name, text in more.items():
        (folder / "models" / f"{name}.sql").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("sql", "message", "next_step"),
    [
        ("select * from {{ ref('frist') }}", "ref('frist') is no model", "did you mean 'first'?"),
        ("select * from {{ source('kash', 'entrys') }}", "is not declared", "did you mean 'kash.entries'?"),
        ("select * from {{ ref('first') }}", "in a circle", "remove one"),
        ("delete from kash.entries", "not one SELECT", "single SELECT"),
        ("select 1; drop table kash.entries", "not one SELECT", "single SELECT"),
        ("select {{ nothing }}", "'nothing' is undefined", "only ref"),
        ("select {{ ref.__globals__ }}", "access to attribute '__globals__'", "only ref"),
        ("select 1 {% if %}", "first.sql:1", "only ref"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, sql: str, message: str, next_step: str) -> None:
    with pytest.raises(SqlModelError) as caught:
        load_project(_project(tmp_path, sql))
    assert "first.sql" in caught.value.message
    assert message in caught.value.message
    assert next_step in caught.value.next_step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("data_type: integer, ", "data_type: integer, data_tests: [uniqe], "), "unknown test 'uniqe'"),
        (("description: First.", "description: ''"), "has no description"),
        (("name: first", "name: second"), "no entry under models"),
        (("description: First.", "description: First.\n    config: {materialized: incremental}"), "'incremental'"),
        (("models:", "models: ["), "no valid YAML"),
    ],
)
def test_properties_that_cannot_be_used_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(SqlModelError) as caught:
        load_project(_project(tmp_path, properties=PROPERTIES.replace(*change)))
    assert message in caught.value.message


def test_a_semicolon_in_a_literal_or_a_percent_sign_is_just_text(tmp_path: Path, connection: sa.Connection) -> None:
    project = load_project(_project(tmp_path, "select 1 as n -- ; drop\nwhere 'a;b' like '%;%' and '10:30' <> ''"))
    assert build_model(connection, project, "first") == 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select 'x' as n", "n is text; n is declared integer"),
        ("select 1 as m", "m is integer; n is declared integer"),
        ("select * from kash.nowhere", 'relation "kash.nowhere" does not exist'),
    ],
)
def test_what_postgresql_or_schema_yml_refuses_names_the_file(
    tmp_path: Path, connection: sa.Connection, sql: str, message: str
) -> None:
    project = load_project(_project(tmp_path, sql))
    with pytest.raises(SqlModelError) as caught:
        build_model(connection, project, "first")
    assert "first.sql" in caught.value.message
    assert message in caught.value.message


def test_a_view_becomes_a_table_and_changes_its_columns(tmp_path: Path, connection: sa.Connection) -> None:
    def project(name: str, sql: str, properties: str) -> SqlProject:
        folder = tmp_path / name
        folder.mkdir()
        return load_project(_project(folder, sql, properties))

    build_model(connection, project("one", "select 1 as n", PROPERTIES), "first")
    as_table = PROPERTIES.replace("description: First.", "description: First.\n    config: {materialized: table}")
    build_model(connection, project("two", "select 2 as n", as_table), "first")
    assert _rows(connection, "select n from marts.first") == [(2,)]
    build_model(connection, project("three", "select 'a'::text as n", PROPERTIES.replace("integer", "text")), "first")
    assert _rows(connection, "select n from marts.first") == [("a",)]
