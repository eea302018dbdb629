"""What ties jobs to one another: keys that only one may have, and jobs that wait for others."""

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Index, Table
from sqlalchemy.dialects.postgresql import TEXT, UUID

from domain.tables.columns import id_column, int_column, metadata, time_column, uuid_column

# Which job has a unique key. `until` NULL = while that job has not ended.
unique_jobs = Table(
    "unique_jobs",
    metadata,
    Column("tenant_id", UUID, primary_key=True),
    Column("kind", TEXT, primary_key=True),
    Column("key", TEXT, primary_key=True),
    uuid_column("job_id", nullable=False),
    time_column("until"),
    Index("ix_unique_jobs_until", "until", postgresql_where=sa.text("until IS NOT NULL")),
)

# The jobs that wait for others: `id` is the job that waits, and the `parent_id` of those that it waits for.
job_groups = Table(
    "job_groups",
    metadata,
    id_column(),
    uuid_column("tenant_id", nullable=False),
    Column("needs_success", sa.Boolean, nullable=False),
    int_column("total"),
    int_column("succeeded", default=0),
    int_column("dead", default=0),
    int_column("cancelled", default=0),
    time_column("closed_at"),  # nothing counts any more: the waiting job fired, or was cancelled because it never can
    CheckConstraint("least(succeeded, dead, cancelled) >= 0 AND succeeded + dead + cancelled <= total", name="counts"),
    postgresql_with={"fillfactor": "50"},
)
