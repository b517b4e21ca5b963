select
    c.customer_id,
    c.email,
    c.country,
    count(o.order_id) as orders,
    coalesce(sum(o.amount), 0) as revenue,
    max(o.ordered_at) as last_ordered_at
from {{ ref('stg_customers') }} c
left join {{ ref('stg_orders') }} o using (customer_id)
group by 1, 2, 3
