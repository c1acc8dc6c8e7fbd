"""What Kash.click's answers are believed to look like, and how they become facts. UNCONFIRMED.

No field of any read answer is documented, and nothing here was compared with a real account. Only names, types and
codes belong here, so that a real account changes this module and nothing else; asking is client.py, days.py knows the
days. Names come from the documented order webhook and the documented write calls where these have one; how an account
spells and nests them is dialects.py.
Drift policy: a declared field that is missing or of another type stops everything (SourceChanged with call and field);
a field nobody declared is left in the raw answer and reported; an unknown type of payment method becomes kind `other`.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import time
from itertools import chain
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
import pyarrow.compute as pc

from kash_pipeline.pos import cells
from kash_pipeline.pos.errors import SourceChanged
from kash_pipeline.pos.kash_api.days import business_days, from_wall_clock
from kash_pipeline.pos.kash_api.dialects import ENGLISH, Dialect
from kash_pipeline.schemas import facts
from kash_pipeline.schemas.columns import arrow_schema, conform, from_arrow

_log = logging.getLogger(__name__)

Kind = Literal["id", "text", "cents", "bp", "milli", "instant", "int", "bool", "list"]


@dataclass(frozen=True)
class Field:
    """`name` in the answer (`dates.value`: of an object in it), `column` in the facts ("" when it is only checked)."""

    name: str
    column: str
    kind: Kind
    nullable: bool = False


@dataclass(frozen=True)
class Shape:
    """One kind of record of one call. The first field names the record in messages.

    decimal   decimal mark of amounts, rates and quantities
    numbers   these may also be JSON numbers (decoded digit by digit: client.py)
    wall      zone of instants written without an offset; None: they carry one
    """

    call: str
    what: str
    fields: tuple[Field, ...]
    decimal: str = "."
    numbers: bool = False
    wall: ZoneInfo | None = None


class Form:
    """The shapes as one account writes them: a dialect, and instants with their offset or on the shop's clock."""

    def __init__(self, dialect: Dialect = ENGLISH, wall: ZoneInfo | None = None) -> None:
        self.dialect, self.wall = dialect, wall
        self._known: dict[tuple[str, str], Shape] = {}

    def of(self, shape: Shape) -> Shape:
        """The shape of mapping.py with this form's names and notations."""
        key = (shape.call, shape.what)
        if key not in self._known:
            written = tuple(replace(known, name=self.dialect.path(shape.what, known.name)) for known in shape.fields)
            self._known[key] = replace(
                shape, fields=written, decimal=self.dialect.decimal, numbers=self.dialect.numbers, wall=self.wall
            )
        return self._known[key]


