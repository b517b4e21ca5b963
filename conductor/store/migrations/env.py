"""Runs migrations on the connection that the store hands over. Never reads configuration of its own."""

from __future__ import annotations

from alembic import context

from conductor.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
