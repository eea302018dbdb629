"""Whose everything is, and the keys that open it. A key's secret is not here, only its hash."""

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Index, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, TEXT, UUID

from domain.tables.columns import id_column, metadata, tenant_column, text_column, time_column

tenants = Table(
    "tenants",
    metadata,
    id_column(),
    text_column("name"),
    text_column("subdomain", nullable=True),  # <subdomain>.<the domain of the API> names the tenant
    text_column("domain", nullable=True),  # a host of its own that does
    text_column("plan", default="basic"),  # what it buys: `domain.tenants.plan_rules`
    text_column("status", default="active"),
    Column("settings", JSONB, nullable=False, server_default="{}"),
    time_column("created_at", now=True),
    time_column("updated_at", now=True),
    UniqueConstraint("name"),
    UniqueConstraint("subdomain"),
    UniqueConstraint("domain"),
    CheckConstraint(
        "char_length(name) <= 200 AND char_length(subdomain) <= 100 AND char_length(domain) <= 200", name="length"
    ),
    CheckConstraint("plan IN ('basic', 'free', 'pro', 'enterprise')", name="plan"),
    CheckConstraint("status IN ('active', 'suspended')", name="status"),
    Index("ix_tenants_suspended", "id", postgresql_where=sa.text("status = 'suspended'")),  # the relay asks often
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

# What a tenant is configured with, by key: its flags, its sender's address. An encrypted value is sealed text.
system_config = Table(
    "system_config",
    metadata,
    Column("tenant_id", UUID, sa.ForeignKey("tenants.id"), primary_key=True),
    Column("key", TEXT, primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("is_encrypted", sa.Boolean, nullable=False, server_default="false"),
    time_column("updated_at", now=True),
    CheckConstraint("char_length(key) BETWEEN 1 AND 100", name="key"),
)
