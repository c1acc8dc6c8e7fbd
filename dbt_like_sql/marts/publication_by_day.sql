-- How far each business day is on its way to the ledger. Superseded entries are replaced and no longer count.
-- status names the first thing somebody has to look at: held before refused, refused before what is only on its way.
with entries as (
    select
        shop_id,
        business_day,
        count(*) as entry_count,
        count(*) filter (where state = 'held') as held_count,
        count(*) filter (where state = 'ready') as ready_count,
        count(*) filter (where state = 'sending') as sending_count,
        count(*) filter (where state = 'sent') as sent_count,
        count(*) filter (where state = 'verified') as verified_count,
        count(*) filter (where state = 'refused') as refused_count,
        sum(amount_cents)::bigint as amount_cents,
        coalesce(sum(amount_cents) filter (where state = 'verified'), 0)::bigint as verified_cents
    from {{ ref('stg_publication') }}
    where state <> 'superseded'
    group by shop_id, business_day
),

held as (
    select shop_id, business_day, count(distinct register_id) as held_registers
    from {{ ref('stg_held') }}
    group by shop_id, business_day
)

select
    shop_id || '/' || business_day as day_id,
    shop_id,
    business_day,
    case
        when coalesce(h.held_registers, 0) > 0 or e.held_count > 0 then 'held'
        when e.refused_count > 0 then 'refused'
        when e.sending_count > 0 then 'sending'
        when e.ready_count > 0 then 'ready'
        when e.sent_count > 0 then 'sent'
        else 'verified'
    end as status,
    coalesce(h.held_registers, 0) as held_registers,
    coalesce(e.entry_count, 0) as entry_count,
    coalesce(e.held_count, 0) as held_count,
    coalesce(e.ready_count, 0) as ready_count,
    coalesce(e.sending_count, 0) as sending_count,
    coalesce(e.sent_count, 0) as sent_count,
    coalesce(e.verified_count, 0) as verified_count,
    coalesce(e.refused_count, 0) as refused_count,
    coalesce(e.amount_cents, 0)::bigint as amount_cents,
    coalesce(e.verified_cents, 0)::bigint as verified_cents
from entries as e
full join held as h using (shop_id, business_day)
