"""Every table on one page; `migrations/` builds them, and a test holds the two against each other.

Ids are UUIDv7, times `timestamptz`, money integer minor units. Every tenant table carries `tenant_id` in its unique
keys and foreign keys. Nothing references `jobs` or `attempts`: they are partitioned by job id and leave by partition.
"""

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, ForeignKeyConstraint, Index, Table, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, TEXT, TIMESTAMP, UUID

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
#: Hot tables: room on each page for new row versions, and a vacuum that starts by count, not by share of the table.
HOT = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}


def _id(name: str = "id") -> Column[object]:
    return Column(name, UUID, primary_key=True)


def _time(name: str, *, nullable: bool = True, now: bool = False) -> Column[object]:
    return Column(
        name, TIMESTAMP(timezone=True), nullable=nullable and not now, server_default=func.now() if now else None
    )


def _text(name: str, *, nullable: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, TEXT, nullable=nullable, server_default=default)


def _int(name: str, *, default: int | None = None, big: bool = False) -> Column[object]:
    kind = sa.BigInteger if big else sa.Integer
    return Column(name, kind, nullable=False, server_default=None if default is None else str(default))


def _uuid(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, UUID, nullable=nullable)


def _tenant() -> Column[object]:
    return Column("tenant_id", UUID, ForeignKey("tenants.id"), nullable=False)


tenants = Table("tenants", metadata, _id(), _text("name"), UniqueConstraint("name"), _time("created_at", now=True))

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", TEXT, primary_key=True),  # the public part of the key
    _tenant(),
    _text("name"),
    Column("secret_hash", BYTEA, nullable=False),  # SHA-256 of 256 random bits
    Column("scopes", ARRAY(TEXT), nullable=False),
    _time("created_at", now=True),
    _time("expires_at"),
    _time("last_used_at"),
)

products = Table(
    "products",
    metadata,
    _id(),
    _tenant(),
    _text("sku"),
    _text("name"),
    _int("price", big=True),
    _text("currency"),
    _int("version", default=1),
    _time("created_at", now=True),
    UniqueConstraint("tenant_id", "sku"),
    CheckConstraint("price >= 0", name="price"),
)

stock = Table(
    "stock",
    metadata,
    Column("tenant_id", UUID, primary_key=True),
    Column("sku", TEXT, primary_key=True),
    _int("on_hand", default=0),
    _int("reserved", default=0),
    ForeignKeyConstraint(["tenant_id", "sku"], ["products.tenant_id", "products.sku"]),
    CheckConstraint("0 <= reserved AND reserved <= on_hand", name="never_oversold"),
    postgresql_with={"fillfactor": "50"},
)

stock_ledger = Table(
    "stock_ledger",
    metadata,
    _id(),
    _uuid("tenant_id", nullable=False),
    _text("sku"),
    _int("on_hand_delta"),
    _int("reserved_delta"),
    _text("reason"),  # received | adjusted | reserved | released | shipped
    _uuid("order_id"),
    _uuid("job_id"),
    _time("at", now=True),
    ForeignKeyConstraint(["tenant_id", "sku"], ["stock.tenant_id", "stock.sku"]),
    Index("ix_stock_ledger_sku", "tenant_id", "sku", "id"),
)

