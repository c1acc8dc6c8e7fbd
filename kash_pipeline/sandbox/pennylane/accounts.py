"""Making one ledger account, for those who ask for it and for new customers.

Only the insertion belongs here. The calls on accounts belong to chart.py.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from kash_pipeline.sandbox.pennylane.answers import error

ACCOUNT_COLUMNS = (
    "t.id, t.number, t.label, t.vat_rate, t.country_alpha2, t.enabled, t.type, t.letterable, t.created_at, t.updated_at"
)


def insert_account(
    connection: Connection,
    company: int,
    number: str,
    label: str,
    *,
    kind: str,
    now: datetime,
    vat_rate: str = "any",
    country: str = "any",
) -> Any:
    """The new account's row. Raises 422 when number, rate and country exist together (presumed, section 7.2).

    Letterable: recorded for 411, 511, 580, 4457x and not for 530; that a new account follows its class is our guess.
    """
    try:
        return connection.exec_driver_sql(
            "insert into accounts as t (company_id, number, label, vat_rate, country_alpha2, enabled, type, letterable,"
            " created_at, updated_at) values (%(company)s, %(number)s, %(label)s, %(vat_rate)s, %(country)s, true,"
            f" %(kind)s, %(letterable)s, %(now)s, %(now)s) returning {ACCOUNT_COLUMNS}",
            {
                "company": company,
                "number": number,
                "label": label,
                "vat_rate": vat_rate,
                "country": country,
                "kind": kind,
                "letterable": number.startswith(("4", "511", "58")),
                "now": now,
            },
        ).one()
    except IntegrityError:
        raise error(422, f"Number {number} has already been taken") from None
