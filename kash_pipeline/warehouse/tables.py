"""The warehouse's tables, as SQLAlchemy Core, all in schema `kash`.

Only their statement belongs here: changing it needs a migration in migrations/versions/ (a test compares the two).
What the columns of entries mean is stated in schemas/entries.py; reading and writing is in windows.py, ledger.py and
tokens.py, and for the PennyLane tables in pennylane/.

Amounts are `*_cents` bigint, rates `*_bp` (basis points), days `date`, instants `timestamptz`.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "kash"

METADATA = sa.MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_uq",
        "ix": "%(table_name)s_%(column_0_N_name)s_ix",
        "ck": "%(table_name)s_%(constraint_name)s_ck",
    },
)

# Keys compare byte by byte: the order of what is read does not hang on the server's locale, and an index on them is
# built in half the time.
_KEY = sa.Text(collation="C")
_INSTANT = sa.DateTime(timezone=True)
_NOW = sa.text("now()")


def _shop() -> sa.Column[str]:
    return sa.Column("shop_id", _KEY, nullable=False)


# --- what the books say -----------------------------------------------------------------------------------------

ENTRIES = sa.Table(
    "entries",
    METADATA,
    _shop(),
    sa.Column("entry_key", _KEY, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("business_day", sa.Date, nullable=False),
    sa.Column("register_id", _KEY, nullable=False),
    sa.Column("journal", sa.Text, nullable=False),
    sa.Column("date", sa.Date, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    sa.Column("debit_cents", sa.BigInteger, nullable=False),
    sa.Column("credit_cents", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("shop_id", "entry_key"),
    sa.CheckConstraint("debit_cents = credit_cents", name="balanced"),
    sa.Index(None, "shop_id", "business_day"),
)

CARRIED = sa.Table(
    "carried",
    METADATA,
    _shop(),
    sa.Column("business_day", sa.Date, nullable=False),
    sa.Column(
        "digest",
        sa.Text,
        nullable=False,
        comment="Of the carry (accounting/carry.py) with which this day and those after it agree.",
    ),
    sa.PrimaryKeyConstraint("shop_id", "business_day"),
)

# No foreign key and no primary key: checked row by row they cost as much as the COPY again and twice that (131,000
# lines: 6 times a bare COPY with a key, 3 with this index alone, see bench/loading.py). windows.replace_entries, the
# only writer, refuses a line without entry and a line that comes twice, and replaces both tables in one transaction.
# The one index is by day, because days are replaced and read, and whoever looks for an entry's lines knows its day.
ENTRY_LINES = sa.Table(
    "entry_lines",
    METADATA,
    _shop(),
    sa.Column("entry_key", _KEY, nullable=False),
    sa.Column("line_no", sa.BigInteger, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("customer_id", sa.Text),
    sa.Column("vat_rate_bp", sa.BigInteger),
    sa.Column("method_id", sa.Text),
    sa.Column("debit_cents", sa.BigInteger, nullable=False),
    sa.Column("credit_cents", sa.BigInteger, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column(
        "business_day",
        sa.Date,
        nullable=False,
        comment="That of the entry: a window of days is replaced and summed without a join.",
    ),
    sa.CheckConstraint("(debit_cents > 0) <> (credit_cents > 0)", name="one_side"),
    sa.Index(None, "business_day"),
)

HELD = sa.Table(
    "held",
    METADATA,
    _shop(),
    sa.Column("business_day", sa.Date, nullable=False),
    sa.Column("register_id", _KEY, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("next_step", sa.Text, nullable=False),
    sa.Index(None, "shop_id", "business_day"),
)

NOTICES = sa.Table(
    "notices",
    METADATA,
    _shop(),
    sa.Column("business_day", sa.Date, nullable=False),
    sa.Column("register_id", _KEY, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("amount_cents", sa.BigInteger, nullable=False),
    sa.Index(None, "shop_id", "business_day"),
)

# --- what may be sent, and what was -----------------------------------------------------------------------------

PUBLICATION_STATES = ("held", "ready", "sending", "sent", "verified", "refused", "superseded")
PUBLICATION_ROLES = ("original", "reversal", "replacement")

PUBLICATION = sa.Table(
    "publication",
    METADATA,
    _shop(),
    sa.Column(
        "key", _KEY, nullable=False, comment="Piece number in PennyLane: the entry key, or that of a correction."
    ),
    sa.Column("base_key", _KEY, nullable=False, comment="Key of the built entry; a correction belongs to one."),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False, server_default="0"),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("business_day", sa.Date, nullable=False),
    sa.Column("register_id", _KEY, nullable=False),
    sa.Column("journal", sa.Text, nullable=False),
    sa.Column("date", sa.Date, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("line_count", sa.BigInteger, nullable=False),
    sa.Column("amount_cents", sa.BigInteger, nullable=False, comment="Sum of debits, which is that of credits."),
    sa.Column("digest", sa.Text, comment="What the books say now; null: they have no such entry any more."),
    sa.Column("sent_digest", sa.Text, comment="What was handed to PennyLane."),
    sa.Column("sent_entry", JSONB(none_as_null=True), comment="Header and lines as handed to PennyLane."),
    sa.Column(
        "correction", JSONB(none_as_null=True), comment="Header and lines of a correction, which no build makes."
    ),
    sa.Column("day_held", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("company_id", sa.BigInteger),
    sa.Column("remote_id", sa.BigInteger),
    sa.Column("remote_line_ids", JSONB(none_as_null=True), comment="PennyLane's line ids, in the order of our lines."),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("owner", sa.Text, comment="host:pid:start of the process that sends."),
    sa.Column("error", sa.Text),
    sa.Column("corrects", sa.Text, comment="The key this one takes back or takes the place of."),
    sa.Column("corrected_by", JSONB(none_as_null=True), comment="The keys that take this one's place."),
    sa.Column("created_at", _INSTANT, nullable=False, server_default=_NOW),
    sa.Column("updated_at", _INSTANT, nullable=False, server_default=_NOW),
    sa.Column("sending_at", _INSTANT),
    sa.Column("sent_at", _INSTANT),
    sa.Column("verified_at", _INSTANT),
    sa.PrimaryKeyConstraint("shop_id", "key"),
    sa.CheckConstraint(sa.column("state").in_(PUBLICATION_STATES), name="state"),
    sa.CheckConstraint(sa.column("role").in_(PUBLICATION_ROLES), name="role"),
    sa.Index(None, "shop_id", "business_day"),
    sa.Index(None, "shop_id", "base_key"),
)

sa.Index(
    "publication_ready_ix",
    PUBLICATION.c.shop_id,
    PUBLICATION.c.business_day,
    postgresql_where=PUBLICATION.c.state == "ready",
)
sa.Index("publication_sending_ix", PUBLICATION.c.shop_id, postgresql_where=PUBLICATION.c.state == "sending")

# --- PennyLane's objects, by their ids in one company ------------------------------------------------------------


def _company() -> tuple[sa.Column[str], sa.Column[int]]:
    return _shop(), sa.Column("company_id", sa.BigInteger, nullable=False)


def _seen() -> sa.Column[object]:
    return sa.Column("seen_at", _INSTANT, nullable=False, server_default=_NOW)


PENNYLANE_JOURNALS = sa.Table(
    "pennylane_journals",
    METADATA,
    *_company(),
    sa.Column("id", sa.BigInteger, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("type", sa.Text),
    _seen(),
    sa.PrimaryKeyConstraint("shop_id", "company_id", "id"),
    sa.Index(None, "shop_id", "company_id", "code"),
)

PENNYLANE_ACCOUNTS = sa.Table(
    "pennylane_accounts",
    METADATA,
    *_company(),
    sa.Column("id", sa.BigInteger, nullable=False),
    sa.Column("number", sa.Text, nullable=False, comment="One number may have several ids, one per VAT rate."),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("vat_rate", sa.Text),
    sa.Column("country", sa.Text),
    sa.Column("type", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("letterable", sa.Boolean),
    _seen(),
    sa.PrimaryKeyConstraint("shop_id", "company_id", "id"),
    sa.Index(None, "shop_id", "company_id", "number"),
)

PENNYLANE_CUSTOMERS = sa.Table(
    "pennylane_customers",
    METADATA,
    *_company(),
    sa.Column("customer_id", sa.Text, nullable=False, comment="The till's id."),
    sa.Column("remote_id", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("external_reference", sa.Text),
    sa.Column("ledger_account_id", sa.BigInteger),
    sa.Column(
        "matched_by", sa.Text, comment="external_reference, vat_number, registration_number, name_email, created."
    ),
    sa.Column("fingerprint", sa.Text, comment="Of the till's fields as PennyLane has them; null: not compared yet."),
    sa.Column(
        "remote_fingerprint",
        sa.Text,
        comment="Of the same fields as PennyLane answered them to our last write; null: not ours to change.",
    ),
    sa.Column(
        "former_account_ids",
        JSONB(none_as_null=True),
        comment="Accounts of this customer before: entries sent then stand on them.",
    ),
    _seen(),
    sa.PrimaryKeyConstraint("shop_id", "company_id", "customer_id"),
)

# All customers of the company, ours or not, without what says who they are.
PENNYLANE_LISTED_CUSTOMERS = sa.Table(
    "pennylane_listed_customers",
    METADATA,
    *_company(),
    sa.Column("id", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("external_reference", sa.Text),
    sa.Column("ledger_account_id", sa.BigInteger),
    _seen(),
    sa.PrimaryKeyConstraint("shop_id", "company_id", "id"),
)

PENNYLANE_FISCAL_YEARS = sa.Table(
    "pennylane_fiscal_years",
    METADATA,
    *_company(),
    sa.Column("id", sa.BigInteger, nullable=False),
    sa.Column("start", sa.Date, nullable=False),
    sa.Column("finish", sa.Date, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    _seen(),
    sa.PrimaryKeyConstraint("shop_id", "company_id", "id"),
)

PENNYLANE_LETTERED = sa.Table(
    "pennylane_lettered",
    METADATA,
    *_company(),
    sa.Column("line_id", sa.BigInteger, nullable=False, comment="PennyLane's id of the line."),
    sa.Column("key", sa.Text, nullable=False, comment="Piece number of its entry."),
    sa.Column("group_id", sa.BigInteger, comment="Smallest line id of the group; null: PennyLane refused, see why."),
    sa.Column("why", sa.Text, comment="Why it was left alone; null: it is lettered."),
    _seen(),
    sa.PrimaryKeyConstraint("shop_id", "company_id", "line_id"),
)

# Files cannot be listed: an id that is not kept is lost, and its upload is made again.
PENNYLANE_FILES = sa.Table(
    "pennylane_files",
    METADATA,
    *_company(),
    sa.Column("key", _KEY, nullable=False, comment="Piece number of the entry it is for."),
    sa.Column("sha256", sa.Text, nullable=False, comment="Of the file's bytes."),
    sa.Column("id", sa.BigInteger, nullable=False),
    _seen(),
    sa.PrimaryKeyConstraint("shop_id", "company_id", "key", "sha256"),
)

# --- reference data over time --------------------------------------------------------------------------------------

# One row per version of a record: what it was from `valid_from` to the day before `valid_to`. Rows are closed, never
# deleted. Customers have no name here (kash_pipeline/reference/personal.py).
REFERENCE_HISTORY = sa.Table(
    "reference_history",
    METADATA,
    _shop(),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("company_id", sa.BigInteger, nullable=False, comment="PennyLane's company; 0 for the till."),
    sa.Column("kind", sa.Text, nullable=False, comment="payment_methods, vat_rates, ..., journals, accounts."),
    sa.Column("record_id", _KEY, nullable=False),
    sa.Column("valid_from", sa.Date, nullable=False, comment="0001-01-01: since before we first looked."),
    sa.Column("valid_to", sa.Date, comment="First day on which it no longer held; null: it holds."),
    sa.Column("content", JSONB, nullable=False),
    sa.Column("noticed_at", _INSTANT, nullable=False, server_default=sa.text("clock_timestamp()")),
    sa.PrimaryKeyConstraint("shop_id", "side", "company_id", "kind", "record_id", "valid_from"),
    sa.CheckConstraint(sa.column("side").in_(("till", "pennylane")), name="side"),
    sa.CheckConstraint("valid_to >= valid_from", name="order"),
)

FORGOTTEN_CUSTOMERS = sa.Table(
    "forgotten_customers",
    METADATA,
    _shop(),
    sa.Column("customer_id", _KEY, nullable=False, comment="The till's number; entries keep it."),
    sa.Column("forgotten_at", _INSTANT, nullable=False, server_default=_NOW),
    sa.PrimaryKeyConstraint("shop_id", "customer_id"),
)

# --- connection and pacing ---------------------------------------------------------------------------------------

OAUTH_TOKENS = sa.Table(
    "oauth_tokens",
    METADATA,
    sa.Column("connection", sa.Text, primary_key=True),
    sa.Column("secret", sa.LargeBinary, comment="Fernet token of the access and refresh token; null: not connected."),
    sa.Column("expires_at", _INSTANT),
    sa.Column("refreshed_at", _INSTANT),
    sa.Column("scopes", JSONB(none_as_null=True)),
    sa.Column("company_id", sa.BigInteger),
    sa.Column("company_name", sa.Text),
    sa.Column("broken", sa.Text, comment="Why the connection must be made again; null: it works."),
    sa.Column("created_at", _INSTANT, nullable=False, server_default=_NOW),
    sa.Column("updated_at", _INSTANT, nullable=False, server_default=_NOW),
)

# One row per permitted request of a token: a slot is taken by the process that updates it and free again some time
# after the answer, so that all processes of one token together stay under the limit (pennylane/pacing.py).
RATE_SLOTS = sa.Table(
    "rate_slots",
    METADATA,
    sa.Column("bucket", sa.Text, nullable=False, comment="A hash of the token, never the token."),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("free_at", _INSTANT, nullable=False, server_default=_NOW),
    sa.PrimaryKeyConstraint("bucket", "slot"),
)

# --- what a till pushed ------------------------------------------------------------------------------------------

WAKE_UPS = sa.Table(
    "wake_ups",
    METADATA,
    _shop(),
    sa.Column("event", sa.Text, nullable=False, comment="What makes it the same event when it comes again."),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("business_day", sa.Date, nullable=False),
    sa.Column("received_at", _INSTANT, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False, comment="Of the raw event in the lake."),
    sa.Column("asked_at", _INSTANT, comment="When a run was asked for; null: it waits."),
    sa.PrimaryKeyConstraint("shop_id", "event"),
)
sa.Index(
    "wake_ups_waiting_ix",
    WAKE_UPS.c.shop_id,
    WAKE_UPS.c.business_day,
    postgresql_where=WAKE_UPS.c.asked_at.is_(None),
)
