"""What is due: the outbox rows that shall be rung now, found without reading those that shall not.

Rows without a lane lie in flows: one per queue, kind and tenant, each in order of priority and time. Reading a flow
changes nothing; the relay remembers what it rang (`workers.flows`). Rows with a lane are counted against its room, so
ringing them moves their `due_at` on.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.jobs.priority_rules import LOWEST

#: How long a rung row waits for its claim before it rings again: below 8 s at first, doubling, at most 60 s.
FIRST_VISIBILITY_S = 7
LONGEST_VISIBILITY_S = 60


class FlowKey(msgspec.Struct, frozen=True):
    """Whose jobs of which kind wait in which queue."""

    queue: str
    kind: str
    tenant_id: UUID


class DueRows(msgspec.Struct, frozen=True):
    """The head of a flow: job ids as text, those first that shall run first; `alone` ones travel in bundles of one."""

    together: list[str]
    alone: list[str]
    #: When the first of them was due, or any that they stand before; None when there are none.
    oldest: datetime | None
    #: The database's clock: rows that become due after this were not looked for.
    read_at: datetime
    #: There may be more than were asked for.
    is_cut: bool = False


class LaneRow(msgspec.Struct, frozen=True):
    """A row with a lane that rings now."""

    job_id: UUID
    queue: str
    kind: str
    alone: bool
    rings: int


# A loose index scan through the gaps between the flows already known. It never touches a known flow's entries: those of
# jobs long claimed may lie dead at its head, for as long as anybody's snapshot still sees them.
_NEW_FLOWS = text(
    """
    WITH RECURSIVE known AS (
        SELECT * FROM unnest(CAST(:queues AS text[]), CAST(:kinds AS text[]), CAST(:tenants AS uuid[]))
            AS k(queue, kind, tenant_id)
         UNION ALL SELECT '', '', CAST('00000000-0000-0000-0000-000000000000' AS uuid)),
    gaps AS (
        SELECT queue, kind, tenant_id, lead(queue) OVER w AS to_queue, lead(kind) OVER w AS to_kind,
               lead(tenant_id) OVER w AS to_tenant
          FROM known WINDOW w AS (ORDER BY queue, kind, tenant_id)),
    found AS (
        SELECT gaps.*, false AS is_new FROM gaps
         UNION ALL
        SELECT o.queue, o.kind, o.tenant_id, f.to_queue, f.to_kind, f.to_tenant, true
          FROM found AS f CROSS JOIN LATERAL (
               (SELECT queue, kind, tenant_id FROM outbox
                 WHERE f.to_queue IS NOT NULL AND lane IS NULL
                   AND (queue, kind, tenant_id) > (f.queue, f.kind, f.tenant_id)
                   AND (queue, kind, tenant_id) < (f.to_queue, f.to_kind, f.to_tenant)
                 ORDER BY queue, kind, tenant_id LIMIT 1)
               UNION ALL
               (SELECT queue, kind, tenant_id FROM outbox
                 WHERE f.to_queue IS NULL AND lane IS NULL
                   AND (queue, kind, tenant_id) > (f.queue, f.kind, f.tenant_id)
                 ORDER BY queue, kind, tenant_id LIMIT 1)) AS o)
    SELECT queue, kind, tenant_id FROM found WHERE is_new LIMIT :limit
    """
)


def new_flows(connection: Connection, known: Collection[FlowKey], limit: int) -> list[FlowKey]:
    """Up to `limit` flows that have rows, due or not, and are not among the known ones. One index probe for each."""
    bounds = {
        "queues": [flow.queue for flow in known],
        "kinds": [flow.kind for flow in known],
        "tenants": [flow.tenant_id for flow in known],
        "limit": limit,
    }
    return [FlowKey(*row) for row in connection.execute(_NEW_FLOWS, bounds)]


# Due is judged by now(), which bounds the index scan; clock_timestamp() is volatile and would only filter what is read.
# One scan of the index gives the order: it skips from priority to priority (PostgreSQL 18), within `due_at`'s bounds.
# Behind a head that was cut may stand rows of lower priority that are older: the next scan must not start after them.
_DUE = text(
    f"""
    SELECT head.together, head.alone,
           CASE WHEN head.rows < f.most THEN head.oldest ELSE least(head.oldest, (
                SELECT min(behind.due_at) FROM generate_series({LOWEST}, head.lowest - 1) AS p(priority)
                 CROSS JOIN LATERAL (
                       SELECT due_at FROM outbox
                        WHERE lane IS NULL AND queue = f.queue AND kind = f.kind AND tenant_id = f.tenant_id
                          AND outbox.priority = p.priority AND due_at >= f.since AND due_at <= now()
                        ORDER BY due_at LIMIT 1) AS behind)) END,
           now(), head.rows >= f.most
      FROM unnest(CAST(:queues AS text[]), CAST(:kinds AS text[]), CAST(:tenants AS uuid[]),
                  CAST(:since AS timestamptz[]), CAST(:limits AS int[])) WITH ORDINALITY
           AS f(queue, kind, tenant_id, since, most, position)
     CROSS JOIN LATERAL (
           SELECT string_agg(CAST(job_id AS text), ',') FILTER (WHERE NOT o.alone) AS together,
                  string_agg(CAST(job_id AS text), ',') FILTER (WHERE o.alone) AS alone, min(o.due_at) AS oldest,
                  min(o.priority) AS lowest, count(*) AS rows
             FROM (SELECT job_id, alone, due_at, priority FROM outbox
                    WHERE lane IS NULL AND queue = f.queue AND kind = f.kind AND tenant_id = f.tenant_id
                      AND due_at >= f.since AND due_at <= now()
                    ORDER BY priority DESC, due_at LIMIT f.most) AS o) AS head
     ORDER BY f.position
    """  # noqa: S608  # constants of ours
)


def due_rows(
    connection: Connection, flows: Sequence[FlowKey], since: Sequence[datetime], limits: Sequence[int]
) -> list[DueRows]:
    """Of each flow its first rows that are due now, at most so many, none due before `since`.

    `since` lets the scan start behind the rows that are gone. Rows rung before and not yet claimed are among them.
    """
    if not flows:
        return []
    bounds = {
        "queues": [flow.queue for flow in flows],
        "kinds": [flow.kind for flow in flows],
        "tenants": [flow.tenant_id for flow in flows],
        "since": list(since),
        "limits": list(limits),
    }
    rows = connection.execute(_DUE, bounds)
    return [DueRows(_words(together), _words(alone), *rest) for together, alone, *rest in rows]


def _words(ids: str | None) -> list[str]:
    return ids.split(",") if ids else []


_RING_DUE_IN_LANES = text(
    """
    WITH allowed AS (SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:limits AS int[])) AS a(kind, most)),
    allowed_queues AS (
        SELECT * FROM unnest(CAST(:queues AS text[]), CAST(:queue_limits AS int[])) AS a(queue, most)),
    open_lanes AS MATERIALIZED (
        SELECT name, CASE WHEN state = 'parked' THEN 1 ELSE room END - in_flight AS free FROM lanes
         WHERE queue <> ALL(ARRAY(SELECT queue FROM allowed_queues WHERE most <= 0)) AND state <> 'disabled'
           AND (parked_until IS NULL OR parked_until <= clock_timestamp())
           AND in_flight < CASE WHEN state = 'parked' THEN 1 ELSE room END
           AND EXISTS (SELECT FROM outbox WHERE lane = name AND due_at <= now())
         ORDER BY last_served LIMIT :lanes FOR UPDATE SKIP LOCKED),
    picked AS MATERIALIZED (
        SELECT o.job_id, o.queue, row_number() OVER (PARTITION BY o.kind) AS nth, allowed.most
          FROM open_lanes AS l CROSS JOIN LATERAL (
               SELECT job_id, kind, queue FROM outbox
                WHERE lane = l.name AND due_at <= now()
                  AND kind <> ALL(ARRAY(SELECT kind FROM allowed WHERE most <= 0))
                ORDER BY priority DESC, due_at LIMIT least(l.free, :limit) FOR UPDATE SKIP LOCKED) AS o
          LEFT JOIN allowed ON allowed.kind = o.kind),
    kept AS (
        SELECT job_id, row_number() OVER (PARTITION BY queue) AS nth, allowed_queues.most
          FROM picked LEFT JOIN allowed_queues USING (queue) WHERE picked.most IS NULL OR nth <= picked.most),
    rung AS (
        UPDATE outbox
           SET rings = rings + 1,
               due_at = clock_timestamp() + make_interval(secs => least(:longest, :first * power(2, least(rings, 4))))
         WHERE job_id = ANY(ARRAY(SELECT job_id FROM kept WHERE most IS NULL OR nth <= most))
     RETURNING job_id, kind, queue, lane, alone, rings),
    served AS (
        UPDATE lanes SET in_flight = in_flight + c.n, last_served = clock_timestamp(),
               parked_until = CASE WHEN state = 'parked' THEN clock_timestamp() + interval '30 seconds' END
          FROM (SELECT lane, count(*) AS n FROM rung GROUP BY lane) AS c WHERE name = c.lane)
    SELECT job_id, queue, kind, alone, rings FROM rung
    """
)


def ring_due_in_lanes(
    tx: Connection, queues: Mapping[str, int], kinds: Mapping[str, int], limit: int = 1_000, lanes: int = 200
) -> list[LaneRow]:
    """Due rows with a lane, now due again after their visibility: least recently served lanes first, each in its room.

    At most `limit` of a lane and, of a queue or kind that is named here, so many in all. A parked lane whose time is up
    lets one row through as a probe, one per 30 s. The caller pushes them to the broker before it commits: a crash in
    between rings twice, never not at all.
    """
    visibility = {"first": FIRST_VISIBILITY_S, "longest": LONGEST_VISIBILITY_S}
    allowed = {"kinds": list(kinds), "limits": list(kinds.values())}
    allowed |= {"queues": list(queues), "queue_limits": list(queues.values())}
    rows = tx.execute(_RING_DUE_IN_LANES, {**visibility, **allowed, "limit": limit, "lanes": lanes})
    return [LaneRow(*row) for row in rows]


_STANDING = text("SELECT CAST(job_id AS text) FROM outbox WHERE job_id = ANY(CAST(:ids AS uuid[]))")


def standing(connection: Connection, ids: Collection[str]) -> list[str]:
    """Those of these jobs that nobody has claimed yet."""
    return list(connection.execute(_STANDING, {"ids": "{" + ",".join(ids) + "}"}).scalars()) if ids else []
