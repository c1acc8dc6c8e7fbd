"""The sandbox's one way to know the time, so that tests can pass a clock of their own.

Only the time belongs here; what it means (an expired token, a full window) belongs to its users.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """The present instant, in UTC."""
    return datetime.now(UTC)
