"""Small entries for the tests of this folder."""

from datetime import date

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.schemas import entries as schemas
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.warehouse import windows
from kash_pipeline.warehouse.ledger import PublicationLedger, SyncReport

# Across the change to summer time: 29 March 2026 has 23 hours.
MONDAY, TUESDAY, WEDNESDAY = date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30)


def entries(*rows: tuple[str, date, int], register: str = "K1", label: str = "Ventes") -> pd.DataFrame:
    """Entries of (key, day, cents); the digest is a function of key and cents."""
    return conform(
        pd.DataFrame(
            {
                "entry_key": [row[0] for row in rows],
                "kind": "sale",
                "business_day": [row[1] for row in rows],
                "register_id": register,
                "journal": "K1",
                "date": [row[1] for row in rows],
                "label": label,
                "lines": 2,
                "debit_cents": [row[2] for row in rows],
                "credit_cents": [row[2] for row in rows],
                "digest": [f"{row[0]}:{row[2]}" for row in rows],
            }
        ),
        schemas.ENTRIES,
    )


def lines_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Two lines for each entry; the first has a customer and an empty method, the second a VAT rate."""
    debit = pd.DataFrame(
        {
            "entry_key": frame.entry_key,
            "line_no": 1,
            "account": "411000",
            "customer_id": 'C,"7"',
            "vat_rate_bp": None,
            "method_id": "",
            "debit_cents": frame.debit_cents,
            "credit_cents": 0,
            "label": "a\nb",
        }
    )
    credit = pd.DataFrame(
        {
            "entry_key": frame.entry_key,
            "line_no": 2,
            "account": "707200",
            "customer_id": None,
            "vat_rate_bp": 2000,
            "method_id": None,
            "debit_cents": 0,
            "credit_cents": frame.debit_cents,
            "label": "Vente « été »",
        }
    )
    both = pd.concat([debit, credit.astype({"customer_id": object})]).sort_values(["entry_key", "line_no"])
    return conform(both.reset_index(drop=True), schemas.ENTRY_LINES)


def held(*register_days: tuple[date, str]) -> pd.DataFrame:
    return conform(
        pd.DataFrame(
            {
                "business_day": [day for day, _ in register_days],
                "register_id": [register for _, register in register_days],
                "reason": "unmapped_method",
                "what": "method 17",
                "next_step": "add a line",
            }
        ),
        schemas.HELD,
    )


def replace(
    engine: sa.Engine, days: list[date], frame: pd.DataFrame, *, shop: str = "shop", waiting: pd.DataFrame | None = None
) -> dict[str, int]:
    """Replace these days in the entry tables."""
    with engine.begin() as connection:
        return windows.replace_entries(
            connection,
            shop,
            days,
            entries=frame,
            entry_lines=lines_of(frame),
            held=empty(schemas.HELD) if waiting is None else waiting,
            notices=empty(schemas.NOTICES),
        )


def build(
    engine: sa.Engine, days: list[date], frame: pd.DataFrame, *, waiting: pd.DataFrame | None = None
) -> SyncReport:
    """What the entries asset does: replace the days and bring the ledger in line, in one transaction."""
    waiting = held() if waiting is None else waiting
    with engine.begin() as connection:
        windows.replace_entries(
            connection,
            "shop",
            days,
            entries=frame,
            entry_lines=lines_of(frame),
            held=waiting,
            notices=empty(schemas.NOTICES),
        )
        return PublicationLedger(engine, "shop").sync(connection, frame, waiting, days)
