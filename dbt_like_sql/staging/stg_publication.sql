-- One row per entry that was, or may be, sent. A reversal or replacement has a key of its own and belongs to base_key.
select
    shop_id || '/' || key as publication_id,
    shop_id || '/' || base_key as entry_id,
    shop_id,
    key as piece_number,
    role,
    kind,
    business_day,
    register_id,
    journal,
    date as accounting_date,
    amount_cents,
    state,
    attempts,
    remote_id,
    error,
    sent_at,
    verified_at
from {{ source('kash', 'publication') }}
