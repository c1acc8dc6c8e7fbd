"""What there is to send right after a shop was connected: the days since the start of PennyLane's open fiscal year.

Only finding the days belongs here. Offering them is the command's (cli/pennylane.py) and the callback page's
(web/connect.py), sending them defs/runs.py's.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import sqlalchemy as sa

from kash_pipeline.pennylane.client import FiscalYear, PennylaneClient
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.ledger import PublicationLedger
from kash_pipeline.warehouse.publication import IN_PENNYLANE


@dataclass(frozen=True)
class History:
    """Business days `first..last` of the fiscal year that is open; `days_not_sent` of them have nothing in PennyLane.

    Both days are None when there is none: no year is open, or the first [[chart]] begins later.
    """

    year: FiscalYear | None
    first: date | None = None
    last: date | None = None
    days_not_sent: int = 0

    def told(self) -> list[str]:
        """In words, for a person who has just connected."""
        if self.year is None:
            return ["No fiscal year is open in PennyLane today: nothing can be sent before the accountant opens one."]
        lines = [f"Open fiscal year: {self.year.start} to {self.year.finish}."]
        if self.first is None:
            return [*lines, "No business day of it has ended yet that the shop file has a [[chart]] for."]
        if self.days_not_sent:
            return [*lines, f"{self.days_not_sent} days from {self.first} to {self.last} are not sent yet."]
        return [*lines, f"Every day from {self.first} to {self.last} has been sent."]


def history_of(client: PennylaneClient, engine: sa.Engine, shop: ShopFile, today: date) -> History:
    """The history to offer. `today` is the shop's business day; it has not ended, so the day before is the last.

    One request. Raises a PennylaneError when PennyLane cannot be asked.
    """
    last = today - timedelta(days=1)
    year = next((year for year in client.fiscal_years() if year.open and year.start <= today <= year.finish), None)
    if year is None:
        return History(None)
    # On the first day of a year there is nothing of it to send; what the chart does not cover is never built.
    first = max(year.start, shop.chart[0].start)
    if first > last:
        return History(year)
    status = PublicationLedger(engine, shop.shop.id).status_by_day(first, last)
    sent = status[status["state"].isin(IN_PENNYLANE)]["business_day"].nunique()
    return History(year, first, last, (last - first).days + 1 - int(sent))
