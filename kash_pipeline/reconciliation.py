"""Till, entries and ledger side by side: the sums that must agree, from three independent readings.

Only comparison of frames belongs here: no reading of lake, database or PennyLane (cli/run.py does), no rule
about accounts (accounting/). Amounts are cents; sales are counted positive, money received is counted positive.

The ledger's frame has one row per line as PennyLane gives it back: `entry_key` (by the publication ledger's remote
id), `account`, `debit_cents`, `credit_cents`.
"""

import pandas as pd

SALE_KINDS = ("sale", "z")
PAYMENT_KINDS = ("payment", "z")


def tells_vat(order_lines: pd.DataFrame, order_vat: pd.DataFrame) -> bool:
    """False for a till that sends sales without any VAT: it is computed, and there is nothing to compare it with."""
    return len(order_lines) == 0 or len(order_vat) > 0 or bool(order_lines["vat_cents"].notna().any())


def till_by_rate(orders: pd.DataFrame, order_lines: pd.DataFrame, order_vat: pd.DataFrame) -> pd.DataFrame:
    """Net, VAT and gross per VAT rate as the till sent them.

    From the till's own VAT tables; without them from the lines that carry VAT. A till that sends neither has nothing
    to compare with and gives an empty frame. Columns: vat_rate_bp, net_cents, vat_cents, gross_cents.
    """
    if len(order_vat):
        known = order_vat[order_vat["order_id"].isin(orders["order_id"])]
        sums = known.groupby("vat_rate_bp")[["net_cents", "vat_cents"]].sum().reset_index()
    else:
        sales = order_lines[order_lines["vat_cents"].notna() & order_lines["nature"].isin(["sale", "voucher_single"])]
        sums = sales.groupby("vat_rate_bp")[["total_cents", "vat_cents"]].sum().reset_index()
        sums["net_cents"] = sums.pop("total_cents") - sums["vat_cents"]
    sums = sums.astype({"net_cents": "int64", "vat_cents": "int64"})
    sums["gross_cents"] = sums["net_cents"] + sums["vat_cents"]
    return sums[sums[["net_cents", "vat_cents"]].any(axis=1)].reset_index(drop=True)


def _signed(lines: pd.DataFrame, kinds: pd.Series, wanted: tuple[str, ...]) -> pd.DataFrame:
    """Lines of entries of the wanted kinds with `amount_cents` = credit - debit."""
    mine = lines[lines["entry_key"].map(kinds).isin(wanted)].copy()
    mine["amount_cents"] = mine["credit_cents"] - mine["debit_cents"]
    return mine


def _by_rate(mine: pd.DataFrame) -> pd.DataFrame:
    is_vat = mine["account"].astype(str).str.startswith("445")
    out = pd.DataFrame(
        {
            "net_cents": mine[~is_vat].groupby("vat_rate_bp")["amount_cents"].sum(),
            "vat_cents": mine[is_vat].groupby("vat_rate_bp")["amount_cents"].sum(),
        }
    )
    return out.fillna(0).astype("int64").rename_axis("vat_rate_bp").reset_index()


def entries_by_rate(entries: pd.DataFrame, entry_lines: pd.DataFrame) -> pd.DataFrame:
    """Net and VAT per rate as the entries book them. Columns: vat_rate_bp, net_cents, vat_cents."""
    kinds = entries.set_index("entry_key")["kind"].astype(str)
    mine = _signed(entry_lines, kinds, SALE_KINDS)
    return _by_rate(mine[mine["vat_rate_bp"].notna()])


def ledger_by_rate(entries: pd.DataFrame, entry_lines: pd.DataFrame, ledger_lines: pd.DataFrame) -> pd.DataFrame:
    """Net and VAT per rate as the ledger holds them.

    PennyLane's lines carry no rate (pennylane-api.md section 12, trap 12): the account tells it. Accounts that
    serve two rates are left out, since nothing in the ledger separates them.
    Columns: vat_rate_bp, net_cents, vat_cents.
    """
    rates = entry_lines[entry_lines["vat_rate_bp"].notna()][["account", "vat_rate_bp"]].drop_duplicates()
    rates = rates[~rates["account"].duplicated(keep=False)].set_index("account")["vat_rate_bp"]
    kinds = entries.set_index("entry_key")["kind"].astype(str)
    mine = _signed(ledger_lines, kinds, SALE_KINDS)
    mine["vat_rate_bp"] = mine["account"].map(rates)
    return _by_rate(mine[mine["vat_rate_bp"].notna()])


