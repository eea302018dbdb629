"""What was asked for, and the file that answers it. A report outlives its job."""

import sqlalchemy as sa
from sqlalchemy import Column, Index, Table

from domain.tables.columns import id_column, metadata, tenant_column, text_column, time_column, uuid_column

reports = Table(
    "reports",
    metadata,
    id_column(),
    tenant_column(),
    text_column("type"),
    text_column("format"),
    time_column("period_from", nullable=False),
    time_column("period_to", nullable=False),
    uuid_column("job_id", nullable=False),
    text_column("object_key", nullable=True),  # set when the file is whole
    Column("row_count", sa.BigInteger),
    Column("byte_count", sa.BigInteger),
    time_column("created_at", now=True),
    Index("ix_reports_list", "tenant_id", sa.text("id DESC")),
)
