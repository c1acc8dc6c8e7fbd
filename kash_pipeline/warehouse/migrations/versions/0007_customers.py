"""PennyLane's customers: which there are, what they held after we wrote them, and the accounts they had before.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pennylane_listed_customers",
        sa.Column("shop_id", sa.Text(collation="C"), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("external_reference", sa.Text(), nullable=True),
        sa.Column("ledger_account_id", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "company_id", "id", name=op.f("pennylane_listed_customers_pk")),
        schema="kash",
    )
    op.add_column(
        "pennylane_customers",
        sa.Column(
            "remote_fingerprint",
            sa.Text(),
            nullable=True,
            comment="Of the same fields as PennyLane answered them to our last write; null: not ours to change.",
        ),
        schema="kash",
    )
    op.add_column(
        "pennylane_customers",
        sa.Column(
            "former_account_ids",
            postgresql.JSONB(none_as_null=True),
            nullable=True,
            comment="Accounts of this customer before: entries sent then stand on them.",
        ),
        schema="kash",
    )
    # The label of a customer's account is a name, and its number may be made of one. What is used comes back.
    op.execute("delete from kash.pennylane_accounts where type in ('customer', 'supplier')")


def downgrade() -> None:
    op.drop_column("pennylane_customers", "former_account_ids", schema="kash")
    op.drop_column("pennylane_customers", "remote_fingerprint", schema="kash")
    op.drop_table("pennylane_listed_customers", schema="kash")
