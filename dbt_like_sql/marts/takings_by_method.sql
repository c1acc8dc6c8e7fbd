-- Money received, net of what was given back. In a z entry the method's line holds what was counted; its difference line
-- carries the same method and brings the sum back to what was taken.
select
    shop_id || '/' || business_day || '/' || register_id || '/' || method_id as takings_id,
    shop_id,
    business_day,
    register_id,
    method_id,
    coalesce(sum(amount_cents) filter (where amount_cents > 0), 0)::bigint as received_cents,
    coalesce(-sum(amount_cents) filter (where amount_cents < 0), 0)::bigint as given_back_cents,
    sum(amount_cents)::bigint as takings_cents
from {{ ref('int_entry_lines') }}
where method_id is not null and kind in ('payment', 'z')
group by shop_id, business_day, register_id, method_id
