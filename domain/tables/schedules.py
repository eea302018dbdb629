"""What runs by the calendar, and the first tick of each that nobody has fired."""

from sqlalchemy import CheckConstraint, Column, Table
from sqlalchemy.dialects.postgresql import JSONB, TEXT

from domain.tables.columns import metadata, tenant_column, text_column, time_column, uuid_column

schedules = Table(
    "schedules",
    metadata,
    Column("name", TEXT, primary_key=True),
    tenant_column(),
    text_column("kind"),
    Column("args", JSONB, nullable=False),
    text_column("cron"),
    text_column("time_zone"),
    text_column("catch_up"),
    time_column("created_at", now=True),
    time_column("paused_at"),
    text_column("paused_reason", nullable=True),
    time_column("next_at", nullable=False),  # the first tick that nobody has fired
    time_column("last_fired_at"),
    uuid_column("last_job_id"),
    CheckConstraint("catch_up IN ('skip', 'latest', 'all')", name="catch_up"),
)
