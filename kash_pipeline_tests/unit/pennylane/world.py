"""A shop, its books in PostgreSQL and a PennyLane (the sandbox, over loopback HTTP), for tests of publishing.

Only setting the scene and comparing the two ledgers belongs here.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pennylane.pacing import NoPacing, Pacing
from kash_pipeline.pennylane.publisher import Publisher
from kash_pipeline.sandbox.pennylane import PennylaneSandbox
from kash_pipeline.schemas import entries as schemas
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.settings import Environment, ShopFile, shop_from
from kash_pipeline.warehouse.database import open_engine, upgrade
from kash_pipeline.warehouse.ledger import PublicationLedger, SyncReport
from kash_pipeline.warehouse.windows import replace_entries
from kash_pipeline_tests.sandboxes import REDIRECT_URI

FIRST = date(2026, 3, 1)


def shop_file(url: str, **changes: Any) -> ShopFile:
    """A small shop with registers K1 and K2; `changes` go into [pennylane], or into [shop] with a dict `shop`."""
    shop = {"id": "shop", "name": "Boulangerie", **changes.pop("shop", {})}
    return shop_from(
        {
            "shop": shop,
            "source": {"kind": "files", "path": "facts"},
            "pennylane": {"url": url, "redirect_url": REDIRECT_URI, **changes},
            "chart": [
                {
                    "from": date(2020, 1, 1),
                    "sales": {"5.5": "701055", "20": "707200"},
                    "vat": {"5.5": "445711055", "20": "445711200"},
                    "methods": {"cash": "530", "card": "511"},
                }
            ],
            "journals": {"K1": "K1", "K2": "K2"},
        },
        Path("shop.toml"),
    )


SHOP_TOML = """
[shop]
id = "shop"
name = "Boulangerie"
[source]
kind = "files"
path = "facts"
[pennylane]
url = "{url}"
auth = "token"
[[chart]]
from = "2020-01-01"
[journals]
K1 = "K1"
K2 = "K2"
"""


@dataclass
class World:
    """Everything a test needs; `sandbox` has the handles of the imitated PennyLane (admin, faults, requests)."""

    engine: sa.Engine
    sandbox: PennylaneSandbox
    url: str
    shop: ShopFile
    env: Environment

    @property
    def ledger(self) -> PublicationLedger:
        return PublicationLedger(self.engine, self.shop.shop.id)

    @contextmanager
    def client(
        self, pacing: Pacing | None = None, timeout: float = 10.0, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[PennylaneClient]:
        paced = pacing or NoPacing()
        with connect(self.shop, self.engine, self.env, pacing=paced, timeout=timeout, sleep=sleep) as client:
            yield client

    def publisher(self, client: PennylaneClient, **changes: Any) -> Publisher:
        """A publisher that does not wait long for lost requests: the sandbox has none under way for long."""
        return Publisher(client, self.engine, self.shop, **{"settle": 0.05, "patience": 0.1, **changes})

    def publish(self, first: date | None = None, last: date | None = None, **changes: Any) -> Any:
        with self.client() as client:
            return self.publisher(client, **changes).publish(first, last)

    def book(self, days: Iterable[date], books: "Books") -> SyncReport:
        """Replace what the books say of `days`, as the entries asset does."""
        window = list(days)
        with self.engine.begin() as connection:
            replace_entries(
                connection,
                self.shop.shop.id,
                window,
                entries=books.entries,
                entry_lines=books.lines,
                held=empty(schemas.HELD),
                notices=empty(schemas.NOTICES),
            )
            return self.ledger.sync(connection, books.entries, empty(schemas.HELD), window)

    def remote(self) -> Counter[tuple[str, str, date, tuple[tuple[str, int, int, str], ...]]]:
        """PennyLane's entries: (piece number, journal, date, sorted lines), counted."""
        return Counter(
            (
                entry.piece_number,
                entry.journal,
                entry.date,
                tuple(sorted((line.account, line.debit_cents, line.credit_cents, line.label) for line in entry.lines)),
            )
            for entry in self.sandbox.admin.entries()
        )

    def local(self) -> Counter[tuple[str, str, date, tuple[tuple[str, int, int, str], ...]]]:
        """The entry tables in the same form."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                sa.text(
                    "select e.entry_key, e.journal, e.date, l.account, l.debit_cents, l.credit_cents, l.label"
                    " from kash.entries e join kash.entry_lines l using (shop_id, entry_key)"
                )
            ).all()
        lines: dict[tuple[str, str, date], list[tuple[str, int, int, str]]] = {}
        for key, journal, day, *line in rows:
            lines.setdefault((key, journal, day), []).append(tuple(line))
        return Counter((*head, tuple(sorted(of))) for head, of in lines.items())

    def states(self) -> Counter[str]:
        return Counter(row.state for row in self.ledger.rows())


@contextmanager
def world(
    database_url: str, home: Path, url: str, sandbox: PennylaneSandbox, *, auth: str = "token", **changes: Any
) -> Iterator[World]:
    """A shop whose PennyLane is the sandbox served at `url`. Secrets are put in the environment by `give_secrets`."""
    engine = open_engine(database_url)
    upgrade(engine)
    env = Environment(home=home, lake_url=str(home / "lake"), database_url=database_url, shop_path=home / "shop.toml")
    try:
        yield World(engine, sandbox, url, shop_file(url, auth=auth, **changes), env)
    finally:
        engine.dispose()


@dataclass(frozen=True)
class Books:
    """Entries and lines of some days, in the frames of schemas/entries.py."""

    entries: pd.DataFrame
    lines: pd.DataFrame


def make_books(
    days: Sequence[date], *, registers: Sequence[str] = ("K1", "K2"), salt: str = "", customer: str | None = None
) -> Books:
    """Three entries per register and day (sale of two rates, payment, closing), amounts from a hash of both."""
    heads, lines = [], []
    for day in days:
        for register in registers:
            for kind, code in (("sale", "V"), ("payment", "P"), ("closing", "C")):
                key = f"SHOP-{register}-{day:%y%m%d}-{code}"
                digest = hashlib.sha256(f"{key}{salt}".encode()).hexdigest()
                amounts = hashlib.sha256(f"{register}{day}{salt}".encode()).hexdigest()
                net20, net5 = int(amounts[:4], 16) + 100, int(amounts[4:8], 16) + 100
                vat20, vat5 = net20 // 5, net5 * 55 // 1000
                total = net20 + net5 + vat20 + vat5
                if kind == "sale":
                    of = [
                        ("411" if customer else "580100", total, 0, "À encaisser", customer, None),
                        ("707200", 0, net20, "Ventes 20 %", None, 2000),
                        ("701055", 0, net5, "Ventes 5,5 %", None, 550),
                        ("445711200", 0, vat20, "TVA 20 %", None, 2000),
                        ("445711055", 0, vat5, "TVA 5,5 %", None, 550),
                    ]
                elif kind == "payment":
                    of = [
                        ("530", total // 3, 0, "Espèces", None, None),
                        ("511", total - total // 3, 0, "CB", None, None),
                        ("411" if customer else "580200", 0, total, "Encaissé", customer, None),
                    ]
                else:
                    of = [("580200", total, 0, "Clôture", None, None), ("580100", 0, total, "Clôture", None, None)]
                heads.append((key, kind, day, register, register, day, f"Caisse {register}", len(of), digest, of))
                lines += [(key, number, *line) for number, line in enumerate(of, 1)]
    entries = pd.DataFrame(
        [
            {
                "entry_key": key,
                "kind": kind,
                "business_day": pd.Timestamp(day),
                "register_id": register,
                "journal": journal,
                "date": pd.Timestamp(when),
                "label": label,
                "lines": count,
                "debit_cents": sum(line[1] for line in of),
                "credit_cents": sum(line[2] for line in of),
                "digest": digest,
            }
            for key, kind, day, register, journal, when, label, count, digest, of in heads
        ]
    )
    columns = ["entry_key", "line_no", "account", "debit_cents", "credit_cents", "label", "customer_id", "vat_rate_bp"]
    return Books(conform(entries, schemas.ENTRIES), conform(pd.DataFrame(lines, columns=columns), schemas.ENTRY_LINES))


def days_from(first: date, count: int) -> list[date]:
    return [first + timedelta(days=number) for number in range(count)]
