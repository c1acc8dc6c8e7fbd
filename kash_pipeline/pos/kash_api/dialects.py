"""How a Kash.click account may write its answers: field names, nesting, amounts, dates. UNCONFIRMED, like mapping.py.

Only names and notations belong here; which fields there are and what they mean is mapping.py. A real account that
answers in none of these ways gets a dialect of its own: a table of the names that differ from mapping.py's.
`kash-pipeline kash probe` tries all of them and names the one that fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kash_pipeline.pos.errors import SourceChanged


@dataclass(frozen=True)
class Dialect:
    """One way of writing the answers.

    names      by kind of record (`Shape.what`): mapping.py's field name -> this dialect's; `dates.value` is field
               `value` of an object `dates`
    envelopes  by script: the field of an object that holds the list; a script not named answers with the list itself
    headings   headings of the daily report's tables, mapping.py's -> this dialect's
    decimal    the decimal mark of amounts, rates and quantities
    numbers    amounts may be JSON numbers; they are read digit by digit, never as binary floats
    """

    name: str
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    envelopes: Mapping[str, str] = field(default_factory=dict)
    headings: Mapping[str, str] = field(default_factory=dict)
    decimal: str = "."
    numbers: bool = False

    def path(self, what: str, name: str) -> str:
        return self.names.get(what, {}).get(name, name)

    def unwrap(self, call: str, body: Any) -> Any:
        """The list (or object) of an answer. Raises SourceChanged when its envelope is not there."""
        envelope = self.envelopes.get(call)
        if envelope is None:
            return body
        if not isinstance(body, dict) or envelope not in body:
            raise SourceChanged(
                f"{call}: an object with the field {envelope!r} was expected (dialect {self.name!r})",
                next_step="run kash-pipeline kash probe, which names the dialect for [source]",
            )
        return body[envelope]


ENGLISH = Dialect("english")

FRENCH = Dialect(
    "french",
    decimal=",",
    names={
        "order": {
            "orderInternalID": "idInterne",
            "orderID": "numero",
            "creationDate": "dateCreation",
            "validationDate": "dateValidation",
            "valueDate": "dateValeur",
            "price": "total",
            "paid": "montantPaye",
            "clientID": "idClient",
            "cashBoxID": "idCaisse",
            "deliveryMethod": "modeLivraison",
            "isRefund": "estRemboursement",
            "refundOf": "rembourse",
            "VAT": "montantTVA",
            "VATs": "TVAs",
            "items": "articles",
            "payments": "paiements",
        },
        "items": {
            "line": "ligne",
            "title": "titre",
            "quantity": "quantite",
            "price": "prix",
            "discount": "remise",
            "deptID": "idRayon",
            "VATrate": "tauxTVA",
            "VAT": "montantTVA",
        },
        "VATs": {"rate": "taux", "net": "HT", "amount": "montant"},
        "payments": {
            "cashBoxID": "idCaisse",
            "paymentModeID": "idModePaiement",
            "amount": "montant",
            "clientID": "idClient",
        },
        "payment method": {"title": "titre", "accountingChapter": "chapitreComptable"},
        "register": {"name": "nom", "state": "etat", "accountingChapter": "chapitreComptable"},
        "VAT rate": {"title": "titre", "rate": "taux", "accountingChapter": "chapitreComptable"},
        "department": {"title": "titre", "deptGroupID": "idGroupe", "activityCode": "codeActivite"},
        "department group": {"title": "titre", "accountingChapter": "chapitreComptable"},
        "customer": {
            "company": "societe",
            "surname": "prenom",
            "name": "nom",
            "address": "adresse",
            "postalCode": "codepostal",
            "city": "ville",
            "country": "pays",
            "VATnum": "numtva",
            "registrationNumber": "rcs",
            "activityCode": "codeActivite",
        },
        "closing": {
            "cashBoxID": "idCaisse",
            "opened": "ouverture",
            "closed": "fermeture",
            "openingFloat": "fondOuverture",
            "closingFloat": "fondFermeture",
            "Total": "total",
            "perpetualTotal": "totalPerpetuel",
            "counts": "comptages",
        },
        "counts": {"paymentModeID": "idModePaiement", "expected": "attendu", "counted": "compte"},
        "cashMovements": {"cashBoxID": "idCaisse", "amount": "montant", "label": "libelle"},
    },
    headings={
        "orders": "commandes",
        "total": "TTC",
        "rate": "taux",
        "net": "HT",
        "VAT": "TVA",
        "method": "mode",
        "amount": "montant",
    },
)

NESTED = Dialect(
    "nested",
    numbers=True,
    envelopes={
        "getOrders.php": "orders",
        "getOrder.php": "order",
        **dict.fromkeys(
            (
                "getPaymentModes.php",
                "getCashbox.php",
                "getVATs.php",
                "getDepartments.php",
                "getDepartmentGroups.php",
                "getClients.php",
            ),
            "data",
        ),
    },
    names={
        "order": {
            "orderInternalID": "id",
            "orderID": "number",
            "creationDate": "dates.created",
            "validationDate": "dates.validated",
            "valueDate": "dates.value",
            "price": "amounts.total",
            "paid": "amounts.paid",
            "VAT": "amounts.vat",
            "VATs": "amounts.rates",
            "clientID": "customer.id",
            "cashBoxID": "register.id",
            "isRefund": "refund.is",
            "refundOf": "refund.of",
            "items": "lines",
        },
        "items": {
            "id": "item.id",
            "title": "item.title",
            "deptID": "item.department",
            "price": "amounts.total",
            "discount": "amounts.discount",
            "VATrate": "tax.rate",
            "VAT": "tax.amount",
        },
        "payments": {
            "paymentModeID": "mode.id",
            "cashBoxID": "register.id",
            "clientID": "customer.id",
        },
        "closing": {
            "cashBoxID": "register.id",
            "opened": "dates.opened",
            "closed": "dates.closed",
            "openingFloat": "float.opening",
            "closingFloat": "float.closing",
        },
        "customer": {
            "address": "postal.street",
            "postalCode": "postal.code",
            "city": "postal.city",
            "country": "postal.country",
        },
    },
)

DIALECTS = {dialect.name: dialect for dialect in (ENGLISH, FRENCH, NESTED)}
"""By the name that `[source] dialect` gives."""
