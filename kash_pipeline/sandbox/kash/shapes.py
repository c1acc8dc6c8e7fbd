"""The form of the answers of our Kash.click stand-in: OUR GUESS, not Kash.click's word.

Kash.click documents how to ask and not one field of what comes back (kash_api/mapping.py is the same guess, read from
the other side). Names are taken from its documentation where it has one: the order webhook (orderID, orderInternalID,
creationDate, validationDate, valueDate, price, clientID, cashBoxID, deliveryMethod, items, VATs, VAT, isRefund), the
scripts that write reference data (title, deptID, deptGroupID, vatID, activityCode, accountingChapter, surname, name,
VATnum), and the payment-method types of the publisher's own client. Everything else is invented. Amounts, rates and
quantities are decimal texts, dates ISO 8601 in UTC. Only form belongs here; what is asked for and refused is in app.py.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from kash_pipeline.sandbox.datasets import Dataset
from kash_pipeline.settings import bp_to_rate

PAYMENT_TYPES = {
    "cash": "Cash",
    "card": "Credit_Card",
    "cheque": "Check",
    "transfer": "Bank_Transfer",
    "meal_voucher": "Meal_Voucher",
    "holiday_voucher": "Holiday_Voucher",
    # The publisher's list ends here; the following are invented.
    "gift_voucher": "Gift_Voucher",
    "credit_note": "Credit_Note",
    "loyalty": "Loyalty_Points",
    "on_account": "On_Account",
    "other": "Other",
}
COUNTER_SALE = 4
"""Delivery method of every order served here (0 takeaway, 1 delivery, ... 4 counter sale: documented)."""

Record = dict[str, Any]


def euros(cents: int) -> str:
    """1250 to "12.50"."""
    sign = "-" if cents < 0 else ""
    whole, rest = divmod(abs(int(cents)), 100)
    return f"{sign}{whole}.{rest:02d}"


def thousandths(milli: int) -> str:
    """1500 to "1.500"."""
    sign = "-" if milli < 0 else ""
    whole, rest = divmod(abs(int(milli)), 1000)
    return f"{sign}{whole}.{rest:03d}"


def moments(values: pd.Series) -> list[str | None]:
    """UTC instants as `2026-03-01T06:12:00Z`; seconds are the grain of a till."""
    return _plain(values.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _plain(values: pd.Series) -> list[Any]:
    plain: list[Any] = values.astype(object).where(values.notna(), None).tolist()
    return plain


def optional_euros(cents: int | None) -> str | None:
    return None if cents is None else euros(cents)


class OrderBook:
    """The orders of a data set, cut out by position: built once, serialised a window at a time.

    Orders stand in the order of their value date, so that a window is a slice; a year of 540,000 lines is never held as
    Python objects at once.
    """

    def __init__(self, dataset: Dataset) -> None:
        facts = dataset.facts
        self.orders = facts.orders.sort_values(["validated_at", "order_id"], ignore_index=True)
        self.at = self.orders["validated_at"].dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        self.position = pd.Series(self.orders.index, index=self.orders["order_id"])
        self.lines, self._line_start = self._by_order(facts.order_lines, "line_no")
        self.vat, self._vat_start = self._by_order(facts.order_vat, "vat_rate_bp")
        self.payments, self._payment_start = self._by_order(
            facts.payments[facts.payments["order_id"].notna()], "payment_id"
        )

    def _by_order(self, frame: pd.DataFrame, then: str) -> tuple[pd.DataFrame, Any]:
        at = frame["order_id"].map(self.position).to_numpy()
        order = np.lexsort((frame[then].to_numpy(), at))
        starts = np.searchsorted(at[order], np.arange(len(self.orders) + 1))
        return frame.iloc[order].reset_index(drop=True), starts

    def window(self, first: np.datetime64, last: np.datetime64) -> tuple[int, int]:
        """Positions of the orders whose value date lies in first..last, both included."""
        return int(np.searchsorted(self.at, first, "left")), int(np.searchsorted(self.at, last, "right"))

    def records(self, begin: int, end: int) -> Iterator[Record]:
        """The orders of these positions, whole: lines, VAT as the till computed it, payments of whatever day."""
        items, vats, payments = self._items(begin, end), self._vats(begin, end), self._payments(begin, end)
        part = self.orders.iloc[begin:end]
        dates = moments(part["validated_at"])
        columns = (
            part["order_id"],
            part["number"],
            part["total_cents"],
            part["customer_id"],
            part["register_id"],
            part["refund_of"],
        )
        for at, (order_id, number, total, customer, register, refund_of) in enumerate(
            zip(*map(_plain, columns), strict=True)
        ):
            nth = begin + at
            lines = items[
                self._line_start[nth] - self._line_start[begin] : self._line_start[nth + 1] - self._line_start[begin]
            ]
            rates = vats[
                self._vat_start[nth] - self._vat_start[begin] : self._vat_start[nth + 1] - self._vat_start[begin]
            ]
            paid = payments[
                self._payment_start[nth] - self._payment_start[begin] : self._payment_start[nth + 1]
                - self._payment_start[begin]
            ]
            yield {
                "orderInternalID": order_id,
                "orderID": number,
                "creationDate": dates[at],
                "validationDate": dates[at],
                "valueDate": dates[at],
                "price": euros(total),
                "clientID": customer,
                "cashBoxID": register,
                "deliveryMethod": COUNTER_SALE,
                "isRefund": total < 0,
                "refundOf": refund_of,
                "VAT": euros(sum(cents for cents, _ in rates)),
                "VATs": [record for _, record in rates],
                "items": lines,
                "payments": paid,
            }

    def _items(self, begin: int, end: int) -> list[Record]:
        part = self.lines.iloc[self._line_start[begin] : self._line_start[end]]
        rate = {bp: bp_to_rate(bp) for bp in part["vat_rate_bp"].unique().tolist()}
        columns = (
            "line_no",
            "item_id",
            "label",
            "quantity_milli",
            "total_cents",
            "discount_cents",
            "department_id",
            "vat_rate_bp",
            "vat_cents",
            "nature",
        )
        return [
            {
                "line": line_no,
                "id": item_id,
                "title": label,
                "quantity": thousandths(quantity),
                "price": euros(total),
                "discount": optional_euros(discount),
                "deptID": department,
                "VATrate": rate[bp],
                "VAT": optional_euros(vat),
                "nature": nature,
            }
            for line_no, item_id, label, quantity, total, discount, department, bp, vat, nature in zip(
                *(_plain(part[name]) for name in columns), strict=True
            )
        ]

    def _vats(self, begin: int, end: int) -> list[tuple[int, Record]]:
        part = self.vat.iloc[self._vat_start[begin] : self._vat_start[end]]
        return [
            (vat, {"rate": bp_to_rate(bp), "net": euros(net), "amount": euros(vat)})
            for bp, net, vat in zip(
                part["vat_rate_bp"].tolist(), part["net_cents"].tolist(), part["vat_cents"].tolist(), strict=True
            )
        ]

    def _payments(self, begin: int, end: int) -> list[Record]:
        part = self.payments.iloc[self._payment_start[begin] : self._payment_start[end]]
        return [
            {
                "id": payment,
                "date": date,
                "cashBoxID": register,
                "paymentModeID": method,
                "amount": euros(amount),
                "clientID": customer,
            }
            for payment, date, register, method, amount, customer in zip(
                _plain(part["payment_id"]),
                moments(part["paid_at"]),
                _plain(part["register_id"]),
                _plain(part["method_id"]),
                part["amount_cents"].tolist(),
                _plain(part["customer_id"]),
                strict=True,
            )
        ]


def reference(dataset: Dataset) -> dict[str, list[Record]]:
    """The reference lists by script name."""
    facts = dataset.facts
    vat_ids = {bp: str(at + 1) for at, bp in enumerate(facts.vat_rates["vat_rate_bp"].tolist())}
    return {
        "getPaymentModes.php": [
            {
                "id": row["method_id"],
                "title": row["name"],
                "type": PAYMENT_TYPES[row["kind"]],
                "accountingChapter": row["chapter"],
            }
            for row in rows(facts.payment_methods)
        ],
        "getCashbox.php": [
            {"id": row["register_id"], "name": row["name"], "state": "open", "accountingChapter": row["chapter"]}
            for row in rows(facts.registers)
        ],
        "getVATs.php": [
            {
                "id": vat_ids[row["vat_rate_bp"]],
                "title": row["name"],
                "rate": bp_to_rate(row["vat_rate_bp"]),
                "accountingChapter": row["chapter"],
            }
            for row in rows(facts.vat_rates)
        ],
        "getDepartments.php": [
            {
                "id": row["department_id"],
                "title": row["name"],
                "deptGroupID": row["group_id"],
                "activityCode": row["activity_code"],
            }
            for row in rows(facts.departments)
        ],
        "getDepartmentGroups.php": [
            {"id": row["group_id"], "title": row["name"], "accountingChapter": row["chapter"]}
            for row in rows(facts.department_groups)
        ],
        "getClients.php": [
            {
                "id": row["customer_id"],
                "company": row["name"] if row["kind"] == "company" else None,
                "surname": row["first_name"],
                "name": row["last_name"],
                "email": row["email"],
                "address": row["address"],
                "postalCode": row["postal_code"],
                "city": row["city"],
                "country": row["country"],
                "VATnum": row["vat_number"],
                "registrationNumber": row["registration_number"],
                "activityCode": row["activity_code"],
            }
            for row in rows(facts.customers)
        ],
        "getPlus.php": [
            {
                "id": row["item_id"],
                "title": row["title"],
                "price": euros(row["price_cents"]),
                "deptID": row["department_id"],
                "vatID": vat_ids[row["vat_rate_bp"]],
            }
            for row in rows(dataset.items)
        ],
        "getUsers.php": [
            {"id": row["user_id"], "name": row["name"], "role": row["role"]} for row in rows(dataset.users)
        ],
    }


def rows(frame: pd.DataFrame) -> list[Record]:
    """Rows as dicts, null as None."""
    columns = [_plain(frame[name]) for name in frame.columns]
    return [dict(zip(frame.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def closings(dataset: Dataset, first: pd.Timestamp, last: pd.Timestamp) -> Record:
    """Closings closed in first..last with their counts, and cash movements of that time.

    Kash.click documents no call that reads closings; this is the sandbox's own.
    """
    facts = dataset.facts
    z = facts.closings[facts.closings["closed_at"].between(first, last)]
    counts: dict[str, list[Record]] = {}
    for row in rows(facts.closing_counts[facts.closing_counts["closing_id"].isin(z["closing_id"])]):
        counts.setdefault(row["closing_id"], []).append(
            {
                "paymentModeID": row["method_id"],
                "expected": euros(row["expected_cents"]),
                "counted": euros(row["counted_cents"]),
            }
        )
    moved = facts.cash_movements[facts.cash_movements["moved_at"].between(first, last)]
    return {
        "closings": [
            {
                "id": row["closing_id"],
                "cashBoxID": row["register_id"],
                "opened": opened,
                "closed": closed,
                "openingFloat": optional_euros(row["opening_float_cents"]),
                "closingFloat": optional_euros(row["closing_float_cents"]),
                "Total": optional_euros(row["total_cents"]),
                "perpetualTotal": optional_euros(row["perpetual_total_cents"]),
                "counts": counts.get(row["closing_id"], []),
            }
            for row, opened, closed in zip(rows(z), moments(z["opened_at"]), moments(z["closed_at"]), strict=True)
        ],
        "cashMovements": [
            {
                "id": row["movement_id"],
                "cashBoxID": row["register_id"],
                "date": date,
                "type": row["kind"],
                "amount": euros(row["amount_cents"]),
                "label": row["label"],
            }
            for row, date in zip(rows(moved), moments(moved["moved_at"]), strict=True)
        ],
    }