ORDER = Shape(
    "getOrders.php",
    "order",
    (
        Field("orderInternalID", "order_id", "id"),
        Field("orderID", "number", "id"),
        Field("creationDate", "", "instant"),
        Field("validationDate", "validated_at", "instant"),
        # Accounting reports go by the value date (documented), so it makes the business day.
        Field("valueDate", "value_date", "instant"),
        Field("price", "total_cents", "cents"),
        Field("clientID", "customer_id", "id", nullable=True),
        Field("cashBoxID", "register_id", "id"),
        Field("deliveryMethod", "", "int"),
        Field("isRefund", "", "bool"),
        Field("refundOf", "refund_of", "id", nullable=True),
        Field("VAT", "", "cents"),
        Field("VATs", "vats", "list"),
        Field("items", "items", "list"),
        Field("payments", "payments", "list"),
    ),
)
HEADER = Shape(
    "getOrders.php (headers)",
    "order",
    (
        *(known for known in ORDER.fields if known.kind != "list"),
        # Believed to be there where the list has no payments: else a payment made later would change no header.
        Field("paid", "paid_cents", "cents"),
    ),
)
"""An order in a list without lines and payments; getOrder.php gives it whole (`[source] order_detail`)."""
LINE = Shape(
    "getOrders.php",
    "items",
    (
        Field("line", "line_no", "int"),
        Field("id", "item_id", "id", nullable=True),
        Field("title", "label", "text", nullable=True),
        Field("quantity", "quantity_milli", "milli"),
        Field("price", "total_cents", "cents"),
        Field("discount", "discount_cents", "cents", nullable=True),
        Field("deptID", "department_id", "id", nullable=True),
        Field("VATrate", "vat_rate_bp", "bp"),
        Field("VAT", "vat_cents", "cents", nullable=True),
        Field("nature", "nature", "text"),
    ),
)
ORDER_VAT = Shape(
    "getOrders.php",
    "VATs",
    (
        Field("rate", "vat_rate_bp", "bp"),
        Field("net", "net_cents", "cents"),
        Field("amount", "vat_cents", "cents"),
    ),
)
PAYMENT = Shape(
    "getOrders.php",
    "payments",
    (
        Field("id", "payment_id", "id"),
        Field("date", "paid_at", "instant"),
        Field("cashBoxID", "register_id", "id"),
        Field("paymentModeID", "method_id", "id"),
        Field("amount", "amount_cents", "cents"),
        Field("clientID", "customer_id", "id", nullable=True),
    ),
)
PAYMENT_MODE = Shape(
    "getPaymentModes.php",
    "payment method",
    (
        Field("id", "method_id", "id"),
        Field("title", "name", "text"),
        Field("type", "type", "text"),
        Field("accountingChapter", "chapter", "id", nullable=True),
    ),
)
CASHBOX = Shape(
    "getCashbox.php",
    "register",
    (
        Field("id", "register_id", "id"),
        Field("name", "name", "text"),
        Field("state", "", "text", nullable=True),
        Field("accountingChapter", "chapter", "id", nullable=True),
    ),
)
VAT = Shape(
    "getVATs.php",
    "VAT rate",
    (
        Field("id", "", "id"),
        Field("title", "name", "text"),
        Field("rate", "vat_rate_bp", "bp"),
        Field("accountingChapter", "chapter", "id", nullable=True),
    ),
)
DEPARTMENT = Shape(
    "getDepartments.php",
    "department",
    (
        Field("id", "department_id", "id"),
        Field("title", "name", "text"),
        Field("deptGroupID", "group_id", "id", nullable=True),
        Field("activityCode", "activity_code", "id", nullable=True),
    ),
)
DEPARTMENT_GROUP = Shape(
    "getDepartmentGroups.php",
    "department group",
    (
        Field("id", "group_id", "id"),
        Field("title", "name", "text"),
        Field("accountingChapter", "chapter", "id", nullable=True),
    ),
)
CLIENT = Shape(
    "getClients.php",
    "customer",
    (
        Field("id", "customer_id", "id"),
        Field("company", "company", "text", nullable=True),
        # surname = first name, by the documentation; the publisher's own client says the opposite.
        Field("surname", "first_name", "text", nullable=True),
        Field("name", "last_name", "text", nullable=True),
        Field("email", "email", "text", nullable=True),
        Field("address", "address", "text", nullable=True),
        Field("postalCode", "postal_code", "id", nullable=True),
        Field("city", "city", "text", nullable=True),
        Field("country", "country", "text", nullable=True),
        Field("VATnum", "vat_number", "text", nullable=True),
        Field("registrationNumber", "registration_number", "id", nullable=True),
        Field("activityCode", "activity_code", "id", nullable=True),
    ),
)
CLOSING = Shape(
    "closings",
    "closing",
    (
        Field("id", "closing_id", "id"),
        Field("cashBoxID", "register_id", "id"),
        Field("opened", "opened_at", "instant", nullable=True),
        Field("closed", "closed_at", "instant"),
        Field("openingFloat", "opening_float_cents", "cents", nullable=True),
        Field("closingFloat", "closing_float_cents", "cents", nullable=True),
        Field("Total", "total_cents", "cents", nullable=True),
        Field("perpetualTotal", "perpetual_total_cents", "cents", nullable=True),
        Field("counts", "counts", "list"),
    ),
)
COUNT = Shape(
    "closings",
    "counts",
    (
        Field("paymentModeID", "method_id", "id"),
        Field("expected", "expected_cents", "cents"),
        Field("counted", "counted_cents", "cents"),
    ),
)
CASH_MOVEMENT = Shape(
    "closings",
    "cashMovements",
    (
        Field("id", "movement_id", "id"),
        Field("cashBoxID", "register_id", "id"),
        Field("date", "moved_at", "instant"),
        Field("type", "kind", "text"),
        Field("amount", "amount_cents", "cents"),
        Field("label", "label", "text", nullable=True),
    ),
)

