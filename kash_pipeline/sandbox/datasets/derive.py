"""What the files do not say, drawn from the seed or computed: instants, VAT per order, closings.

Only rules shared by several data sets belong here; what is particular to one stands in its own module. Draws hash the
order's number, so that a row read in another order, or one day alone, gets the same fate. README.md beside this file
lists what is derived.
"""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from kash_pipeline.sandbox.datasets.errors import DatasetError
from kash_pipeline.schemas.columns import DAY_DTYPE, INSTANT_DTYPE, conform
from kash_pipeline.schemas.facts import CLOSING_COUNTS, CLOSINGS, FACTS, ORDER_VAT, Facts

Ints = npt.NDArray[np.int64]

FLOAT_CENTS = 10_000
"""Cash found in every drawer at opening and left in it at closing."""

NOT_IN_THE_DRAWER = frozenset({"transfer", "on_account"})
"""Kinds of method that nobody counts at a closing."""


def draw(keys: Ints, seed: int, purpose: str, below: int) -> Ints:
    """One number in 0..below-1 per key: SplitMix64 over key, seed and purpose, the same on every machine."""
    mixed = keys.astype(np.uint64) + np.uint64(zlib.crc32(purpose.encode()) + (seed << 32) & 0xFFFFFFFFFFFFFFFF)
    with np.errstate(over="ignore"):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed % np.uint64(below)).astype(np.int64)


def scaled(texts: pd.Series, places: int, what: str) -> Ints:
    """Decimal texts times 10^places as integers, without a float on the way; each distinct text is parsed once.

    Raises DatasetError for a text that is no number or has more than `places` decimals.
    """
    codes, distinct = pd.factorize(texts)
    values = []
    for text in distinct:
        try:
            value = Decimal(str(text)).scaleb(places)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or value != value.to_integral_value():
            raise DatasetError(
                f"{what} {text!r} is no number with at most {places} decimals",
                next_step="fetch the file again from its public origin (README.md of the data sets)",
            )
        values.append(int(value))
    if (codes < 0).any():
        raise DatasetError(
            f"{what} is empty in row {int(np.flatnonzero(codes < 0)[0]) + 1}", next_step="fetch it again"
        )
    whole: Ints = np.array(values, dtype=np.int64)[codes]
    return whole


def half_up(numerator: Ints, denominator: Ints | int) -> Ints:
    """numerator / denominator, halves away from zero (a refund mirrors its sale)."""
    magnitude = (2 * np.abs(numerator) + denominator) // (2 * np.asarray(denominator))
    return np.asarray(np.sign(numerator) * magnitude, dtype=np.int64)


def instants(local: pd.Series, zone: ZoneInfo) -> pd.Series:
    """Wall-clock times of the shop as UTC instants. No set has a sale in an hour repeated or skipped."""
    return local.dt.tz_localize(zone, ambiguous="raise", nonexistent="raise").dt.tz_convert("UTC").astype(INSTANT_DTYPE)


def complete(tables: Mapping[str, pd.DataFrame], prices: Literal["tax_included", "tax_excluded"], seed: int) -> Facts:
    """Tables by name in the form of schemas/facts.py, with what no file has: VAT per order (unless it is among them),
    closings and their counts."""
    facts = Facts(**{name: conform(frame, FACTS[name]) for name, frame in tables.items()})
    if "order_vat" not in tables:
        lines = facts.order_lines
        totals = lines["total_cents"].to_numpy()
        facts = replace(
            facts, order_vat=vat_per_order(lines["order_id"], lines["vat_rate_bp"].to_numpy(), totals, prices)
        )
    z, counts = closings(facts.orders, facts.payments, facts.cash_movements, facts.payment_methods, seed)
    return replace(facts, closings=z, closing_counts=counts)


def vat_per_order(
    order_id: pd.Series, rate_bp: Ints, total_cents: Ints, prices: Literal["tax_included", "tax_excluded"]
) -> pd.DataFrame:
    """`schemas.facts.ORDER_VAT`: VAT half up per order and rate, from line totals; net and VAT add up to the gross."""
    lines = pd.DataFrame({"order_id": order_id.to_numpy(), "vat_rate_bp": rate_bp, "total": total_cents})
    sums = lines.groupby(["order_id", "vat_rate_bp"], sort=False, as_index=False)["total"].sum()
    total, rate = sums["total"].to_numpy(), sums["vat_rate_bp"].to_numpy()
    vat = half_up(total * rate, 10_000 + rate if prices == "tax_included" else 10_000)
    net = total - vat if prices == "tax_included" else total
    return conform(sums.assign(net_cents=net, vat_cents=vat), ORDER_VAT)


