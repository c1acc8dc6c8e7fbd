-- Lines that carry a VAT rate are sales (class 7) and their VAT (445): files-interface.md, "What comes out".
-- Vouchers for several uses, deposits and tips carry no rate and are no revenue.
select
    shop_id || '/' || business_day || '/' || register_id || '/' || vat_rate_bp as revenue_id,
    shop_id,
    business_day,
    register_id,
    vat_rate_bp,
    coalesce(-sum(amount_cents) filter (where account not like '445%'), 0)::bigint as net_cents,
    coalesce(-sum(amount_cents) filter (where account like '445%'), 0)::bigint as vat_cents,
    -sum(amount_cents)::bigint as gross_cents
from {{ ref('int_entry_lines') }}
where vat_rate_bp is not null and kind in ('sale', 'z')
group by shop_id, business_day, register_id, vat_rate_bp
