"""What a chart uses each account for, with the French label of an account made for it.

Only roles and labels belong here. Which account an amount goes to is chart.py's, whether an account fits its role
reference/mapping.py's, making one that a company lacks pennylane/reference.py's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from kash_pipeline.accounting.chart import french_rate
from kash_pipeline.settings import ChartPeriod, rate_to_bp

Role = Literal[
    "sales", "vat", "cash", "card", "method", "customers", "clearing", "loss", "gain", "liability", "tips", "movement"
]

METHOD_WORDS = {
    "cash": "espèces",
    "card": "carte bancaire",
    "cheque": "chèques",
    "transfer": "virements",
    "meal_voucher": "titres-restaurant",
    "holiday_voucher": "chèques-vacances",
    "gift_voucher": "chèques-cadeaux",
    "credit_note": "avoirs",
    "loyalty": "fidélité",
    "on_account": "en compte",
    "other": "autres",
}
MOVEMENT_WORDS = {
    "withdrawal": "retraits",
    "deposit": "apports",
    "expense": "dépenses",
    "float": "fonds de caisse",
}


@dataclass(frozen=True)
class Use:
    """One use of an account: its role, number, label, and its VAT rate in basis points where it is of one rate."""

    role: Role
    number: str
    label: str
    rate_bp: int | None = None


def sales_label(rate_bp: int) -> str:
    return f"Ventes TVA {french_rate(rate_bp)}"


def vat_label(rate_bp: int) -> str:
    return f"TVA collectée {french_rate(rate_bp)}"


def method_label(kind: str) -> str:
    return f"Encaissements {METHOD_WORDS.get(kind, kind)}"


def method_role(kind: str) -> Role:
    return "cash" if kind == "cash" else "card" if kind == "card" else "method"


# Keys of a [[chart]] that name one account each.
SINGLE: Sequence[tuple[str, Role, str]] = (
    ("takings_to_come", "clearing", "Commandes de caisse à encaisser"),
    ("takings_paid", "clearing", "Encaissements de caisse à rapprocher"),
    ("cash_short", "loss", "Écarts de caisse négatifs"),
    ("cash_over", "gain", "Écarts de caisse positifs"),
    ("vouchers", "liability", "Bons et cartes cadeaux à honorer"),
    ("deposits", "liability", "Acomptes reçus"),
    ("tips", "tips", "Pourboires à reverser"),
    ("customers", "customers", "Clients"),
)


def uses(period: ChartPeriod) -> Iterator[Use]:
    """Every account that a chart names, once for each use; the first use of a number gives its label."""
    for key, role, label in SINGLE:
        yield Use(role, getattr(period, key), label)
    for rate, number in period.sales.items():
        rate_bp = _bp(rate)
        yield Use("sales", number, "Ventes" if rate_bp is None else sales_label(rate_bp), rate_bp)
    for department, rates in period.sales_by_department.items():
        for rate, number in rates.items():
            yield Use("sales", number, f"Ventes {department}", _bp(rate))
    for rate, number in period.vat.items():
        rate_bp = _bp(rate)
        yield Use("vat", number, "TVA collectée" if rate_bp is None else vat_label(rate_bp), rate_bp)
    for kind, number in period.methods.items():
        yield Use(method_role(kind), number, method_label(kind))
    for method, number in period.methods_by_id.items():
        yield Use("method", number, f"Encaissements, moyen {method}")
    for kind, number in period.cash_movements.items():
        yield Use("movement", number, f"Mouvements de caisse ({MOVEMENT_WORDS.get(kind, kind)})")
    yield Use("loss", period.rounding.loss, "Écarts d'arrondi négatifs")
    yield Use("gain", period.rounding.gain, "Écarts d'arrondi positifs")


def _bp(rate: str) -> int | None:
    return None if rate == "default" else rate_to_bp(rate)
