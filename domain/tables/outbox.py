"""What shall start, what has been started, and what the relay obeys meanwhile: small tables, hot ones."""

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Index, Table
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, UUID

from domain.tables.columns import HOT, id_column, int_column, metadata, text_column, time_column, uuid_column

outbox = Table(
    "outbox",
    metadata,
    Column("job_id", UUID, primary_key=True),
    text_column("queue"),
    text_column("kind"),
    Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
    uuid_column("tenant_id", nullable=False),
    text_column("lane", nullable=True),
    time_column("due_at", nullable=False),
    int_column("rings", default=0),
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
    Index(
        "ix_outbox_lane",
        "lane",
        "queue",
        "kind",
        "tenant_id",
        sa.text("priority DESC"),
        "due_at",
        postgresql_where=sa.text("lane IS NOT NULL"),
    ),
    postgresql_with=HOT,
)

# One row per claimed bundle: which jobs a worker holds under which claims, and until when unless it speaks again.
leases = Table(
    "leases",
    metadata,
    id_column(),
    uuid_column("worker_id", nullable=False),
    time_column("lease_until", nullable=False),
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
    time_column("paused_at"),
    Column("max_in_flight", sa.Integer),  # rung or running at once
    Column("max_in_flight_per_tenant", sa.Integer),
    Column("starts_per_second", sa.Double),
    CheckConstraint("scope IN ('queue', 'kind')", name="scope"),
    CheckConstraint("max_in_flight > 0 AND max_in_flight_per_tenant > 0 AND starts_per_second > 0", name="positive"),
)
