-- Rows are months whose debits and credits differ.
select shop_id, month, sum(balance_cents) as balance_cents
from {{ ref('trial_balance_by_month') }}
group by shop_id, month
having sum(balance_cents) <> 0
