"""What a Z report says: sales per rate, takings and counts per method, floats, and the hash of the facts behind them.

Pure: frames in, integers out. Net and VAT per rate are those of the entries (a till may send no VAT), everything else
is the till's; where both tell the same thing they must agree. How it looks is pdf.py.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import date, datetime

import pandas as pd

from kash_pipeline.accounting import proofs
from kash_pipeline.evidence.errors import BooksDiffer, NoSuchDay, NotBuilt
from kash_pipeline.reconciliation import entries_by_rate, till_by_rate
from kash_pipeline.schemas.columns import empty, to_arrow
from kash_pipeline.schemas.entries import HELD
from kash_pipeline.schemas.facts import DAILY, METHOD_KINDS, MOVEMENT_KINDS, Facts
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.lake import content_digest


@dataclass(frozen=True)
class Rate:
    """Sales of one VAT rate less refunds, as the entries book them."""

    vat_rate_bp: int
    net_cents: int
    vat_cents: int

    @property
    def gross_cents(self) -> int:
        return self.net_cents + self.vat_cents


@dataclass(frozen=True)
class Method:
    """One payment method: `payments` made with it, their sum, and the day's counts where the till was counted.

    `on_account`: the customer owes as before, no money came in.
    """

    method_id: str
    name: str
    kind: str
    payments: int
    amount_cents: int
    expected_cents: int | None = None
    counted_cents: int | None = None

    @property
    def on_account(self) -> bool:
        return self.kind == "on_account"

    @property
    def difference_cents(self) -> int | None:
        """Counted less expected; None where nothing was counted."""
        if self.counted_cents is None or self.expected_cents is None:
            return None
        return self.counted_cents - self.expected_cents


@dataclass(frozen=True)
class Closing:
    """One closing as the till sent it; `closed_at` on the shop's clock, amounts None where the till says nothing."""

    closing_id: str
    closed_at: datetime
    opening_float_cents: int | None
    closing_float_cents: int | None
    total_cents: int | None
    perpetual_total_cents: int | None


@dataclass(frozen=True)
class Movement:
    """Cash movements of one kind; positive into the drawer."""

    kind: str
    count: int
    amount_cents: int


@dataclass(frozen=True)
class TableHash:
    """Rows of one table of facts and their sha256 (warehouse/lake.py `content_digest`: whatever their order)."""

    table: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class ZFigures:
    """The day of one register. `orders_cents` is the total of its orders including tax, refunds taken off;
    `other_cents` the part of it that is no sale at a rate: vouchers, deposits, tips, rounding."""

    shop_name: str
    siren: str | None
    register_id: str
    register_name: str
    business_day: date
    orders: int
    orders_cents: int
    refunds: int
    refunds_cents: int
    rates: tuple[Rate, ...]
    methods: tuple[Method, ...]
    closings: tuple[Closing, ...]
    movements: tuple[Movement, ...]
    hashes: tuple[TableHash, ...]

    @property
    def sales_cents(self) -> int:
        return sum(rate.gross_cents for rate in self.rates)

    @property
    def other_cents(self) -> int:
        return self.orders_cents - self.sales_cents

    @property
    def takings_cents(self) -> int:
        return sum(method.amount_cents for method in self.methods if not method.on_account)

    @property
    def sha256(self) -> str:
        """One hash over all: sha256 of the lines `table sha256`, each with a line feed, in the order of `hashes`."""
        return hashlib.sha256("".join(f"{one.table} {one.sha256}\n" for one in self.hashes).encode()).hexdigest()


def z_figures(
    facts: Facts, entries: pd.DataFrame, entry_lines: pd.DataFrame, shop: ShopFile, day: date, register_id: str
) -> ZFigures:
    """The figures of one register-day from facts and entries that hold at least this day.

    Raises NoSuchDay, NotBuilt, or BooksDiffer when takings per method or VAT per rate of the till are not those of the
    entries.
    """
    mine = of_register(facts, day, register_id)
    heads = entries[(entries["business_day"] == pd.Timestamp(day)) & (entries["register_id"] == register_id)]
    where = f"register {register_id} on {day}"
    if heads.empty:
        if any(len(table) for name, table in mine.tables().items() if name in DAILY):
            raise NotBuilt(
                f"{where} has no entries, so there is nothing a Z report could belong to",
                next_step="kash-pipeline held says whether the day waits, and why; otherwise build it",
            )
        raise NoSuchDay(
            f"{where} has no sales, payments or closings",
            next_step=f"check day and register; registers of the till: {_known(facts)}",
        )
    lines = entry_lines[entry_lines["entry_key"].isin(heads["entry_key"])]
    _agree(mine, heads, lines, where)
    orders = mine.orders["total_cents"]
    refunds = orders[orders < 0]
    return ZFigures(
        shop_name=shop.shop.name,
        siren=shop.shop.siren,
        register_id=register_id,
        register_name=_names(mine.registers, "register_id").get(register_id, register_id),
        business_day=day,
        orders=len(orders),
        orders_cents=int(orders.sum()),
        refunds=len(refunds),
        refunds_cents=int(refunds.sum()),
        rates=tuple(
            Rate(int(row.vat_rate_bp), int(row.net_cents), int(row.vat_cents))
            for row in entries_by_rate(heads, lines).itertuples()
        ),
        methods=_methods(mine),
        closings=_closings(mine, shop),
        movements=_movements(mine),
        hashes=tuple(
            TableHash(name, len(table), content_digest(to_arrow(table, DAILY[name])))
            for name, table in mine.tables().items()
            if name in DAILY
        ),
    )


