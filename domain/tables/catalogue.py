"""What a tenant sells: one row for each SKU."""

from sqlalchemy import CheckConstraint, Index, Table, UniqueConstraint

from domain.tables.columns import id_column, int_column, metadata, tenant_column, text_column, time_column

products = Table(
    "products",
    metadata,
    id_column(),
    tenant_column(),
    text_column("sku"),
    text_column("name"),
    int_column("price", big=True),
    text_column("currency"),
    int_column("version", default=1),
    time_column("created_at", now=True),
    UniqueConstraint("tenant_id", "sku"),
    Index("ix_products_list", "tenant_id", "id"),
    CheckConstraint("price >= 0", name="price"),
    CheckConstraint("char_length(sku) <= 64 AND char_length(name) <= 200", name="length"),
)
