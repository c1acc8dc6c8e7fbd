"""Load and run `dbt_like_sql/`: SELECT files with `ref()` and `source()`, and the tests of their schema.yml.

Only reading the folder, creating its views and tables and running its tests belongs here; when a model is built, and
how its result is shown, is decided in defs/marts.py. What a figure means stands in the SQL file and its schema.yml.

The folder is a dbt project and follows dbt's rules (https://docs.getdbt.com/reference/resource-properties/data-tests):
`unique`, `not_null`, `accepted_values` and `relationships` per column, and singular tests as SELECTs of failing rows.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import jinja2
import jinja2.sandbox
import yaml
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from kash_pipeline.warehouse.errors import WarehouseError

FOLDER = Path(__file__).resolve().parents[2] / "dbt_like_sql"
SCHEMA = "marts"
SAMPLE = 5
"""How many failing rows a test shows; their number is always exact."""

Materialized = Literal["view", "table"]
Severity = Literal["error", "warn"]


class SqlModelError(WarehouseError):
    """A file of dbt_like_sql/ cannot be used; the message names the file."""


@dataclass(frozen=True)
class SqlColumn:
    """A column as schema.yml declares it; `data_type` is PostgreSQL's name and is compared with what was built."""

    name: str
    data_type: str
    description: str


@dataclass(frozen=True)
class SqlTest:
    """A SELECT of failing rows. `name` is unique in its model: `unique_entry_id`, or the file's stem."""

    name: str
    model: str
    description: str
    severity: Severity
    sql: str


@dataclass(frozen=True)
class SqlModel:
    """One SELECT. `depends_on` are models, `sources` are (source, table) pairs, both read from the SQL."""

    name: str
    layer: str
    path: Path
    description: str
    materialized: Materialized
    columns: tuple[SqlColumn, ...]
    depends_on: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]
    sql: str
    tests: tuple[SqlTest, ...] = ()


@dataclass(frozen=True)
class TestResult:
    """`failures` failing rows, the first `SAMPLE` of them in `sample` as text."""

    __test__ = False  # no test class, whatever pytest makes of the name

    test: SqlTest
    failures: int
    sample: tuple[dict[str, str], ...]

    @property
    def passed(self) -> bool:
        return self.failures == 0


@dataclass(frozen=True)
class SqlProject:
    """The models of a folder, each after those it reads from, and the schema they are built in."""

    schema: str
    models: Mapping[str, SqlModel]


