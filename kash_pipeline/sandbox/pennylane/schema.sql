-- State of the PennyLane sandbox, in a schema of its own. Run at every start; changes nothing that exists.
-- Ids start at 14 digits, as in recordings (pennylane-api.md section 2). Tokens, codes and client secrets are kept as
-- SHA-256 only, so that no dump of the database holds a secret.
create schema if not exists sandbox_pennylane;
set local search_path to sandbox_pennylane;

create sequence if not exists entry_ids start 27310000000001;
create sequence if not exists line_ids start 81540000000001;

create table if not exists companies (
    id bigint generated always as identity (start 22760001) primary key,
    name text not null unique,
    reg_no text not null,
    frozen_before date  -- set by the accountant, invisible to the API (section 7.8)
);

create table if not exists journals (
    id bigint generated always as identity (start 13120000000001) primary key,
    company_id bigint not null references companies,
    code text not null,
    label text not null,
    type text not null,
    constraint journal_code unique (company_id, code)
);

create table if not exists accounts (
    id bigint generated always as identity (start 64210000000001) primary key,
    company_id bigint not null references companies,
    number text not null,
    label text not null,
    vat_rate text not null,
    country_alpha2 text not null,
    enabled boolean not null,
    type text not null,
    letterable boolean not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint account_number unique (company_id, number, vat_rate, country_alpha2)
);

create table if not exists fiscal_years (
    id bigint generated always as identity (start 35190001) primary key,
    company_id bigint not null references companies,
    start date not null,
    finish date not null,
    status text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint fiscal_year_start unique (company_id, start)
);

create table if not exists files (
    id bigint generated always as identity (start 51870000000001) primary key,
    company_id bigint not null references companies,
    filename text not null,
    content_type text not null,
    content bytea not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table if not exists entries (
    id bigint primary key,
    company_id bigint not null references companies,
    journal_id bigint not null references journals,
    date date not null,
    due_date date,
    label text not null,
    piece_number text not null,  -- not unique: PennyLane keeps duplicates (section 9)
    currency text not null,
    file_id bigint references files,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index if not exists entries_by_day on entries (company_id, journal_id, date);
create index if not exists entries_by_date on entries (company_id, date, id);

create table if not exists lines (
    id bigint primary key,
    company_id bigint not null references companies,
    entry_id bigint not null references entries on delete cascade,
    account_id bigint not null references accounts,
    debit_cents bigint not null,
    credit_cents bigint not null,
    label text not null,
    lettering bigint,  -- the smallest line id of the group
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index if not exists lines_by_entry on lines (entry_id);
create index if not exists lines_by_account on lines (account_id);
create index if not exists lines_by_lettering on lines (lettering) where lettering is not null;

create table if not exists customers (
    id bigint generated always as identity (start 92430000000001) primary key,
    company_id bigint not null references companies,
    customer_type text not null,
    account_id bigint not null references accounts,
    name text not null,
    first_name text,
    last_name text,
    vat_number text,
    reg_no text,
    emails text[] not null,
    external_reference text not null,
    details jsonb not null,  -- the fields nobody filters on, as they are answered
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint customer_reference unique (company_id, external_reference)
);

create table if not exists changes (
    seq bigint generated always as identity primary key,
    company_id bigint not null references companies,
    resource text not null,
    record_id bigint not null,
    operation text not null,
    processed_at timestamptz not null,
    record_created_at timestamptz not null
);
create index if not exists changes_by_resource on changes (company_id, resource, seq);

create table if not exists clients (
    id text primary key,
    secret_sha256 bytea not null,
    redirect_uris text[] not null
);

create table if not exists grants (
    id bigint generated always as identity (start 7001) primary key,
    company_id bigint not null references companies,
    client_id text references clients,  -- null: a company API token
    scopes text[] not null,
    created_at timestamptz not null,
    revoked_at timestamptz
);

create table if not exists codes (
    sha256 bytea primary key,
    grant_id bigint not null references grants,
    redirect_uri text not null,
    challenge text,
    expires_at timestamptz not null,
    used_at timestamptz
);

create table if not exists tokens (
    id bigint generated always as identity primary key,
    grant_id bigint not null references grants,
    access_sha256 bytea not null unique,
    refresh_sha256 bytea unique,
    access_expires_at timestamptz,  -- null: never
    refresh_expires_at timestamptz,
    ended_at timestamptz  -- rotated away or revoked
);
