"""Who did what to whom, and why: one row for every act of an operator, in the transaction of the act."""

from uuid import UUID

from sqlalchemy import Connection, insert

from domain.ids import new_id
from domain.tables.audit import audit_log


def record_act(
    tx: Connection,
    tenant_id: UUID | None,
    actor: str,
    action: str,
    subject: str,
    reason: str | None = None,
    detail: object = None,
) -> None:
    """The act stands in the audit log if and only if the caller's transaction commits."""
    row = {"id": new_id(), "tenant_id": tenant_id, "actor": actor, "action": action, "subject": subject}
    tx.execute(insert(audit_log).values(**row, reason=reason, detail=detail))
