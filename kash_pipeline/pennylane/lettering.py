"""Letter the lines of named customers: what they bought with what they paid, when it comes to zero.

Which lines belong together is decided here, by amounts alone; PennyLane keeps the letters. Lines that a person
lettered, or that PennyLane refuses to letter, stay as they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pennylane.errors import NotFound, RuleBroken
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.publication import ReadyDay
from kash_pipeline.warehouse.tables import PENNYLANE_LETTERED

ASKED = "asked"
"""`why` of lines whose lettering was asked for and has no answer yet."""


@dataclass(frozen=True)
class OpenLine:
    """A line of a customer's own account that is not lettered; `amount_cents` is debit minus credit.

    `asked`: the group it was to be lettered in when a publisher was killed, which PennyLane may have done.
    """

    customer_id: str
    key: str
    line_id: int
    amount_cents: int
    business_day: date
    asked: int | None = None


@dataclass
class LetteringReport:
    """Groups lettered, lines in them, and what PennyLane refused: (customer id, reason)."""

    groups: int = 0
    lines: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)


def groups_of(lines: Iterable[OpenLine]) -> list[list[OpenLine]]:
    """The runs of a customer's lines, in their order, after which the balance is zero: the oldest is paid first.

    `lines` are ordered by customer, then in time. Lines after the last zero stay open.
    """
    groups: list[list[OpenLine]] = []
    run: list[OpenLine] = []
    for line in lines:
        if run and run[-1].customer_id != line.customer_id:
            run = []
        run.append(line)
        if sum(one.amount_cents for one in run) == 0:
            groups.append(run)
            run = []
    return groups


_OPEN = sa.text(
    """
select line.value ->> 'customer_id' as customer_id, p.key,
       (p.remote_line_ids ->> (line.position - 1)::int)::bigint as line_id,
       (line.value ->> 'debit_cents')::bigint - (line.value ->> 'credit_cents')::bigint as amount_cents,
       p.business_day, l.group_id
from kash.publication p
cross join lateral jsonb_array_elements(p.sent_entry -> 'lines') with ordinality as line (value, position)
left join kash.pennylane_lettered l on l.shop_id = p.shop_id and l.company_id = p.company_id
  and l.line_id = (p.remote_line_ids ->> (line.position - 1)::int)::bigint
where p.shop_id = :shop and p.company_id = coalesce(cast(:company as bigint), p.company_id)
  and p.verified_at is not null
  and line.value ->> 'customer_id' is not null and line.value ->> 'account' like '411%'
  and (l.line_id is null or l.why = 'asked')
order by 1, p.date, p.key, line.position
"""
)


def _groups(engine: sa.Engine, shop: ShopFile, company_id: int | None) -> list[list[OpenLine]]:
    """What was asked for first, as it was asked for: PennyLane joins groups that share a line, so other groups of the
    same lines, made when more have come, would not come to zero there."""
    with engine.connect() as connection:
        rows = connection.execute(_OPEN, {"shop": shop.shop.id, "company": company_id}).all()
    asked: dict[int, list[OpenLine]] = {}
    new = []
    for line in (OpenLine(*row) for row in rows):
        if line.asked is None:
            new.append(line)
        else:
            asked.setdefault(line.asked, []).append(line)
    return [*asked.values(), *groups_of(new)]


def letters(shop: ShopFile) -> bool:
    """Whether this shop's customers have accounts of their own, to be lettered by us."""
    return shop.pennylane is not None and shop.pennylane.letter and shop.shop.named_customers == "own_account"


def days_to_letter(engine: sa.Engine, shop: ShopFile) -> list[ReadyDay]:
    """Days with groups that wait, for a sensor: read back, and the publisher was killed before it lettered them."""
    groups = _groups(engine, shop, None) if letters(shop) else []
    days: dict[date, list[str]] = {}
    for group in groups:
        days.setdefault(group[-1].business_day, []).append(" ".join(str(line.line_id) for line in group))
    return [ReadyDay(day, len(found), 0, sha256(",".join(found).encode()).hexdigest()) for day, found in days.items()]


def letter_customers(client: PennylaneClient, engine: sa.Engine, shop: ShopFile, company_id: int) -> LetteringReport:
    """Letter every group of customers' lines that sums to zero and was read back as sent.

    One request per group, asked once: what is asked is remembered before, what was lettered or refused after.
    Raises a PennylaneError when PennyLane cannot be asked; what was lettered until then is kept.
    """
    report = LetteringReport()
    for group in _groups(engine, shop, company_id):
        ids = [line.line_id for line in group]
        own = {"shop_id": shop.shop.id, "company_id": company_id}
        asked = [
            {**own, "line_id": line.line_id, "key": line.key, "group_id": min(ids), "why": ASKED} for line in group
        ]
        with engine.begin() as connection:
            connection.execute(insert(PENNYLANE_LETTERED).on_conflict_do_nothing(), asked)
        why = None
        try:
            client.letter(ids)
        except (RuleBroken, NotFound) as error:
            # Somebody lettered one of them with other lines, or the account takes no letters.
            why = error.message
            report.left.append((group[0].customer_id, why))
        else:
            report.groups += 1
            report.lines += len(ids)
        table = PENNYLANE_LETTERED.c
        with engine.begin() as connection:
            connection.execute(
                sa.update(PENNYLANE_LETTERED)
                .where(table.shop_id == shop.shop.id, table.company_id == company_id, table.line_id.in_(ids))
                .values(why=why, group_id=None if why else min(ids))
            )
    return report


def lettered_by_us(engine: sa.Engine, shop: ShopFile, company_id: int) -> set[frozenset[int]]:
    """The groups of line ids that we lettered, as PennyLane has them as long as nobody adds to one."""
    table = PENNYLANE_LETTERED.c
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(sa.func.array_agg(table.line_id))
            .where(table.shop_id == shop.shop.id, table.company_id == company_id, table.group_id.is_not(None))
            .group_by(table.group_id)
        )
        return {frozenset(ids) for (ids,) in rows}
