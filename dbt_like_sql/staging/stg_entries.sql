-- One row per entry as it stands now. entry_id names it across shops: entry keys are unique within a shop only.
select
    shop_id || '/' || entry_key as entry_id,
    shop_id,
    entry_key,
    kind,
    business_day,
    register_id,
    journal,
    date as accounting_date,
    label,
    lines as line_count,
    debit_cents,
    credit_cents,
    digest
from {{ source('kash', 'entries') }}
