"""The exception tree of the Z report.

Only what keeps a report from being made; a lake or a database that cannot be read raises the warehouse's errors.
"""

from kash_pipeline.errors import KashPipelineError


class EvidenceError(KashPipelineError):
    """A Z report cannot be made."""


class NoSuchDay(EvidenceError):
    """The register has neither facts nor entries on this day."""


class NoSuchEntry(EvidenceError):
    """The register-day has no entry of this piece number."""


class NotBuilt(EvidenceError):
    """The register-day has facts and no entries: it is held, or was never built."""


class BooksDiffer(EvidenceError):
    """The facts have changed since the entries were built: a report would contradict the entry it belongs to."""
