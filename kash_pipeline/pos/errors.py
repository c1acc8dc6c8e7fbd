"""Errors of reading a till: one tree that every source adapter shares.

Only what a caller has to tell apart belongs here: may another try help, must a person act, has the till changed its
form. What a till says *about the sales* (an unknown method, a total that is not its lines) is no error of reading: it
holds a register-day and comes from accounting/.
"""

from kash_pipeline.errors import KashPipelineError


class PosError(KashPipelineError):
    """The till's facts could not be read; nothing of the day asked for may be replaced by it."""


class SourceUnreachable(PosError):
    """No answer, or a passing failure of the other side (timeout, reset, 5xx, 429): another try may help."""


class SourceRefused(PosError):
    """The source answered no (wrong key, unknown shop, no right): trying again does not help."""


class SourceChanged(PosError):
    """The answer came and is not of the form this adapter reads: nothing is guessed from it.

    Raised for a missing field, another type, an unknown code; the message names the call and the field.
    """


class FilesError(PosError):
    """A folder of facts cannot be read; the message lists every problem found with its file, row and column."""
