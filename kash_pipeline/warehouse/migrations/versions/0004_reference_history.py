"""Reference data over time, customers to be forgotten, and what PennyLane has of a customer.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reference_history",
        sa.Column("shop_id", sa.Text(collation="C"), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False, comment="PennyLane's company; 0 for the till."),
        sa.Column("kind", sa.Text(), nullable=False, comment="payment_methods, vat_rates, ..., journals, accounts."),
        sa.Column("record_id", sa.Text(collation="C"), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False, comment="0001-01-01: since before we first looked."),
        sa.Column("valid_to", sa.Date(), nullable=True, comment="First day on which it no longer held; null: it holds."),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column(
            "noticed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("side IN ('till', 'pennylane')", name=op.f("reference_history_side_ck")),
        sa.CheckConstraint("valid_to >= valid_from", name=op.f("reference_history_order_ck")),
        sa.PrimaryKeyConstraint(
            "shop_id", "side", "company_id", "kind", "record_id", "valid_from", name=op.f("reference_history_pk")
        ),
        schema="kash",
    )
    op.create_table(
        "forgotten_customers",
        sa.Column("shop_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_id", sa.Text(collation="C"), nullable=False, comment="The till's number; entries keep it."),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("shop_id", "customer_id", name=op.f("forgotten_customers_pk")),
        schema="kash",
    )
    op.add_column(
        "pennylane_customers",
        sa.Column(
            "fingerprint",
            sa.Text(),
            nullable=True,
            comment="Of the till's fields as PennyLane has them; null: not compared yet.",
        ),
        schema="kash",
    )


def downgrade() -> None:
    op.drop_column("pennylane_customers", "fingerprint", schema="kash")
    op.drop_table("forgotten_customers", schema="kash")
    op.drop_table("reference_history", schema="kash")
