"""Cents: rounding half up, splitting a tax-included amount, spreading an amount over parts.

Only arithmetic on integers, for one value and for whole arrays. Which VAT figure wins is vat.py, which account
an amount goes to is chart.py.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Cents = NDArray[np.int64]

FULL = 10_000
"""Basis points in a whole."""


def half_up(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded half away from zero, so that a refund mirrors its sale.

    >>> half_up(5, 10), half_up(-5, 10), half_up(4, 10)
    (1, -1, 0)
    """
    rounded = (2 * abs(numerator) + denominator) // (2 * denominator)
    return rounded if numerator >= 0 else -rounded


def half_up_array(amounts: Cents, factor: int | Cents, divisor: int | Cents) -> Cents:
    """`amounts * factor / divisor` per element, half away from zero. A scalar divisor lets numpy divide by SIMD."""
    rounded = (np.abs(amounts) * (2 * factor) + divisor) // (2 * divisor)
    return np.where(amounts < 0, -rounded, rounded)


def vat_in(gross_cents: int, rate_bp: int) -> int:
    """VAT contained in a tax-included amount (french-pos-accounting.md, section 4).

    >>> vat_in(570, 550), vat_in(-405, 1000)
    (30, -37)
    """
    return half_up(gross_cents * rate_bp, FULL + rate_bp)


def spread(amount: int, weights: Sequence[int]) -> list[int]:
    """`amount` cents over parts in proportion to `weights`, by largest remainder; the parts add up to the amount.

    Ties go to the earlier part. A negative amount gives the negated parts of the positive one. This is how a
    discount on a whole ticket reaches the rates (section 4).

    >>> spread(100, [570, 405, 390])
    [42, 30, 28]

    Raises ValueError when no weight is above zero or one is below.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError("spread needs weights of at least zero with a positive sum")
    parts = [abs(amount) * weight // total for weight in weights]
    remainders = [abs(amount) * weight % total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda part: (-remainders[part], part))
    for part in by_remainder[: abs(amount) - sum(parts)]:
        parts[part] += 1
    return parts if amount >= 0 else [-part for part in parts]


def add_into(size: int, where: NDArray[np.intp] | NDArray[np.int64], amounts: Cents) -> Cents:
    """Sums of `amounts` per position, in integers (`bincount` would weigh in floats)."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, where, amounts)
    return sums


def euros(cents: int) -> str:
    """`-405` to `"-4.05"`, the form of files and messages."""
    whole, rest = divmod(abs(int(cents)), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{rest:02d}"
