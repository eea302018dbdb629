"""Who did what, and why. Rows are only added; each is chained to the one before it by the database, at its commit."""

from sqlalchemy import BigInteger, Column, Index, Table
from sqlalchemy.dialects.postgresql import BYTEA, JSONB, UUID

from domain.tables.columns import id_column, int_column, metadata, text_column, time_column, uuid_column

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
    Column("position", BigInteger),  # in its chain, from 1
    Column("hash", BYTEA),  # SHA-256 over the hash before it and this row
    Index("ix_audit_log_chain", "tenant_id", "position"),
)

# The end of each chain: of a tenant's acts, and (of the tenant that is all zeros) of those that concern no tenant.
audit_chains = Table(
    "audit_chains",
    metadata,
    Column("tenant_id", UUID, primary_key=True),
    int_column("length", big=True),
    Column("hash", BYTEA, nullable=False),
)
