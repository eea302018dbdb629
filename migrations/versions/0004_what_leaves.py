"""what leaves: events that nobody needs; lanes know the flows in them; who cancelled itself is found

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_HIGHEST_FIRST = sa.literal_column("priority DESC")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _let_events_go()
    _index_lanes(["lane", "queue", "kind", "tenant_id", _HIGHEST_FIRST, "due_at"])
    op.execute(
        "UPDATE jobs SET cancel_requested_at = finished_at WHERE state = 'cancelled' AND cancel_requested_at IS NULL"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _index_lanes(["lane", _HIGHEST_FIRST, "due_at"])
    _keep_events()


def _let_events_go() -> None:
    """Retention deletes them: no row of another table has to be searched for each, but a dead letter by its event."""
    op.drop_constraint(op.f("fk_webhook_deliveries_tenant_id_event_id"), "webhook_deliveries")
    op.create_index("ix_dead_letters_event", "dead_letters", [sa.text("CAST(snapshot ->> 'eventId' AS uuid)")])


def _keep_events() -> None:
    op.drop_index("ix_dead_letters_event", table_name="dead_letters")
    op.execute("DELETE FROM webhook_deliveries AS d WHERE NOT EXISTS (SELECT FROM events WHERE events.id = d.event_id)")
    op.create_foreign_key(
        op.f("fk_webhook_deliveries_tenant_id_event_id"),
        "webhook_deliveries",
        "events",
        ["tenant_id", "event_id"],
        ["tenant_id", "id"],
    )


def _index_lanes(columns: list[str | sa.ColumnElement[object]]) -> None:
    has_lane = sa.text("lane IS NOT NULL")
    op.drop_index("ix_outbox_lane", table_name="outbox", postgresql_where=has_lane)
    op.create_index("ix_outbox_lane", "outbox", columns, postgresql_where=has_lane)
