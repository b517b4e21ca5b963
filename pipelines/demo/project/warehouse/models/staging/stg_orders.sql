select order_id, customer_id, ordered_at, cents / 100.0 as amount
from {{ source('shop', 'orders') }}
