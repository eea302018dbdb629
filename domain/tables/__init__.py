"""Every table, in a module for each room; `migrations/` builds them, and a test holds the two against each other.

Ids are UUIDv7, times `timestamptz`, money integer minor units. Every tenant table carries `tenant_id` in its unique
keys and foreign keys. `metadata`, imported from here, knows all of them.
"""

from domain.tables import (
    audit,
    catalogue,
    events,
    fleet,
    groups,
    idempotency,
    inventory,
    jobs,
    lanes,
    orders,
    outbox,
    people,
    reports,
    schedules,
    tenants,
    webhooks,
)
from domain.tables.columns import metadata

__all__ = [
    "audit",
    "catalogue",
    "events",
    "fleet",
    "groups",
    "idempotency",
    "inventory",
    "jobs",
    "lanes",
    "metadata",
    "orders",
    "outbox",
    "people",
    "reports",
    "schedules",
    "tenants",
    "webhooks",
]
