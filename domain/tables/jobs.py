"""Work, and what became of it. Jobs and attempts leave by the week; a dead letter holds a copy of its job.

Nothing references `jobs` or `attempts`: they are partitioned by job id (`domain.jobs.partitions`).
"""

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, Index, Table
from sqlalchemy.dialects.postgresql import JSONB, UUID

from domain.tables.columns import (
    id_column,
    int_column,
    metadata,
    tenant_column,
    text_column,
    time_column,
    uuid_column,
)

jobs = Table(
    "jobs",
    metadata,
    id_column(),
    uuid_column("tenant_id", nullable=False),
    text_column("kind"),
    text_column("queue"),
    text_column("state", default="queued"),
    Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
    Column("args", JSONB, nullable=False),
    int_column("claim", default=0),  # the fence: raised by every claim, never returned
    int_column("attempt", default=0),  # the budget: returned by a snooze or a hand-back
    int_column("max_attempts"),
    int_column("crashes", default=0),
    int_column("version", default=1),
    time_column("created_at", now=True),
    time_column("due_at", now=True),
    time_column("deadline_at"),
    uuid_column("worker_id"),
    time_column("started_at"),
    time_column("finished_at"),
    time_column("cancel_requested_at"),
    uuid_column("order_id"),
    uuid_column("event_id"),
    uuid_column("parent_id"),  # the job that waits for this one's group, or that this one replays with other arguments
    text_column("unique_key", nullable=True),
    text_column("lane", nullable=True),
    Column("progress", JSONB),
    Column("result", JSONB),
    Column("last_error", JSONB),
    Column("trace_context", JSONB),
    CheckConstraint(
        "state IN ('scheduled', 'queued', 'running', 'retrying', 'succeeded', 'dead', 'cancelled')", name="state"
    ),
    CheckConstraint("priority BETWEEN -2 AND 2", name="priority"),
    # No index names a column that claim and finish write: their updates stay on the page (HOT), and touch no index.
    Index("ix_jobs_tenant", "tenant_id", "id"),
    Index("ix_jobs_order", "tenant_id", "order_id", postgresql_where=sa.text("order_id IS NOT NULL")),
    Index("ix_jobs_parent", "tenant_id", "parent_id", "id", postgresql_where=sa.text("parent_id IS NOT NULL")),
    Index("ix_jobs_cancel", "id", postgresql_where=sa.text("cancel_requested_at IS NOT NULL")),
    postgresql_partition_by="RANGE (id)",
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("claim", sa.Integer, primary_key=True),
    int_column("number"),
    uuid_column("worker_id"),
    time_column("started_at"),
    time_column("finished_at", now=True),
    text_column("outcome"),  # succeeded | retrying | dead | snoozed | handed_back | crashed | cancelled
    text_column("error_class", nullable=True),
    text_column("error_message", nullable=True),
    text_column("fingerprint", nullable=True),
    Column("detail", JSONB),
    postgresql_partition_by="RANGE (job_id)",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    id_column(),
    tenant_column(),
    uuid_column("job_id", nullable=False),
    text_column("kind"),
    text_column("fingerprint"),
    text_column("cause"),  # permanent | attempts | crashes | deadline
    Column("snapshot", JSONB, nullable=False),
    time_column("died_at", now=True),
    text_column("resolution", nullable=True),  # replayed | edited | discarded
    time_column("resolved_at"),
    text_column("resolved_by", nullable=True),
    text_column("reason", nullable=True),
    uuid_column("replay_job_id"),
    Index("ix_dead_letters_open", "fingerprint", "id", postgresql_where=sa.text("resolution IS NULL")),
    Index("ix_dead_letters_job", "job_id"),
    Index("ix_dead_letters_event", sa.text("CAST(snapshot ->> 'eventId' AS uuid)")),  # what a replay needs stays
    Index("ix_dead_letters_list", "tenant_id", "id"),
)
