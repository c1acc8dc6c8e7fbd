"""Root of every error this project raises on purpose.

Each package has an exception tree of its own that starts from here (`pos.errors.PosError`,
`pennylane.errors.PennylaneError`, ...). Only what every package shares belongs in this module.
"""


class KashPipelineError(Exception):
    """Something a user can act on.

    The message says what is wrong and where; `next_step` says what to do about it. The command line prints
    both and no traceback.
    """

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  next step: {self.next_step}" if self.next_step else self.message


class SettingsError(KashPipelineError):
    """The shop file or an environment variable cannot be used."""
