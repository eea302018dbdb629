"""the engine: a lease per bundle, updates that touch no index, deadlines, and what the relay obeys

Stop the workers first: a worker of before renews a column that is gone after.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("jobs", sa.Column("deadline_at", _TIME, nullable=True))
    _make_leases()
    op.drop_index("ix_jobs_list", table_name="jobs")
    op.drop_index("ix_jobs_running", table_name="jobs")
    op.drop_column("jobs", "lease_until")
    op.create_index("ix_jobs_tenant", "jobs", ["tenant_id", "id"])
    op.create_index("ix_jobs_cancel", "jobs", ["id"], postgresql_where=sa.text("cancel_requested_at IS NOT NULL"))
    op.drop_index("ix_outbox_due", table_name="outbox")
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["queue", "kind", "tenant_id", sa.literal_column("priority DESC"), "due_at"],
        postgresql_where=sa.text("lane IS NULL"),
    )
    op.drop_index("ix_outbox_lane", table_name="outbox")
    op.create_index(
        "ix_outbox_lane",
        "outbox",
        ["lane", sa.literal_column("priority DESC"), "due_at"],
        postgresql_where=sa.text("lane IS NOT NULL"),
    )
    op.create_table(
        "controls",
        sa.Column("scope", sa.TEXT(), nullable=False),
        sa.Column("name", sa.TEXT(), nullable=False),
        sa.Column("paused_at", _TIME, nullable=True),
        sa.Column("max_in_flight", sa.Integer(), nullable=True),
        sa.Column("max_in_flight_per_tenant", sa.Integer(), nullable=True),
        sa.Column("starts_per_second", sa.Double(), nullable=True),
        sa.CheckConstraint("scope IN ('queue', 'kind')", name=op.f("ck_controls_scope")),
        sa.CheckConstraint(
            "max_in_flight > 0 AND max_in_flight_per_tenant > 0 AND starts_per_second > 0",
            name=op.f("ck_controls_positive"),
        ),
        sa.PrimaryKeyConstraint("scope", "name", name=op.f("pk_controls")),
    )
    _set_fillfactor(50)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _set_fillfactor(75)
    op.drop_table("controls")
    op.drop_index("ix_outbox_lane", table_name="outbox", postgresql_where=sa.text("lane IS NOT NULL"))
    op.create_index("ix_outbox_lane", "outbox", ["lane", "due_at"], postgresql_where=sa.text("lane IS NOT NULL"))
    op.drop_index("ix_outbox_due", table_name="outbox", postgresql_where=sa.text("lane IS NULL"))
    op.create_index("ix_outbox_due", "outbox", ["queue", "due_at"], postgresql_where=sa.text("lane IS NULL"))
    op.drop_index("ix_jobs_cancel", table_name="jobs", postgresql_where=sa.text("cancel_requested_at IS NOT NULL"))
    op.drop_index("ix_jobs_tenant", table_name="jobs")
    op.add_column("jobs", sa.Column("lease_until", _TIME, nullable=True))
    op.create_index("ix_jobs_list", "jobs", ["tenant_id", "state", "id"])
    op.create_index("ix_jobs_running", "jobs", ["id"], postgresql_where=sa.text("state = 'running'"))
    op.execute(
        """
        UPDATE jobs SET lease_until = l.lease_until
          FROM leases AS l CROSS JOIN LATERAL unnest(l.job_ids) AS held(id)
         WHERE jobs.id = held.id AND jobs.state = 'running'
        """
    )
    op.drop_table("leases")
    op.drop_column("jobs", "deadline_at")


def _make_leases() -> None:
    op.create_table(
        "leases",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=False),
        sa.Column("lease_until", _TIME, nullable=False),
        sa.Column("job_ids", postgresql.ARRAY(sa.UUID()), nullable=False),
        sa.Column("claims", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leases")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_cost_delay": "0",
            # A bundle's ids stay in the row: two kilobytes of random bytes are not worth the try to compress them.
            "toast_tuple_target": "8160",
        },
    )
    op.execute(
        """
        INSERT INTO leases (id, worker_id, lease_until, job_ids, claims)
        SELECT uuidv7(), worker_id, coalesce(lease_until, clock_timestamp()), ARRAY[id], ARRAY[claim]
          FROM jobs WHERE state = 'running'
        """
    )


def _set_fillfactor(percent: int) -> None:
    """Of every partition: both updates of a job's ordinary life find room on its page."""
    op.execute(
        f"""
        DO $$ DECLARE part regclass; BEGIN
            FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'jobs'::regclass LOOP
                EXECUTE format('ALTER TABLE %s SET (fillfactor = {percent})', part);
            END LOOP;
        END $$
        """  # noqa: S608  # a number of ours
    )
