"""Errors of the data sets the sandbox serves.

Only what a caller of `datasets.load` can meet belongs here; what is wrong with a till's answer is pos/errors.py.
"""

from kash_pipeline.sandbox.errors import SandboxError


class DatasetError(SandboxError):
    """A data set cannot be found, recognised or read."""
