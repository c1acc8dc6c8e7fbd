"""The VAT of an order: the till's own figures first, else computed per order and rate or per line.

Only which VAT amount stands and how it is shared between parts of one rate. Accounts are chart.py; posting is
sales.py. Rules: french-pos-accounting.md section 4; docs/files-interface.md on `vat` and `order_vat`.
"""

import numpy as np
from numpy.typing import NDArray

from kash_pipeline.accounting.money import FULL, Cents, half_up_array

CENT = 1


def computed(amounts: Cents, rate_bp: int, *, tax_included: bool) -> Cents:
    """VAT of each amount, half up and symmetric: contained in it, or on top of it."""
    return half_up_array(amounts, rate_bp, FULL + rate_bp if tax_included else FULL)


def computed_per_line(amounts: Cents, rates: NDArray[np.int64], *, tax_included: bool) -> Cents:
    """As `computed`, with a rate of its own for each amount."""
    return half_up_array(amounts, rates, rates + FULL if tax_included else np.full_like(rates, FULL))


def share(totals: Cents, parts: Cents, amounts: Cents, rate_bp: int, *, tax_included: bool) -> Cents:
    """`parts` (parts x orders) changed by single cents until each column adds up to `totals`.

    The cent goes to the part whose exact VAT lies farthest above (or, for a cent too many, below) what it has: the
    largest remainder. Ties go to the first part. A refund of the same parts gets the same cents with the other sign.
    """
    parts = parts.copy()
    whole = FULL + rate_bp if tax_included else FULL
    while True:
        rest = totals - parts.sum(axis=0)
        open_columns = np.flatnonzero(rest)
        if len(open_columns) == 0:
            return parts
        step = np.sign(rest[open_columns])
        lack = (amounts[:, open_columns] * rate_bp - parts[:, open_columns] * whole) * step
        # A part without any amount gets a cent only when there is no other.
        lack = np.where(amounts[:, open_columns] == 0, np.iinfo(np.int64).min, lack)
        parts[np.argmax(lack, axis=0), open_columns] += step
