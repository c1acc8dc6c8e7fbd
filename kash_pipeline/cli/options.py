"""Options that several commands share: days and ranges of days.

Only parsing of what is typed; what a range means is decided by the command.
"""

from datetime import date

import click


class Day(click.ParamType[date]):
    """A business day, `YYYY-MM-DD`."""

    name = "day"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            day = date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no day; write it as 2026-03-14", param, ctx)
        if str(value) != day.isoformat():  # fromisoformat also takes 20260314 and 2026-W11-6
            self.fail(f"{value!r} is no day; write it as {day.isoformat()}", param, ctx)
        return day


def ordered(first: date | None, last: date | None) -> None:
    """Raises click.BadParameter when `--from` is after `--to`."""
    if first is not None and last is not None and first > last:
        raise click.BadParameter(f"{first} is after --to {last}", param_hint="--from")
