"""The Z evidence of an entry: made, uploaded once, and known again by its bytes.

Which entries carry one, and what a failed upload means for the next, belong here; what stands in it is evidence/'s,
when it is asked for publisher.py's. Files cannot be listed or deleted in PennyLane, and one without an entry harms
nobody: an upload may be repeated, an id is kept as soon as it is known.
"""

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.evidence.reading import KINDS, Piece, ZReports
from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pennylane.errors import (
    ConnectAgain,
    EvidenceMissing,
    NotSent,
    PennylaneError,
    ScopeMissing,
    Unauthorized,
)
from kash_pipeline.warehouse.publication import Row
from kash_pipeline.warehouse.tables import PENNYLANE_FILES

SCOPE = "file_attachments:all"
# An upload is tried several times over some 20 s before it fails (client.py). A report that PennyLane cannot digest
# fails alone; three in one run are PennyLane's trouble, and a year of closings must not wait 20 s each for it.
MOST_FAILED = 3
_F = PENNYLANE_FILES.c


@dataclass(frozen=True)
class Attached:
    """An uploaded report. `known`: it was uploaded by an earlier attempt, so PennyLane may have dropped it since."""

    file_id: int
    known: bool


class Evidence:
    """The Z reports of one shop's entries, as files of one company. Usable from several threads."""

    def __init__(
        self, client: PennylaneClient, engine: sa.Engine, reports: ZReports, *, shop_id: str, company_id: int
    ) -> None:
        self._client = client
        self._engine = engine
        self._reports = reports
        self._place = {"shop_id": shop_id, "company_id": company_id}
        self._failed = 0

    @staticmethod
    def belongs_to(row: Row) -> bool:
        """A closing or Z entry, or what replaces one; a reversal takes back, it proves nothing of the till."""
        return row.kind in KINDS and row.role != "reversal"

    def attach(self, row: Row) -> Attached | None:
        """The file for this entry, uploaded if it is not there already; None when the entry carries none.

        Raises EvidenceError, MissingDays or EvidenceMissing: this entry waits. Raises NotSent, Unauthorized,
        ConnectAgain or ScopeMissing when the next upload would end the same way.
        """
        if not self.belongs_to(row):
            return None
        piece = Piece(row.key, row.label, row.amount_cents)
        pdf = self._reports.pdf(row.business_day, row.register_id, piece)
        sha256 = hashlib.sha256(pdf).hexdigest()
        with self._engine.connect() as connection:
            known = connection.execute(sa.select(_F.id).where(*self._of(row.key), _F.sha256 == sha256)).scalar()
        if known is not None:
            return Attached(known, known=True)
        file_id = self._upload(f"{row.key}.pdf", pdf)
        with self._engine.begin() as connection:
            connection.execute(
                insert(PENNYLANE_FILES)
                .values(**self._place, key=row.key, sha256=sha256, id=file_id)
                .on_conflict_do_update(constraint=PENNYLANE_FILES.primary_key, set_={"id": file_id})
            )
        return Attached(file_id, known=False)

    def forget(self, key: str) -> None:
        """PennyLane does not know the file any more: the next attempt uploads it again."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(PENNYLANE_FILES).where(*self._of(key)))

    def _of(self, key: str) -> tuple[sa.ColumnElement[bool], ...]:
        return (*(PENNYLANE_FILES.c[name] == value for name, value in self._place.items()), _F.key == key)

    def _upload(self, filename: str, pdf: bytes) -> int:
        if self._failed >= MOST_FAILED:
            raise EvidenceMissing(
                f"its Z evidence was not uploaded: {MOST_FAILED} uploads of this run failed before",
                next_step="run again when PennyLane takes files, or set attach_z = false",
            )
        try:
            return self._client.upload_file(filename, pdf).id
        except (NotSent, Unauthorized, ConnectAgain, ScopeMissing):
            raise
        except PennylaneError as error:
            self._failed += 1
            raise EvidenceMissing(
                f"its Z evidence was not uploaded: {error.message}",
                next_step="run again, or set attach_z = false",
                status=error.status,
                request_id=error.request_id,
            ) from error
