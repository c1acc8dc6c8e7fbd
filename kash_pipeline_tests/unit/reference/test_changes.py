"""What changed, and which sent entries were made with what it was before: those sent since are no news."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from kash_pipeline.reference import store
from kash_pipeline.reference.changes import report
from kash_pipeline.reference.errors import ReferenceDataError
from kash_pipeline.reference.sent import booked_otherwise
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import REFERENCE
from kash_pipeline.settings import ShopFile, shop_from

COMPANY = 7
SHOP = shop_from(
    {
        "shop": {"id": "bakery", "name": "Boulangerie"},
        "source": {"kind": "files", "path": "facts"},
        "chart": [{"from": "2026-01-01"}],
    },
    Path("shop.toml"),
)
MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)


def send(engine: sa.Engine, key: str, day: date) -> None:
    """An entry of card takings, sent at this moment."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into kash.publication (shop_id, key, base_key, role, kind, business_day, register_id, journal,"
            " date, label, line_count, amount_cents, digest, sent_digest, state, sent_at)"
            " values ('bakery', %(key)s, %(key)s, 'original', 'payment', %(day)s, 'K1', 'CA1', %(day)s, 'x', 2, 100,"
            " 'd', 'd', 'verified', clock_timestamp())",
            {"key": key, "day": day},
        )
        connection.exec_driver_sql(
            "insert into kash.entry_lines (shop_id, entry_key, line_no, account, method_id, debit_cents, credit_cents,"
            " label, business_day) values ('bakery', %(key)s, 1, '511500', '2', 100, 0, 'CB', %(day)s),"
            " ('bakery', %(key)s, 2, '580200', null, 0, 100, 'CB', %(day)s)",
            {"key": key, "day": day},
        )


def list_till(engine: sa.Engine, shop: ShopFile, day: date, **methods: str) -> None:
    rows = {"method_id": list(methods), "name": list(methods.values()), "kind": ["card"] * len(methods)}
    methods_frame = conform(pd.DataFrame(rows), REFERENCE["payment_methods"])
    store.remember_till(engine, shop, {"payment_methods": methods_frame}, day)


def list_company(engine: sa.Engine, day: date, *, label: str, journal: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("delete from kash.pennylane_accounts")
        connection.exec_driver_sql("delete from kash.pennylane_journals")
        connection.exec_driver_sql(
            "insert into kash.pennylane_accounts (shop_id, company_id, id, number, label, vat_rate, type, enabled,"
            " letterable) values ('bakery', 7, 1, '511500', %(label)s, 'any', 'generic', true, true)",
            {"label": label},
        )
        connection.exec_driver_sql(
            "insert into kash.pennylane_journals (shop_id, company_id, id, code, label, type)"
            " values ('bakery', 7, 2, 'CA1', %(label)s, 'custom')",
            {"label": journal},
        )
    store.remember_company(engine, SHOP, COMPANY, day)


def test_entries_sent_before_a_change_was_noticed_are_counted_for_either_side(engine: sa.Engine) -> None:
    list_till(engine, SHOP, MONDAY, **{"2": "CB", "3": "Amex"})
    list_company(engine, MONDAY, label="CB", journal="Caisse")
    send(engine, "A", MONDAY)
    send(engine, "B", TUESDAY)
    list_till(engine, SHOP, TUESDAY, **{"2": "Carte", "4": "Amex"})
    list_company(engine, TUESDAY, label="Cartes", journal="Caisse 1")
    # Made with what holds now.
    send(engine, "C", TUESDAY)
    found = report(engine, SHOP, MONDAY)
    before = "2 entries of 2026-03-02 to 2026-03-03"
    assert sorted((line.where, line.kind, line.what.partition(": ")[2], line.sent) for line in found) == [
        ("PennyLane", "accounts", "label CB → Cartes", before),
        ("PennyLane", "journals", "label Caisse → Caisse 1", before),
        ("till", "payment_methods", "made again, it was id 3", ""),
        ("till", "payment_methods", "name CB → Carte", before),
    ]
    assert {line.day for line in found} == {TUESDAY}
    assert report(engine, SHOP, date(2026, 3, 4)) == []


def test_a_list_that_comes_back_empty_is_a_fault_and_closes_nothing(engine: sa.Engine) -> None:
    list_till(engine, SHOP, MONDAY, **{"2": "CB"})
    with pytest.raises(ReferenceDataError, match="lists no payment methods any more"):
        list_till(engine, SHOP, TUESDAY)
    assert [version.valid_to for version in store.versions(engine, SHOP, "till")["payment_methods"]] == [None]


def test_sent_entries_that_an_edited_chart_would_book_otherwise_are_counted_before_anything_is_built(
    engine: sa.Engine,
) -> None:
    registers = conform(pd.DataFrame({"register_id": ["K1"], "name": ["Comptoir"]}), REFERENCE["registers"])
    list_till(engine, SHOP, MONDAY, **{"2": "CB"})
    store.remember_till(engine, SHOP, {"registers": registers}, MONDAY)
    send(engine, "A", MONDAY)
    send(engine, "B", TUESDAY)

    def told(*charts: dict[str, object], journal: str = "CA1") -> list[tuple[str, str]]:
        shop = shop_from(
            {
                "shop": {"id": "bakery", "name": "Boulangerie"},
                "source": {"kind": "files", "path": "facts"},
                "chart": [{"from": "2026-01-01", "methods": {"card": "511500"}}, *charts],
                "journals": {"K1": journal},
            },
            Path("shop.toml"),
        )
        return [(item.what, item.said) for item in booked_otherwise(engine, shop)]

    since, later = {"from": "2026-03-03"}, {"from": "2026-03-04"}
    assert told() == told({**later, "methods": {"card": "511700"}}) == []
    on_tuesday = "1 entry of 2026-03-03 to 2026-03-03, register K1"
    assert told({**since, "methods": {"card": "511700"}}) == [("payment method 2 « CB »: 511500 → 511700", on_tuesday)]
    assert told({**since, "takings_paid": "467200"}) == [
        ("account 580200: the chart of 2026-03-03 no longer names it", on_tuesday),
        ("payment method 2 « CB »: 511500 → nothing, the day would be held", on_tuesday),
    ]
    assert told(journal="CB2") == [
        ("register K1 « Comptoir »: journal CA1 → CB2", "2 entries of 2026-03-02 to 2026-03-03, register K1")
    ]
    # Built again since: a correction is due, which publishing and `plan` tell of.
    with engine.begin() as connection:
        connection.exec_driver_sql("update kash.publication set digest = 'e'")
    assert told(journal="CB2") == []
