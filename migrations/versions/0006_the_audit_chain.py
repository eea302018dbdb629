"""the audit chain: each act carries a hash over itself and the act before it; acts are added, and never changed

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Texts that no setting of a session changes: numbers of seconds for times, and what jsonb makes of a document.
_HASH = """
    CREATE FUNCTION longshore_hash_of_act(previous bytea, act audit_log) RETURNS bytea LANGUAGE sql STABLE AS $$
        SELECT sha256(previous || convert_to(json_build_array(
            act.position, act.id, act.tenant_id, extract(epoch FROM act.at), act.actor, act.action, act.subject,
            act.reason, act.detail)::text, 'UTF8'))
    $$
"""
_SEAL = """
    CREATE FUNCTION longshore_seal(act audit_log) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        of_chain CONSTANT uuid := coalesce(act.tenant_id, '00000000-0000-0000-0000-000000000000');
        chain audit_chains;
    BEGIN
        INSERT INTO audit_chains (tenant_id, length, hash) VALUES (of_chain, 0, '') ON CONFLICT DO NOTHING;
        SELECT * INTO chain FROM audit_chains WHERE tenant_id = of_chain FOR UPDATE;
        act.position := chain.length + 1;
        act.hash := longshore_hash_of_act(chain.hash, act);
        UPDATE audit_log SET position = act.position, hash = act.hash WHERE id = act.id;
        UPDATE audit_chains SET length = act.position, hash = act.hash WHERE tenant_id = of_chain;
    END $$
"""
# At the commit, when the transaction has all its other locks: two that act on the same tenant wait for each other here,
# one behind the other, and never in a circle.
_SEAL_AT_COMMIT = """
    CREATE FUNCTION longshore_seal_act() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM longshore_seal(NEW);
        RETURN NULL;
    END $$
"""
_KEEP = """
    CREATE FUNCTION longshore_keep_act() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.hash IS NULL AND NEW.hash IS NOT NULL THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'an act that was recorded is neither changed nor removed';
    END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("audit_log", sa.Column("position", sa.BigInteger))
    op.add_column("audit_log", sa.Column("hash", postgresql.BYTEA))
    op.create_table(
        "audit_chains",
        sa.Column("tenant_id", sa.UUID, primary_key=True),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("hash", postgresql.BYTEA, nullable=False),
    )
    op.create_index("ix_audit_log_chain", "audit_log", ["tenant_id", "position"])
    _wall_in("audit_chains")
    for function in (_HASH, _SEAL, _SEAL_AT_COMMIT, _KEEP):
        op.execute(function)
    op.execute(
        "CREATE CONSTRAINT TRIGGER seal_act AFTER INSERT ON audit_log DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION longshore_seal_act()"
    )
    # What is there, in the order in which it was recorded.
    op.execute("SELECT longshore_seal(act) FROM (SELECT a AS act FROM audit_log AS a ORDER BY id) AS recorded")
    op.execute(
        "CREATE TRIGGER keep_act BEFORE UPDATE OR DELETE ON audit_log"
        " FOR EACH ROW EXECUTE FUNCTION longshore_keep_act()"
    )
    op.execute("CREATE TRIGGER keep_acts BEFORE TRUNCATE ON audit_log EXECUTE FUNCTION longshore_keep_act()")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for trigger in ("seal_act", "keep_act", "keep_acts"):
        op.execute(f"DROP TRIGGER {trigger} ON audit_log")
    for function in (
        "longshore_keep_act()",
        "longshore_seal_act()",
        "longshore_seal(audit_log)",
        "longshore_hash_of_act(bytea, audit_log)",
    ):
        op.execute(f"DROP FUNCTION {function}")
    op.drop_index("ix_audit_log_chain", table_name="audit_log")
    op.drop_table("audit_chains")
    op.drop_column("audit_log", "hash")
    op.drop_column("audit_log", "position")


def _wall_in(table: str) -> None:
    """As 0005 did it for every table with a tenant that was there then."""
    tenant = "(SELECT nullif(current_setting('longshore.tenant_id', true), '')::uuid)"
    free = "longshore_intake, longshore_api, longshore_relay, longshore_rescuer, longshore_worker"
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own_rows ON {table} TO longshore_tenant USING (tenant_id = {tenant})")
    op.execute(f"CREATE POLICY all_rows ON {table} TO CURRENT_USER, {free} USING (true)")