METHOD_KIND = {
    "Cash": "cash",
    "Credit_Card": "card",
    "Check": "cheque",
    "Bank_Transfer": "transfer",
    "Meal_Voucher": "meal_voucher",
    "Holiday_Voucher": "holiday_voucher",
    "Gift_Voucher": "gift_voucher",
    "Credit_Note": "credit_note",
    "Loyalty_Points": "loyalty",
    "On_Account": "on_account",
    "Other": "other",
}
"""`type` of a payment method; the first six are the publisher's (each also with `_Refund`), the rest is a guess."""

_TYPES: dict[Kind, frozenset[type]] = {
    "id": frozenset({str, int}),
    "text": frozenset({str}),
    # A JSON number with decimals is a binary float by the time it is read: amounts are taken from text only.
    "cents": frozenset({str}),
    "bp": frozenset({str}),
    "milli": frozenset({str}),
    "instant": frozenset({str}),
    "int": frozenset({int}),
    "bool": frozenset({bool}),
    "list": frozenset({list}),
}
_IN_WORDS: dict[Kind, str] = {
    "id": "an id (text or whole number)",
    "text": "text",
    "cents": 'an amount as text, such as "4.05"',
    "bp": 'a rate in percent as text, such as "5.5"',
    "milli": 'a quantity as text, such as "1.250"',
    "instant": 'a date and time with offset, such as "2026-03-01T06:12:00Z"',
    "int": "a whole number",
    "bool": "true or false",
    "list": "a list",
}
_NEXT_STEP = (
    "run kash-pipeline kash probe: it names the settings that fit; if none does, compare the kept raw answer with "
    "pos/kash_api/mapping.py and correct the mapping; nothing was replaced"
)


@dataclass
class Drift:
    """Fields and codes seen that nobody declared, by call: reported, never used.

    aloud   each is logged once; the probe, which reads an answer in every dialect, has a report of its own
    """

    aloud: bool = True
    unknown: dict[str, set[str]] = field(default_factory=dict)

    def note(self, call: str, names: Iterable[str], what: str) -> None:
        seen = self.unknown.setdefault(call, set())
        for name in sorted(set(names) - seen):
            if self.aloud:
                _log.warning("%s: %s %s; it stays in the raw answer and is not used", call, what, name)
            seen.add(name)


Columns = dict[str, Any]
"""Arrow arrays by facts column; lists of records by their column."""


def read(records: Any, shape: Shape, drift: Drift, *, call: str | None = None) -> Columns:
    """Checked columns of a list of records. `call` is the script when the shape is asked from a configured one."""
    call = call or shape.call
    if not isinstance(records, list):
        raise SourceChanged(f"{call}: {shape.what} is {_type(records)}, a list was expected", next_step=_NEXT_STEP)
    if not set(map(type, records)) <= {dict}:
        odd = next(record for record in records if type(record) is not dict)
        raise SourceChanged(
            f"{call}: an entry of the list of {shape.what} is {_type(odd)}, an object was expected",
            next_step=_NEXT_STEP,
        )
    columns: Columns = {}
    for container, fields in _containers(shape).items():
        inner = records if not container else _contained(records, container, fields, shape, call)
        names = {known.name.rpartition(".")[2] for known in fields}
        if not container:
            names |= {known.name.partition(".")[0] for known in shape.fields}
        if any(len(record) > len(names) for record in inner):
            seen: set[str] = set().union(*inner)
            within = f"{shape.what}.{container}." if container else f"{shape.what}."
            drift.note(call, (within + name for name in seen - names), "unknown field")
        for known in fields:
            values = _column(inner, records, known, shape, call)
            if known.column:
                columns[known.column] = values
    return columns


def _containers(shape: Shape) -> Mapping[str, list[Field]]:
    """Fields by the object they stand in; "" is the record itself."""
    found: dict[str, list[Field]] = {"": []}
    for known in shape.fields:
        found.setdefault(known.name.rpartition(".")[0], []).append(known)
    return found


