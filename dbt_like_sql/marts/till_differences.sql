-- Shortages and overages found at closing, never netted: one entry per closing and method (PCG 1011-5).
-- A closing entry touches classes 6 and 7 for a difference only; a z entry has it on 658 or 758 beside the sales.
with differences as (
    select
        entry_id,
        line_id,
        shop_id,
        business_day,
        register_id,
        account,
        amount_cents,
        coalesce(method_id, max(method_id) over (partition by entry_id)) as method_id,
        case
            when kind = 'closing' then account like '6%' or account like '7%'
            else vat_rate_bp is null and (account like '658%' or account like '758%')
        end as is_difference
    from {{ ref('int_entry_lines') }}
    where kind in ('closing', 'z')
)

select
    line_id as difference_id,
    shop_id,
    business_day,
    register_id,
    method_id,
    account,
    case when amount_cents > 0 then 'short' else 'over' end as side,
    (-amount_cents)::bigint as difference_cents
from differences
where is_difference
