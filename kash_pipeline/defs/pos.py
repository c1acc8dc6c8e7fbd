"""Facts of the till as daily assets: sales, payments and closings, one Parquet file per table and business day.

Only extraction belongs here: which days, in which order, into which tables of the lake. How a till is asked and its
answers are read is pos/, what the facts mean for the books is accounting/.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TypeVar

import dagster as dg
import pandas as pd
import pandera.pandas as pa

from kash_pipeline.defs.daily import (
    CONTRACT,
    ContractBroken,
    Day,
    Progress,
    StepEvents,
    as_failure,
    hold_to_contract,
    run_by_month,
)
from kash_pipeline.defs.partitions import business_days, by_month
from kash_pipeline.defs.resources import OpenTill
from kash_pipeline.defs.table_schema import table_schema
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.pos import control
from kash_pipeline.pos.errors import SourceChanged
from kash_pipeline.pos.port import DayOfClosings, DayOfSales, Source
from kash_pipeline.schemas.columns import conform, empty
from kash_pipeline.schemas.facts import (
    CASH_MOVEMENTS,
    CLOSING_COUNTS,
    CLOSINGS,
    ORDER_LINES,
    ORDER_VAT,
    ORDERS,
    PAYMENTS,
)
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import Lake

GROUP = "pos"
_DayT = TypeVar("_DayT", DayOfSales, DayOfClosings)

LOOK_BACK = 400
"""Days around a business day in which an order may lie whose payment was made on that day: a named customer who pays
last year's invoice, a deposit paid before the order's value date."""

# Payments as the till nests them in orders, filed under the order's day; pos/payments files them under their own.
ORDER_PAYMENTS = "order_payments"

SALES = {"orders": ORDERS, "order_lines": ORDER_LINES, "order_vat": ORDER_VAT, ORDER_PAYMENTS: PAYMENTS}
_ATTRIBUTE = {ORDER_PAYMENTS: "payments"}
TILL_CLOSED = {"closings": CLOSINGS, "closing_counts": CLOSING_COUNTS, "cash_movements": CASH_MOVEMENTS}


def pos_key(shop: ShopFile, name: str) -> dg.AssetKey:
    return dg.AssetKey([shop.shop.id, "pos", name])


def pos_assets(shop: ShopFile) -> list[dg.AssetsDefinition]:
    """pos/sales, pos/payments and pos/closings of one shop."""
    return [_sales(shop), _payments(shop), _closings(shop)]


def _sales(shop: ShopFile) -> dg.AssetsDefinition:
    key = pos_key(shop, "sales")

    @_daily_asset(
        shop,
        key,
        "Orders of a business day with their lines, their VAT as the till computed it, and the payments nested in "
        "them. A day is replaced whole.",
        (ORDERS, ORDER_LINES, ORDER_VAT),
    )
    def sales(
        context: dg.AssetExecutionContext,
        till: dg.ResourceParam[OpenTill],
        lake: dg.ResourceParam[Lake],
        progress: dg.ResourceParam[Progress],
    ) -> StepEvents:
        with _opened(context, till) as source:

            def one_month(days: list[date]) -> list[Day]:
                got = list(_expected(days, source.sales(days[0], days[-1])))
                if shop.source.kind == "kash_api":  # a folder of files is what its owner says it is
                    _note_gone(lake, got)
                _keep(lake, got, SALES)
                _write_control(lake, got)
                return _told(got, "orders", "order_lines", "gross_cents")

            yield from run_by_month(context, key, one_month, progress=progress)

    return sales


def _payments(shop: ShopFile) -> dg.AssetsDefinition:
    key = pos_key(shop, "payments")

    @_daily_asset(
        shop,
        key,
        f"Payments made on a business day, whatever day their order is of (within {LOOK_BACK} days): the till tells "
        "payments with their order, the books need them on the day the money moved.",
        (PAYMENTS,),
        deps=[pos_key(shop, "sales")],
    )
    def payments(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], progress: dg.ResourceParam[Progress]
    ) -> StepEvents:
        asked = sorted(map(date.fromisoformat, context.partition_keys))
        elsewhere = _of_other_months(lake, asked[0], asked[-1])

        def one_month(days: list[date]) -> list[Day]:
            own = lake.read_days(ORDER_PAYMENTS, days[0], days[-1])
            month = _rows_of(pd.concat([own, elsewhere], ignore_index=True), days[0], days[-1])
            _hold_once(month)
            month = conform(month.sort_values("business_day", kind="stable"), PAYMENTS)
            hold_to_contract({"payments": (month, PAYMENTS)})
            per_day = month.groupby(month["business_day"].dt.date)["amount_cents"].agg(["size", "sum"])
            per_day = per_day.reindex(days, fill_value=0)
            lake.write_days("payments", days, month, per_day["size"].tolist())
            return [
                Day(day, rows, {"payments": rows, "takings_cents": takings})
                for day, rows, takings in zip(days, per_day["size"].tolist(), per_day["sum"].tolist(), strict=True)
            ]

        yield from run_by_month(context, key, one_month, progress=progress)

    return payments


def _closings(shop: ShopFile) -> dg.AssetsDefinition:
    key = pos_key(shop, "closings")

    @_daily_asset(
        shop,
        key,
        "Closings (Z) of a business day with expected and counted amounts per method, and cash movements. A till that "
        "cannot tell them has empty days here, and no closing entry is made.",
        (CLOSINGS, CLOSING_COUNTS, CASH_MOVEMENTS),
    )
    def closings(
        context: dg.AssetExecutionContext,
        till: dg.ResourceParam[OpenTill],
        lake: dg.ResourceParam[Lake],
        progress: dg.ResourceParam[Progress],
    ) -> StepEvents:
        with _opened(context, till) as source:
            told = source.capabilities
            if not told.closings:
                context.log.warning("%s tells no closings: no closing entry and no till difference is made", told.name)

            def one_month(days: list[date]) -> list[Day]:
                if told.closings or told.cash_movements:
                    got = list(_expected(days, source.closings(days[0], days[-1])))
                else:
                    got = [DayOfClosings(day) for day in days]
                _keep(lake, got, TILL_CLOSED)
                return _told(got, "closings", "cash_movements", "closed_total_cents")

            yield from run_by_month(context, key, one_month, progress=progress)

    return closings


def _daily_asset(
    shop: ShopFile,
    key: dg.AssetKey,
    description: str,
    schemas: Sequence[pa.DataFrameSchema],
    *,
    deps: Sequence[dg.AssetKey] = (),
) -> Callable[[Callable[..., StepEvents]], dg.AssetsDefinition]:
    """What the three have in common: a partition a day, many of them in one run, held to their contract."""
    return dg.asset(
        key=key,
        deps=deps,
        partitions_def=business_days(shop),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=description,
        group_name=GROUP,
        kinds={"python", "parquet"},
        owners=["team:accounting"],
        tags={"shop": shop.shop.id},
        metadata={"dagster/column_schema": table_schema(*schemas)},
        check_specs=[
            dg.AssetCheckSpec(
                CONTRACT,
                asset=key,
                blocking=True,
                description="Columns, types, units and keys are those of kash_pipeline/schemas/facts.py.",
            )
        ],
    )


@contextmanager
def _opened(context: dg.AssetExecutionContext, till: OpenTill) -> Iterator[Source]:
    try:
        with till() as source:
            for reading in source.capabilities.unconfirmed:
                context.log.warning("%s, never compared with a real account: %s", source.capabilities.name, reading)
            yield source
    except KashPipelineError as error:
        raise as_failure(error) from error


def _expected(days: Sequence[date], given: Iterable[_DayT]) -> Iterator[_DayT]:
    """The till's days as they come; a day that is missing, doubled or not asked for stops the month."""
    asked = iter(days)
    for day in given:
        due = next(asked, None)
        if day.day != due:
            raise SourceChanged(
                f"the till's adapter gave {day.day} where {due or 'no more days'} was due",
                next_step="report this: an adapter gives every day asked for, in order",
            )
        yield day
    left = next(asked, None)
    if left is not None:
        raise SourceChanged(
            f"the till's adapter ended before {left}",
            next_step="report this: an adapter gives every day asked for, in order",
        )


