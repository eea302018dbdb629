"""the second wall: a role for each sort of process, and rows that a caller's request sees of one tenant only

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BOUND = "longshore_tenant"
_FREE = ("longshore_intake", "longshore_api", "longshore_relay", "longshore_rescuer", "longshore_worker")

# What the session was told at the start of its transaction; nothing was told: no row. Read once for each statement.
_TENANT = "(SELECT nullif(current_setting('longshore.tenant_id', true), '')::uuid)"
#: Whose a row is; by its own column, unless said here.
_TABLES = {
    "api_keys": "",
    "attempts": "EXISTS (SELECT FROM jobs WHERE jobs.id = attempts.job_id)",
    "audit_log": "",
    "dead_letters": "",
    "events": "",
    "job_groups": "",
    "jobs": "",
    "lanes": "EXISTS (SELECT FROM webhook_endpoints AS e"
    " WHERE e.id = CASE WHEN lanes.name LIKE 'endpoint:%' THEN substr(lanes.name, 10)::uuid END)",
    "order_lines": "",
    "orders": "",
    "outbox": "",
    "products": "",
    "reports": "",
    "reservations": "",
    "schedules": "",
    "stock": "",
    "stock_ledger": "",
    "tenants": f"id = {_TENANT}",
    "unique_jobs": "",
    "webhook_deliveries": "",
    "webhook_endpoints": "",
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for role in (_BOUND, *_FREE):
        _create(role)
    for table, is_theirs in _TABLES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_rows ON {table} TO {_BOUND} USING ({is_theirs or f'tenant_id = {_TENANT}'})")
        op.execute(f"CREATE POLICY all_rows ON {table} TO CURRENT_USER, {', '.join(_FREE)} USING (true)")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in _TABLES:
        for policy in ("own_rows", "all_rows"):
            op.execute(f"DROP POLICY {policy} ON {table}")
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")
    for role in (_BOUND, *_FREE):
        _drop(role)


def _create(role: str) -> None:
    """Roles belong to the whole server: another database may have made it, or be making it this moment.

    An administrator may have made and granted it, for an owner who may do neither.
    """
    op.execute(
        f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                CREATE ROLE {role} NOLOGIN;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
        """
    )
    # Whoever made it may not take it yet, unless a superuser.
    op.execute(
        f"""
        DO $$ BEGIN
            IF NOT pg_has_role(current_user, '{role}', 'SET') THEN
                GRANT {role} TO CURRENT_USER;
            END IF;
        END $$
        """
    )


def _drop(role: str) -> None:
    """With its rights here; with itself unless another database still needs it, or an administrator made it."""
    op.execute(f"DROP OWNED BY {role}")
    op.execute(
        f"""
        DO $$ BEGIN
            DROP ROLE {role};
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
        END $$
        """
    )
