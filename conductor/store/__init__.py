"""Keeps runs, their journal and pipeline versions in SQLite or PostgreSQL. One commit a batch; every write guarded."""

from conductor.store.batch import Batch, RunChange
from conductor.store.store import Store

__all__ = ["Batch", "RunChange", "Store"]
