"""Taking a person out of what a till answered: from customer lists, orders, events and files, and nothing else.

Only changing bytes belongs here: who is to be forgotten and where answers are kept is for the caller to say. What a
till calls the fields of a person is documented for none of them (kash-api.md), so fields are known by their names in
English and French, and persons by their id; where a text elsewhere repeats what says who they are, it goes by value.

Amounts, dates, ids and the order of records stay. Masked are only: all text of the person's own record; in a record
that names their id (an order), the text of fields called like personal ones; any text that holds one of `values`.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pyarrow as arrow
import pyarrow.parquet as parquet

MASK = "(personal data removed)"

PERSONAL = re.compile(
    r"name|nom|surname|prenom|mail|phone|tel|adress|address|street|post|city|ville|country|pays|comment|birth|lat$|lng$"
    r"|company|societe|vatnum|numtva|registration|rcs|login|signature|pdf|link|url",
    re.IGNORECASE,
)
"""Names of fields that may say who somebody is."""
ABOUT = re.compile(r"client|customer", re.IGNORECASE)
"""Names of objects that are about a customer as a whole. A cashier may have a customer's number."""
_ID = re.compile(r"(^|_)id$|ID$|^id[A-Z]")
_LISTS = re.compile(r"getClients\.php|customers\.(csv|parquet)", re.IGNORECASE)
_LAST_NAMES = ("name", "nom", "last_name")
_FIRST_NAMES = ("surname", "prenom", "first_name")
_PHONE = re.compile(r"phone|tel|mobile|portable|gsm", re.IGNORECASE)
_SHARED = re.compile(r"city|ville|country|pays|post|zip|comment|note|type|date|code$", re.IGNORECASE)
"""Fields whose text says nothing about one person alone, or is of any length and kind."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d?/\d\d?/\d{4}")
_NUMBER = "\x00exact:"


def is_id(name: str) -> bool:
    """Whether a field of this name holds an id, which names nobody without the till."""
    return _ID.search(name) is not None


def is_list(call: str) -> bool:
    """Whether this call or file lists customers."""
    return _LISTS.search(call) is not None


def telling(texts: Iterable[str | None]) -> set[str]:
    """Those of these texts by which somebody can be found elsewhere: addresses, numbers, names of two words or more.

    A single word is not looked for: a customer called Café would take every coffee off the orders.
    """
    found = {text.strip() for text in texts if text}
    return {
        text
        for text in found
        if "@" in text or len(re.findall(r"\d", text)) >= 6 or (len(text) >= 6 and len(text.split()) > 1)
    }


def values_of(call: str, body: bytes, customer_id: str) -> set[str] | None:
    """What tells who a customer is, by their records in a list of people; None when it has none that does."""
    found: list[Mapping[str, Any]] = []
    for record in _records(call, body):
        if customer_id in _own_ids(record) and any(value != MASK for value in _texts(record)):
            found.append(record)
    if not found:
        return None
    return telling(text for record in found for text in _told(record))


def _told(record: Mapping[str, Any]) -> Iterable[str]:
    plain = {
        key: str(value)
        for key, value in record.items()
        if value != MASK and (isinstance(value, str) or (isinstance(value, int) and _PHONE.search(key)))
    }
    yield from (
        value for key, value in plain.items() if not is_id(key) and not _SHARED.search(key) and not _DATE.match(value)
    )
    for first in [plain[key] for key in _FIRST_NAMES if plain.get(key)]:
        for last in [plain[key] for key in _LAST_NAMES if plain.get(key)]:
            yield f"{first} {last}"
            yield f"{last} {first}"


def without(call: str, body: bytes, ids: Collection[str], values: Collection[str] = ()) -> bytes:
    """The body without these customers; the very same object when it names none of them.

    What cannot be taken out (a PDF that holds one of the values) leaves nothing: an empty body.
    """
    if not ids and not values:
        return body
    if body[:2] == b"\x1f\x8b":
        inner = gzip.decompress(body)
        masked = without(call, inner, ids, values)
        return body if masked is inner else gzip.compress(masked, mtime=0)
    if body[:4] == b"PAR1":
        return _parquet(call, body, ids)
    # Another customer at the same address keeps theirs: in lists people go by id alone.
    sought = () if is_list(call) else tuple(values)
    as_json = _json(call, body, ids, sought)
    masked = _text(call, body, ids, sought) if as_json is None else as_json
    return b"" if any(value.encode() in masked for value in sought) else masked


# --- JSON ---------------------------------------------------------------------------------------------------------


def _json(call: str, body: bytes, ids: Collection[str], values: Collection[str]) -> bytes | None:
    """None when it is no JSON."""
    if body.lstrip()[:1] not in (b"{", b"["):
        return None
    try:
        # Amounts are written back digit by digit: 12.30 is not 12.3.
        decoded = json.loads(body, parse_float=lambda text: f"{_NUMBER}{text}")
    except ValueError:
        return None
    masked = _walked(decoded, ids, _pattern(values), people=is_list(call))
    if masked == decoded:
        return body
    text = json.dumps(masked, ensure_ascii=False)
    return re.sub(r'"\\u0000exact:([^"]*)"', r"\1", text).encode()


def _pattern(values: Collection[str]) -> re.Pattern[str] | None:
    longest_first = sorted(values, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if longest_first else None


def _walked(value: Any, ids: Collection[str], sought: re.Pattern[str] | None, *, people: bool) -> Any:
    if isinstance(value, list):
        return [_walked(inner, ids, sought, people=people) for inner in value]
    if isinstance(value, str):
        return sought.sub(MASK, value) if sought is not None else value
    if not isinstance(value, dict):
        return value
    if people and not _own_ids(value).isdisjoint(ids):
        return _blank(value)
    names_them = not _named_ids(value).isdisjoint(ids)
    masked = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and ABOUT.search(key) and (names_them or not _own_ids(inner).isdisjoint(ids)):
            masked[key] = _blank(inner)
        elif names_them and isinstance(inner, str | int) and _personal_in_an_order(key, inner):
            masked[key] = MASK
        else:
            masked[key] = _walked(inner, ids, sought, people=people)
    return masked


def _personal_in_an_order(key: str, value: str | int) -> bool:
    if is_id(key) or isinstance(value, bool) or not value or str(value).startswith(_NUMBER):
        return False
    return PERSONAL.search(key) is not None or (isinstance(value, str) and ABOUT.search(key) is not None)


def _blank(value: Any, name: str = "") -> Any:
    """A record about a person with only its ids left."""
    if isinstance(value, dict):
        return {key: _blank(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_blank(inner, name) for inner in value]
    if isinstance(value, bool) or value in (None, "") or is_id(name):
        return value
    return MASK


def _own_ids(record: Mapping[str, Any]) -> set[str]:
    """Ids of the person a record is about."""
    return {str(record[key]) for key in ("id", "customer_id", "clientID", "idClient") if record.get(key) is not None}


def _named_ids(record: Mapping[str, Any]) -> set[str]:
    """Ids of the persons a record (an order, a payment) names."""
    found = set()
    for key, value in record.items():
        if ABOUT.search(key):
            if isinstance(value, dict):
                found |= _own_ids(value)
            elif is_id(key) and isinstance(value, str | int):
                found.add(str(value))
    return found


def _texts(record: Mapping[str, Any]) -> list[Any]:
    return [value for key, value in record.items() if isinstance(value, str) and value and not is_id(key)]


def _records(call: str, body: bytes) -> Iterable[Mapping[str, Any]]:
    """The records of a list of people, whatever it is written in."""
    if body[:2] == b"\x1f\x8b":
        yield from _records(call, gzip.decompress(body))
    elif body[:4] == b"PAR1":
        yield from parquet.read_table(io.BytesIO(body)).to_pylist()
    elif body.lstrip()[:1] in (b"{", b"["):
        try:
            decoded = json.loads(body)
        except ValueError:
            return
        lists = decoded.values() if isinstance(decoded, dict) else [decoded]
        for items in lists:
            yield from (item for item in items if isinstance(item, dict)) if isinstance(items, list) else ()
    else:
        text, _ = _decoded(body)
        yield from csv.DictReader(io.StringIO(text), delimiter=_delimiter(text))


# --- tables and text ----------------------------------------------------------------------------------------------


def _parquet(call: str, body: bytes, ids: Collection[str]) -> bytes:
    table = parquet.read_table(io.BytesIO(body))
    if not is_list(call) or "customer_id" not in table.column_names:
        return body
    rows = table.to_pylist()
    masked = [
        {
            name: _blank(value, name) if isinstance(value, str) and str(row["customer_id"]) in ids else value
            for name, value in row.items()
        }
        for row in rows
    ]
    if masked == rows:
        return body
    out = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(masked, schema=table.schema), out)
    return out.getvalue()


def _decoded(body: bytes) -> tuple[str, str]:
    for encoding in ("utf-8", "cp1252"):
        try:
            return body.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return body.decode("latin-1"), "latin-1"


def _delimiter(text: str) -> str:
    head = text.partition("\n")[0]
    return max(",;\t|", key=head.count)


def _text(call: str, body: bytes, ids: Collection[str], values: Collection[str]) -> bytes:
    text, encoding = _decoded(body)
    if is_list(call):
        masked = _csv(text, ids)
    elif re.fullmatch(r"[\w.\-]+=[^\s]*", text.strip()):
        fields = dict(parse_qsl(text.strip(), keep_blank_values=True))
        walked = _walked(fields, ids, _pattern(values), people=False)
        masked = text if walked == fields else urlencode(walked)
    else:
        sought = _pattern(values)
        masked = sought.sub(MASK, text) if sought is not None and not text.startswith("%PDF") else text
    return body if masked == text else masked.encode(encoding)


def _csv(text: str, ids: Collection[str]) -> str:
    delimiter = _delimiter(text)
    head, *rows = [*csv.reader(io.StringIO(text), delimiter=delimiter)] or [[]]
    if "customer_id" not in head:
        return text
    place = head.index("customer_id")
    masked = [
        [MASK if cell and not is_id(name) else cell for name, cell in zip(head, row, strict=False)]
        if len(row) > place and row[place] in ids
        else row
        for row in rows
    ]
    if masked == rows:
        return text
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([head, *masked])
    return out.getvalue()
