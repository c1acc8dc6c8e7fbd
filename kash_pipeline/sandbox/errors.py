"""What can go wrong while a sandbox starts or reads its data set, in words a user can act on.

Only the sandbox's own errors belong here. What a sandbox answers over HTTP (400, 422, ...) is not an exception of
ours but part of the imitated API, and stays in kash/ and pennylane/.
"""

from kash_pipeline.errors import KashPipelineError


class SandboxError(KashPipelineError):
    """A sandbox cannot do what was asked of it."""


class PortInUse(SandboxError):
    """Another program already listens where a sandbox wants to."""


class ServerDidNotStart(SandboxError):
    """The server ended before it listened; the cause is attached."""