def _keep(lake: Lake, got: Sequence[_DayT], schemas: Mapping[str, pa.DataFrameSchema]) -> None:
    """The days of a month, held to their contract and written: thirty days at once cost what three would.

    The first of `schemas` has the business day in its rows: one filed elsewhere would be doubled by the next read.
    """
    days = [day.day for day in got]
    frames = {name: [getattr(day, _ATTRIBUTE.get(name, name)) for day in got] for name in schemas}
    month = {name: conform(pd.concat(parts, ignore_index=True), schemas[name]) for name, parts in frames.items()}
    hold_to_contract({name: (frame, schemas[name]) for name, frame in month.items()})
    head = next(iter(schemas))
    for day, frame in zip(days, frames[head], strict=True):
        strays = frame["business_day"] != pd.Timestamp(day)
        if strays.any():
            found = frame.loc[strays, "business_day"].iloc[0]
            raise ContractBroken(
                f"{head} of {day} hold {int(strays.sum())} rows of another day, such as {found:%Y-%m-%d}",
                cases=[(head, "business_day", f"is {day}", int(strays.sum()), f"{found:%Y-%m-%d}")],
            )
    for name, parts in frames.items():
        lake.write_days(name, days, month[name], [len(part) for part in parts])


def _told(got: Sequence[DayOfSales | DayOfClosings], head: str, beside: str, total: str) -> list[Day]:
    """What Dagster records of each day: the rows of two tables, and what the first one's totals sum to."""
    return [
        Day(
            day.day,
            len(rows),
            {head: len(rows), beside: len(getattr(day, beside)), total: int(rows["total_cents"].sum())},
        )
        for day in got
        for rows in [getattr(day, head)]
    ]


