-- Why register-days wait, one row per reason.
select
    shop_id,
    business_day,
    register_id,
    reason,
    what,
    next_step
from {{ source('kash', 'held') }}
