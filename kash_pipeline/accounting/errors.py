"""Errors of the accounting engine: facts that cannot be attributed, results that contradict themselves.

What concerns one register and day is no error but a row of `held` (build.py); files that cannot be read are
pos/errors.py.
"""

from kash_pipeline.errors import KashPipelineError


class AccountingError(KashPipelineError):
    """The engine cannot say what the books should hold."""


class OrphanRows(AccountingError):
    """Rows name an order or a closing that the facts lack, so nobody knows which register-day they belong to."""


class KeyCollision(AccountingError):
    """Two different entries would get the same entry key."""


class UnbalancedEntry(AccountingError):
    """An entry does not balance: a defect of the engine, stopped before anybody books it."""
