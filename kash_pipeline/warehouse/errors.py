"""The warehouse's exception tree: everything this package raises on purpose.

An error about the shop file or an environment variable's form is a `settings` error and not here.
"""

from kash_pipeline.errors import KashPipelineError


class WarehouseError(KashPipelineError):
    """The state of the pipeline cannot be read or written."""


class ServerError(WarehouseError):
    """The PostgreSQL server cannot be started or reached."""


class SchemaError(WarehouseError):
    """The database's tables are not those of this version of the program."""


class LoadError(WarehouseError):
    """A frame cannot be written to a table as it is."""


class LedgerError(WarehouseError):
    """A step of the publication ledger that its states do not allow."""


class LedgerBusy(LedgerError):
    """Another process publishes for this shop at the moment."""


class SecretKeyError(WarehouseError):
    """Stored tokens cannot be read with the key at hand."""


class LakeError(WarehouseError):
    """The lake cannot be read or written."""


class MissingDays(LakeError):
    """Business days that were never written to the lake; an empty day is not missing."""


class TraceError(WarehouseError):
    """What is to be followed is not known here."""