def load_project(folder: Path = FOLDER, *, schema: str = SCHEMA) -> SqlProject:
    """Read every model, its properties and its tests; nothing is sent to a database.

    Raises SqlModelError with the file for: invalid YAML or Jinja, an unknown `ref` or `source`, a file that is no
    single SELECT, a model without properties or properties without a model, an unknown test, a circle of refs.
    """
    settings = _yaml(folder / "dbt_project.yml")
    paths = [folder / str(path) for path in settings.get("model-paths", ["models"])]
    test_paths = [folder / str(path) for path in settings.get("test-paths", ["tests"])]
    files = {file.stem: file for path in paths for file in sorted(path.rglob("*.sql"))}
    properties, sources = _properties(paths)
    for name in sorted(set(properties) ^ set(files)):
        where = files.get(name) or properties[name][0]
        lacks = "no entry under models: in a schema.yml" if name in files else "no SQL file of its name"
        raise SqlModelError(f"{where}: model {name!r} has {lacks}", next_step="add it, or delete the other half")

    rendered = {name: _render(file, files, sources, schema) for name, file in files.items()}
    try:
        order = tuple(TopologicalSorter({name: item.refs for name, item in rendered.items()}).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise SqlModelError(
            f"{files[error.args[1][0]]}: models refer to each other in a circle: {circle}",
            next_step="remove one of these ref() calls",
        ) from None

    tests: dict[str, list[SqlTest]] = {name: [] for name in order}
    for name in order:
        tests[name].extend(_column_tests(name, *properties[name], files, schema))
    for test in _singular_tests(test_paths, files, sources, schema, order):
        tests[test.model].append(test)

    models = {}
    for name in order:
        file, item = properties[name]
        configured = item.get("config", {}).get("materialized", "view")
        if configured not in ("view", "table"):
            raise SqlModelError(
                f"{file}: model {name!r} is materialized as {configured!r}", next_step="write view or table"
            )
        models[name] = SqlModel(
            name=name,
            layer=files[name].relative_to(folder).parts[0],
            path=files[name],
            description=_described(item, file, f"model {name!r}"),
            materialized=configured,
            columns=tuple(
                SqlColumn(
                    str(column["name"]),
                    str(column.get("data_type", "")),
                    _described(column, file, f"column {name}.{column['name']}"),
                )
                for column in item.get("columns", [])
            ),
            depends_on=rendered[name].refs,
            sources=rendered[name].sources,
            sql=rendered[name].sql,
            tests=tuple(tests[name]),
        )
    return SqlProject(schema, models)


def build_model(connection: Connection, project: SqlProject, name: str) -> int:
    """Create or replace one view or table in the caller's transaction and return its number of rows.

    A table is built beside the old one and takes its place at once, so that readers see the old or the new rows. Raises
    SqlModelError with the file when the SQL fails or its columns are not those declared in schema.yml.
    """
    model = project.models[name]
    relation = f'"{project.schema}"."{name}"'
    fresh = f'"{project.schema}"."{name}__new"'
    try:
        _run(connection, "select pg_advisory_xact_lock(hashtext(%s))", f"{project.schema}.{name}")
        _run(connection, f'create schema if not exists "{project.schema}"')
        # What stood there may be of the other kind or have other columns; what read it is built again after it.
        _run(connection, f"drop {model.materialized} if exists {fresh} cascade")
        _run(connection, f"create {model.materialized} {fresh} as\n{model.sql}")
        _check_columns(connection, project.schema, model)
        for kind in _existing_kind(connection, project.schema, name):
            if kind == model.materialized == "view" and _same_columns(connection, project.schema, name):
                _run(connection, f"drop view {fresh}")
                _run(connection, f"create or replace view {relation} as\n{model.sql}")  # keeps what reads it
                return _count(connection, relation)
            _run(connection, f"drop {kind} {relation} cascade")
        _run(connection, f'alter {model.materialized} {fresh} rename to "{name}"')
        return _count(connection, relation)
    except SQLAlchemyError as error:
        raise SqlModelError(
            f"{model.path}: PostgreSQL refuses it: {_first_line(error)}",
            next_step="correct the SELECT, or build the models it reads first",
        ) from None


def run_tests(
    connection: Connection, project: SqlProject, name: str, only: Iterable[str] | None = None
) -> list[TestResult]:
    """Run the tests of a built model (`only` some of them by name); a failing test is a result, not an error.

    Raises SqlModelError when a test cannot be run at all.
    """
    wanted = None if only is None else set(only)
    results = []
    for test in project.models[name].tests:
        if wanted is not None and test.name not in wanted:
            continue
        try:
            rows = _run(
                connection, f"select *, count(*) over () as failures from (\n{test.sql}\n) as failing limit {SAMPLE}"
            )
        except SQLAlchemyError as error:
            raise SqlModelError(
                f"{project.models[name].path}: test {test.name!r} cannot run: {_first_line(error)}",
                next_step="correct the test in schema.yml or in tests/",
            ) from None
        sample = tuple({key: str(value) for key, value in row.items() if key != "failures"} for row in rows)
        results.append(TestResult(test, int(rows[0]["failures"]) if rows else 0, sample))
    return results


# --- reading the folder ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rendered:
    sql: str
    refs: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]


def _yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SqlModelError(
            f"{file}: there is no such file", next_step="the folder of SQL models needs it; see dbt_like_sql/"
        ) from None
    except yaml.YAMLError as error:
        raise SqlModelError(f"{file}: no valid YAML: {error}", next_step="correct the line named above") from None
    return content if isinstance(content, dict) else {}


