"""Whose everything is, and the keys that open it. A key's secret is not here, only its hash."""

from sqlalchemy import Column, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, TEXT

from domain.tables.columns import id_column, metadata, tenant_column, text_column, time_column

tenants = Table(
    "tenants", metadata, id_column(), text_column("name"), UniqueConstraint("name"), time_column("created_at", now=True)
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", TEXT, primary_key=True),  # the public part of the key
    tenant_column(),
    text_column("name"),
    Column("secret_hash", BYTEA, nullable=False),  # SHA-256 of 256 random bits
    Column("scopes", ARRAY(TEXT), nullable=False),
    time_column("created_at", now=True),
    time_column("expires_at"),
    time_column("last_used_at"),
)
