"""What the tables share: one MetaData, the names of constraints, the storage of hot tables, the sorts of columns.

Ids, numbers and texts are NOT NULL unless they say otherwise; times and references may be NULL unless they do.
"""

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, func
from sqlalchemy.dialects.postgresql import TEXT, TIMESTAMP, UUID

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
#: Hot tables: room on each page for new row versions, and a vacuum that starts by count, not by share of the table.
HOT = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}


def id_column(name: str = "id") -> Column[object]:
    return Column(name, UUID, primary_key=True)


def time_column(name: str, *, nullable: bool = True, now: bool = False) -> Column[object]:
    return Column(
        name, TIMESTAMP(timezone=True), nullable=nullable and not now, server_default=func.now() if now else None
    )


def text_column(name: str, *, nullable: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, TEXT, nullable=nullable, server_default=default)


def int_column(name: str, *, default: int | None = None, big: bool = False) -> Column[object]:
    kind = sa.BigInteger if big else sa.Integer
    return Column(name, kind, nullable=False, server_default=None if default is None else str(default))


def uuid_column(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, UUID, nullable=nullable)


def tenant_column() -> Column[object]:
    return Column("tenant_id", UUID, ForeignKey("tenants.id"), nullable=False)