def closings(
    orders: pd.DataFrame, payments: pd.DataFrame, movements: pd.DataFrame, methods: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One closing per register and day with an order or a payment: `CLOSINGS` and `CLOSING_COUNTS`.

    Opened 15 minutes before the first event, closed 10 minutes after the last. Expected cash is float + cash payments
    + movements. One closing in eight has a cash difference of 0.05 to 5.00, one meal-voucher count in thirty is
    1.00 off; everything else is counted as expected. `total_cents` is the day's orders, by value date.
    """
    key = ["register_id", "business_day"]
    events = pd.concat(
        [orders[key].assign(at=orders["validated_at"]), payments[key].assign(at=payments["paid_at"])], ignore_index=True
    )
    z = events.groupby(key, as_index=False)["at"].agg(["min", "max"])
    totals = orders.groupby(key, as_index=False)["total_cents"].sum()
    z = z.merge(totals, on=key, how="left").sort_values(["business_day", "register_id"], ignore_index=True)
    z["total_cents"] = z["total_cents"].fillna(0).astype("int64")
    z["closing_id"] = "Z-" + z["register_id"] + "-" + z["business_day"].dt.strftime("%Y%m%d")
    frame = z.assign(
        opened_at=z["min"] - pd.Timedelta(minutes=15),
        closed_at=z["max"] + pd.Timedelta(minutes=10),
        opening_float_cents=FLOAT_CENTS,
        closing_float_cents=FLOAT_CENTS,
        perpetual_total_cents=z.groupby("register_id")["total_cents"].cumsum(),
    )

    kinds = dict(zip(methods["method_id"], methods["kind"], strict=True))
    cash = next(method for method, kind in kinds.items() if kind == "cash")
    taken = payments[~payments["method_id"].map(kinds).isin(NOT_IN_THE_DRAWER)]
    parts = [
        taken[[*key, "method_id", "amount_cents"]],
        movements[[*key, "amount_cents"]].assign(method_id=cash),
        z[key].assign(method_id=cash, amount_cents=FLOAT_CENTS),
    ]
    counts = pd.concat(parts, ignore_index=True).groupby([*key, "method_id"], as_index=False)["amount_cents"].sum()
    counts = counts.merge(z[[*key, "closing_id"]], on=key).sort_values(["closing_id", "method_id"], ignore_index=True)
    expected = counts["amount_cents"].to_numpy()
    ids = np.array([zlib.crc32(text.encode()) for text in counts["closing_id"]], dtype=np.int64)
    steps = draw(ids, seed, "cash difference", 200) - 100
    steps += steps >= 0
    kind = counts["method_id"].map(kinds)
    is_cash = kind.eq("cash").to_numpy() & (draw(ids, seed, "cash is off", 8) == 0)
    is_meal = kind.eq("meal_voucher").to_numpy() & (draw(ids, seed, "vouchers are off", 30) == 0)
    counted = expected + np.where(is_cash, steps * 5, 0) + np.where(is_meal, 100, 0)
    counts = counts.assign(expected_cents=expected, counted_cents=counted)
    return conform(frame, CLOSINGS), conform(counts, CLOSING_COUNTS)


def day_column(local: pd.Series) -> pd.Series:
    """The calendar day of wall-clock times; no set has sales between midnight and 04:00."""
    return local.dt.normalize().astype(DAY_DTYPE)


def next_open_day(days: pd.Series, open_days: pd.Series) -> pd.Series:
    """The first open day on or after each day; NaT after the last one."""
    known = np.sort(open_days.unique().astype("datetime64[ms]"))
    at = np.searchsorted(known, days.to_numpy().astype("datetime64[ms]"))
    padded = np.append(known, np.datetime64("NaT", "ms"))
    return pd.Series(padded[at], index=days.index)
