-- Rows are lines on sales accounts (class 70) without a VAT rate: the revenue mart would lose them.
select i.line_id, i.business_day, i.register_id, i.account, i.amount_cents
from {{ ref('int_entry_lines') }} as i
where i.account like '70%' and i.vat_rate_bp is null