def side_by_side(
    till: pd.DataFrame | None, entries: pd.DataFrame, ledger: pd.DataFrame | None, key: str
) -> pd.DataFrame:
    """One row per `key` with the columns of each reading prefixed till_, entries_, ledger_, and `agree`.

    None: there is no such reading, so nothing that could differ from it.
    """
    given = {"till": till, "entries": entries, "ledger": ledger}
    readings = {name: frame for name, frame in given.items() if frame is not None}
    out: pd.DataFrame | None = None
    for name, frame in readings.items():
        part = frame.set_index(key).add_prefix(f"{name}_")
        out = part if out is None else out.join(part, how="outer")
    assert out is not None  # noqa: S101 there are always the entries
    out = out.fillna(0).astype("int64")
    agree = pd.Series(True, index=out.index)
    for column in entries.columns.drop(key):
        values = [out[f"{name}_{column}"] for name in readings]
        for other in values[1:]:
            agree &= values[0] == other
    out["agree"] = agree
    return out.reset_index()


def till_by_method(payments: pd.DataFrame, payment_methods: pd.DataFrame) -> pd.DataFrame:
    """Takings per method as the till has them, methods that post nothing left out. Columns: method_id, amount_cents."""
    return _sums_by_method(payments[~_silent(payments, payment_methods)])


def on_account(payments: pd.DataFrame, payment_methods: pd.DataFrame) -> pd.DataFrame:
    """Amounts of the methods that post nothing, per method: method_id, amount_cents."""
    return _sums_by_method(payments[_silent(payments, payment_methods)])


def _silent(payments: pd.DataFrame, payment_methods: pd.DataFrame) -> pd.Series:
    methods = payment_methods[payment_methods["kind"].astype(str) == "on_account"]["method_id"].astype(str)
    return payments["method_id"].astype(str).isin(methods)


def _sums_by_method(payments: pd.DataFrame) -> pd.DataFrame:
    sums = payments.assign(method_id=payments["method_id"].astype(str)).groupby("method_id")["amount_cents"].sum()
    return sums[sums != 0].reset_index()


def entries_by_method(entries: pd.DataFrame, entry_lines: pd.DataFrame) -> pd.DataFrame:
    """Takings per method as the payment entries book them. Columns: method_id, amount_cents."""
    kinds = entries.set_index("entry_key")["kind"].astype(str)
    mine = _signed(entry_lines, kinds, PAYMENT_KINDS)
    mine = mine[mine["method_id"].notna()]
    sums = -mine.assign(method_id=mine["method_id"].astype(str)).groupby("method_id")["amount_cents"].sum()
    return sums[sums != 0].reset_index()


def ledger_by_method(entries: pd.DataFrame, entry_lines: pd.DataFrame, ledger_lines: pd.DataFrame) -> pd.DataFrame:
    """Takings per method as the ledger holds them, by the method's account; see `ledger_by_rate`."""
    kinds = entries.set_index("entry_key")["kind"].astype(str)
    booked = entry_lines[entry_lines["entry_key"].map(kinds).isin(PAYMENT_KINDS) & entry_lines["method_id"].notna()]
    methods = booked[["account", "method_id"]].astype(str).drop_duplicates()
    methods = methods[~methods["account"].duplicated(keep=False)].set_index("account")["method_id"]
    mine = _signed(ledger_lines, kinds, PAYMENT_KINDS)
    mine["method_id"] = mine["account"].map(methods)
    sums = -mine[mine["method_id"].notna()].groupby("method_id")["amount_cents"].sum()
    return sums[sums != 0].reset_index()
