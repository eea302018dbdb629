"""What is due: the outbox rows that shall be rung now, found without reading those that shall not.

Rows without a lane lie in flows: one per queue, kind and tenant, each in order of priority and time. Reading a flow
changes nothing; the relay remembers what it rang (`workers.flows`). Rows with a lane are counted against its room, so
ringing them moves their `due_at` on; they lie in flows of their lane.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from domain.jobs.attempts import uuid_array
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


# In a lane, too, rows lie in flows, found by a loose index scan: whoever may not start, and lanes that nobody waits in,
# cost one probe or none, however long their backlog. The flows of a lane share its room evenly.
_PICK_IN_LANES = text(
    """
    WITH RECURSIVE waiting AS (
        (SELECT lane, queue, kind, tenant_id FROM outbox WHERE lane IS NOT NULL
          ORDER BY lane, queue, kind, tenant_id LIMIT 1)
         UNION ALL
        SELECT o.* FROM waiting AS w CROSS JOIN LATERAL (
               SELECT lane, queue, kind, tenant_id FROM outbox
                WHERE lane IS NOT NULL AND (lane, queue, kind, tenant_id) > (w.lane, w.queue, w.kind, w.tenant_id)
                ORDER BY lane, queue, kind, tenant_id LIMIT 1) AS o),
    flows AS MATERIALIZED (
        SELECT w.*, count(*) OVER (PARTITION BY lane) AS mates FROM waiting AS w CROSS JOIN LATERAL (
               SELECT FROM outbox AS o
                WHERE o.lane = w.lane AND o.queue = w.queue AND o.kind = w.kind AND o.tenant_id = w.tenant_id
                  AND due_at <= now()
                ORDER BY priority DESC, due_at LIMIT 1) AS head
         WHERE queue <> ALL(CAST(:queues AS text[])) AND kind <> ALL(CAST(:kinds AS text[]))
           AND tenant_id <> ALL(CAST(:tenants AS uuid[]))
           AND (queue, tenant_id) NOT IN (
               SELECT * FROM unnest(CAST(:full_queues AS text[]), CAST(:tenants_of_queues AS uuid[])))
           AND (kind, tenant_id) NOT IN (
               SELECT * FROM unnest(CAST(:full_kinds AS text[]), CAST(:tenants_of_kinds AS uuid[])))),
    open_lanes AS MATERIALIZED (
        SELECT name, last_served, least(CASE WHEN state = 'parked' THEN 1 ELSE room END - in_flight, :limit) AS free
          FROM lanes
         WHERE name IN (SELECT lane FROM flows) AND state <> 'disabled'
           AND (parked_until IS NULL OR parked_until <= clock_timestamp())
           AND in_flight < CASE WHEN state = 'parked' THEN 1 ELSE room END
         ORDER BY last_served LIMIT :lanes FOR UPDATE SKIP LOCKED),
    picked AS (
        SELECT o.*, l.free, l.last_served, row_number() OVER (PARTITION BY l.name ORDER BY o.due_at) AS nth,
               row_number() OVER (PARTITION BY l.name, o.queue, o.kind, o.tenant_id
                                      ORDER BY o.priority DESC, o.due_at) AS turn
          FROM open_lanes AS l JOIN flows AS f ON f.lane = l.name CROSS JOIN LATERAL (
               SELECT job_id, queue, kind, tenant_id, priority, due_at FROM outbox
                WHERE lane = f.lane AND queue = f.queue AND kind = f.kind AND tenant_id = f.tenant_id
                  AND due_at <= now()
                ORDER BY priority DESC, due_at LIMIT greatest(1, l.free / f.mates) FOR UPDATE SKIP LOCKED) AS o)
    SELECT job_id, queue, kind, tenant_id FROM picked WHERE nth <= free ORDER BY turn, last_served, due_at
    """
)
_RING_IN_LANES = text(
    """
    WITH rung AS (
        UPDATE outbox
           SET rings = rings + 1,
               due_at = clock_timestamp() + make_interval(secs => least(:longest, :first * power(2, least(rings, 4))))
         WHERE job_id = ANY(CAST(:ids AS uuid[]))
     RETURNING job_id, kind, queue, lane, alone, rings),
    served AS (
        UPDATE lanes SET in_flight = in_flight + c.n, last_served = clock_timestamp()
          FROM (SELECT lane, count(*) AS n FROM rung GROUP BY lane) AS c WHERE name = c.lane)
    SELECT job_id, queue, kind, alone, rings FROM rung
    """
)


class Closed(msgspec.Struct, frozen=True):
    """Who may not start anything now: queues, kinds, tenants (as text), and tenants in this queue or that kind."""

    queues: Sequence[str] = ()
    kinds: Sequence[str] = ()
    tenants_of_queues: Sequence[tuple[str, str]] = ()
    tenants_of_kinds: Sequence[tuple[str, str]] = ()
    tenants: Sequence[str] = ()


NOBODY_IS_CLOSED = Closed()


def ring_due_in_lanes(
    tx: Connection,
    closed: Closed = NOBODY_IS_CLOSED,
    allow: Callable[[FlowKey, int], int] = lambda _flow, wanted: wanted,
    limit: int = 1_000,
    lanes: int = 200,
) -> list[LaneRow]:
    """Due rows with a lane, now due again after their visibility: least recently served lanes first, each in its room.

    At most `limit` of a lane, none of who is `closed`, and of the others those that `allow` lets through; it is asked
    for one row after the other, each flow's first rows first. A parked lane whose time is up lets one row through as a
    probe, and no other while that is in flight. The caller pushes them to the broker before it commits: a crash in
    between rings twice, never not at all.
    """
    picked = tx.execute(_PICK_IN_LANES, {**_columns(closed), "limit": limit, "lanes": lanes}).all()
    ids = [job_id for job_id, *flow in picked if allow(FlowKey(*flow), 1)]
    if not ids:
        return []
    visibility = {"first": FIRST_VISIBILITY_S, "longest": LONGEST_VISIBILITY_S}
    return [LaneRow(*row) for row in tx.execute(_RING_IN_LANES, {**visibility, "ids": uuid_array(ids)})]


def _columns(closed: Closed) -> dict[str, list[str]]:
    return {
        "queues": list(closed.queues),
        "kinds": list(closed.kinds),
        "tenants": list(closed.tenants),
        "full_queues": [queue for queue, _ in closed.tenants_of_queues],
        "tenants_of_queues": [tenant_id for _, tenant_id in closed.tenants_of_queues],
        "full_kinds": [kind for kind, _ in closed.tenants_of_kinds],
        "tenants_of_kinds": [tenant_id for _, tenant_id in closed.tenants_of_kinds],
    }


_STANDING = text("SELECT CAST(job_id AS text) FROM outbox WHERE job_id = ANY(CAST(:ids AS uuid[]))")


def standing(connection: Connection, ids: Collection[str]) -> list[str]:
    """Those of these jobs that nobody has claimed yet."""
    return list(connection.execute(_STANDING, {"ids": "{" + ",".join(ids) + "}"}).scalars()) if ids else []
