"""A customer who asks to be forgotten: by value in nothing the pipeline keeps, while books and vouchers still hold."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pandas as pd
import psycopg
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from kash_pipeline.cli.main import cli
from kash_pipeline.pos.erasing import MASK, without
from kash_pipeline.pos.kash_api.memory import FileMemory, Known
from kash_pipeline.pos.port import RawDocument
from kash_pipeline.reference import personal, store
from kash_pipeline.reference.customers import Forgotten, forget, keeper
from kash_pipeline.reference.errors import CustomerStillNeeded, UnknownCustomer
from kash_pipeline.sandbox import datasets
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import CUSTOMERS
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse import tracing
from kash_pipeline.warehouse.forgotten import forgotten_customers
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.tables import PENNYLANE_CUSTOMERS
from kash_pipeline_tests.unit.pennylane.world import FIRST, World, days_from, make_books, shop_file
from kash_pipeline_tests.unit.pos.kash_till import kash_till

NOW = datetime(2026, 3, 20, 9, 0, tzinfo=UTC)
ANA = {
    "customer_id": "7",
    "kind": "individual",
    "name": "Ana Quillivéré",
    "first_name": "Ana",
    "last_name": "Quillivéré",
}
ANA |= {"email": "ana@quill.example", "address": "3 Impasse du Phare", "postal_code": "29217", "city": "Le Conquet"}
BOB = {"customer_id": "17", "kind": "individual", "name": "Bob Martin", "first_name": "Bob", "last_name": "Martin"}
BOB |= {"email": "bob@martin.example", "address": "3 Impasse du Phare"}
HERS = ("Quillivéré", "Quilliv\\u00e9r\\u00e9", "QUILLIVÉRÉ", "quill.example", "+33612345678", "Conquet", "ana%40quill")


def clients() -> list[dict[str, object]]:
    """Two customers as getClients.php answers them, with a field we do not read."""
    return [
        {"id": "7", "surname": "Ana", "name": "Quillivéré", "email": ANA["email"], "address": ANA["address"],
         "city": "Le Conquet", "mobile": "+33612345678", "activityCode": None, "solde": 12.30},
        {"id": "17", "surname": "Bob", "name": "Martin", "email": BOB["email"], "address": BOB["address"]},
    ]  # fmt: skip


ORDER: dict[str, Any] = {
    "orderInternalID": "O1",
    "price": 12.30,
    "clientID": "7",
    "clientName": "Ana Quillivéré",
    "comment": "appeler le +33612345678",
    "items": [{"id": "P1", "title": "Pain d'Ana Quillivéré, +33612345678", "price": 12.30}],
}
OTHER = {"orderInternalID": "O2", "price": 7.10, "clientID": "17", "clientName": "Bob Martin", "user": {"id": "7"}}


def php(value: object) -> str:
    """JSON with escapes, and with amounts to the cent, as PHP writes it."""
    return json.dumps(value).replace(": 12.3", ": 12.30")


@dataclass
class Place:
    engine: sa.Engine
    shop: ShopFile
    lake: Lake
    url: str

    def keep(self, call: str, body: bytes, day: date | None = FIRST) -> str:
        """The hash of an answer, kept as sources do."""
        digest = hashlib.sha256(body).hexdigest()
        keeper(self.lake)(RawDocument(call, day, "https://till.test", NOW, 200, digest, body))
        return digest

    def forget(self, customer_id: str = "7") -> Forgotten:
        return forget(self.engine, self.lake, self.shop, customer_id, lake_url=self.url, now=NOW)

    def kept(self, call: str) -> list[bytes]:
        return [self.lake.read_raw(meta["path"]) for meta in self.lake.raw(call)]


@pytest.fixture
def here(engine: sa.Engine, tmp_path: Path) -> Place:
    shop = shop_file("http://127.0.0.1:9", auth="token", shop={"named_customers": "own_account"})
    url = str(tmp_path / "lake")
    lake = Lake(url, shop.shop.id)
    frame = conform(pd.DataFrame([ANA, BOB], columns=list(CUSTOMERS.columns)).astype(object), CUSTOMERS)
    lake.write_reference("customers", frame)
    store.remember_till(engine, shop, {"customers": frame}, FIRST)
    return Place(engine, shop, lake, url)


def everything(folder: Path) -> Iterator[bytes]:
    """All files, opened if packed."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            body = file.read_bytes()
            body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            yield body
            if body[:2] == b"\x1f\x8b":
                yield gzip.decompress(body)
            elif body[:4] == b"PAR1":
                yield repr(parquet.read_table(file).to_pylist() if file.suffix == ".parquet" else body).encode()


