"""Who wants to be told, and which job tells whom of what: each endpoint of each event once."""

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, TEXT, UUID

from domain.tables.columns import id_column, int_column, metadata, tenant_column, text_column, time_column, uuid_column

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    id_column(),
    tenant_column(),
    text_column("url"),
    Column("event_types", ARRAY(TEXT), nullable=False),  # {*} = every type, {} = deleted
    Column("secrets", ARRAY(BYTEA), nullable=False),  # sealed, newest first
    Column("retry", JSONB),  # overrides the kind's timetable
    time_column("disabled_at"),
    text_column("disabled_reason", nullable=True),
    int_column("version", default=1),
    time_column("created_at", now=True),
    UniqueConstraint("tenant_id", "id"),
    CheckConstraint("char_length(url) <= 2048", name="length"),
)

# Nothing references `events`: retention takes the event first and its deliveries after it, each by its own primary key.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("job_id", UUID, primary_key=True),
    tenant_column(),
    uuid_column("endpoint_id", nullable=False),
    uuid_column("event_id", nullable=False),
    int_column("endpoint_version"),  # the subscription that matched
    time_column("created_at", now=True),
    ForeignKeyConstraint(
        ["tenant_id", "endpoint_id"], ["webhook_endpoints.tenant_id", "webhook_endpoints.id"], ondelete="CASCADE"
    ),
    UniqueConstraint("endpoint_id", "event_id"),
)