def _contained(
    records: list[dict[str, Any]], container: str, fields: list[Field], shape: Shape, call: str
) -> list[dict[str, Any]]:
    """The objects named `container` of the records; null stands for an object whose fields are all null."""
    nothing = dict.fromkeys((known.name.rpartition(".")[2] for known in fields), None)
    found = []
    for record in records:
        if container not in record:
            raise SourceChanged(
                f"{call}: field {container!r} of {_named(record, shape)} is missing", next_step=_NEXT_STEP
            )
        inner = record[container]
        if inner is None and all(known.nullable for known in fields):
            inner = nothing
        if type(inner) is not dict:
            raise SourceChanged(
                f"{call}: field {container!r} of {_named(record, shape)} is {_type(inner)}, an object was expected",
                next_step=_NEXT_STEP,
            )
        found.append(inner)
    return found


def _column(inner: list[dict[str, Any]], records: list[dict[str, Any]], known: Field, shape: Shape, call: str) -> Any:
    """One column of `inner`, which are the records or an object of each; `records` name them in messages."""
    leaf = known.name.rpartition(".")[2]
    try:
        values = [record[leaf] for record in inner]
    except KeyError:
        lacking = next(whole for whole, record in zip(records, inner, strict=True) if leaf not in record)
        raise SourceChanged(
            f"{call}: field {known.name!r} of {_named(lacking, shape)} is missing", next_step=_NEXT_STEP
        ) from None
    number = known.kind in ("cents", "bp", "milli")
    allowed = _TYPES[known.kind] | ({type(None)} if known.nullable else set())
    if number and shape.numbers:
        allowed |= {int}
    types = set(map(type, values))
    if not types <= allowed:
        at = next(at for at, value in enumerate(values) if type(value) not in allowed)
        raise SourceChanged(
            f"{call}: field {known.name!r} of {_named(records[at], shape)} is {_type(values[at])}, "
            f"{_IN_WORDS[known.kind]} was expected",
            next_step=_NEXT_STEP,
        )
    if known.kind in ("list", "bool"):
        return values
    if known.kind == "int":
        return arrow.array(values, arrow.int64())
    if int in types:
        values = [value if value is None else str(value) for value in values]
    texts = arrow.array(values, arrow.string())
    if known.kind in ("id", "text"):
        return _words(texts, records, known, shape, call)
    if number and shape.decimal != ".":
        # A dot is no decimal mark here: it must not be taken for one.
        texts = pc.replace_substring(pc.replace_substring(texts, ".", "?"), shape.decimal, ".")
    if known.kind == "instant" and shape.wall is not None:
        parsed = from_wall_clock(texts, shape.wall)
    else:
        parsed = cells.parse(texts, known.kind)
    if len(parsed.bad):
        at = int(parsed.bad[0])
        wanted = _IN_WORDS[known.kind].replace(".", shape.decimal) if number else _IN_WORDS[known.kind]
        if known.kind == "instant" and shape.wall is not None:
            wanted = f'a date and time of {shape.wall.key} without offset, such as "2026-03-01T07:12:00"'
        raise SourceChanged(
            f"{call}: field {known.name!r} of {_named(records[at], shape)} is {values[at][:40]!r}, "
            f"{wanted} was expected",
            next_step=_NEXT_STEP,
        )
    return parsed.values


def _words(texts: arrow.Array, records: list[dict[str, Any]], known: Field, shape: Shape, call: str) -> arrow.Array:
    """Ids and texts as they stand. An id without a sign is none: PHP writes "" where no customer is named."""
    bad = pc.match_substring(texts, "\0")
    if known.kind == "id" and known.nullable:
        texts = pc.if_else(pc.equal(texts, ""), arrow.scalar(None, arrow.string()), texts)
    elif known.kind == "id":
        bad = pc.or_(bad, pc.equal(texts, ""))
    if len(positions := pc.indices_nonzero(bad)):
        at = positions[0].as_py()
        raise SourceChanged(
            f"{call}: field {known.name!r} of {_named(records[at], shape)} is {str(texts[at])[:40]!r}, "
            f"{_IN_WORDS[known.kind]} was expected",
            next_step=_NEXT_STEP,
        )
    return texts


