"""The schedules that the code itself keeps: names that begin with `system.`, and jobs of the tenant `system`.

`longshore migrate` brings the table in line with this page. An operator may pause them, not remove them.
"""

from datetime import datetime

import msgspec
from sqlalchemy import Connection, delete, or_
from sqlalchemy.dialects.postgresql import insert as upsert

from domain.job_kinds import CheckInvariants
from domain.jobs.kind import JobArgs, kind_of
from domain.schedules.schedule_plan import PlannedSchedule, plan_schedule
from domain.schedules.schedule_rules import CatchUp
from domain.tables.schedules import schedules
from domain.tenants.tenants import ensure_tenant

RESERVED = "system."
TENANT = "system"


def _standing(name: str, args: JobArgs, cron: str) -> PlannedSchedule:
    return plan_schedule(
        name=RESERVED + name,
        kind=kind_of(args).name,
        args=msgspec.to_builtins(args),
        cron=cron,
        time_zone="UTC",
        catch_up=CatchUp.LATEST,
    )


STANDING = (_standing("check-invariants", CheckInvariants(), "30 3 * * *"),)


def declare_standing(tx: Connection, now: datetime) -> None:
    """The standing schedules are those of this page. One that is as it was keeps its next tick, and any its pause."""
    tenant_id = ensure_tenant(tx, TENANT)
    names = [plan.name for plan in STANDING]
    tx.execute(delete(schedules).where(schedules.c.name.startswith(RESERVED), schedules.c.name.not_in(names)))
    for plan in STANDING:
        row = {**plan.row(), "tenant_id": tenant_id, "next_at": plan.calendar.next_after(now)}
        changed = [schedules.c[name] != row[name] for name in ("kind", "args", "cron", "time_zone", "catch_up")]
        wanted = upsert(schedules).values(row)
        tx.execute(wanted.on_conflict_do_update(index_elements=["name"], set_=row, where=or_(*changed)))
