"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('entries',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('entry_key', sa.Text(collation='C'), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('business_day', sa.Date(), nullable=False),
    sa.Column('register_id', sa.Text(collation='C'), nullable=False),
    sa.Column('journal', sa.Text(), nullable=False),
    sa.Column('date', sa.Date(), nullable=False),
    sa.Column('label', sa.Text(), nullable=False),
    sa.Column('lines', sa.BigInteger(), nullable=False),
    sa.Column('debit_cents', sa.BigInteger(), nullable=False),
    sa.Column('credit_cents', sa.BigInteger(), nullable=False),
    sa.Column('digest', sa.Text(), nullable=False),
    sa.CheckConstraint('debit_cents = credit_cents', name=op.f('entries_balanced_ck')),
    sa.PrimaryKeyConstraint('shop_id', 'entry_key', name=op.f('entries_pk')),
    schema='kash'
    )
    op.create_index(op.f('entries_shop_id_business_day_ix'), 'entries', ['shop_id', 'business_day'], unique=False, schema='kash')
    op.create_table('entry_lines',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('entry_key', sa.Text(collation='C'), nullable=False),
    sa.Column('line_no', sa.BigInteger(), nullable=False),
    sa.Column('account', sa.Text(), nullable=False),
    sa.Column('customer_id', sa.Text(), nullable=True),
    sa.Column('vat_rate_bp', sa.BigInteger(), nullable=True),
    sa.Column('method_id', sa.Text(), nullable=True),
    sa.Column('debit_cents', sa.BigInteger(), nullable=False),
    sa.Column('credit_cents', sa.BigInteger(), nullable=False),
    sa.Column('label', sa.Text(), nullable=False),
    sa.Column('business_day', sa.Date(), nullable=False, comment='That of the entry: a window of days is replaced and summed without a join.'),
    sa.CheckConstraint('(debit_cents > 0) <> (credit_cents > 0)', name=op.f('entry_lines_one_side_ck')),
    schema='kash'
    )
    op.create_index(op.f('entry_lines_business_day_ix'), 'entry_lines', ['business_day'], unique=False, schema='kash')
    op.create_table('held',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('business_day', sa.Date(), nullable=False),
    sa.Column('register_id', sa.Text(collation='C'), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('what', sa.Text(), nullable=False),
    sa.Column('next_step', sa.Text(), nullable=False),
    schema='kash'
    )
    op.create_index(op.f('held_shop_id_business_day_ix'), 'held', ['shop_id', 'business_day'], unique=False, schema='kash')
    op.create_table('notices',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('business_day', sa.Date(), nullable=False),
    sa.Column('register_id', sa.Text(collation='C'), nullable=False),
    sa.Column('code', sa.Text(), nullable=False),
    sa.Column('what', sa.Text(), nullable=False),
    sa.Column('amount_cents', sa.BigInteger(), nullable=False),
    schema='kash'
    )
    op.create_index(op.f('notices_shop_id_business_day_ix'), 'notices', ['shop_id', 'business_day'], unique=False, schema='kash')
    op.create_table('oauth_tokens',
    sa.Column('connection', sa.Text(), nullable=False),
    sa.Column('secret', sa.LargeBinary(), nullable=True, comment='Fernet token of the access and refresh token; null: not connected.'),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('refreshed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('scopes', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('company_id', sa.BigInteger(), nullable=True),
    sa.Column('company_name', sa.Text(), nullable=True),
    sa.Column('broken', sa.Text(), nullable=True, comment='Why the connection must be made again; null: it works.'),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('connection', name=op.f('oauth_tokens_pk')),
    schema='kash'
    )
    op.create_table('pennylane_accounts',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('company_id', sa.BigInteger(), nullable=False),
    sa.Column('id', sa.BigInteger(), nullable=False),
    sa.Column('number', sa.Text(), nullable=False, comment='One number may have several ids, one per VAT rate.'),
    sa.Column('label', sa.Text(), nullable=False),
    sa.Column('vat_rate', sa.Text(), nullable=True),
    sa.Column('country', sa.Text(), nullable=True),
    sa.Column('type', sa.Text(), nullable=True),
    sa.Column('enabled', sa.Boolean(), nullable=False),
    sa.Column('letterable', sa.Boolean(), nullable=True),
    sa.Column('seen_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('shop_id', 'company_id', 'id', name=op.f('pennylane_accounts_pk')),
    schema='kash'
    )
    op.create_index(op.f('pennylane_accounts_shop_id_company_id_number_ix'), 'pennylane_accounts', ['shop_id', 'company_id', 'number'], unique=False, schema='kash')
    op.create_table('pennylane_customers',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('company_id', sa.BigInteger(), nullable=False),
    sa.Column('customer_id', sa.Text(), nullable=False, comment="The till's id."),
    sa.Column('remote_id', sa.BigInteger(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('external_reference', sa.Text(), nullable=True),
    sa.Column('ledger_account_id', sa.BigInteger(), nullable=True),
    sa.Column('matched_by', sa.Text(), nullable=True, comment='external_reference, vat_number, registration_number, name_email, created.'),
    sa.Column('seen_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('shop_id', 'company_id', 'customer_id', name=op.f('pennylane_customers_pk')),
    schema='kash'
    )
    op.create_table('pennylane_fiscal_years',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('company_id', sa.BigInteger(), nullable=False),
    sa.Column('id', sa.BigInteger(), nullable=False),
    sa.Column('start', sa.Date(), nullable=False),
    sa.Column('finish', sa.Date(), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('seen_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('shop_id', 'company_id', 'id', name=op.f('pennylane_fiscal_years_pk')),
    schema='kash'
    )
    op.create_table('pennylane_journals',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('company_id', sa.BigInteger(), nullable=False),
    sa.Column('id', sa.BigInteger(), nullable=False),
    sa.Column('code', sa.Text(), nullable=False),
    sa.Column('label', sa.Text(), nullable=False),
    sa.Column('type', sa.Text(), nullable=True),
    sa.Column('seen_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('shop_id', 'company_id', 'id', name=op.f('pennylane_journals_pk')),
    schema='kash'
    )
    op.create_index(op.f('pennylane_journals_shop_id_company_id_code_ix'), 'pennylane_journals', ['shop_id', 'company_id', 'code'], unique=False, schema='kash')
    op.create_table('publication',
    sa.Column('shop_id', sa.Text(collation='C'), nullable=False),
    sa.Column('key', sa.Text(collation='C'), nullable=False, comment='Piece number in PennyLane: the entry key, or that of a correction.'),
    sa.Column('base_key', sa.Text(collation='C'), nullable=False, comment='Key of the built entry; a correction belongs to one.'),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('revision', sa.Integer(), server_default='0', nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('business_day', sa.Date(), nullable=False),
    sa.Column('register_id', sa.Text(collation='C'), nullable=False),
    sa.Column('journal', sa.Text(), nullable=False),
    sa.Column('date', sa.Date(), nullable=False),
    sa.Column('label', sa.Text(), nullable=False),
    sa.Column('line_count', sa.BigInteger(), nullable=False),
    sa.Column('amount_cents', sa.BigInteger(), nullable=False, comment='Sum of debits, which is that of credits.'),
    sa.Column('digest', sa.Text(), nullable=True, comment='What the books say now; null: they have no such entry any more.'),
    sa.Column('sent_digest', sa.Text(), nullable=True, comment='What was handed to PennyLane.'),
    sa.Column('sent_entry', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True, comment='Header and lines as handed to PennyLane.'),
    sa.Column('correction', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True, comment='Header and lines of a correction, which no build makes.'),
    sa.Column('day_held', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('company_id', sa.BigInteger(), nullable=True),
    sa.Column('remote_id', sa.BigInteger(), nullable=True),
    sa.Column('remote_line_ids', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True, comment="PennyLane's line ids, in the order of our lines."),
    sa.Column('attempts', sa.Integer(), server_default='0', nullable=False),
    sa.Column('owner', sa.Text(), nullable=True, comment='host:pid:start of the process that sends.'),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('corrects', sa.Text(), nullable=True, comment='The key this one takes back or takes the place of.'),
    sa.Column('corrected_by', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True, comment="The keys that take this one's place."),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('sending_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('sent_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('verified_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("role IN ('original', 'reversal', 'replacement')", name=op.f('publication_role_ck')),
    sa.CheckConstraint("state IN ('held', 'ready', 'sending', 'sent', 'verified', 'refused', 'superseded')", name=op.f('publication_state_ck')),
    sa.PrimaryKeyConstraint('shop_id', 'key', name=op.f('publication_pk')),
    schema='kash'
    )
    op.create_index('publication_ready_ix', 'publication', ['shop_id', 'business_day'], unique=False, schema='kash', postgresql_where=sa.text("state = 'ready'"))
    op.create_index('publication_sending_ix', 'publication', ['shop_id'], unique=False, schema='kash', postgresql_where=sa.text("state = 'sending'"))
    op.create_index(op.f('publication_shop_id_base_key_ix'), 'publication', ['shop_id', 'base_key'], unique=False, schema='kash')
    op.create_index(op.f('publication_shop_id_business_day_ix'), 'publication', ['shop_id', 'business_day'], unique=False, schema='kash')
    op.create_table('rate_slots',
    sa.Column('bucket', sa.Text(), nullable=False, comment='A hash of the token, never the token.'),
    sa.Column('slot', sa.Integer(), nullable=False),
    sa.Column('free_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('bucket', 'slot', name=op.f('rate_slots_pk')),
    schema='kash'
    )


def downgrade() -> None:
    op.drop_table('rate_slots', schema='kash')
    op.drop_index(op.f('publication_shop_id_business_day_ix'), table_name='publication', schema='kash')
    op.drop_index(op.f('publication_shop_id_base_key_ix'), table_name='publication', schema='kash')
    op.drop_index('publication_sending_ix', table_name='publication', schema='kash', postgresql_where=sa.text("state = 'sending'"))
    op.drop_index('publication_ready_ix', table_name='publication', schema='kash', postgresql_where=sa.text("state = 'ready'"))
    op.drop_table('publication', schema='kash')
    op.drop_index(op.f('pennylane_journals_shop_id_company_id_code_ix'), table_name='pennylane_journals', schema='kash')
    op.drop_table('pennylane_journals', schema='kash')
    op.drop_table('pennylane_fiscal_years', schema='kash')
    op.drop_table('pennylane_customers', schema='kash')
    op.drop_index(op.f('pennylane_accounts_shop_id_company_id_number_ix'), table_name='pennylane_accounts', schema='kash')
    op.drop_table('pennylane_accounts', schema='kash')
    op.drop_table('oauth_tokens', schema='kash')
    op.drop_index(op.f('notices_shop_id_business_day_ix'), table_name='notices', schema='kash')
    op.drop_table('notices', schema='kash')
    op.drop_index(op.f('held_shop_id_business_day_ix'), table_name='held', schema='kash')
    op.drop_table('held', schema='kash')
    op.drop_index(op.f('entry_lines_business_day_ix'), table_name='entry_lines', schema='kash')
    op.drop_table('entry_lines', schema='kash')
    op.drop_index(op.f('entries_shop_id_business_day_ix'), table_name='entries', schema='kash')
    op.drop_table('entries', schema='kash')
