"""What must have taken place at least once, or a run has proved nothing about it: each event, and how it is counted.

Counted from what can be seen outside: rows at the end, the processes' own log, what callers and the outside world met.
The letters S1 to S20 are those of docs/chaos.md.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Connection, text

from ops.chaos import clients, load, operators
from ops.chaos.history import EMPTIED_AT_WORK, History
from ops.chaos.outside import Delivery, Mail
from ops.chaos.said import Said


class Sources(msgspec.Struct, frozen=True):
    """Where counts come from."""

    connection: Connection
    history: History
    said: Said
    deliveries: Sequence[Delivery]
    mails: Sequence[Mail]


class Sometimes(msgspec.Struct, frozen=True):
    """One event of interest."""

    id: str
    name: str
    count: Callable[[Sources], int]


def _rows(query: str) -> Callable[[Sources], int]:
    counted = text(query)
    return lambda sources: int(sources.connection.execute(counted).scalar_one())


def _said(*events: str) -> Callable[[Sources], int]:
    return lambda sources: sum(sources.said.events[event] for event in events)


def _met(name: str, id: str = "") -> Sometimes:  # noqa: A002
    return Sometimes(id, name, lambda sources: sources.history.met[name])


def _repeated(sources: Sources) -> int:
    """Webhooks that came to one endpoint more than once."""
    times = Counter((delivery.path, delivery.webhook_id) for delivery in sources.deliveries)
    return sum(count > 1 for count in times.values())


def _ambiguous(sources: Sources) -> int:
    return sum(not mail.acknowledged for mail in sources.mails)


SOMETIMES = (
    Sometimes(
        "S1",
        "a lease was taken over while its holder lived",
        _rows(
            """
            SELECT count(*) FROM attempts AS a JOIN workers AS w ON w.id = a.worker_id
             WHERE a.outcome = 'crashed' AND w.beat_at > a.finished_at
            """
        ),
    ),
    Sometimes("S2", "a stale finish was refused by its fence", _said("finish.refused in all", "job.lease_lost")),
    _met(EMPTIED_AT_WORK, "S3"),
    Sometimes("S4", "the leading relay was killed", lambda sources: sources.said.relays_died_leading),
    Sometimes(
        "S7",
        "a deadlock was resolved by trying again",
        _said("transaction.retried 40P01", "recorder.waiting DeadlockDetected"),
    ),
    Sometimes(
        "S6",
        "a lock was waited for in vain, and asked for again",
        _said("transaction.retried 55P03", "recorder.waiting LockNotAvailable"),
    ),
    Sometimes("S8", "a webhook came twice under one id", _repeated),
    Sometimes(
        "S9",
        "a dead letter was replayed to success",
        _rows(
            """
            SELECT count(*) FROM dead_letters AS d JOIN jobs AS j ON j.id = coalesce(d.replay_job_id, d.job_id)
             WHERE d.resolution IN ('replayed', 'edited') AND j.state = 'succeeded'
            """
        ),
    ),
    _met(load.AT_ONE_MOMENT, "S10"),
    _met(clients.REPLAYED, "S11"),
    Sometimes(
        "S12",
        "a cancel overtook the reservation",
        _rows(
            """
            SELECT count(*) FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id
             WHERE j.kind = 'inventory.release' AND a.outcome = 'snoozed' AND a.error_message LIKE '%not decided%'
            """
        ),
    ),
    Sometimes("S13", "an order found no stock", _rows("SELECT count(*) FROM orders WHERE status = 'rejected'")),
    _met(clients.FIRST_ANSWER_LOST, "S14"),
    _met(clients.FIRST_POST_LOST, "S14"),
    Sometimes("S16", "a lost bell was rung again", _said("outbox.rung_again in all")),
    Sometimes("", "a duplicate bell was dropped", _said("bell.duplicate in all")),
    Sometimes("S17", "crashes made a job dead", _rows("SELECT count(*) FROM dead_letters WHERE cause = 'crashes'")),
    Sometimes("S18", "nobody knew whether a mail had been taken", _ambiguous),
    _met(clients.SHED, "S19"),
    Sometimes("S20", "a job was handed back", _rows("SELECT count(*) FROM attempts WHERE outcome = 'handed_back'")),
    Sometimes("", "a job was rescued", _rows("SELECT count(*) FROM attempts WHERE outcome = 'crashed'")),
    Sometimes("", "a job was retried", _rows("SELECT count(*) FROM attempts WHERE outcome = 'retrying'")),
    Sometimes("", "a job was dead", _rows("SELECT count(*) FROM dead_letters WHERE kind <> 'chaos.deed'")),
    Sometimes("", "an order was cancelled", _rows("SELECT count(*) FROM orders WHERE status = 'cancelled'")),
    Sometimes("", "an order was completed", _rows("SELECT count(*) FROM orders WHERE status = 'completed'")),
    Sometimes("", "a report was written", _rows("SELECT count(*) FROM reports WHERE object_key IS NOT NULL")),
    Sometimes(
        "",
        "a delivery met a deleted endpoint",
        _rows("SELECT count(*) FROM jobs WHERE kind = 'webhook.deliver' AND result ->> 'code' = 'ENDPOINT_DELETED'"),
    ),
    Sometimes("", "stock was adjusted", _rows("SELECT count(*) FROM stock_ledger WHERE reason = 'adjusted'")),
    _met(operators.HELD),
    _met(operators.EDITED),
)


def events_of(sources: Sources) -> dict[str, int]:
    """How often each took place, by its name."""
    return {event.name: event.count(sources) for event in SOMETIMES}