def found(here: Place, database_url: str) -> list[str]:
    """Which of her values still stand in the lake or the warehouse."""
    texts = list(everything(Path(here.url)))
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("select table_name from information_schema.tables where table_schema = 'kash'")
        for (table,) in tables.fetchall():
            texts += [str(row[0]).encode() for row in connection.execute(f"select t::text from kash.{table} t")]
    assert len(texts) > 8
    return [value for value in HERS if any(value.encode() in text for text in texts)]


def fill(here: Place) -> None:
    """Raw answers in every form in which one may name her."""
    here.keep("getClients.php", php(clients()).encode(), None)
    here.keep("getClients.php", json.dumps({"data": clients()}, ensure_ascii=False).encode(), None)
    here.keep("getOrders.php", php([ORDER, OTHER]).encode())
    nested = {"id": "O3", "customer": {"id": 7, "name": "Quillivéré", "phones": ["+33612345678"]}, "total": "3.00"}
    here.keep("getOrder.php", json.dumps(nested).encode())
    here.keep("getSales.php", "date;client;total\n2026-03-01;ANA QUILLIVÉRÉ;12,30\n".encode("cp1252"))
    here.keep("webhook.validated", urlencode({"type": "validated", "clientID": "7", "email": ANA["email"]}).encode())
    table = (
        f"customer_id,name,email,city\n7,Ana Quillivéré,{ANA['email']},Le Conquet\n17,Bob Martin,b@m.example,Brest\n"
    )
    here.keep("customers.csv.gz", gzip.compress(table.encode()), None)
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.table({"customer_id": ["7", "17"], "name": ["Ana Quillivéré", "Bob Martin"]}), sink)
    here.keep("customers.parquet", sink.getvalue().to_pybytes(), None)
    here.keep("getSales.php", b"%PDF-1.7 facture ana@quill.example %%EOF")
    FileMemory(here.url, here.shop.shop.id).save(FIRST, {"O1": Known("x", ORDER), "O2": Known("y", OTHER)})


def test_nothing_kept_names_a_forgotten_customer_and_the_vouchers_still_hold(here: Place, warehouse_url: str) -> None:
    fill(here)
    assert set(found(here, warehouse_url)) >= {"Quillivéré", "Quilliv\\u00e9r\\u00e9", "quill.example"}
    done = here.forget()
    assert found(here, warehouse_url) == []
    assert (done.listed, done.redacted, done.emptied, done.days, done.unreadable) == (True, 9, 1, 1, ())
    # Amounts digit by digit, ids and everybody else are as the till wrote them, and the hash still leads there.
    listed = here.kept("getClients.php")
    assert all(b"12.30" not in body and b"Martin" in body and b"3 Impasse du Phare" in body for body in listed)
    [orders] = here.kept("getOrders.php")
    assert orders.count(b"12.30") == 2
    ana, bob = json.loads(orders)
    assert bob == OTHER
    assert ana == {
        **ORDER,
        "clientName": MASK,
        "comment": MASK,
        "items": [{**ORDER["items"][0], "title": f"Pain d'{MASK}, {MASK}"}],
    }
    [meta] = here.lake.raw("getOrders.php")
    assert meta["sha256"] == hashlib.sha256(php([ORDER, OTHER]).encode()).hexdigest()
    assert meta["redacted"]["sha256"] == hashlib.sha256(orders).hexdigest()
    assert here.lake.read_reference("customers")["name"].tolist() == ["Client 7", "Bob Martin"]


def test_what_the_till_answers_later_is_kept_without_them(here: Place, warehouse_url: str) -> None:
    here.forget()
    assert here.keep("getClients.php", json.dumps(clients()).encode(), None)
    here.keep("getOrders.php", json.dumps([{**ORDER, "items": []}]).encode())
    memory = FileMemory(here.url, here.shop.shop.id, here.lake.forgotten())
    memory.save(FIRST, {"O1": Known("x", {**ORDER, "items": []}), "O2": Known("y", OTHER)})
    assert found(here, warehouse_url) == []
    assert memory.load(FIRST)["O2"].order == OTHER
    frame = conform(pd.DataFrame([ANA, BOB], columns=list(CUSTOMERS.columns)).astype(object), CUSTOMERS)
    again = personal.needed(frame, here.shop, forgotten_customers(here.engine, here.shop.shop.id))
    assert again.loc[again["customer_id"] == "7", "name"].tolist() == ["Client 7"]
    assert again.loc[again["customer_id"] == "7"].drop(columns=["customer_id", "name", "kind"]).isna().all(axis=None)


def test_forgetting_that_was_killed_half_way_ends_when_it_is_asked_again(here: Place, warehouse_url: str) -> None:
    fill(here)

    class Dying(Lake):
        left = 4

        def redact(self, path: str, body: bytes, *, at: datetime) -> None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            super().redact(path, body, at=at)

    with pytest.raises(KeyboardInterrupt):
        forget(here.engine, Dying(here.url, here.shop.shop.id), here.shop, "7", lake_url=here.url, now=NOW)
    assert found(here, warehouse_url)
    assert here.forget().redacted == 9 - 4
    assert found(here, warehouse_url) == []
    assert here.forget().redacted == 0


