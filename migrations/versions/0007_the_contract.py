"""the contract: tenants with a plan and a status, their people, their configuration, the keys of creates

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NEW = ("password_resets", "refresh_tokens", "users", "system_config", "idempotency_keys")
_LONGEST = {
    "orders": "char_length(customer_email) <= 254",
    "products": "char_length(sku) <= 64 AND char_length(name) <= 200",
    "webhook_endpoints": "char_length(url) <= 2048",
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _grow_tenants()
    _add_people()
    _add_config()
    _add_idempotency_keys()
    _bound_texts()
    op.create_index("ix_products_list", "products", ["tenant_id", "id"])
    for table in _NEW:
        _wall_in(table)
    # A role that may add an act need not be able to write to the chain.
    op.execute("ALTER FUNCTION longshore_seal(audit_log) SECURITY DEFINER SET search_path = public, pg_temp")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER FUNCTION longshore_seal(audit_log) SECURITY INVOKER RESET search_path")
    op.drop_index("ix_products_list")
    for table in _LONGEST:
        op.drop_constraint(op.f(f"ck_{table}_length"), table)
    for table in (*_NEW, "login_failures"):
        op.drop_table(table)
    op.drop_index("ix_tenants_suspended", table_name="tenants")
    for constraint in ("ck_tenants_status", "ck_tenants_plan", "ck_tenants_length"):
        op.drop_constraint(op.f(constraint), "tenants")
    for column in ("updated_at", "settings", "status", "plan", "domain", "subdomain"):
        op.drop_column("tenants", column)


def _grow_tenants() -> None:
    for name in ("subdomain", "domain"):
        op.add_column("tenants", sa.Column(name, sa.TEXT))
        op.create_unique_constraint(op.f(f"uq_tenants_{name}"), "tenants", [name])
    op.add_column("tenants", sa.Column("plan", sa.TEXT, server_default="basic", nullable=False))
    op.add_column("tenants", sa.Column("status", sa.TEXT, server_default="active", nullable=False))
    op.add_column("tenants", sa.Column("settings", postgresql.JSONB, server_default="{}", nullable=False))
    op.add_column("tenants", _time("updated_at", now=True))
    checks = {
        "length": "char_length(name) <= 200 AND char_length(subdomain) <= 100 AND char_length(domain) <= 200",
        "plan": "plan IN ('basic', 'free', 'pro', 'enterprise')",
        "status": "status IN ('active', 'suspended')",
    }
    for name, check in checks.items():
        op.create_check_constraint(op.f(f"ck_tenants_{name}"), "tenants", check)
    suspended = sa.text("status = 'suspended'")
    op.create_index("ix_tenants_suspended", "tenants", ["id"], postgresql_where=suspended)


def _add_people() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.UUID, primary_key=True),
        _tenant(),
        sa.Column("email", sa.TEXT, nullable=False),
        sa.Column("name", sa.TEXT, nullable=False),
        sa.Column("password_hash", sa.TEXT, nullable=False),
        sa.Column("role", sa.TEXT, nullable=False),
        sa.Column("permissions", postgresql.ARRAY(sa.TEXT), server_default="{}", nullable=False),
        sa.Column("status", sa.TEXT, server_default="active", nullable=False),
        _time("last_login_at"),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
        _time("created_at", now=True),
        _time("updated_at", now=True),
        sa.UniqueConstraint("tenant_id", "email"),
        sa.UniqueConstraint("tenant_id", "id"),
        sa.CheckConstraint("role IN ('owner', 'admin', 'operator', 'viewer')", name="role"),
        sa.CheckConstraint("status IN ('active', 'disabled')", name="status"),
        sa.CheckConstraint(
            "char_length(email) <= 255 AND email = lower(email) AND char_length(name) <= 200", name="length"
        ),
    )
    op.create_index("ix_users_email", "users", ["email"])
    op.create_table(
        "login_failures",
        sa.Column("address_hash", postgresql.BYTEA, primary_key=True),
        sa.Column("failures", sa.Integer, server_default="1", nullable=False),
        _time("last_at", now=True),
        _time("locked_until"),
    )
    op.create_index("ix_login_failures_last_at", "login_failures", ["last_at"])
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", postgresql.BYTEA, primary_key=True),
        sa.Column("family", sa.UUID, nullable=False),
        *_of_a_user(),
        _time("used_at"),
        _time("revoked_at"),
        _user(),
    )
    op.create_table(
        "password_resets",
        sa.Column("token_hash", postgresql.BYTEA, primary_key=True),
        *_of_a_user(),
        _user(),
    )
    op.create_index("ix_refresh_tokens_family", "refresh_tokens", ["family"])
    for table in ("refresh_tokens", "password_resets"):
        op.create_index(f"ix_{table}_user", table, ["tenant_id", "user_id"])
        op.create_index(f"ix_{table}_expires", table, ["expires_at"])


def _add_config() -> None:
    op.create_table(
        "system_config",
        _tenant(primary_key=True),
        sa.Column("key", sa.TEXT, primary_key=True),
        sa.Column("value", postgresql.JSONB, nullable=False),
        sa.Column("is_encrypted", sa.Boolean, server_default="false", nullable=False),
        _time("updated_at", now=True),
        sa.CheckConstraint("char_length(key) BETWEEN 1 AND 100", name="key"),
    )


def _add_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        _tenant(primary_key=True),
        sa.Column("route", sa.TEXT, primary_key=True),
        sa.Column("key", sa.TEXT, primary_key=True),
        sa.Column("request_hash", postgresql.BYTEA, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", postgresql.JSONB),
        sa.Column("body", postgresql.BYTEA),
        _time("created_at", now=True),
        _time("expires_at", nullable=False),
    )
    op.create_index("ix_idempotency_keys_expires", "idempotency_keys", ["expires_at"])


def _bound_texts() -> None:
    """What the API checks already. Reads these tables once, under their locks: a second for a million orders."""
    for table, check in _LONGEST.items():
        op.create_check_constraint(op.f(f"ck_{table}_length"), table, check)


def _time(name: str, *, nullable: bool = True, now: bool = False) -> sa.Column[object]:
    kind = postgresql.TIMESTAMP(timezone=True)
    return sa.Column(name, kind, nullable=nullable and not now, server_default=sa.func.now() if now else None)


def _tenant(*, primary_key: bool = False) -> sa.Column[object]:
    return sa.Column("tenant_id", sa.UUID, sa.ForeignKey("tenants.id"), primary_key=primary_key, nullable=False)


def _of_a_user() -> list[sa.Column[object]]:
    ids = [sa.Column(name, sa.UUID, nullable=False) for name in ("tenant_id", "user_id")]
    return [*ids, _time("created_at", now=True), _time("expires_at", nullable=False)]


def _user() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE")


def _wall_in(table: str) -> None:
    """As 0005 did it for every table with a tenant that was there then."""
    tenant = "(SELECT nullif(current_setting('longshore.tenant_id', true), '')::uuid)"
    free = "longshore_intake, longshore_api, longshore_relay, longshore_rescuer, longshore_worker"
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own_rows ON {table} TO longshore_tenant USING (tenant_id = {tenant})")
    op.execute(f"CREATE POLICY all_rows ON {table} TO CURRENT_USER, {free} USING (true)")
