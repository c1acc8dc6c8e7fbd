"""Errors of reference data and the mapping.

Only their classes belong here; a day that cannot be built for want of a mapping is no error but a row of `held`.
"""

from kash_pipeline.errors import KashPipelineError


class ReferenceDataError(KashPipelineError):
    """Reference data is missing or cannot be used."""


class CustomerStillNeeded(ReferenceDataError):
    """Something cannot be done yet without knowing who this customer is."""


class UnknownCustomer(ReferenceDataError):
    """No customer of the till has this number."""
