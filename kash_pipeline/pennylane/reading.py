"""What PennyLane holds of the entries we sent: the third reading of the reconciliation.

Only reading belongs here; whether the sums agree is reconciliation.py's, whether an entry was touched by a person is
watching.py's.
"""

from datetime import date

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.client import EntryLine, PennylaneClient
from kash_pipeline.pennylane.errors import AnswerChanged
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.ledger import Intent, PublicationLedger

COLUMNS = {"entry_key": "str", "account": "str", "debit_cents": "int64", "credit_cents": "int64"}


def ledger_lines(client: PennylaneClient, engine: sa.Engine, shop: ShopFile, first: date, last: date) -> pd.DataFrame:
    """The lines PennyLane holds of entries we sent for the business days `first..last`.

    Columns: entry_key (by the remote id in the publication ledger, so that an edited piece number hides nothing),
    account (number), debit_cents, credit_cents. A hundred lines a request.
    Raises AnswerChanged for an amount finer than a cent.
    """
    intents = PublicationLedger(engine, shop.shop.id).published(first, last)
    keys = {intent.row.remote_id: intent.row.key for intent in intents}
    rows = [
        (keys[line.entry_id], line.account, _cents(line, "debit"), _cents(line, "credit"))
        for line in lines_between(client, engine, shop, intents)
        if line.entry_id in keys
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def lines_between(client: PennylaneClient, engine: sa.Engine, shop: ShopFile, intents: list[Intent]) -> list[EntryLine]:
    """Every line of the journals and accounting dates that these entries cover, ours or not."""
    if not intents:
        return []
    company = intents[0].row.company_id or 0
    ids = reference.stored_journals(engine, shop, company)
    journals = sorted({ids[intent.content.journal] for intent in intents if intent.content.journal in ids})
    days = [intent.content.date for intent in intents]
    return list(client.ledger_entry_lines(journals, min(days), max(days)))


def _cents(line: EntryLine, side: str) -> int:
    amount = getattr(line, side).scaleb(2)
    if amount != amount.to_integral_value():
        raise AnswerChanged(f"PennyLane: line {line.id} has an amount finer than a cent")
    return int(amount)
