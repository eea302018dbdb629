"""What callers posted: each idempotency key of a tenant stands for one order."""

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import BYTEA, TEXT, UUID

from domain.tables.columns import id_column, int_column, metadata, tenant_column, text_column, time_column, uuid_column

orders = Table(
    "orders",
    metadata,
    id_column(),
    tenant_column(),
    text_column("idempotency_key"),
    Column("request_hash", BYTEA, nullable=False),
    text_column("customer_email"),
    text_column("currency"),
    int_column("total", big=True),
    text_column("status", default="accepted"),
    text_column("reason", nullable=True),  # why it was rejected or failed
    int_column("version", default=1),
    uuid_column("root_job_id", nullable=False),
    time_column("created_at", now=True),
    UniqueConstraint("tenant_id", "idempotency_key"),
    UniqueConstraint("tenant_id", "id"),
    Index("ix_orders_list", "tenant_id", sa.text("created_at DESC"), sa.text("id DESC")),
    CheckConstraint(
        "status IN ('accepted', 'confirmed', 'rejected', 'failed', 'completed', 'cancelled')", name="status"
    ),
    CheckConstraint("char_length(customer_email) <= 254", name="length"),
    postgresql_with={"fillfactor": "85"},
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("tenant_id", UUID, primary_key=True),
    Column("order_id", UUID, primary_key=True),
    Column("sku", TEXT, primary_key=True),
    int_column("quantity"),
    int_column("unit_price", big=True),
    text_column("name", nullable=True),  # the product's, at the time of the order; orders of before 0003 have none
    ForeignKeyConstraint(["tenant_id", "order_id"], ["orders.tenant_id", "orders.id"]),
    CheckConstraint("quantity > 0", name="quantity"),
)
