"""What a stretch of days came to, read back from lake, warehouse and PennyLane, and printed as tables.

Only reading and printing belongs here; the comparison is reconciliation.py, the work is defs/runs.py.
"""

from dataclasses import dataclass
from datetime import date

import pandas as pd
import sqlalchemy as sa
from rich import box
from rich.console import Console
from rich.table import Table

from kash_pipeline import reconciliation
from kash_pipeline.pennylane.client import EntryLine, PennylaneClient
from kash_pipeline.settings import ShopFile, bp_to_rate
from kash_pipeline.warehouse.lake import Lake
from kash_pipeline.warehouse.ledger import PublicationLedger
from kash_pipeline.warehouse.windows import read_days, sql_frame

NARROW = "\u202f"
"""Between thousands: a narrow space that no table breaks at."""

LIST_DAYS_UP_TO = 62
"""A longer stretch is shown by month: a year of days scrolls away what matters."""

DAY_COLUMNS = (
    "orders",
    "order_lines",
    "entries",
    "posted",
    "waiting",
    "refused",
    "held",
    "differences",
    "difference_cents",
)
HEADINGS = {"order_lines": "lines", "difference_cents": "till differences"}


@dataclass(frozen=True)
class Summary:
    """`days`: one row per business day with DAY_COLUMNS (counts, and cents); `rates`, `methods`: see reconciliation.

    `on_account`: method_id, amount_cents of the methods that post nothing: the sale stays on the customer's account.
    """

    days: pd.DataFrame
    rates: pd.DataFrame
    methods: pd.DataFrame
    method_names: dict[str, str]
    on_account: pd.DataFrame
    held: pd.DataFrame

    @property
    def agrees(self) -> bool:
        return bool(self.rates["agree"].all() and self.methods["agree"].all())


def read_summary(
    shop: ShopFile, engine: sa.Engine, lake: Lake, client: PennylaneClient | None, first: date, last: date
) -> Summary:
    """Read everything that `first..last` left behind. With `client`, the ledger's lines are asked of PennyLane."""
    facts = lake.read_facts(first, last, categories=True, missing="skip")
    shop_id = shop.shop.id
    with engine.connect() as connection:
        entries = read_days(connection, "entries", shop_id, first, last)
        lines = read_days(connection, "entry_lines", shop_id, first, last)
        held = read_days(connection, "held", shop_id, first, last)
        differences = sql_frame(
            connection,
            "select l.business_day, count(*) as differences, sum(l.credit_cents - l.debit_cents) as difference_cents"
            " from kash.entry_lines l join kash.entries e using (shop_id, entry_key)"
            " where l.shop_id = :shop and l.business_day between :first and :last and e.kind in ('closing', 'z')"
            " and (l.account like '658%' or l.account like '758%') group by 1",
            shop=shop_id,
            first=first,
            last=last,
        )
    ledger = PublicationLedger(engine, shop_id)
    ledger_lines = None
    if client is not None and shop.pennylane is not None:
        ledger_lines = _ledger_lines(client, ledger, first, last)
    orders = _not_held(facts.orders, held)
    return Summary(
        days=_days(facts.orders, facts.order_lines, entries, ledger.status_by_day(first, last), held, differences),
        rates=reconciliation.side_by_side(
            reconciliation.till_by_rate(
                orders,
                facts.order_lines[facts.order_lines["order_id"].isin(orders["order_id"])],
                facts.order_vat,
            ).drop(columns="gross_cents")
            if reconciliation.tells_vat(facts.order_lines, facts.order_vat)
            else None,
            reconciliation.entries_by_rate(entries, lines),
            None if ledger_lines is None else reconciliation.ledger_by_rate(entries, lines, ledger_lines),
            "vat_rate_bp",
        ),
        methods=reconciliation.side_by_side(
            reconciliation.till_by_method(_not_held(facts.payments, held), facts.payment_methods),
            reconciliation.entries_by_method(entries, lines),
            None if ledger_lines is None else reconciliation.ledger_by_method(entries, lines, ledger_lines),
            "method_id",
        ),
        on_account=reconciliation.on_account(facts.payments, facts.payment_methods),
        method_names={str(row.method_id): str(row.name) for row in facts.payment_methods.itertuples(index=False)},
        held=held,
    )