orders = Table(
    "orders",
    metadata,
    _id(),
    _tenant(),
    _text("idempotency_key"),
    Column("request_hash", BYTEA, nullable=False),
    _text("customer_email"),
    _text("currency"),
    _int("total", big=True),
    _text("status", default="accepted"),
    _text("reason", nullable=True),  # why it was rejected or failed
    _int("version", default=1),
    _uuid("root_job_id", nullable=False),
    _time("created_at", now=True),
    UniqueConstraint("tenant_id", "idempotency_key"),
    UniqueConstraint("tenant_id", "id"),
    Index("ix_orders_list", "tenant_id", sa.text("created_at DESC"), sa.text("id DESC")),
    CheckConstraint(
        "status IN ('accepted', 'confirmed', 'rejected', 'failed', 'completed', 'cancelled')", name="status"
    ),
    postgresql_with={"fillfactor": "85"},
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("tenant_id", UUID, primary_key=True),
    Column("order_id", UUID, primary_key=True),
    Column("sku", TEXT, primary_key=True),
    _int("quantity"),
    _int("unit_price", big=True),
    _text("name", nullable=True),  # the product's, at the time of the order; orders of before 0003 have none
    ForeignKeyConstraint(["tenant_id", "order_id"], ["orders.tenant_id", "orders.id"]),
    CheckConstraint("quantity > 0", name="quantity"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("order_id", UUID, primary_key=True),
    Column("sku", TEXT, primary_key=True),
    _uuid("tenant_id", nullable=False),
    _int("quantity"),
    _text("state", default="held"),  # held -> shipped | released
    _time("created_at", now=True),
    ForeignKeyConstraint(["tenant_id", "order_id"], ["orders.tenant_id", "orders.id"]),
    ForeignKeyConstraint(["tenant_id", "sku"], ["stock.tenant_id", "stock.sku"]),
    CheckConstraint("quantity > 0", name="quantity"),
    CheckConstraint("state IN ('held', 'shipped', 'released')", name="state"),
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _uuid("tenant_id", nullable=False),
    _text("kind"),
    _text("queue"),
    _text("state", default="queued"),
    Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
    Column("args", JSONB, nullable=False),
    _int("claim", default=0),  # the fence: raised by every claim, never returned
    _int("attempt", default=0),  # the budget: returned by a snooze or a hand-back
    _int("max_attempts"),
    _int("crashes", default=0),
    _int("version", default=1),
    _time("created_at", now=True),
    _time("due_at", now=True),
    _time("deadline_at"),
    _uuid("worker_id"),
    _time("started_at"),
    _time("finished_at"),
    _time("cancel_requested_at"),
    _uuid("order_id"),
    _uuid("event_id"),
    _uuid("parent_id"),  # the job that waits for this one's group, or that this one replays with other arguments
    _text("unique_key", nullable=True),
    _text("lane", nullable=True),
    Column("progress", JSONB),
    Column("result", JSONB),
    Column("last_error", JSONB),
    Column("trace_context", JSONB),
    CheckConstraint(
        "state IN ('scheduled', 'queued', 'running', 'retrying', 'succeeded', 'dead', 'cancelled')", name="state"
    ),
    CheckConstraint("priority BETWEEN -2 AND 2", name="priority"),
    # No index names a column that claim and finish write: their updates stay on the page (HOT), and touch no index.
    Index("ix_jobs_tenant", "tenant_id", "id"),
    Index("ix_jobs_order", "tenant_id", "order_id", postgresql_where=sa.text("order_id IS NOT NULL")),
    Index("ix_jobs_parent", "tenant_id", "parent_id", "id", postgresql_where=sa.text("parent_id IS NOT NULL")),
    Index("ix_jobs_cancel", "id", postgresql_where=sa.text("cancel_requested_at IS NOT NULL")),
    postgresql_partition_by="RANGE (id)",
)

outbox = Table(
    "outbox",
    metadata,
    Column("job_id", UUID, primary_key=True),
    _text("queue"),
    _text("kind"),
    Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
    _uuid("tenant_id", nullable=False),
    _text("lane", nullable=True),
    _time("due_at", nullable=False),
    _int("rings", default=0),
    Column("alone", sa.Boolean, nullable=False, server_default="false"),  # after a crash: in a bundle of one
    Index(
        "ix_outbox_due",
        "queue",
        "kind",
        "tenant_id",
        sa.text("priority DESC"),
        "due_at",
        postgresql_where=sa.text("lane IS NULL"),
    ),
    Index("ix_outbox_lane", "lane", sa.text("priority DESC"), "due_at", postgresql_where=sa.text("lane IS NOT NULL")),
    postgresql_with=HOT,
)

# One row per claimed bundle: which jobs a worker holds under which claims, and until when unless it speaks again.
leases = Table(
    "leases",
    metadata,
    _id(),
    _uuid("worker_id", nullable=False),
    _time("lease_until", nullable=False),
    Column("job_ids", ARRAY(UUID), nullable=False),
    Column("claims", ARRAY(sa.Integer), nullable=False),
    postgresql_with={**HOT, "toast_tuple_target": "8160"},
)

# What the relay obeys, set by operators; a queue or kind without a row runs freely.
controls = Table(
    "controls",
    metadata,
    Column("scope", TEXT, primary_key=True),  # queue | kind
    Column("name", TEXT, primary_key=True),
    _time("paused_at"),
    Column("max_in_flight", sa.Integer),  # rung or running at once
    Column("max_in_flight_per_tenant", sa.Integer),
    Column("starts_per_second", sa.Double),
    CheckConstraint("scope IN ('queue', 'kind')", name="scope"),
    CheckConstraint("max_in_flight > 0 AND max_in_flight_per_tenant > 0 AND starts_per_second > 0", name="positive"),
)

# Which job has a unique key. `until` NULL = while that job has not ended.
unique_jobs = Table(
    "unique_jobs",
    metadata,
    Column("tenant_id", UUID, primary_key=True),
    Column("kind", TEXT, primary_key=True),
    Column("key", TEXT, primary_key=True),
    _uuid("job_id", nullable=False),
    _time("until"),
    Index("ix_unique_jobs_until", "until", postgresql_where=sa.text("until IS NOT NULL")),
)

# The jobs that wait for others: `id` is the job that waits, and the `parent_id` of those that it waits for.
job_groups = Table(
    "job_groups",
    metadata,
    _id(),
    _uuid("tenant_id", nullable=False),
    Column("needs_success", sa.Boolean, nullable=False),
    _int("total"),
    _int("succeeded", default=0),
    _int("dead", default=0),
    _int("cancelled", default=0),
    _time("closed_at"),  # nothing counts any more: the waiting job fired, or was cancelled because it never can
    CheckConstraint("least(succeeded, dead, cancelled) >= 0 AND succeeded + dead + cancelled <= total", name="counts"),
    postgresql_with={"fillfactor": "50"},
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("claim", sa.Integer, primary_key=True),
    _int("number"),
    _uuid("worker_id"),
    _time("started_at"),
    _time("finished_at", now=True),
    _text("outcome"),  # succeeded | retrying | dead | snoozed | handed_back | crashed | cancelled
    _text("error_class", nullable=True),
    _text("error_message", nullable=True),
    _text("fingerprint", nullable=True),
    Column("detail", JSONB),
    postgresql_partition_by="RANGE (job_id)",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _id(),
    _tenant(),
    _uuid("job_id", nullable=False),
    _text("kind"),
    _text("fingerprint"),
    _text("cause"),  # permanent | attempts | crashes | deadline
    Column("snapshot", JSONB, nullable=False),
    _time("died_at", now=True),
    _text("resolution", nullable=True),  # replayed | edited | discarded
    _time("resolved_at"),
    _text("resolved_by", nullable=True),
    _text("reason", nullable=True),
    _uuid("replay_job_id"),
    Index("ix_dead_letters_open", "fingerprint", "id", postgresql_where=sa.text("resolution IS NULL")),
    Index("ix_dead_letters_job", "job_id"),
    Index("ix_dead_letters_list", "tenant_id", "id"),
)

events = Table(
    "events",
    metadata,
    _id(),
    _tenant(),
    _text("type"),
    _int("version", default=1),
    _uuid("subject", nullable=False),
    Column("data", JSONB, nullable=False),
    _int("sequence"),  # rises by subject
    _time("occurred_at", now=True),
    UniqueConstraint("tenant_id", "id"),
    Index("ix_events_subject", "tenant_id", "subject", "sequence"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    _id(),
    _tenant(),
    _text("url"),
    Column("event_types", ARRAY(TEXT), nullable=False),  # {*} = every type
    Column("secrets", ARRAY(BYTEA), nullable=False),  # sealed, newest first
    Column("retry", JSONB),  # overrides the kind's timetable
    _time("disabled_at"),
    _text("disabled_reason", nullable=True),
    _int("version", default=1),
    _time("created_at", now=True),
    UniqueConstraint("tenant_id", "id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("job_id", UUID, primary_key=True),
    _tenant(),
    _uuid("endpoint_id", nullable=False),
    _uuid("event_id", nullable=False),
    _int("endpoint_version"),  # the subscription that matched
    _time("created_at", now=True),
    ForeignKeyConstraint(
        ["tenant_id", "endpoint_id"], ["webhook_endpoints.tenant_id", "webhook_endpoints.id"], ondelete="CASCADE"
    ),
    ForeignKeyConstraint(["tenant_id", "event_id"], ["events.tenant_id", "events.id"]),
    UniqueConstraint("endpoint_id", "event_id"),
)

lanes = Table(
    "lanes",
    metadata,
    Column("name", TEXT, primary_key=True),  # endpoint:<id> | smtp
    _text("queue"),
    _text("state", default="healthy"),  # healthy | slow | parked | disabled
    _time("parked_until"),
    _int("failures", default=0),  # in a row
    _int("latency_ms", default=0),  # exponentially weighted mean
    _int("room", default=32),  # most jobs in flight
    _int("in_flight", default=0),  # a hint; the rescuer puts it right
    _time("last_served", now=True),
    postgresql_with={"fillfactor": "50"},
)

reports = Table(
    "reports",
    metadata,
    _id(),
    _tenant(),
    _text("type"),
    _text("format"),
    _time("period_from", nullable=False),
    _time("period_to", nullable=False),
    _uuid("job_id", nullable=False),
    _text("object_key", nullable=True),  # set when the file is whole
    Column("row_count", sa.BigInteger),
    Column("byte_count", sa.BigInteger),
    _time("created_at", now=True),
    Index("ix_reports_list", "tenant_id", sa.text("id DESC")),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", TEXT, primary_key=True),
    _tenant(),
    _text("kind"),
    Column("args", JSONB, nullable=False),
    _text("cron"),
    _text("time_zone"),
    _text("catch_up"),
    _time("created_at", now=True),
    _time("paused_at"),
    _text("paused_reason", nullable=True),
    _time("next_at", nullable=False),  # the first tick that nobody has fired
    _time("last_fired_at"),
    _uuid("last_job_id"),
    CheckConstraint("catch_up IN ('skip', 'latest', 'all')", name="catch_up"),
)

workers = Table(
    "workers",
    metadata,
    _id(),
    _text("role"),  # worker | relay | rescuer | scheduler
    _text("host"),
    _int("pid"),
    Column("queues", ARRAY(TEXT), nullable=False),
    _time("started_at", now=True),
    _time("beat_at", now=True),
)

audit_log = Table(
    "audit_log",
    metadata,
    _id(),
    _uuid("tenant_id"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _text("reason", nullable=True),
    Column("detail", JSONB),
    _time("at", now=True),
)
