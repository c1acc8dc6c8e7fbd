"""Read what a Z report needs from lake and books, a day at a time.

Only reading and keeping the days just read; what the figures are is figures.py's, how they look pdf.py's.
"""

import threading
from dataclasses import dataclass
from datetime import date

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.accounting.keys import entry_key
from kash_pipeline.evidence.figures import ZFigures, z_figures
from kash_pipeline.schemas.facts import Facts
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.windows import read_days

KINDS = ("closing", "z")
"""Kinds of entry that a Z report belongs to: clearing, counted differences and float differences are all `closing`."""

# Entries come day by day, the registers of a day one after the other; eight publishing threads span two days at most.
_DAYS_KEPT = 3


@dataclass(frozen=True)
class Piece:
    """The entry a report belongs to: its piece number, label and sum of debits in cents."""

    key: str
    label: str
    amount_cents: int


class ZReports:
    """The Z reports of one shop. Usable from several threads, one report at a time: reportlab is not thread-safe."""

    def __init__(self, engine: sa.Engine, lake: Lake, shop: ShopFile) -> None:
        self._engine = engine
        self._lake = lake
        self._shop = shop
        self._lock = threading.Lock()
        self._days: dict[date, tuple[Facts, pd.DataFrame, pd.DataFrame]] = {}
        self._figures: dict[tuple[date, str], ZFigures] = {}

    def figures(self, day: date, register_id: str) -> ZFigures:
        """Raises EvidenceError (see `z_figures`), and LakeError or MissingDays when the lake lacks the day."""
        if (day, register_id) not in self._figures:
            facts, entries, lines = self._read(day)
            self._figures[day, register_id] = z_figures(facts, entries, lines, self._shop, day, register_id)
        return self._figures[day, register_id]

    def pdf(self, day: date, register_id: str, piece: Piece | None) -> bytes:
        """The report as a PDF: the same bytes for the same facts, entries and piece."""
        # Here, not above: only who wants a PDF pays for loading reportlab.
        from kash_pipeline.evidence.pdf import render

        with self._lock:
            return render(self.figures(day, register_id), piece)

    def pieces(self, day: date, register_id: str) -> list[Piece]:
        """The entries of the register-day that a report belongs to, the one that clears the takings first."""
        _, entries, _ = self._read(day)
        mine = entries[(entries["register_id"] == register_id) & entries["kind"].isin(KINDS)]
        found = [Piece(str(row.entry_key), str(row.label), int(row.debit_cents)) for row in mine.itertuples()]
        clearing = entry_key(self._shop.shop.id, register_id, day, "C")
        return sorted(found, key=lambda piece: (piece.key != clearing, piece.key))

    def _read(self, day: date) -> tuple[Facts, pd.DataFrame, pd.DataFrame]:
        if day not in self._days:
            facts = self._lake.read_facts(day, day)
            with self._engine.connect() as connection:
                books = [
                    read_days(connection, name, self._shop.shop.id, day, day) for name in ("entries", "entry_lines")
                ]
            if len(self._days) >= _DAYS_KEPT:
                oldest = next(iter(self._days))
                del self._days[oldest]
                self._figures = {place: known for place, known in self._figures.items() if place[0] != oldest}
            self._days[day] = (facts, books[0], books[1])
        return self._days[day]
