"""docs/adding-a-kind.md is run as it stands: its blocks are all that a new kind takes."""

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import Engine, insert, select

from domain.event_types import OrderCompleted
from domain.events import Occurrence, publish
from domain.ids import new_id
from domain.jobs.kind import KINDS
from domain.jobs.outbox import enqueue, new_job
from domain.reports.store import ReportStore
from domain.tables.jobs import attempts, jobs
from domain.tables.orders import orders
from domain.tables.outbox import outbox
from domain.tenants.tenants import ensure_tenant
from tests.integration.builders import declarations
from workers.clients.guarded_http import GuardedHttp
from workers.clients.mailer import Mailer
from workers.context import Resources
from workers.executor import Executor
from workers.holdings import Holdings
from workers.recorder import Recorder
from workers.registry import HANDLERS

PAGE = Path(__file__).parents[2] / "docs/adding-a-kind.md"
KIND = "email.receipt"


@dataclass
class Postbox:
    """What the mail server took."""

    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append(message_from_bytes(envelope.original_content or b"", policy=policy.default))
        return "250 OK"


@pytest.fixture
def the_page_is_followed() -> Iterator[dict[str, Any]]:
    """Its blocks have been added to the code, and are gone afterwards."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    added: dict[str, Any] = {"__name__": __name__}
    with declarations():
        for block in blocks:
            exec(block, added)  # noqa: S102  # our own page
        yield added


@pytest.fixture
def postbox() -> Iterator[tuple[Postbox, str]]:
    """A mail server on this machine, and its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, f"smtp://127.0.0.1:{port}"
    controller.stop()


@pytest.fixture
def mailer(postbox: tuple[Postbox, str]) -> Iterator[Mailer]:
    mailer = Mailer(postbox[1], "orders@longshore.example")
    yield mailer
    mailer._drop()  # the connection that this thread has kept


@pytest.fixture
def order(engine: Engine) -> tuple[UUID, UUID]:
    """A completed order over 19 dollars, and whose it is: (tenant id, order id)."""
    order_id = new_id()
    with engine.begin() as tx:
        tenant_id = ensure_tenant(tx, "shop")
        row = {"id": order_id, "tenant_id": tenant_id, "idempotency_key": "key-1", "request_hash": b"", "total": 1900}
        customer = {"customer_email": "ada@example.com", "currency": "USD"}
        tx.execute(insert(orders).values(**row, **customer, status="completed", version=3, root_job_id=new_id()))
    return tenant_id, order_id


def test_the_page_declares_a_kind_and_its_handler(the_page_is_followed: dict[str, Any]) -> None:
    assert KINDS[KIND].payload is the_page_is_followed["SendReceipt"]
    assert HANDLERS[KIND].run is the_page_is_followed["send_receipt"]


def test_a_completed_order_gets_its_receipt(
    the_page_is_followed: dict[str, Any],
    engine: Engine,
    order: tuple[UUID, UUID],
    mailer: Mailer,
    postbox: tuple[Postbox, str],
    tmp_path: Path,
) -> None:
    tenant_id, order_id = order

    # When the event is published, its job and the obligation to run it exist.
    with engine.begin() as tx:
        publish(tx, [Occurrence(tenant_id, order_id, 3, OrderCompleted(order_id=order_id))])
        job = tx.execute(select(jobs).where(jobs.c.kind == KIND)).one()
        obligation = tx.execute(select(outbox).where(outbox.c.job_id == job.id)).one()
    assert (job.state, job.queue, job.max_attempts, job.order_id) == ("queued", "email", 5, order_id)
    assert (obligation.kind, obligation.lane) == (KIND, "smtp")

    # When a worker hears its bell, the mail is out, once, and the attempt is on record.
    run_as_a_worker(engine, mailer, tmp_path, KIND, [job.id])
    (mail,) = postbox[0].mails
    assert mail["To"] == "ada@example.com"
    assert mail["Message-ID"] == f"<{job.id}@longshore.example>"
    assert "Paid: 19.00 USD" in mail.get_content()
    with engine.begin() as tx:
        assert tx.execute(select(jobs.c.state).where(jobs.c.id == job.id)).scalar_one() == "succeeded"
        assert tx.execute(select(attempts.c.outcome).where(attempts.c.job_id == job.id)).scalars().all() == [
            "succeeded"
        ]
        assert tx.execute(select(outbox).where(outbox.c.job_id == job.id)).first() is None


def test_a_newsletter_is_closed_when_every_copy_has_ended(
    the_page_is_followed: dict[str, Any], engine: Engine, order: tuple[UUID, UUID], mailer: Mailer, tmp_path: Path
) -> None:
    def run(kind: str) -> Any:
        with engine.begin() as tx:
            ids = list(tx.execute(select(jobs.c.id).where(jobs.c.kind == kind)).scalars())
        run_as_a_worker(engine, mailer, tmp_path, kind, ids)
        with engine.begin() as tx:
            return tx.execute(select(jobs).where(jobs.c.kind == kind)).all()

    # When an issue is asked for twice, there is one job for it.
    issue = the_page_is_followed["SendNewsletter"](issue="May", readers=[new_id() for _ in range(3)])
    first, twin = (new_job(issue, tenant_id=order[0]) for _ in range(2))
    with engine.begin() as tx:
        assert enqueue(tx, [first]) == {}
        assert enqueue(tx, [twin]) == {twin.id: first.id}

    # When it has run, the last job waits for one copy per reader, and runs when they have been written.
    run("email.newsletter")
    (closed,) = run("email.newsletter_closed")
    assert closed.state == "scheduled"
    copies = run("email.newsletter_copy")
    assert {(copy.state, copy.parent_id, copy.priority) for copy in copies} == {("succeeded", closed.id, -1)}
    (closed,) = run("email.newsletter_closed")
    assert (closed.state, closed.result) == ("succeeded", {"sent": 3, "failed": 0})


def run_as_a_worker(engine: Engine, mailer: Mailer, folder: Path, kind: str, ids: list[UUID]) -> None:
    """One bell, run and recorded by what `workers/worker.py` is built of."""
    resources = Resources(
        engine=engine,
        holdings=Holdings(),
        mailer=mailer,
        http=GuardedHttp(),
        reports=ReportStore(f"file://{folder}"),
        secret_key=bytes(32),
        ring=lambda: None,
    )
    recorder = Recorder(engine, resources.holdings, resources.ring)
    executor = Executor(resources, recorder, new_id(), engine)
    recorder.start()
    executor.run_bundle(kind, [job_id.hex for job_id in ids])
    assert recorder.close(10)
    executor.close()
    while executor._loop.is_running():
        time.sleep(0.001)
    executor._loop.close()
