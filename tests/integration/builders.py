"""What the integration tests start from: tenants, products, orders and jobs, made by the domain itself."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Barrier
from typing import Any, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import Engine, delete, text

from domain.aftermath import settle
from domain.catalogue.products import create_product
from domain.database import connect
from domain.errors import LongshoreError
from domain.ids import new_id
from domain.jobs.attempts import ClaimedJob, start_if_due
from domain.jobs.due import due_rows, new_flows
from domain.jobs.finish import FinishedJob, finish_of
from domain.jobs.kind import KINDS, JobArgs, kind_of_class
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.retry_policy import Backoff, Ending, decide
from domain.lanes.lanes import SMTP, SMTP_ROOM, open_lane
from domain.orders.intake import AcceptedOrder, IntakeLine, IntakeOrder, accept_orders
from domain.reports.store import ReportStore
from domain.tables import metadata
from domain.tenants.tenants import ensure_tenant
from tests.integration.conftest import Servers
from tests.integration.databases import a_database
from workers.clients.guarded_http import GuardedHttp
from workers.clients.mailer import Mailer
from workers.context import Resources
from workers.holdings import Holdings
from workers.registry import HANDLERS

Answer = TypeVar("Answer")

SECRET_KEY = bytes(32)


@contextmanager
def known(*payloads: type[JobArgs]) -> Iterator[None]:
    """The kinds of a test's own are known meanwhile."""
    with declarations():
        KINDS.update({kind_of_class(payload).name: kind_of_class(payload) for payload in payloads})
        yield


def a_tenant(engine: Engine, name: str = "acme") -> UUID:
    with engine.begin() as tx:
        return ensure_tenant(tx, name)


def a_product(engine: Engine, tenant_id: UUID, sku: str = "LAMP", units: int = 10, currency: str = "EUR") -> None:
    with engine.begin() as tx:
        create_product(tx, tenant_id, sku=sku, name=sku.title(), price=1999, currency=currency, units=units)


def an_order(tenant_id: UUID, units: Mapping[str, int] | None = None, **changes: Any) -> IntakeOrder:
    """A validated order, with a key and a hash of its own unless told otherwise."""
    wanted = [IntakeLine(sku, quantity) for sku, quantity in (units or {"LAMP": 1}).items()]
    given = {
        "tenant_id": tenant_id,
        "idempotency_key": str(new_id()),
        "request_hash": sha256(repr(wanted).encode()).digest(),
        "customer_email": "ada@example.com",
        "currency": "EUR",
        "lines": wanted,
    }
    return IntakeOrder(**{**given, **changes})


def answers(engine: Engine, orders: Sequence[IntakeOrder]) -> list[AcceptedOrder | LongshoreError]:
    """One flush of the intake."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return accept_orders(connection, orders)


def accepted(engine: Engine, orders: Sequence[IntakeOrder]) -> list[AcceptedOrder]:
    found = answers(engine, orders)
    taken_in = [answer for answer in found if isinstance(answer, AcceptedOrder)]
    assert taken_in == found
    return taken_in


def enqueued(
    engine: Engine, tenant_id: UUID, *payloads: JobArgs, due_in_s: float = -1.0, lane: str | None = None, **more: Any
) -> list[UUID]:
    """Jobs that wait, with their outbox rows. Answers their ids."""
    due_at = datetime.now(UTC) + timedelta(seconds=due_in_s)
    jobs = [new_job(args, tenant_id=tenant_id, due_at=due_at, lane=lane, **more) for args in payloads]
    with engine.begin() as tx:
        enqueue(tx, jobs)
    return [job.id for job in jobs]


def all_due(engine: Engine, limit: int = 1_000) -> list[UUID]:
    """What a relay that remembers nothing would ring of the rows without a lane, each flow's first first."""
    with engine.begin() as tx:
        flows = new_flows(tx, [], 1_000)
        heads = due_rows(tx, flows, [datetime(1970, 1, 1, tzinfo=UTC)] * len(flows), [limit] * len(flows))
    return [UUID(job_id) for head in heads for job_id in [*head.together, *head.alone]]


def make_due(engine: Engine) -> None:
    """Whatever waits for its time waits no longer."""
    for table in ("jobs", "outbox"):
        execute(engine, f"UPDATE {table} SET due_at = now() - interval '1 second'")


