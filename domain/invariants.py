"""What must hold of a running system at every moment, each as a query that answers only violations.

`longshore doctor` asks them of a live system, tests and chaos runs at their end. They read, and lock nothing.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, TextClause, text


class Invariant(msgspec.Struct, frozen=True):
    """One promise, and the query that finds what breaks it."""

    name: str
    promise: str
    violations: TextClause


INVARIANTS = (
    Invariant(
        "orders_have_root_jobs",
        "Every order has its root job, made in the same commit.",
        text(
            """
            SELECT o.id FROM orders AS o LEFT JOIN jobs AS j ON j.id = o.root_job_id
             WHERE j.id IS NULL AND o.status = 'accepted' LIMIT 20
            """
        ),
    ),
    Invariant(
        "waiting_jobs_have_obligations",
        "Every job that waits has an outbox row: it will be rung.",
        text(
            """
            SELECT j.id, j.kind, j.state FROM jobs AS j LEFT JOIN outbox AS o ON o.job_id = j.id
             WHERE j.state IN ('scheduled', 'queued', 'retrying') AND o.job_id IS NULL LIMIT 20
            """
        ),
    ),
    Invariant(
        "obligations_have_waiting_jobs",
        "Every outbox row is of a job that waits: nothing rings for nothing.",
        text(
            """
            SELECT o.job_id, o.kind, j.state FROM outbox AS o LEFT JOIN jobs AS j ON j.id = o.job_id
             WHERE j.id IS NULL OR j.state NOT IN ('scheduled', 'queued', 'retrying') LIMIT 20
            """
        ),
    ),
    Invariant(
        "running_jobs_have_leases",
        "Every running job has a live lease, or one that the rescuer is about to take over.",
        text(
            """
            SELECT j.id, j.kind, l.lease_until FROM jobs AS j LEFT JOIN LATERAL (
                   SELECT max(lease_until) AS lease_until FROM leases
                    CROSS JOIN LATERAL unnest(job_ids, claims) AS held(id, claim)
                    WHERE held.id = j.id AND held.claim = j.claim) AS l ON true
             WHERE j.state = 'running'
               AND (l.lease_until IS NULL OR l.lease_until < clock_timestamp() - interval '30 seconds')
             LIMIT 20
            """
        ),
    ),
    Invariant(
        "schedules_are_kept",
        "Every schedule that is not paused has fired what was due.",
        text(
            """
            SELECT name, kind, next_at FROM schedules
             WHERE paused_at IS NULL AND next_at < clock_timestamp() - interval '5 minutes' LIMIT 20
            """
        ),
    ),
    Invariant(
        "dead_jobs_have_dead_letters",
        "Every dead job can be triaged.",
        text(
            """
            SELECT j.id, j.kind FROM jobs AS j
             WHERE j.state = 'dead' AND NOT EXISTS (SELECT FROM dead_letters AS d WHERE d.job_id = j.id) LIMIT 20
            """
        ),
    ),
    Invariant(
        "unique_keys_are_of_unended_jobs",
        "A unique key that is held until its job ends is held by a job that has not.",
        text(
            """
            SELECT u.kind, u.key, u.job_id, j.state FROM unique_jobs AS u LEFT JOIN jobs AS j ON j.id = u.job_id
             WHERE u.until IS NULL AND (j.id IS NULL OR j.state IN ('succeeded', 'dead', 'cancelled')) LIMIT 20
            """
        ),
    ),
    Invariant(
        "groups_wait_for_somebody",
        "A group that is still open has a child that has not ended, or one whose replay it waits for.",
        text(
            """
            SELECT g.id, g.total, g.succeeded, g.dead, g.cancelled FROM job_groups AS g
             WHERE g.closed_at IS NULL AND NOT (g.needs_success AND g.dead > 0) AND NOT EXISTS (
                   SELECT FROM jobs AS j WHERE j.tenant_id = g.tenant_id AND j.parent_id = g.id
                      AND j.state NOT IN ('succeeded', 'dead', 'cancelled')) LIMIT 20
            """
        ),
    ),
    Invariant(
        "stock_is_in_bounds",
        "No SKU is oversold: 0 <= reserved <= on hand.",
        text("SELECT tenant_id, sku, on_hand, reserved FROM stock WHERE NOT (0 <= reserved AND reserved <= on_hand)"),
    ),
    Invariant(
        "ledger_sums_to_stock",
        "The ledger's movements add up to the counters.",
        text(
            """
            SELECT s.tenant_id, s.sku, s.on_hand, s.reserved, l.on_hand AS ledger_on_hand, l.reserved AS ledger_reserved
              FROM stock AS s LEFT JOIN (
                   SELECT tenant_id, sku, sum(on_hand_delta) AS on_hand, sum(reserved_delta) AS reserved
                     FROM stock_ledger GROUP BY tenant_id, sku) AS l USING (tenant_id, sku)
             WHERE s.on_hand <> coalesce(l.on_hand, 0) OR s.reserved <> coalesce(l.reserved, 0) LIMIT 20
            """
        ),
    ),
    Invariant(
        "stock_is_taken_once",
        "No order's stock is taken twice.",
        text(
            """
            SELECT order_id, sku, count(*) AS times FROM stock_ledger WHERE reason = 'reserved'
             GROUP BY order_id, sku HAVING count(*) > 1 LIMIT 20
            """
        ),
    ),
    Invariant(
        "reservations_match_orders",
        "A confirmed order holds all of its lines; a rejected or failed one holds nothing.",
        text(
            """
            SELECT o.id, o.status, count(r.sku) AS held, count(l.sku) AS lines
              FROM orders AS o JOIN order_lines AS l ON l.tenant_id = o.tenant_id AND l.order_id = o.id
              LEFT JOIN reservations AS r ON r.order_id = l.order_id AND r.sku = l.sku AND r.state = 'held'
             WHERE o.status IN ('confirmed', 'rejected', 'failed') GROUP BY o.id, o.status
            HAVING count(r.sku) <> CASE o.status WHEN 'confirmed' THEN count(l.sku) ELSE 0 END LIMIT 20
            """
        ),
    ),
    Invariant(
        "orders_are_decided",
        "No order is left undecided: one whose root job has ended is not `accepted`.",
        text(
            """
            SELECT o.id, j.state FROM orders AS o JOIN jobs AS j ON j.id = o.root_job_id
             WHERE o.status = 'accepted' AND j.state IN ('succeeded', 'dead', 'cancelled') LIMIT 20
            """
        ),
    ),
)


def violations_of(tx: Connection, invariant: Invariant) -> Sequence[Row[Any]]:
    """Up to 20 rows that break the promise; none when it holds."""
    return tx.execute(invariant.violations).all()
