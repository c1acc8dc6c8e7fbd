"""Lines of named customers that were lettered, so that a rerun asks nothing again.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pennylane_lettered",
        sa.Column("shop_id", sa.Text(), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False, comment="PennyLane's id of the line."),
        sa.Column("key", sa.Text(), nullable=False, comment="Piece number of its entry."),
        sa.Column(
            "group_id",
            sa.BigInteger(),
            nullable=True,
            comment="Smallest line id of the group; null: PennyLane refused, see why.",
        ),
        sa.Column("why", sa.Text(), nullable=True, comment="Why it was left alone; null: it is lettered."),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "company_id", "line_id", name=op.f("pennylane_lettered_pk")),
        schema="kash",
    )


def downgrade() -> None:
    op.drop_table("pennylane_lettered", schema="kash")