def _properties(paths: list[Path]) -> tuple[dict[str, tuple[Path, dict[str, Any]]], dict[tuple[str, str], str]]:
    """Properties by model with their file, and the relation of each (source, table)."""
    models: dict[str, tuple[Path, dict[str, Any]]] = {}
    sources: dict[tuple[str, str], str] = {}
    for file in (file for path in paths for file in sorted([*path.rglob("*.yml"), *path.rglob("*.yaml")])):
        content = _yaml(file)
        for model in content.get("models", []):
            models[str(model["name"])] = (file, model)
        for source in content.get("sources", []):
            for table in source.get("tables", []):
                relation = f'"{source.get("schema", source["name"])}"."{table.get("identifier", table["name"])}"'
                sources[str(source["name"]), str(table["name"])] = relation
    return models, sources


def _described(item: dict[str, Any], file: Path, what: str) -> str:
    text = " ".join(str(item.get("description", "")).split())
    if not text:
        raise SqlModelError(f"{file}: {what} has no description", next_step="say in one sentence what it is")
    return text


def _near(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _jinja(file: Path, text: str, names: Mapping[str, Callable[..., str]]) -> str:
    """Render with these functions and nothing else; the sandbox keeps a template from reaching Python."""
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.globals.clear()
    try:
        return environment.from_string(text).render(**names)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        raise SqlModelError(
            f"{file}{f':{line}' if line else ''}: {error}",
            next_step="only ref('model') and source('source', 'table') are known here",
        ) from None


def _render(file: Path, models: Mapping[str, Path], sources: Mapping[tuple[str, str], str], schema: str) -> _Rendered:
    refs: list[str] = []
    used: list[tuple[str, str]] = []

    def ref(name: str) -> str:
        if name not in models:
            raise SqlModelError(f"{file}: ref({name!r}) is no model", next_step=_near(name, models))
        refs.append(name)
        return f'"{schema}"."{name}"'

    def source(name: str, table: str) -> str:
        if (name, table) not in sources:
            raise SqlModelError(
                f"{file}: source({name!r}, {table!r}) is not declared",
                next_step=_near(f"{name}.{table}", (".".join(known) for known in sources)),
            )
        used.append((name, table))
        return sources[name, table]

    sql = _jinja(file, file.read_text(encoding="utf-8"), {"ref": ref, "source": source}).strip().removesuffix(";")
    bare = re.sub(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", " ", sql, flags=re.DOTALL).strip()
    if not re.match(r"(?i)(select|with)\b", bare) or ";" in bare:
        raise SqlModelError(f"{file}: not one SELECT", next_step="write a single SELECT (WITH is fine), nothing else")
    return _Rendered(sql, tuple(dict.fromkeys(refs)), tuple(dict.fromkeys(used)))


def _column_tests(
    model: str, file: Path, item: dict[str, Any], models: Mapping[str, Path], schema: str
) -> list[SqlTest]:
    relation = f'"{schema}"."{model}"'
    tests = []
    for column in item.get("columns", []):
        name = str(column["name"])
        for entry in column.get("data_tests", column.get("tests", [])):
            kind, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
            arguments = {**options, **options.get("arguments", {})}
            quoted = f'"{name}"'
            if kind == "unique":
                sql = (
                    f"select {quoted}, count(*) as times from {relation} where {quoted} is not null "
                    f"group by {quoted} having count(*) > 1"
                )
                told = f"{name} never stands twice."
            elif kind == "not_null":
                sql = f"select * from {relation} where {quoted} is null"
                told = f"{name} is always there."
            elif kind == "accepted_values":
                values = ", ".join(_literal(value) for value in arguments["values"])
                sql = (
                    f"select {quoted}, count(*) as times from {relation} where {quoted} not in ({values}) "
                    f"group by {quoted}"
                )
                told = f"{name} is one of {', '.join(map(str, arguments['values']))}."
            elif kind == "relationships":
                parent, field = _parent(file, str(arguments["to"]), models, schema), str(arguments["field"])
                sql = (
                    f"select child.* from {relation} as child where child.{quoted} is not null "
                    f'and not exists (select 1 from {parent} as parent where parent."{field}" = child.{quoted})'
                )
                told = f"{name} stands in {arguments['to']} ({field})."
            else:
                raise SqlModelError(
                    f"{file}: {model}.{name} has the unknown test {kind!r}",
                    next_step=_near(str(kind), ["unique", "not_null", "accepted_values", "relationships"]),
                )
            tests.append(SqlTest(f"{kind}_{name}", model, told, _severity(file, options), sql))
    return tests


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _severity(file: Path, options: dict[str, Any]) -> Severity:
    found = str(options.get("config", {}).get("severity", options.get("severity", "error")))
    if found not in ("error", "warn"):
        raise SqlModelError(f"{file}: severity {found!r} is unknown", next_step="write error or warn")
    return "warn" if found == "warn" else "error"


def _parent(file: Path, expression: str, models: Mapping[str, Path], schema: str) -> str:
    def ref(name: str) -> str:
        if name not in models:
            raise SqlModelError(f"{file}: ref({name!r}) is no model", next_step=_near(name, models))
        return f'"{schema}"."{name}"'

    return _jinja(file, "{{ " + expression + " }}", {"ref": ref})


def _singular_tests(
    paths: list[Path],
    models: Mapping[str, Path],
    sources: Mapping[tuple[str, str], str],
    schema: str,
    order: tuple[str, ...],
) -> list[SqlTest]:
    """Tests of their own file; each belongs to the last model it reads, whose rows it judges."""
    told: dict[str, tuple[Path, dict[str, Any]]] = {}
    for file in (file for path in paths for file in sorted(path.rglob("*.yml"))):
        told |= {str(item["name"]): (file, item) for item in _yaml(file).get("data_tests", [])}
    tests = []
    for file in (file for path in paths for file in sorted(path.rglob("*.sql"))):
        rendered = _render(file, models, sources, schema)
        if not rendered.refs:
            raise SqlModelError(f"{file}: reads no model", next_step="name the model it tests with ref()")
        where, item = told.get(file.stem, (file, {}))
        tests.append(
            SqlTest(
                name=file.stem,
                model=max(rendered.refs, key=order.index),
                description=_described(item, where, f"test {file.stem!r}"),
                severity=_severity(where, item),
                sql=rendered.sql,
            )
        )
    return tests


# --- running ---------------------------------------------------------------------------------------------------------


def _run(connection: Connection, sql: str, *values: object) -> list[dict[str, Any]]:
    """Send SQL as it is written: without values a % or a colon in it means itself."""
    if values:
        result = connection.exec_driver_sql(sql, values)
    else:
        result = connection.execution_options(no_parameters=True).exec_driver_sql(sql)
    return [dict(row) for row in result.mappings()] if result.returns_rows else []


def _existing_kind(connection: Connection, schema: str, name: str) -> list[str]:
    sql = "select table_type from information_schema.tables where table_schema = %s and table_name = %s"
    return ["view" if row["table_type"] == "VIEW" else "table" for row in _run(connection, sql, schema, name)]


def _columns_of(connection: Connection, schema: str, name: str) -> list[tuple[str, str]]:
    sql = (
        "select column_name, data_type from information_schema.columns "
        "where table_schema = %s and table_name = %s order by ordinal_position"
    )
    return [(row["column_name"], row["data_type"]) for row in _run(connection, sql, schema, name)]


def _same_columns(connection: Connection, schema: str, name: str) -> bool:
    return _columns_of(connection, schema, name) == _columns_of(connection, schema, f"{name}__new")


def _check_columns(connection: Connection, schema: str, model: SqlModel) -> None:
    built = _columns_of(connection, schema, f"{model.name}__new")
    declared = [(column.name, column.data_type) for column in model.columns]
    if built != declared:
        differ = [
            f"{name} is {kind}" if (name, kind) in built else f"{name} is declared {kind}"
            for name, kind in [*built, *declared]
            if ((name, kind) in built) != ((name, kind) in declared)
        ]
        raise SqlModelError(
            f"{model.path}: its columns are not those of schema.yml: {'; '.join(differ) or 'their order differs'}",
            next_step="correct the SELECT or the columns in schema.yml",
        )


def _count(connection: Connection, relation: str) -> int:
    return int(_run(connection, f"select count(*) as n from {relation}")[0]["n"])


def _first_line(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
