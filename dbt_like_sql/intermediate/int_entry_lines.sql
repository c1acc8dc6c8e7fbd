-- Every line with the day, register, journal and kind of its entry: what all marts are summed from.
select
    l.line_id,
    l.entry_id,
    l.shop_id,
    e.kind,
    e.business_day,
    e.register_id,
    e.journal,
    e.accounting_date,
    l.account,
    l.customer_id,
    l.vat_rate_bp,
    l.method_id,
    l.debit_cents,
    l.credit_cents,
    l.amount_cents
from {{ ref('stg_entry_lines') }} as l
join {{ ref('stg_entries') }} as e on e.entry_id = l.entry_id
