"""What happened. Nobody changes an event; retention takes it after the jobs that it caused."""

from sqlalchemy import Column, Index, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB

from domain.tables.columns import id_column, int_column, metadata, tenant_column, text_column, time_column, uuid_column

events = Table(
    "events",
    metadata,
    id_column(),
    tenant_column(),
    text_column("type"),
    int_column("version", default=1),
    uuid_column("subject", nullable=False),
    Column("data", JSONB, nullable=False),
    int_column("sequence"),  # rises by subject
    time_column("occurred_at", now=True),
    UniqueConstraint("tenant_id", "id"),
    Index("ix_events_subject", "tenant_id", "subject", "sequence"),
)
