"""Errors of reading a till: one tree that every source adapter shares.

Only what a caller has to tell apart belongs here: may another try help, must a person act, has the till changed its
form. What a till says *about the sales* (an unknown method, a total that is not its lines) is no error of reading: it
holds a register-day and comes from accounting/.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kash_pipeline.errors import KashPipelineError

PROBLEMS_SHOWN = 20


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


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a folder of facts.

    file    name of the file in the folder, or the folder itself
    what    what is wrong, with the value found
    cure    what to write instead or where to look
    row     line of a CSV file (the header is line 1) or row of a Parquet file (from 1); None when no row is concerned
    column  column as the file names it; None when no column is concerned
    """

    file: str
    what: str
    cure: str
    row: int | None = None
    column: str | None = None

    @property
    def where(self) -> str:
        row = f", row {self.row}" if self.row is not None else ""
        column = f", column {self.column}" if self.column is not None else ""
        return f"{self.file}{row}{column}"

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.cure}"


class FilesError(PosError):
    """A folder of facts or of entries cannot be read or written.

    `problems` holds every problem found, the message the first twenty; both name file, row and column.
    """

    def __init__(self, folder: object, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        shown = "".join(f"\n  - {problem}" for problem in self.problems[:PROBLEMS_SHOWN])
        more = len(problems) - PROBLEMS_SHOWN
        rest = f"\n  - and {more} more" if more > 0 else ""
        first = self.problems[0]
        super().__init__(f"{folder}: {count}:{shown}{rest}", next_step=f"{first.where}: {first.cure}")
