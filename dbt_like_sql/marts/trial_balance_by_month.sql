-- Balance per account and customer, by month of the accounting date.
select
    shop_id || '/' || to_char(date_trunc('month', accounting_date), 'YYYY-MM') || '/' || account
        || coalesce('/' || customer_id, '') as balance_id,
    shop_id,
    date_trunc('month', accounting_date)::date as month,
    account,
    customer_id,
    sum(debit_cents)::bigint as debit_cents,
    sum(credit_cents)::bigint as credit_cents,
    sum(amount_cents)::bigint as balance_cents
from {{ ref('int_entry_lines') }}
group by shop_id, date_trunc('month', accounting_date), account, customer_id