def _named(record: dict[str, Any], shape: Shape) -> str:
    name: Any = record
    for step in shape.fields[0].name.split("."):
        name = name.get(step) if isinstance(name, dict) else None
    return f"{shape.what} {name}" if isinstance(name, str | int) else shape.what


def _type(value: Any) -> str:
    words = {dict: "an object", list: "a list", str: "text", float: "a number", int: "a whole number"}
    words |= {bool: "true/false", type(None): "null"}
    return words[type(value)]


def _nested(parent: Columns, column: str, shape: Shape, drift: Drift, call: str | None = None) -> tuple[Columns, Any]:
    """Columns of all records in a list column, and for each the position of its parent."""
    lists: list[list[Any]] = parent[column]
    children = read(list(chain.from_iterable(lists)), shape, drift, call=call)
    return children, np.repeat(np.arange(len(lists)), np.fromiter(map(len, lists), np.int64, len(lists)))


def _frame(columns: Columns, schema: pa.DataFrameSchema) -> pd.DataFrame:
    target = arrow_schema(schema)
    length = len(next(array for array in columns.values() if isinstance(array, arrow.Array)))
    arrays = [
        columns[name] if name in columns else arrow.nulls(length, target.field(name).type) for name in target.names
    ]
    return from_arrow(arrow.table(arrays, schema=target), schema)


@dataclass(frozen=True)
class Clock:
    """How instants become business days."""

    zone: ZoneInfo
    day_starts_at: time

    def days(self, instants: arrow.Array) -> arrow.Array:
        naive = instants.cast(arrow.timestamp("us")).to_numpy(zero_copy_only=False)
        return arrow.array(business_days(naive, self.zone, self.day_starts_at), arrow.date32())


def sales(records: Any, drift: Drift, clock: Clock, form: Form, *, call: str | None = None) -> dict[str, pd.DataFrame]:
    """`orders`, `order_lines`, `order_vat`, `payments` of whole orders, in the order they came.

    The business day of an order is that of its value date, of a payment that of its own date.
    """
    orders = read(records, form.of(ORDER), drift, call=call)
    lines, line_of = _nested(orders, "items", form.of(LINE), drift, call)
    vats, vat_of = _nested(orders, "vats", form.of(ORDER_VAT), drift, call)
    payments, payment_of = _nested(orders, "payments", form.of(PAYMENT), drift, call)
    orders["business_day"] = clock.days(orders["value_date"])
    payments["business_day"] = clock.days(payments["paid_at"])
    for children, parent in ((lines, line_of), (vats, vat_of), (payments, payment_of)):
        children["order_id"] = orders["order_id"].take(arrow.array(parent))
    _codes(lines["nature"], facts.NATURES, "nature", LINE, LINE.call)
    return {
        "orders": _frame(orders, facts.ORDERS),
        "order_lines": _frame(lines, facts.ORDER_LINES),
        "order_vat": _one_per_rate(_frame(vats, facts.ORDER_VAT)),
        "payments": _frame(payments, facts.PAYMENTS),
    }


def _one_per_rate(order_vat: pd.DataFrame) -> pd.DataFrame:
    """VAT tables with one row per rate: a till that lists a rate twice (`vat_rates`) may list its VAT so too."""
    keys = ["order_id", "vat_rate_bp"]
    if not order_vat.duplicated(keys).any():
        return order_vat
    return conform(order_vat.groupby(keys, as_index=False, sort=False).sum(), facts.ORDER_VAT)


def headers(records: Any, drift: Drift, clock: Clock, form: Form) -> dict[str, list[Any]]:
    """`order_id` and `business_day` (a date) of a list of orders without lines and payments, as lists."""
    columns = read(records, form.of(HEADER), drift, call=ORDER.call)
    return {
        "order_id": columns["order_id"].to_pylist(),
        "business_day": clock.days(columns["value_date"]).to_pylist(),
    }


