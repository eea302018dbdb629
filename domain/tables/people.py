"""The people of a tenant, and what proves who they are. Passwords and tokens are here as hashes only."""

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, TEXT

from domain.tables.columns import id_column, int_column, metadata, tenant_column, text_column, time_column, uuid_column

users = Table(
    "users",
    metadata,
    id_column(),
    tenant_column(),
    text_column("email"),  # lower case
    text_column("name"),
    text_column("password_hash"),  # Argon2id, as a PHC string
    text_column("role"),
    Column("permissions", ARRAY(TEXT), nullable=False, server_default="{}"),  # beyond those of the role
    text_column("status", default="active"),
    time_column("last_login_at"),
    int_column("version", default=1),
    time_column("created_at", now=True),
    time_column("updated_at", now=True),
    UniqueConstraint("tenant_id", "email"),
    UniqueConstraint("tenant_id", "id"),
    Index("ix_users_email", "email"),  # who logs in need not know the tenant's id
    CheckConstraint("role IN ('owner', 'admin', 'operator', 'viewer')", name="role"),
    CheckConstraint("status IN ('active', 'disabled')", name="status"),
    CheckConstraint("char_length(email) <= 255 AND email = lower(email) AND char_length(name) <= 200", name="length"),
)

# Log-ins that failed in a row, by address, of people and of strangers alike: a lock tells nobody who has an account.
login_failures = Table(
    "login_failures",
    metadata,
    Column("address_hash", BYTEA, primary_key=True),  # SHA-256
    int_column("failures", default=1),
    time_column("last_at", now=True),
    time_column("locked_until"),
    Index("ix_login_failures_last_at", "last_at"),
)

# One row for each token that was handed out. A log-in starts a family; a token that is used twice ends its family.
refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", BYTEA, primary_key=True),
    uuid_column("family", nullable=False),
    uuid_column("tenant_id", nullable=False),
    uuid_column("user_id", nullable=False),
    time_column("created_at", now=True),
    time_column("expires_at", nullable=False),
    time_column("used_at"),
    time_column("revoked_at"),
    ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
    Index("ix_refresh_tokens_family", "family"),
    Index("ix_refresh_tokens_user", "tenant_id", "user_id"),
    Index("ix_refresh_tokens_expires", "expires_at"),
)

password_resets = Table(
    "password_resets",
    metadata,
    Column("token_hash", BYTEA, primary_key=True),
    uuid_column("tenant_id", nullable=False),
    uuid_column("user_id", nullable=False),
    time_column("created_at", now=True),
    time_column("expires_at", nullable=False),
    ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
    Index("ix_password_resets_user", "tenant_id", "user_id"),
    Index("ix_password_resets_expires", "expires_at"),
)
