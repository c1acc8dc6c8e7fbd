"""The answers of shapes.py written in another dialect, and on the shop's clock instead of UTC.

Only the writing belongs here: names and notations are declared in pos/kash_api/dialects.py, fields in mapping.py, and
the adapter must read back the very same facts.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from kash_pipeline.pos.kash_api import mapping
from kash_pipeline.pos.kash_api.dialects import ENGLISH, Dialect

Record = dict[str, Any]

_SHAPES = {
    shape.call: shape
    for shape in (
        mapping.PAYMENT_MODE,
        mapping.CASHBOX,
        mapping.VAT,
        mapping.DEPARTMENT,
        mapping.DEPARTMENT_GROUP,
        mapping.CLIENT,
    )
}
_INNER = {
    "VATs": mapping.ORDER_VAT,
    "items": mapping.LINE,
    "payments": mapping.PAYMENT,
    "counts": mapping.COUNT,
}
_ORDER = mapping.Shape(
    "", "order", (*mapping.ORDER.fields, *(known for known in mapping.HEADER.fields if known.name == "paid"))
)


class Writer:
    """Writes answers in `dialect`; with `zone`, instants are on that clock and carry no offset."""

    def __init__(self, dialect: Dialect, zone: ZoneInfo | None) -> None:
        self.dialect, self._zone = dialect, zone
        number: Callable[[str], Any] = str
        if dialect.numbers:
            number = lambda text: orjson.Fragment(text.encode())  # noqa: E731
        elif dialect.decimal != ".":
            number = lambda text: text.replace(".", dialect.decimal)  # noqa: E731
        self._by_kind: dict[str, Callable[[Any], Any]] = {
            **dict.fromkeys(("cents", "bp", "milli"), number),
            "instant": self._instant,
        }

    def write(self, script: str, body: Any) -> Any:
        """A decoded answer as this dialect has it; errors and answers without a shape stay as they are.

        shapes.py writes `english` in UTC already, so there is nothing to do for these.
        """
        if (self.dialect is ENGLISH and self._zone is None) or (isinstance(body, dict) and "success" in body):
            return body
        if script == "getOrders.php":
            body = [self._record(order, _ORDER) for order in body]
        elif script == "getOrder.php":
            body = self._record(body, _ORDER)
        elif script in _SHAPES:
            body = [self._record(record, _SHAPES[script]) for record in body]
        elif isinstance(body, dict) and "closings" in body:
            body = {
                "closings": [self._record(closing, mapping.CLOSING) for closing in body["closings"]],
                "cashMovements": [self._record(moved, mapping.CASH_MOVEMENT) for moved in body["cashMovements"]],
            }
        envelope = self.dialect.envelopes.get(script)
        return body if envelope is None else {envelope: body}

    def number(self, text: str) -> str:
        """An amount on a page."""
        return text.replace(".", self.dialect.decimal)

    def _record(self, record: Record, shape: mapping.Shape) -> Record:
        kinds = {known.name: known.kind for known in shape.fields}
        out: Record = {}
        for name, value in record.items():
            kind = kinds.get(name)
            if kind == "list" and name in _INNER:
                value = [self._record(inner, _INNER[name]) for inner in value]
            elif value is not None and kind in self._by_kind:
                value = self._by_kind[kind](value)
            container, _, leaf = self.dialect.path(shape.what, name).rpartition(".")
            if container:
                out.setdefault(container, {})[leaf] = value
            else:
                out[leaf] = value
        for name, value in out.items():
            if name not in record and isinstance(value, dict) and all(part is None for part in value.values()):
                out[name] = None
        return out

    def _instant(self, text: str) -> str:
        if self._zone is None:
            return text
        moment = datetime.fromisoformat(text).astimezone(self._zone)
        return moment.replace(tzinfo=None).isoformat(timespec="seconds")
