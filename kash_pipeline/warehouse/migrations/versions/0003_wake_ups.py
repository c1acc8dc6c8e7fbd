"""Events that a till pushed."""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('wake_ups',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('event', sa.Text(), nullable=False, comment='What makes it the same event when it comes again.'),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('business_day', sa.Date(), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('sha256', sa.Text(), nullable=False, comment='Of the raw event in the lake.'),
    sa.Column('asked_at', sa.DateTime(timezone=True), nullable=True, comment='When a run was asked for; null: it waits.'),
    sa.PrimaryKeyConstraint('shop_id', 'event', name=op.f('wake_ups_pk')),
    schema='kash'
    )
    op.create_index('wake_ups_waiting_ix', 'wake_ups', ['shop_id', 'business_day'], unique=False, schema='kash', postgresql_where=sa.text('asked_at is null'))


def downgrade() -> None:
    op.drop_index('wake_ups_waiting_ix', table_name='wake_ups', schema='kash', postgresql_where=sa.text('asked_at is null'))
    op.drop_table('wake_ups', schema='kash')
