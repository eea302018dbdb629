"""control: schedules, unique jobs, groups

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _add_unique_jobs()
    _add_groups()
    _add_schedules()
    op.add_column("order_lines", sa.Column("name", sa.TEXT(), nullable=True))
    op.create_check_constraint(op.f("ck_jobs_priority"), "jobs", "priority BETWEEN -2 AND 2")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint(op.f("ck_jobs_priority"), "jobs")
    op.drop_column("order_lines", "name")
    op.drop_table("schedules")
    op.drop_index("ix_jobs_parent", table_name="jobs", postgresql_where=sa.text("parent_id IS NOT NULL"))
    op.drop_table("job_groups")
    op.drop_column("jobs", "unique_key")
    op.drop_index("ix_unique_jobs_until", table_name="unique_jobs", postgresql_where=sa.text("until IS NOT NULL"))
    op.drop_table("unique_jobs")


def _add_unique_jobs() -> None:
    op.add_column("jobs", sa.Column("unique_key", sa.TEXT(), nullable=True))
    op.create_table(
        "unique_jobs",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.TEXT(), nullable=False),
        sa.Column("key", sa.TEXT(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("until", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "key", name=op.f("pk_unique_jobs")),
    )
    op.create_index("ix_unique_jobs_until", "unique_jobs", ["until"], postgresql_where=sa.text("until IS NOT NULL"))


def _add_groups() -> None:
    op.create_table(
        "job_groups",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("needs_success", sa.Boolean(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dead", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cancelled", sa.Integer(), server_default="0", nullable=False),
        sa.Column("closed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "least(succeeded, dead, cancelled) >= 0 AND succeeded + dead + cancelled <= total",
            name=op.f("ck_job_groups_counts"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_groups")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "ix_jobs_parent",
        "jobs",
        ["tenant_id", "parent_id", "id"],
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )


def _add_schedules() -> None:
    time = postgresql.TIMESTAMP(timezone=True)
    op.create_table(
        "schedules",
        sa.Column("name", sa.TEXT(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.TEXT(), nullable=False),
        sa.Column("args", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("cron", sa.TEXT(), nullable=False),
        sa.Column("time_zone", sa.TEXT(), nullable=False),
        sa.Column("catch_up", sa.TEXT(), nullable=False),
        sa.Column("created_at", time, server_default=sa.text("now()"), nullable=False),
        sa.Column("paused_at", time, nullable=True),
        sa.Column("paused_reason", sa.TEXT(), nullable=True),
        sa.Column("next_at", time, nullable=False),
        sa.Column("last_fired_at", time, nullable=True),
        sa.Column("last_job_id", sa.UUID(), nullable=True),
        sa.CheckConstraint("catch_up IN ('skip', 'latest', 'all')", name=op.f("ck_schedules_catch_up")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_schedules_tenant_id")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedules")),
    )
