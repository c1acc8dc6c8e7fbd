"""Files uploaded to PennyLane, by the entry they are for: their list cannot be asked for.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pennylane_files",
        sa.Column("shop_id", sa.Text(collation="C"), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False, comment="Piece number of the entry it is for."),
        sa.Column("sha256", sa.Text(), nullable=False, comment="Of the file's bytes."),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "company_id", "key", "sha256", name=op.f("pennylane_files_pk")),
        schema="kash",
    )


def downgrade() -> None:
    op.drop_table("pennylane_files", schema="kash")