def _not_held(frame: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """Rows of register-days that are not held: what the entries can agree with."""
    waiting = set(zip(held["business_day"], held["register_id"].astype(str), strict=True))
    keys = zip(frame["business_day"], frame["register_id"].astype(str), strict=True)
    return frame[[key not in waiting for key in keys]] if waiting else frame


def _ledger_lines(client: PennylaneClient, ledger: PublicationLedger, first: date, last: date) -> pd.DataFrame:
    """PennyLane's lines of the entries of these days: entry_key, account, debit_cents, credit_cents."""
    sent = [row for row in ledger.rows(first, last) if row.remote_id is not None]
    keys = {row.remote_id: row.base_key for row in sent}
    codes = {row.journal for row in sent}
    journals = [journal.id for journal in client.journals() if journal.code in codes]
    found: list[EntryLine] = []
    if sent and journals:
        days = [row.date for row in sent]
        lines = client.ledger_entry_lines(journals, min(days), max(days))
        found = [line for line in lines if line.entry_id in keys]
    return pd.DataFrame(
        {
            "entry_key": [keys[line.entry_id] for line in found],
            "account": [line.account for line in found],
            "debit_cents": pd.Series([int(line.debit * 100) for line in found], dtype="int64"),
            "credit_cents": pd.Series([int(line.credit * 100) for line in found], dtype="int64"),
        }
    )


def _days(
    orders: pd.DataFrame,
    order_lines: pd.DataFrame,
    entries: pd.DataFrame,
    status: pd.DataFrame,
    held: pd.DataFrame,
    differences: pd.DataFrame,
) -> pd.DataFrame:
    states = status.pivot_table(index="business_day", columns="state", values="entries", aggfunc="sum").fillna(0)

    def state(*names: str) -> pd.Series:
        return sum((states[name] for name in names if name in states), start=pd.Series(0, index=states.index))

    columns: dict[str, pd.Series] = {
        "orders": orders.groupby("business_day", observed=True).size(),
        "order_lines": _per_day(order_lines, orders, "order_id"),
        "entries": entries.groupby("business_day").size(),
        "posted": state("sent", "verified"),
        "waiting": state("ready", "sending", "held"),
        "refused": state("refused"),
        "held": held.drop_duplicates(["business_day", "register_id"]).groupby("business_day").size(),
        "differences": differences.set_index("business_day")["differences"],
        "difference_cents": differences.set_index("business_day")["difference_cents"],
    }
    frame = pd.DataFrame({name: values.astype("Int64") for name, values in columns.items()})
    return frame.fillna(0).astype("int64").sort_index()


def _per_day(rows: pd.DataFrame, heads: pd.DataFrame, key: str) -> pd.Series:
    """Number of `rows` per business day of the head (order, entry) they belong to."""
    # Plain text on both sides: categories of two files differ, and an empty frame has none.
    days = heads[["business_day"]].assign(key=heads[key].astype(str))
    return rows[[]].assign(key=rows[key].astype(str)).merge(days, on="key").groupby("business_day").size()


def euros(cents: int) -> str:
    """`-1234567` as `-12 345.67`: thousands apart, for reading."""
    sign = "-" if cents < 0 else ""
    whole, rest = divmod(abs(int(cents)), 100)
    return f"{sign}{whole:,}.{rest:02d}".replace(",", NARROW)


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")


def print_days(console: Console, summary: Summary) -> None:
    """Orders, entries, posted, held and differences, per business day (per month when there are many days)."""
    frame = summary.days
    by_month = len(frame) > LIST_DAYS_UP_TO
    if by_month:
        frame = frame.groupby(frame.index.strftime("%Y-%m")).sum()
    table = _table(f"{'Months' if by_month else 'Business days'}: {len(frame)}")
    table.add_column("month" if by_month else "business day", no_wrap=True)
    for name in DAY_COLUMNS:
        table.add_column(HEADINGS.get(name, name), justify="right", no_wrap=True)
    for index, row in frame.iterrows():
        label = index if by_month else f"{index:%Y-%m-%d}"
        table.add_row(str(label), *_cells(row))
    table.add_section()
    table.add_row("all", *_cells(frame.sum()), style="bold")
    console.print(table)


def _cells(row: pd.Series) -> list[str]:
    return [
        euros(row[name]) if name.endswith("_cents") else f"{int(row[name]):,}".replace(",", NARROW)
        for name in DAY_COLUMNS
    ]


def print_sums(console: Console, summary: Summary) -> None:
    """Sums per VAT rate and per method from till, entries and ledger side by side, with a mark where they differ."""
    readings = [name for name in ("till", "entries", "ledger") if f"{name}_net_cents" in summary.rates]
    table = _table("Sums per VAT rate")
    table.add_column("rate", no_wrap=True)
    table.add_column("", no_wrap=True)
    for reading in readings:
        table.add_column(reading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in summary.rates.to_dict("records"):
        sums = [(row[f"{reading}_net_cents"], row[f"{reading}_vat_cents"]) for reading in readings]
        rate = f"{bp_to_rate(row['vat_rate_bp'])} %"
        table.add_row(rate, "gross", *(euros(net + vat) for net, vat in sums), _mark(row["agree"]))
        table.add_row("", "net", *(euros(net) for net, _ in sums))
        table.add_row("", "VAT", *(euros(vat) for _, vat in sums), end_section=True)
    console.print(table)
    table = _table("Takings per payment method")
    table.add_column("method")
    readings = [name for name in ("till", "entries", "ledger") if f"{name}_amount_cents" in summary.methods]
    for reading in readings:
        table.add_column(reading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in summary.methods.to_dict("records"):
        name = summary.method_names.get(str(row["method_id"]), str(row["method_id"]))
        table.add_row(name, *(euros(row[f"{reading}_amount_cents"]) for reading in readings), _mark(row["agree"]))
    for row in summary.on_account.to_dict("records"):
        name = summary.method_names.get(str(row["method_id"]), str(row["method_id"]))
        table.add_row(name, euros(row["amount_cents"]), *["on account"] * (len(readings) - 1), "posts nothing")
    console.print(table)


def _mark(agree: bool) -> str:
    return "[green]equal[/green]" if agree else "[red]DIFFERENT[/red]"