def of_register(facts: Facts, day: date, register_id: str) -> Facts:
    """The daily facts of one register and day (lines and VAT of its orders, counts of its closings); all reference."""
    tables = facts.tables()
    for name in ("orders", "payments", "closings", "cash_movements"):
        table = tables[name]
        keep = (table["business_day"] == pd.Timestamp(day)) & (table["register_id"] == register_id)
        tables[name] = table[keep].reset_index(drop=True)
    for name, key, heads in (
        ("order_lines", "order_id", "orders"),
        ("order_vat", "order_id", "orders"),
        ("closing_counts", "closing_id", "closings"),
    ):
        table = tables[name]
        tables[name] = table[table[key].isin(tables[heads][key])].reset_index(drop=True)
    return replace(facts, **tables)


def _agree(facts: Facts, heads: pd.DataFrame, lines: pd.DataFrame, where: str) -> None:
    wrong = [
        f"takings of method {row.method_id} are {int(row.till_cents)} cents, in the entries {int(row.books_cents)}"
        for row in proofs.takings(facts, heads, lines, empty(HELD)).itertuples()
    ]
    # The till's VAT tables are compared where it has one for each order; vouchers and deposits have none.
    if len(facts.orders) and facts.orders["order_id"].isin(facts.order_vat["order_id"]).all():
        till = till_by_rate(facts.orders, facts.order_lines, facts.order_vat)
        told, booked = _vat(till), _vat(entries_by_rate(heads, lines))
        wrong += [
            f"VAT at {rate} basis points is {told.get(rate, 0)} cents, in the entries {booked.get(rate, 0)}"
            for rate in sorted(told.keys() | booked.keys())
            if told.get(rate, 0) != booked.get(rate, 0)
        ]
    if wrong:
        raise BooksDiffer(
            f"{where}: the till's facts are not those the entries were built from: {'; '.join(wrong)}",
            next_step="build the day again",
        )


def _vat(rates: pd.DataFrame) -> dict[int, int]:
    return {int(row.vat_rate_bp): int(row.vat_cents) for row in rates.itertuples() if row.vat_cents}


def _methods(facts: Facts) -> tuple[Method, ...]:
    """Methods used or counted that day, by kind (cash first) and id: rows of facts come in any order."""
    paid = facts.payments.assign(method_id=facts.payments["method_id"].astype("str")).groupby("method_id")
    sums, sizes = paid["amount_cents"].sum().to_dict(), paid.size().to_dict()
    counted = facts.closing_counts.assign(method_id=facts.closing_counts["method_id"].astype("str"))
    counts = counted.groupby("method_id")[["expected_cents", "counted_cents"]].sum().to_dict("index")
    names, kinds = _names(facts.payment_methods, "method_id"), _names(facts.payment_methods, "method_id", "kind")
    by_kind = sorted(sums.keys() | counts.keys(), key=lambda one: (METHOD_KINDS.index(kinds.get(one, "other")), one))
    return tuple(
        Method(
            method_id=method,
            name=names.get(method, method),
            kind=kinds.get(method, "other"),
            payments=int(sizes.get(method, 0)),
            amount_cents=int(sums.get(method, 0)),
            **{name: int(cents) for name, cents in counts.get(method, {}).items()},
        )
        for method in by_kind
    )


def _closings(facts: Facts, shop: ShopFile) -> tuple[Closing, ...]:
    table = facts.closings.sort_values(["closed_at", "closing_id"])
    amounts = [field for field in table.columns if field.endswith("_cents")]
    return tuple(
        Closing(
            closing_id=str(row["closing_id"]),
            closed_at=row["closed_at"].to_pydatetime().astimezone(shop.zone),
            **{name: None if pd.isna(row[name]) else int(row[name]) for name in amounts},
        )
        for row in table.to_dict("records")
    )


def _movements(facts: Facts) -> tuple[Movement, ...]:
    moved = facts.cash_movements.assign(kind=facts.cash_movements["kind"].astype("str")).groupby("kind")
    sums, sizes = moved["amount_cents"].sum().to_dict(), moved.size().to_dict()
    return tuple(Movement(kind, int(sizes[kind]), int(sums[kind])) for kind in MOVEMENT_KINDS if kind in sums)


def _names(table: pd.DataFrame, key: str, column: str = "name") -> dict[str, str]:
    return dict(zip(table[key].astype("str"), table[column].astype("str"), strict=True))


def _known(facts: Facts) -> str:
    return ", ".join(sorted(facts.registers["register_id"].astype("str"))) or "none"
