-- One row per line; amount_cents is signed (debit minus credit) so that any sum of it is a balance.
select
    shop_id || '/' || entry_key || '/' || line_no as line_id,
    shop_id || '/' || entry_key as entry_id,
    shop_id,
    line_no,
    account,
    customer_id,
    vat_rate_bp,
    method_id,
    debit_cents,
    credit_cents,
    debit_cents - credit_cents as amount_cents,
    label
from {{ source('kash', 'entry_lines') }}
