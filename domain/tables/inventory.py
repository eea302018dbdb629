"""How much there is, who holds how much of it, and each movement. The database itself refuses to oversell."""

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, Table
from sqlalchemy.dialects.postgresql import TEXT, UUID

from domain.tables.columns import id_column, int_column, metadata, text_column, time_column, uuid_column

stock = Table(
    "stock",
    metadata,
    Column("tenant_id", UUID, primary_key=True),
    Column("sku", TEXT, primary_key=True),
    int_column("on_hand", default=0),
    int_column("reserved", default=0),
    ForeignKeyConstraint(["tenant_id", "sku"], ["products.tenant_id", "products.sku"]),
    CheckConstraint("0 <= reserved AND reserved <= on_hand", name="never_oversold"),
    postgresql_with={"fillfactor": "50"},
)

stock_ledger = Table(
    "stock_ledger",
    metadata,
    id_column(),
    uuid_column("tenant_id", nullable=False),
    text_column("sku"),
    int_column("on_hand_delta"),
    int_column("reserved_delta"),
    text_column("reason"),  # received | adjusted | reserved | released | shipped
    uuid_column("order_id"),
    uuid_column("job_id"),
    time_column("at", now=True),
    ForeignKeyConstraint(["tenant_id", "sku"], ["stock.tenant_id", "stock.sku"]),
    Index("ix_stock_ledger_sku", "tenant_id", "sku", "id"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("order_id", UUID, primary_key=True),
    Column("sku", TEXT, primary_key=True),
    uuid_column("tenant_id", nullable=False),
    int_column("quantity"),
    text_column("state", default="held"),  # held -> shipped | released
    time_column("created_at", now=True),
    ForeignKeyConstraint(["tenant_id", "order_id"], ["orders.tenant_id", "orders.id"]),
    ForeignKeyConstraint(["tenant_id", "sku"], ["stock.tenant_id", "stock.sku"]),
    CheckConstraint("quantity > 0", name="quantity"),
    CheckConstraint("state IN ('held', 'shipped', 'released')", name="state"),
)