def _note_gone(lake: Lake, days: Sequence[DayOfSales]) -> None:
    """Orders of these days that were read before and did not come now, noted before the days are replaced.

    accounting/entries holds their register-days, but for orders that stand on another day by then.
    """
    first, last = days[0].day, days[-1].day
    noted = lake.read_days("gone_orders", first, last, missing="skip")
    before = pd.concat([lake.read_days("orders", first, last, missing="skip"), noted], ignore_index=True)
    gone = control.gone(before, pd.concat([day.orders for day in days], ignore_index=True))
    for day in sorted({*noted["business_day"], *gone["business_day"]}):
        lake.write_day("gone_orders", day.date(), gone[gone["business_day"] == day])


def _write_control(lake: Lake, days: Sequence[DayOfSales]) -> None:
    """The till's own daily reports, where it tells them: accounting/entries holds the orders against them."""
    for day in days:
        if day.control is not None:
            lake.write_day("control_totals", day.day, day.control)


def _rows_of(frame: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    return frame[frame["business_day"].between(pd.Timestamp(first), pd.Timestamp(last))]


def _of_other_months(lake: Lake, first: date, last: date) -> pd.DataFrame:
    """Payments of `first..last` whose order lies in another month, or outside the window: few, so all are kept at once.

    The lake is read month by month, `LOOK_BACK` days around the window.
    """
    start, end = (date.fromordinal(day.toordinal() + step) for day, step in ((first, -LOOK_BACK), (last, LOOK_BACK)))
    kept = [empty(PAYMENTS)]
    for month in by_month(day.isoformat() for day in lake.days(ORDER_PAYMENTS) if start <= day <= end):
        inside = [day for day in month if first <= day <= last]
        for part in ([day for day in month if day < first], inside, [day for day in month if day > last]):
            if not part:
                continue
            rows = _rows_of(lake.read_days(ORDER_PAYMENTS, part[0], part[-1]), first, last)
            if part is inside:
                rows = rows[~rows["business_day"].between(pd.Timestamp(part[0]), pd.Timestamp(part[-1]))]
            kept.append(rows)
    return pd.concat(kept, ignore_index=True)


def _hold_once(payments: pd.DataFrame) -> None:
    twice = payments["payment_id"].duplicated()
    if twice.any():
        raise SourceChanged(
            f"payment {payments.loc[twice, 'payment_id'].iloc[0]} stands under two business days: its order was moved",
            next_step="materialize pos/sales again for both days of that order, then pos/payments",
        )
