"""Everything that went in, by what came out of it: the buckets of Jepsen's total-queue, and one for what was refused.

`duplicated` counts what came out more than once; for webhooks and mails, which are delivered at least once, that is no
fault.
"""

from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import Row

from ops.chaos.history import History
from ops.chaos.judges.webhooks import event_of, wanted
from ops.chaos.observe import Seen


class Buckets(msgspec.Struct, frozen=True):
    """`recovered`: nobody knew for a while, and it was found. `refused`: said so at once, or dead with a letter."""

    ok: int = 0
    lost: int = 0
    unexpected: int = 0
    duplicated: int = 0
    recovered: int = 0
    refused: int = 0


def buckets_of(history: History, seen: Seen) -> dict[str, Buckets]:
    """By what it is: orders, webhooks, mails."""
    return {"orders": _orders(history, seen), "webhooks": _webhooks(history, seen), "mails": _mails(history, seen)}


def _orders(history: History, seen: Seen) -> Buckets:
    stored = Counter((str(order.tenant_id), order.idempotency_key) for order in seen.orders)
    there = [posted for posted in history.accepted() if stored[posted.tenant.id, posted.key]]
    wanted_keys = {(posted.tenant.id, posted.key) for posted in history.posted if posted.outcome != "refused"}
    recovered = sum(posted.was_unknown for posted in there)
    return Buckets(
        ok=len(there) - recovered,
        lost=len(history.accepted()) - len(there),
        unexpected=len(stored.keys() - wanted_keys),
        duplicated=sum(count > 1 for count in stored.values()),
        recovered=recovered,
        refused=sum(posted.outcome == "refused" for posted in history.posted),
    )


def _webhooks(history: History, seen: Seen) -> Buckets:
    came = Counter((delivery.path, event_of(delivery)) for delivery in seen.deliveries)
    jobs = {(job.endpoint_id, str(job.event_id)): job for job in seen.jobs if job.kind == "webhook.deliver"}
    published = {str(event.id) for event in seen.events_published}
    due = [(endpoint, str(event.id)) for event, endpoint in wanted(history, seen)]
    missing = [jobs.get((endpoint.id, event_id)) for endpoint, event_id in due if not came[endpoint.path, event_id]]
    given_up = sum(job is not None and _gave_up(job) for job in missing)
    return Buckets(
        ok=len(due) - len(missing),
        lost=len(missing) - given_up,
        unexpected=sum(event_id not in published for _, event_id in came),
        duplicated=sum(count > 1 for count in came.values()),
        refused=given_up,
    )


def _gave_up(job: Row[Any]) -> bool:
    """For all to see: dead, cancelled, or its endpoint was gone."""
    return job.state in {"dead", "cancelled"} or job.code == "ENDPOINT_DELETED"


def _mails(history: History, seen: Seen) -> Buckets:
    came = Counter(mail.recipient for mail in seen.mails)
    states = {str(job.order_id): job.state for job in seen.jobs if job.kind.startswith("email.")}
    due = [posted for posted in history.accepted() if posted.order_id in states]
    missing = [states[posted.order_id] for posted in due if not came[posted.email]]
    given_up = sum(state in {"dead", "cancelled"} for state in missing)
    return Buckets(
        ok=len(due) - len(missing),
        lost=len(missing) - given_up,
        unexpected=len(came.keys() - {posted.email for posted in history.posted}),
        duplicated=sum(count > 1 for count in came.values()),
        refused=given_up,
    )
