"""Proofs over facts and entries: balance, one side a line, and sums that must agree between till and books.

Each proof returns the rows that fail, so that a caller can show them; an empty frame is a proof. What is compared
with the ledger afterwards is pennylane/ and the marts.
"""

import pandas as pd

from kash_pipeline.schemas.facts import Facts


def unbalanced(entry_lines: pd.DataFrame) -> pd.DataFrame:
    """Entries whose debits are not their credits: `entry_key`, `debit_cents`, `credit_cents`."""
    sums = (
        entry_lines[["entry_key", "debit_cents", "credit_cents"]]
        .groupby("entry_key", observed=True, as_index=False)[["debit_cents", "credit_cents"]]
        .sum()
    )
    return sums[sums["debit_cents"] != sums["credit_cents"]].reset_index(drop=True)


def two_sided(entry_lines: pd.DataFrame) -> pd.DataFrame:
    """Lines with both sides, none, or a negative amount."""
    debit, credit = entry_lines["debit_cents"], entry_lines["credit_cents"]
    good = (debit >= 0) & (credit >= 0) & ((debit > 0) != (credit > 0))
    return entry_lines[~good].reset_index(drop=True)


def not_as_told(entries: pd.DataFrame, entry_lines: pd.DataFrame) -> pd.DataFrame:
    """Entries whose head does not say what its lines hold: count of lines, sums of the sides."""
    lines = entry_lines.astype({"entry_key": "str"}).groupby("entry_key")
    sums = lines[["debit_cents", "credit_cents"]].sum().assign(lines=lines.size())
    told = entries.set_index(entries["entry_key"].astype("str"))[["debit_cents", "credit_cents", "lines"]]
    both = told.join(sums, rsuffix="_of_lines", how="outer")
    wrong = pd.Series(False, index=both.index)
    for name in ("debit_cents", "credit_cents", "lines"):
        wrong |= both[name] != both[f"{name}_of_lines"]
    return both[wrong].reset_index(names="entry_key")


def _differences(till: pd.DataFrame, books: pd.DataFrame, keys: list[str], held: pd.DataFrame) -> pd.DataFrame:
    # Added up, not merged: pandas 3.1 cannot merge two empty frames on text, and months without sales exist.
    sides = pd.concat([till.assign(books_cents=0), books.assign(till_cents=0)], ignore_index=True)
    sides = sides.astype({"register_id": "str", "till_cents": "int64", "books_cents": "int64"})
    both = sides.groupby(keys, as_index=False)[["till_cents", "books_cents"]].sum()
    waiting = set(zip(held["business_day"], held["register_id"].astype("str"), strict=True))
    waits = [key in waiting for key in zip(both["business_day"], both["register_id"], strict=True)]
    return both[(both["till_cents"] != both["books_cents"]) & ~pd.Series(waits, index=both.index, dtype=bool)]


def _signed_lines(entries: pd.DataFrame, entry_lines: pd.DataFrame) -> pd.DataFrame:
    coded = dict.fromkeys(("entry_key", "account", "method_id"), "str")
    heads = entries[["entry_key", "kind", "business_day", "register_id"]]
    lines = entry_lines.astype(coded).merge(heads, on="entry_key")
    return lines.assign(books_cents=lines["debit_cents"] - lines["credit_cents"])


def takings(facts: Facts, entries: pd.DataFrame, entry_lines: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """Money per day, register and method where till and books differ: `till_cents`, `books_cents`.

    The till's side is payments and counted differences; methods on account post nothing and are left out, as are
    held register-days.
    """
    keys = ["business_day", "register_id", "method_id"]
    on_account = facts.payment_methods.loc[facts.payment_methods["kind"] == "on_account", "method_id"].astype("str")
    payments = facts.payments[[*keys, "amount_cents"]].astype({"register_id": "str", "method_id": "str"})
    counts = facts.closing_counts.astype({"closing_id": "str", "method_id": "str"}).merge(
        facts.closings[["closing_id", "business_day", "register_id"]].astype(
            {"closing_id": "str", "register_id": "str"}
        ),
        on="closing_id",
    )
    counts = counts.assign(amount_cents=counts["counted_cents"] - counts["expected_cents"])
    told = pd.concat([payments, counts[[*keys, "amount_cents"]]])
    told = told[~told["method_id"].isin(on_account)]
    till = told.groupby(keys, as_index=False)["amount_cents"].sum().rename(columns={"amount_cents": "till_cents"})
    lines = _signed_lines(entries, entry_lines)
    books = lines[lines["method_id"].notna()].groupby(keys, as_index=False)["books_cents"].sum()
    return _differences(till, books, keys, held)


def sales(facts: Facts, entries: pd.DataFrame, entry_lines: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """Sales per day and register where till and books differ: totals of orders against what stands against them.

    The books' side is every line of a sale entry but R and the customers, with the sign turned.
    """
    keys = ["business_day", "register_id"]
    orders = facts.orders[[*keys, "total_cents"]].astype({"register_id": "str"})
    till = orders.groupby(keys, as_index=False)["total_cents"].sum().rename(columns={"total_cents": "till_cents"})
    lines = _signed_lines(entries, entry_lines)
    debtors = lines["customer_id"].notna() | lines["account"].str.startswith("58")
    lines = lines[(lines["kind"] == "sale") & ~debtors]
    books = lines.groupby(keys, as_index=False)["books_cents"].sum()
    return _differences(till, books.assign(books_cents=-books["books_cents"]), keys, held)
