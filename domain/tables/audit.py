"""Who did what, and why. Rows are only added."""

from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql import JSONB

from domain.tables.columns import id_column, metadata, text_column, time_column, uuid_column

audit_log = Table(
    "audit_log",
    metadata,
    id_column(),
    uuid_column("tenant_id"),
    text_column("actor"),
    text_column("action"),
    text_column("subject"),
    text_column("reason", nullable=True),
    Column("detail", JSONB),
    time_column("at", now=True),
)