def test_an_answer_that_cannot_be_read_is_told(here: Place) -> None:
    here.keep("getClients.php", json.dumps(clients()).encode(), None)
    [meta] = here.lake.raw("getClients.php")
    (Path(here.url) / here.shop.shop.id / f"{meta['path']}.gz").write_bytes(b"torn")
    assert here.forget().unreadable == (meta["path"],)


def test_entries_that_wait_for_their_account_are_posted_first_and_keep_the_number(here: Place) -> None:
    days = days_from(FIRST, 1)
    books: Any = World(here.engine, cast(Any, None), "", here.shop, cast(Any, None))
    books.book(days, make_books(days, registers=["K1"], customer="7"))
    with pytest.raises(CustomerStillNeeded, match="2 entries of customer 7 wait"):
        here.forget()
    assert here.lake.forgotten() == set()
    row = {"shop_id": "shop", "company_id": 1, "customer_id": "7", "remote_id": 2, "kind": "individual"}
    with here.engine.begin() as connection:
        connection.execute(sa.insert(PENNYLANE_CUSTOMERS).values(**row, fingerprint="f", remote_fingerprint="r"))
    done = here.forget()
    assert (done.entries, done.in_pennylane) == (2, True)
    with here.engine.connect() as connection:
        prints = sa.select(PENNYLANE_CUSTOMERS.c.fingerprint, PENNYLANE_CUSTOMERS.c.remote_fingerprint)
        assert connection.execute(prints).one() == (None, None)
        kept = "select count(*) from kash.entry_lines where customer_id = '7'"
        assert connection.exec_driver_sql(kept).scalar() == 2


def test_an_unknown_number_is_refused_and_changes_nothing(here: Place) -> None:
    with pytest.raises(UnknownCustomer, match="no customer has the number 99"):
        here.forget("99")
    assert forgotten_customers(here.engine, here.shop.shop.id) == set()
    assert here.lake.forgotten() == set()


@pytest.mark.parametrize("dialect", ["french", "nested"])
def test_what_kash_click_answered_loses_the_person_and_orders_are_still_traced_to_it(here: Place, dialect: str) -> None:
    day = date(2026, 3, 2)
    bakery = datasets.load("bakery")
    with kash_till(bakery, dialect=dialect) as till, till.source() as source:
        here.lake.write_reference("customers", source.reference()["customers"])
        [sales] = source.sales(day, day)
        for document in till.raw:
            keeper(here.lake)(document)
    order = sales.orders[sales.orders["customer_id"].notna()].iloc[0]
    listed = bakery.facts.customers.set_index("customer_id")["name"]
    name = listed[order["customer_id"]].encode()
    kept = [body for call in here.lake.raw_calls() for body in here.kept(call)]
    assert any(name in body for body in kept)
    done = here.forget(order["customer_id"])
    assert done.redacted >= 1
    left = b"".join(everything(Path(here.url)))
    assert name not in left
    assert all(other.encode() in left for number, other in listed.items() if number != order["customer_id"])
    [traced] = tracing.documents_of(here.lake, day, [order["order_id"]])
    assert traced.call == "getOrders.php"


def test_the_command_says_what_stays_and_why_and_refuses_an_unknown_number(
    here: Place, tmp_path: Path, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = tmp_path / "shop.toml"
    toml.write_text(
        f'[shop]\nid = "{here.shop.shop.id}"\nname = "Boulangerie"\nnamed_customers = "own_account"\n[source]\n'
        'kind = "files"\npath = "facts"\n[pennylane]\n[[chart]]\nfrom = "2020-01-01"\n[journals]\nK1 = "K1"\n'
    )
    monkeypatch.setenv("KASH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KASH_LAKE_URL", here.url)
    monkeypatch.setenv("KASH_DATABASE_URL", warehouse_url)
    fill(here)

    def run(customer_id: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["customers", "forget", customer_id, "--shop", str(toml)])
        return result.exit_code, result.output + str(result.exception or "")

    code, said = run("7")
    assert code == 0
    assert "9 raw answers no longer name them, 1 of them emptied" in said
    assert "L123-22" in said
    assert not any(value in said for value in HERS)
    code, said = run("99")
    assert code != 0
    assert "no customer has the number 99" in said


def test_a_cashier_and_another_customer_with_a_like_number_keep_their_names() -> None:
    body = json.dumps([{"clientID": "17", "user": {"id": "7", "name": "Zoé"}, "clientName": "Bob"}]).encode()
    assert without("getOrders.php", body, ["7"], ["Ana Quillivéré"]) is body