def closings(body: Any, drift: Drift, clock: Clock, form: Form, call: str) -> dict[str, pd.DataFrame]:
    """`closings`, `closing_counts`, `cash_movements` of an answer of the configured closings script.

    A closing belongs to the business day in which it was made.
    """
    if not isinstance(body, dict):
        raise SourceChanged(f"{call}: the answer is {_type(body)}, an object was expected", next_step=_NEXT_STEP)
    for name in ("closings", "cashMovements"):
        if name not in body:
            raise SourceChanged(f"{call}: field {name!r} of the answer is missing", next_step=_NEXT_STEP)
    z = read(body["closings"], form.of(CLOSING), drift, call=call)
    counts, closing_of = _nested(z, "counts", form.of(COUNT), drift, call)
    moved = read(body["cashMovements"], form.of(CASH_MOVEMENT), drift, call=call)
    z["business_day"] = clock.days(z["closed_at"])
    moved["business_day"] = clock.days(moved["moved_at"])
    counts["closing_id"] = z["closing_id"].take(arrow.array(closing_of))
    _codes(moved["kind"], facts.MOVEMENT_KINDS, "type", CASH_MOVEMENT, call)
    return {
        "closings": _frame(z, facts.CLOSINGS),
        "closing_counts": _frame(counts, facts.CLOSING_COUNTS),
        "cash_movements": _frame(moved, facts.CASH_MOVEMENTS),
    }


def _codes(values: arrow.Array, known: tuple[str, ...], name: str, shape: Shape, call: str) -> None:
    for code in values.unique().to_pylist():
        if code not in known:
            raise SourceChanged(
                f"{call}: field {name!r} of {shape.what} is {code[:40]!r}, known are {', '.join(known)}",
                next_step=_NEXT_STEP,
            )


def payment_methods(body: Any, drift: Drift, form: Form) -> pd.DataFrame:
    """`schemas.facts.PAYMENT_METHODS`; a type nobody knows becomes `other`, which no chart maps by accident."""
    columns = read(body, form.of(PAYMENT_MODE), drift)
    types = [name.removesuffix("_Refund") for name in columns["type"].to_pylist()]
    unknown = set(types) - set(METHOD_KIND)
    if unknown:
        drift.note(PAYMENT_MODE.call, unknown, "unknown type of payment method")
    columns["kind"] = arrow.array([METHOD_KIND.get(name, "other") for name in types], arrow.string())
    return _frame(columns, facts.PAYMENT_METHODS)


def vat_rates(body: Any, drift: Drift, form: Form) -> pd.DataFrame:
    """`schemas.facts.VAT_RATES`, one row per rate.

    A till may list a rate twice, for goods and for services say. Lines tell the rate only, so these become one row; the
    chapter is kept where they agree on it, else it is left out and reported.
    """
    frame = _frame(read(body, form.of(VAT), drift), facts.VAT_RATES)
    one = frame.groupby("vat_rate_bp", as_index=False, sort=False).agg(
        name=("name", lambda names: " / ".join(dict.fromkeys(names))),
        chapter=("chapter", "first"),
        chapters=("chapter", lambda chapters: chapters.nunique(dropna=False)),
    )
    torn = one["chapters"] > 1
    if torn.any():
        drift.note(VAT.call, one.loc[torn, "name"], "several accounting chapters for one rate:")
        one["chapter"] = one["chapter"].mask(torn)
    return conform(one, facts.VAT_RATES)


def customers(body: Any, drift: Drift, form: Form) -> pd.DataFrame:
    """`schemas.facts.CUSTOMERS`: a company has a company name; a person is called by first and family name."""
    columns = read(body, form.of(CLIENT), drift)
    people = zip(
        *(columns[name].to_pylist() for name in ("company", "first_name", "last_name", "customer_id")), strict=True
    )
    names, kinds = [], []
    for company, first, last, customer in people:
        names.append(company or " ".join(part for part in (first, last) if part) or customer)
        kinds.append("company" if company else "individual")
    columns["name"], columns["kind"] = arrow.array(names, arrow.string()), arrow.array(kinds, arrow.string())
    return _frame(columns, facts.CUSTOMERS)


def plain(body: Any, shape: Shape, schema: pa.DataFrameSchema, drift: Drift, form: Form) -> pd.DataFrame:
    """A reference list whose fields are columns of `schema` one by one."""
    return _frame(read(body, form.of(shape), drift), schema)
