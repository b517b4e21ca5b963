"""The shop behind the demo: deterministic orders and customers, loaded as Fivetran would, read as Hightouch would."""

from __future__ import annotations

from pathlib import Path

import duckdb

__all__ = ["load", "push"]


_TABLES = {
    "shop_customers": """
        create or replace table shop.customers as
        select i as customer_id, 'Customer' || i || '@shop.test' as email,
               ['DE', 'FR', 'GB', 'US'][1 + i % 4] as country
        from range(1, 201) t(i)
    """,
    "shop_orders": """
        create or replace table shop.orders as
        select i as order_id, 1 + (i * 7919) % 200 as customer_id,
               timestamp '2026-01-01' + to_hours(i) as ordered_at, 500 + (i * 104729) % 20000 as cents
        from range(1, 2001) t(i)
    """,
}


def load(warehouse: Path, connection_id: str) -> None:
    """Load what one Fivetran connection of the demo brings; loading again replaces it."""
    with duckdb.connect(str(warehouse)) as database:
        database.execute("create schema if not exists shop")
        database.execute(_TABLES[connection_id])


def push(warehouse: Path) -> int:
    """Read the mart as the demo's Hightouch sync does; the number of rows pushed."""
    with duckdb.connect(str(warehouse), read_only=True) as database:
        row = database.execute("select count(*) from customer_orders").fetchone()
    return int(row[0]) if row else 0
