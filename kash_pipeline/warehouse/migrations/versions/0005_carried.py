"""What the days before a day left behind when it was built, so that days built on other facts are found.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "carried",
        sa.Column("shop_id", sa.Text(collation="C"), nullable=False),
        sa.Column("business_day", sa.Date(), nullable=False),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=False,
            comment="Of the carry (accounting/carry.py) with which this day and those after it agree.",
        ),
        sa.PrimaryKeyConstraint("shop_id", "business_day", name=op.f("carried_pk")),
        schema="kash",
    )


def downgrade() -> None:
    op.drop_table("carried", schema="kash")