def claimed(engine: Engine, ids: Sequence[UUID], lease_s: float = 60.0) -> list[ClaimedJob]:
    with engine.begin() as tx:
        return start_if_due(tx, ids, new_id(), lease_s=lease_s)


def running(engine: Engine, tenant_id: UUID, *payloads: JobArgs, lease_s: float = 60.0, **more: Any) -> ClaimedJob:
    (job, *_) = claimed(engine, enqueued(engine, tenant_id, *payloads, **more), lease_s)
    return job


def ended(engine: Engine, job: ClaimedJob, ending: Ending) -> list[FinishedJob]:
    """The job's attempt has ended like this; empty when the fence refused it."""
    policy = KINDS[job.kind].retry if job.kind in KINDS else Backoff()
    decision = decide(job.attempt, job.max_attempts, ending, policy, datetime.now(UTC), jitter=0.9)
    with engine.begin() as tx:
        return settle(tx, [finish_of(job, ending, decision)])


def after(engine: Engine, job: ClaimedJob, endings: Sequence[Ending], *, apart: timedelta) -> ClaimedJob:
    """The job as claimed anew when its last attempts have ended like this, one so long after the other."""
    for ending in endings:
        ended(engine, job, ending)
        back = "UPDATE attempts SET started_at = started_at - :apart, finished_at = finished_at - :apart"
        execute(engine, f"{back} WHERE job_id = :id", id=job.id, apart=apart)
        (job,) = claimed(engine, [job.id])
    return job


def rows(engine: Engine, sql: str, **values: object) -> list[Any]:
    with engine.begin() as tx:
        return list(tx.execute(text(sql), values).all())


def row(engine: Engine, sql: str, **values: object) -> Any:
    """The only row."""
    (found,) = rows(engine, sql, **values)
    return found


def scalar(engine: Engine, sql: str, **values: object) -> Any:
    return row(engine, sql, **values)[0]


def execute(engine: Engine, sql: str, **values: object) -> int:
    with engine.begin() as tx:
        return tx.execute(text(sql), values).rowcount


def the_job(engine: Engine, job_id: UUID) -> Any:
    return row(engine, "SELECT * FROM jobs WHERE id = :id", id=job_id)


def is_obliged(engine: Engine, job_id: UUID) -> bool:
    return bool(rows(engine, "SELECT FROM outbox WHERE job_id = :id", id=job_id))


def at_once(*acts: Callable[[], Answer]) -> list[Answer | Exception]:
    """Every act in a thread of its own, started together. Answers what each returned or raised, in order."""
    gate = Barrier(len(acts))

    def run(act: Callable[[], Answer]) -> Answer | Exception:
        gate.wait(30)
        try:
            return act()
        except Exception as error:  # noqa: BLE001  # what was raised is the answer
            return error

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(run, acts))


def eventually(condition: Callable[[], object], within_s: float = 15.0) -> None:
    """The condition holds within this time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


def resources(engine: Engine, smtp_url: str = "smtp://127.0.0.1:1") -> Resources:
    return Resources(
        engine=engine,
        holdings=Holdings(),
        mailer=Mailer(smtp_url, "orders@longshore.example"),
        http=GuardedHttp(),
        reports=ReportStore("file:///nonexistent"),
        secret_key=SECRET_KEY,
        ring=lambda: None,
    )


@pytest.fixture(scope="module")
def module_database(stack: Servers, template: str) -> Iterator[str]:
    with a_database(stack.database_url, template) as url:
        yield url


@pytest.fixture(name="database_url")
def emptied_database(module_database: str) -> str:
    """In place of a fresh database per test: one per module, emptied before each test, which takes a tenth of that."""
    engine = connect(module_database, process="test")
    with engine.begin() as tx:
        tx.execute(text("SET LOCAL session_replication_role = replica"))  # past the trigger that keeps the audit log
        for table in reversed(metadata.sorted_tables):
            tx.execute(delete(table))
        open_lane(tx, SMTP, "email", SMTP_ROOM)
    engine.dispose()
    return module_database


@contextmanager
def declarations() -> Iterator[None]:
    """Kinds and handlers declared inside are forgotten afterwards."""
    kinds, handlers = dict(KINDS), dict(HANDLERS)
    try:
        yield
    finally:
        KINDS.clear()
        KINDS.update(kinds)
        HANDLERS.clear()
        HANDLERS.update(handlers)
