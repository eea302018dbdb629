"""The state of each outside dependency, for all workers alike."""

from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql import TEXT

from domain.tables.columns import int_column, metadata, text_column, time_column

lanes = Table(
    "lanes",
    metadata,
    Column("name", TEXT, primary_key=True),  # endpoint:<id> | smtp
    text_column("queue"),
    text_column("state", default="healthy"),  # healthy | slow | parked | disabled
    time_column("parked_until"),
    int_column("failures", default=0),  # in a row
    int_column("latency_ms", default=0),  # exponentially weighted mean
    int_column("room", default=32),  # most jobs in flight
    int_column("in_flight", default=0),  # a hint; the rescuer puts it right
    time_column("last_served", now=True),
    postgresql_with={"fillfactor": "50"},
)
