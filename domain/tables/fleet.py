"""The processes that beat."""

from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql import ARRAY, TEXT

from domain.tables.columns import id_column, int_column, metadata, text_column, time_column

workers = Table(
    "workers",
    metadata,
    id_column(),
    text_column("role"),  # worker | relay | rescuer | scheduler
    text_column("host"),
    int_column("pid"),
    Column("queues", ARRAY(TEXT), nullable=False),
    time_column("started_at", now=True),
    time_column("beat_at", now=True),
)
