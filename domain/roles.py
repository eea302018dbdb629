"""The roles of PostgreSQL that the processes work under, and what each may do to which table: that, and nothing else.

`longshore migrate` makes them, and brings their rights in line with this page. A process logs in as the owner of the
tables and takes its role with the session. What a caller asks is bound to one tenant besides: `api.tenant_database`.

What is left to the owner: migrations, the scheduler (it makes and drops partitions) and the operators' command line.
"""

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection, text

READ = "SELECT"
ADD = "SELECT, INSERT"
CHANGE = "SELECT, INSERT, UPDATE"
ALL = "SELECT, INSERT, UPDATE, DELETE"


class Role(msgspec.Struct, frozen=True):
    """A role without a log-in of its own. `may`: by table, what it may do there."""

    name: str
    may: Mapping[str, str]


#: What one caller's request may do, to the rows of one tenant.
TENANT = Role(
    "longshore_tenant",
    {
        "tenants": READ,
        "orders": "SELECT, UPDATE",
        "order_lines": READ,
        "products": CHANGE,
        "stock": CHANGE,
        "stock_ledger": ADD,
        "reservations": READ,
        "jobs": CHANGE,
        "attempts": READ,
        "outbox": ALL,
        "unique_jobs": ALL,
        "job_groups": ALL,
        "dead_letters": READ,
        "events": ADD,
        "reports": ADD,
        "webhook_endpoints": ALL,
        "webhook_deliveries": ADD,
        "lanes": ALL,
        "users": ALL,
        "refresh_tokens": "SELECT, UPDATE",
        "idempotency_keys": CHANGE,
        "system_config": READ,
        "audit_log": "INSERT",
    },
)
#: The intake writes orders of many tenants in one statement, and reads the catalogue for it.
INTAKE = Role("longshore_intake", {"products": READ, "orders": ADD, "order_lines": ADD, "jobs": ADD, "outbox": ADD})
#: The API on nobody's behalf: whose key this is, who logs in, what has become of jobs that are waited for, how
#: everything is.
API = Role(
    "longshore_api",
    {
        "alembic_version": READ,
        "api_keys": "SELECT, UPDATE",
        "tenants": READ,
        "users": "SELECT, UPDATE",
        "refresh_tokens": CHANGE,
        "password_resets": "SELECT, DELETE",
        "products": READ,
        "stock": READ,
        "login_failures": ALL,
        "audit_log": "INSERT",
        "jobs": READ,
        "job_groups": READ,
        "outbox": READ,
        "leases": READ,
        "lanes": READ,
        "controls": READ,
        "dead_letters": READ,
        "workers": READ,
    },
)
_BEATS = {"workers": ALL}
RELAY = Role(
    "longshore_relay",
    _BEATS
    | {
        "outbox": "SELECT, UPDATE",
        "lanes": "SELECT, UPDATE",
        "controls": READ,
        "jobs": READ,
        "leases": READ,
        "tenants": READ,
    },
)
#: What ends jobs may have to end all that hangs on them.
_ENDS_JOBS = {
    "jobs": CHANGE,
    "attempts": ADD,
    "outbox": ALL,
    "leases": ALL,
    "lanes": CHANGE,
    "unique_jobs": ALL,
    "job_groups": ALL,
    "dead_letters": ADD,
    "orders": "SELECT, UPDATE",
    "order_lines": READ,
    "reports": "SELECT, UPDATE",
    "events": ADD,
    "webhook_endpoints": READ,
    "webhook_deliveries": ADD,
    "controls": READ,
}
RESCUER = Role("longshore_rescuer", _BEATS | _ENDS_JOBS)
#: Its handlers do the work. A kind of job that needs more says so here.
WORKER = Role(
    "longshore_worker",
    _BEATS
    | _ENDS_JOBS
    | {
        "products": READ,
        "stock": "SELECT, UPDATE",
        "stock_ledger": ADD,
        "reservations": CHANGE,
        "webhook_endpoints": "SELECT, UPDATE",
        "schedules": READ,
        "users": READ,
        "password_resets": "INSERT",
        "system_config": READ,
        "alembic_version": READ,
    },
)
ROLES = (TENANT, INTAKE, API, RELAY, RESCUER, WORKER)


def grant_rights(tx: Connection) -> None:
    """Each role may do to each table what this page says, and nothing else.

    The roles exist: the migration makes them.
    """
    for role in ROLES:
        tx.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role.name}"))
        for table, verbs in role.may.items():
            tx.execute(text(f"GRANT {verbs} ON {table} TO {role.name}"))
