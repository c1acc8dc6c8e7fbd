"""How long raw answers are kept: whole fiscal years, by the policy of the shop file, never less than the law asks for.

Only the rule belongs here; deleting is lake.py, asking for it cli/kash.py and defs/retention.py. Facts, entries and the
record of what was deleted stay for ever.
"""

from dataclasses import dataclass
from datetime import date, datetime

from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake

LEAST_YEARS = 6
"""LPF, art. L102 B; the default of `raw_years` is ten (Code de commerce, art. L123-22)."""


@dataclass(frozen=True)
class Retained:
    """Answers first fetched before the day `before`: how many, and the bytes of their bodies as they came."""

    before: date
    answers: int
    size: int


def first_day_kept(shop: ShopFile, today: date) -> date:
    """Answers first fetched on this day or later are kept: the start of the fiscal year `raw_years` ago.

    A year's vouchers are kept together: the period runs from the end of the year they belong to.
    """
    years = max(shop.source.raw_years, LEAST_YEARS)
    return shop.fiscal_year_of(today.replace(year=today.year - years, day=min(today.day, 28)))[0]


def retain(lake: Lake, shop: ShopFile, now: datetime, *, drop: bool) -> Retained:
    """Delete (`drop`) or count what is older than the policy."""
    before = first_day_kept(shop, now.date())
    return Retained(before, *lake.drop_raw(before=before, dropped_at=now, dry_run=not drop))
