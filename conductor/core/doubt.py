"""What an earlier send of the same key forbids while its fate is not known. Questions only; nothing changes here."""

from __future__ import annotations

from datetime import datetime, timedelta

from conductor.core.plan import NodePlan
from conductor.core.run import Attempt
from conductor.core.vendor import Correlation, Delivery

__all__ = ["is_in_doubt", "key_expires_at"]


def is_in_doubt(plan: NodePlan, attempt: Attempt) -> bool:
    """True when an earlier send of this attempt may have been accepted, and the vendor was not asked to the end.

    Only `effectively_once` goes on while in doubt: it sends the same key again. Whatever the vendor answers to that
    later send, short of a run, says nothing about the earlier one: a new key could start the work a second time.
    """
    is_resent = plan.delivery is Delivery.EFFECTIVELY_ONCE and plan.capabilities.correlation is Correlation.KEY
    has_been_lost = attempt.settle_until is not None and attempt.ref is None
    return is_resent and has_been_lost and not plan.capabilities.sends_nothing


def key_expires_at(plan: NodePlan, attempt: Attempt) -> datetime | None:
    """When an attempt in doubt must not be sent any more: the vendor may forget its key. None when not in doubt."""
    if attempt.first_sent_at is None or not is_in_doubt(plan, attempt):
        return None
    return attempt.first_sent_at + timedelta(seconds=plan.capabilities.key_ttl_s)
