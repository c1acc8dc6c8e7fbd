"""PennyLane companies as `mapping` sees them: the default chart of a real one, and what the tests need besides.

Only making companies and listings of a till belongs here; what is expected of them stands in the tests.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.resources import files
from typing import Any

import pandas as pd

from kash_pipeline.reference.mapping import Company, CompanyAccount, CompanyJournal
from kash_pipeline.schemas.columns import conform
from kash_pipeline.schemas.facts import REFERENCE, Facts

JOURNALS = (
    CompanyJournal("VT", "Ventes", "sales"),
    CompanyJournal("HA", "Achats", "purchases"),
    CompanyJournal("BQ", "Banque", "finances"),
)
YEARS = ((date(2025, 1, 1), date(2025, 12, 31), "closed"), (date(2026, 1, 1), date(2026, 12, 31), "open"))


def company(
    *changes: CompanyAccount, without: Iterable[str] = (), journals: Sequence[CompanyJournal] = JOURNALS
) -> Company:
    """A company with PennyLane's default chart (sandbox/pennylane/chart.csv); `changes` take the place of numbers."""
    rows = csv.DictReader((files("kash_pipeline.sandbox.pennylane") / "chart.csv").read_text().splitlines())
    gone = {*without, *(account.number for account in changes)}
    accounts = [
        (row["number"], row["label"], rate, row["enabled"] == "1") for row in rows for rate in row["vat_rates"].split()
    ]
    default = [CompanyAccount(at, *account) for at, account in enumerate(accounts, 1) if account[0] not in gone]
    return Company([*default, *changes], journals, YEARS)


def account(number: str, label: str = "", *, rate: str = "any", enabled: bool = True, id: int = 9000) -> CompanyAccount:
    return CompanyAccount(id, number, label or f"Compte {number}", rate, enabled)


def listing(**tables: Sequence[Mapping[str, Any]]) -> Facts:
    """What a till lists, from rows."""
    return Facts(
        **{
            name: conform(
                pd.DataFrame(list(rows), columns=list(REFERENCE[name].columns), dtype=object), REFERENCE[name]
            )
            for name, rows in tables.items()
        }
    )


def method(method_id: str, name: str, kind: str, chapter: str | None = None) -> dict[str, Any]:
    return {"method_id": method_id, "name": name, "kind": kind, "chapter": chapter}


def rates(*basis_points: int) -> list[dict[str, Any]]:
    return [{"vat_rate_bp": rate, "name": f"{rate / 100} %"} for rate in basis_points]


def registers(*ids: str) -> list[dict[str, Any]]:
    return [{"register_id": name, "name": f"Caisse {name}"} for name in ids]
