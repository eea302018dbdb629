"""What has run out leaves, in steps of so many rows: refresh tokens, reset tokens, failures that count no more."""

from sqlalchemy import Connection, text

_RUN_OUT = {
    "refresh_tokens": "expires_at <= clock_timestamp()",
    "password_resets": "expires_at <= clock_timestamp()",
    # As old as a lock is long: see `domain.tenants.log_ins`.
    "login_failures": "last_at < clock_timestamp() - interval '15 minutes'",
}
_DELETE = [
    text(
        f"""
        DELETE FROM {table} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {table} WHERE {run_out} LIMIT :limit FOR UPDATE SKIP LOCKED))
        """  # noqa: S608  # constants of ours
    )
    for table, run_out in _RUN_OUT.items()
]


def delete_expired(tx: Connection, limit: int) -> int:
    """At most `limit` rows of each sort are gone; answers how many in all."""
    return sum(tx.execute(delete, {"limit": limit}).rowcount for delete in _DELETE)
