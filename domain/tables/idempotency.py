"""What was answered to a request that carried an Idempotency-Key, for all that creates something but orders.

An order's key is a column of the order, and lives as long.
"""

from sqlalchemy import Column, ForeignKey, Index, Integer, Table
from sqlalchemy.dialects.postgresql import BYTEA, JSONB, TEXT, UUID

from domain.tables.columns import metadata, time_column

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", UUID, ForeignKey("tenants.id"), primary_key=True),
    Column("route", TEXT, primary_key=True),  # method and template: POST /api/v1/reports
    Column("key", TEXT, primary_key=True),
    Column("request_hash", BYTEA, nullable=False),
    Column("status", Integer),  # NULL only inside the transaction that took the key
    Column("headers", JSONB),
    Column("body", BYTEA),
    time_column("created_at", now=True),
    time_column("expires_at", nullable=False),
    Index("ix_idempotency_keys_expires", "expires_at"),
)
