-- Rows are entries whose lines do not balance, or do not sum to the entry's own totals.
select
    e.entry_id,
    e.business_day,
    e.debit_cents,
    e.credit_cents,
    coalesce(sum(l.debit_cents), 0) as lines_debit_cents,
    coalesce(sum(l.credit_cents), 0) as lines_credit_cents
from {{ ref('stg_entries') }} as e
left join {{ ref('stg_entry_lines') }} as l on l.entry_id = e.entry_id
group by e.entry_id, e.business_day, e.debit_cents, e.credit_cents, e.line_count
having
    coalesce(sum(l.debit_cents), 0) <> coalesce(sum(l.credit_cents), 0)
    or coalesce(sum(l.debit_cents), 0) <> e.debit_cents
    or coalesce(sum(l.credit_cents), 0) <> e.credit_cents
    or count(l.line_id) <> e.line_count
