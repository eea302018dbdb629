"""Mail to a real SMTP server that answers what a test tells it: sent once, or sorted into ours, theirs and for good."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.message import EmailMessage
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import Engine

import workers.handlers  # noqa: F401  # registers them
from domain.ids import new_id
from domain.job_kinds import MailOrderConfirmed, MailOrderRejected
from domain.jobs.attempts import ClaimedJob
from domain.jobs.dead_letters import replay_if_open
from domain.jobs.kind import find_kind
from domain.jobs.retry_policy import DependencyDown, Errored, PermanentFailure, Snooze, Snoozed
from ops.telemetry import JOB_ERRORS
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_product,
    a_tenant,
    accepted,
    after,
    an_order,
    claimed,
    emptied_database,
    ended,
    execute,
    module_database,
    resources,
    running,
    scalar,
)
from tests.integration.dev_process import free_port
from workers.clients.mailer import Mailer, NotTaken
from workers.context import JobContext
from workers.endings import ending_of_job
from workers.registry import HANDLERS

SENDER = "Longshore <orders@longshore.example>"
JOB = new_id()


class Server:
    """Keeps what it takes, and answers as it is told; an answer is used up by the command it is for."""

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.sessions: set[int] = set()
        self.answers: dict[str, str] = {}
        self.recipients: list[str] = []
        self.hangs_up_after_data = False
        self.hangs_up_at_ehlo = False

    async def handle_EHLO(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, session: Session, _envelope: Envelope, name: str, responses: list[str]
    ) -> list[str]:
        session.host_name = name
        if "EHLO" in self.answers:
            responses = [self.answers["EHLO"]]
        if self.hangs_up_at_ehlo:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return responses

    async def handle_HELO(self, _server: SMTP, session: Session, _envelope: Envelope, name: str) -> str:  # noqa: N802
        session.host_name = name
        return self.answers.get("EHLO", "250 OK")

    async def handle_MAIL(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.sessions.add(id(session))
        if "MAIL" in self.answers:
            return self.answers.pop("MAIL")
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.recipients:
            return self.recipients.pop(0)
        if "RCPT" in self.answers:
            return self.answers.pop("RCPT")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if "DATA" in self.answers:
            return self.answers.pop("DATA")
        self.taken.append(envelope)
        if self.hangs_up_after_data:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 OK"

    def headers(self, name: str) -> list[str]:
        found = []
        for envelope in self.taken:
            assert isinstance(envelope.content, bytes)
            lines = envelope.content.decode().split("\r\n\r\n")[0].split("\r\n")
            found += [line.partition(": ")[2] for line in lines if line.lower().startswith(f"{name.lower()}:")]
        return found


@contextmanager
def listening(server: Server, port: int) -> Iterator[None]:
    controller = Controller(server, hostname="127.0.0.1", port=port, ready_timeout=15)
    controller.start()
    try:
        yield
    finally:
        controller.stop()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def url(server: Server, port: int) -> Iterator[str]:
    with listening(server, port):
        yield f"smtp://127.0.0.1:{port}"


@pytest.fixture
def mailer(url: str) -> Iterator[Mailer]:
    mailer = Mailer(url, SENDER)
    yield mailer
    mailer._drop()


def mail(to: str = "ada@example.com") -> EmailMessage:
    made = EmailMessage()
    made["To"], made["Subject"] = to, "Your order is confirmed"
    made.set_content("Thank you: 7 €\n")
    return made


def test_a_mail_is_sent_once_to_its_recipient(server: Server, mailer: Mailer) -> None:
    mailer.send(mail(), JOB)
    (envelope,) = server.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("orders@longshore.example", ["ada@example.com"])
    assert server.headers("From") == [SENDER]
    assert len(server.headers("Date")) == 1


def test_a_mail_with_a_sender_of_its_own_keeps_it(server: Server, mailer: Mailer) -> None:
    own = mail()
    own["From"] = "berth@harbour.example"
    mailer.send(own, JOB)
    assert [envelope.mail_from for envelope in server.taken] == ["berth@harbour.example"]
    assert server.headers("From") == ["berth@harbour.example"]


def test_every_attempt_of_a_job_carries_the_same_message_id(server: Server, mailer: Mailer) -> None:
    mailer.send(mail(), JOB)
    mailer.send(mail(), JOB)
    mailer.send(mail(), new_id())
    first, second, other = server.headers("Message-ID")
    assert first == second == f"<{JOB}@longshore.example>"
    assert other != first


def test_one_connection_serves_many_mails(server: Server, mailer: Mailer) -> None:
    for _ in range(3):
        mailer.send(mail(), JOB)
    assert len(server.sessions) == 1


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("550 no such mailbox", PermanentFailure),
        ("552 too large", PermanentFailure),
        ("451 greylisted", NotTaken),
        ("452 full", NotTaken),
        ("421 shutting down", DependencyDown),
        ("454 no authentication now", DependencyDown),
    ],
)
def test_a_refusal_means_what_its_code_says_and_the_next_mail_goes_out(
    server: Server, mailer: Mailer, command: str, answer: str, meaning: type[Exception]
) -> None:
    server.answers[command] = answer
    with pytest.raises(meaning, match=answer[:3]):
        mailer.send(mail(), JOB)
    assert server.taken == []
    mailer.send(mail(), JOB)
    assert len(server.taken) == 1


@pytest.mark.parametrize("answer", ["550 blocked", "421 busy", None], ids=str)
def test_a_server_that_lets_nobody_in_parks_the_lane_and_costs_no_mail_its_life(
    server: Server, mailer: Mailer, answer: str | None
) -> None:
    server.hangs_up_at_ehlo = answer is None
    server.answers |= {"EHLO": answer} if answer else {}
    with pytest.raises(DependencyDown):
        mailer.send(mail(), JOB)
    server.hangs_up_at_ehlo = False
    server.answers.clear()
    mailer.send(mail(), JOB)
    assert len(server.taken) == 1


@pytest.mark.parametrize("answer", ["550 no such mailbox", "450 greylisted"])
def test_who_of_several_is_refused_is_told_and_the_others_get_no_second_mail(
    server: Server, mailer: Mailer, answer: str
) -> None:
    server.answers["RCPT"] = answer
    with pytest.raises(PermanentFailure, match=f"1 of the recipients: {answer[:3]}$"):
        mailer.send(mail("ada@example.com, eve@example.com, joe@example.com"), JOB)
    assert [envelope.rcpt_tos for envelope in server.taken] == [["eve@example.com", "joe@example.com"]]


def test_a_server_that_leaves_while_it_is_asked_about_recipients_is_down_for_all_of_them(
    server: Server, mailer: Mailer
) -> None:
    server.recipients = ["550 no such mailbox", "421 shutting down"]
    with pytest.raises(DependencyDown):
        mailer.send(mail("ada@example.com, eve@example.com, joe@example.com"), JOB)


def test_greylisting_is_waited_out_and_names_no_address(server: Server, mailer: Mailer) -> None:
    server.answers["RCPT"] = "451 <ada@example.com> greylisted"
    with pytest.raises(NotTaken) as refused:
        mailer.send(mail(), JOB)
    assert refused.value.after_s == 300
    assert "ada" not in str(refused.value)


def test_a_server_that_is_not_there_parks_the_lane() -> None:
    with pytest.raises(DependencyDown) as down:
        Mailer("smtp://127.0.0.1:1", SENDER).send(mail(), JOB)
    assert down.value.lane == "smtp"


def test_a_server_that_was_restarted_is_found_again(server: Server, port: int) -> None:
    mailer = Mailer(f"smtp://127.0.0.1:{port}", SENDER)
    with listening(server, port):
        mailer.send(mail(), JOB)
    with pytest.raises(DependencyDown):
        mailer.send(mail(), JOB)
    with listening(server, port):
        mailer.send(mail(), JOB)
        mailer._drop()
    assert len(server.taken) == 2


def test_an_answer_that_is_lost_after_the_data_is_tried_again_not_taken_for_success(
    server: Server, mailer: Mailer
) -> None:
    server.hangs_up_after_data = True
    with pytest.raises(OSError, match="closed"):
        mailer.send(mail(), JOB)
    server.hangs_up_after_data = False
    mailer.send(mail(), JOB)
    assert len(set(server.headers("Message-ID"))) == 1


def test_a_login_that_the_server_does_not_offer_parks_the_lane_and_leaves_no_socket(url: str) -> None:
    with pytest.raises(DependencyDown, match="NotSupported"):
        Mailer(url.replace("smtp://", "smtp://user:secret@"), SENDER).send(mail(), JOB)


def test_encryption_that_the_server_does_not_offer_parks_the_lane_and_sends_nothing(url: str, server: Server) -> None:
    with pytest.raises(DependencyDown, match="NotSupported"):
        Mailer(url.replace("smtp://", "smtp+starttls://"), SENDER).send(mail(), JOB)
    assert server.taken == []


@pytest.mark.parametrize(
    "address", ["ada@example.com\r\nBcc: eve@example.com", "ada@example.com\nX: y", "a\r@b.example"]
)
def test_an_address_cannot_bring_headers_of_its_own(address: str) -> None:
    with pytest.raises(ValueError, match="linefeed or carriage return"):
        mail(address)


def test_a_mail_that_names_nobody_is_given_up_not_tried_again(server: Server, mailer: Mailer) -> None:
    with pytest.raises(PermanentFailure):
        mailer.send(mail(""), JOB)
    assert server.taken == []


@pytest.mark.parametrize("header", ["Cc", "Bcc"])
def test_a_mail_may_go_to_somebody_whom_it_does_not_address(server: Server, mailer: Mailer, header: str) -> None:
    copy = mail("")
    del copy["To"]
    copy[header] = "ada@example.com"
    mailer.send(copy, JOB)
    assert len(server.taken) == 1


# ---- what customers get


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com, eve@example.com",
        "ada,eve@example.com",
        "eve;ada@example.com",
        "<eve@example.com>",
        "Ada <eve@example.com>",
        "ada@example.com\r\nBcc: eve@example.com",
        "<>",
        "@",
        "",
    ],
)
def test_an_order_is_never_told_to_anyone_but_its_customer(
    engine: Engine, url: str, server: Server, address: str
) -> None:
    """Whatever the API let pass: what is no single mailbox gets no mail, and no second attempt."""
    with pytest.raises(PermanentFailure):
        _tell(engine, url, address)
    assert server.taken == []


def test_the_customer_reads_what_was_ordered_and_what_it_costs(engine: Engine, url: str, server: Server) -> None:
    job_id = _tell(engine, url, "ada@example.com")
    text = str(server.taken[0].content)
    assert "2 x Lamp (LAMP) at 19.99 EUR" in text
    assert "Total: 39.98 EUR" in text
    assert server.headers("Message-ID") == [f"<{job_id}@longshore.example>"]


def test_a_rejected_order_is_told_too(engine: Engine, url: str, server: Server) -> None:
    _tell(engine, url, "ada@example.com", rejected=True)
    assert "2 x Lamp (LAMP" in str(server.taken[0].content)  # the line is folded behind it
    assert "out of stock" in str(server.taken[0].content).replace("=\\r\\n", "")


NOT_TAKEN = Snoozed(0.0, "the mail server says not now: 452")


def test_a_mail_that_is_not_taken_comes_back_for_a_day_without_using_an_attempt(
    engine: Engine, url: str, server: Server
) -> None:
    job = _about(engine, "ada@example.com", MailOrderRejected)
    for waits_s in [(300, 360), (600, 720), (1200, 1440), (2400, 2880), (3600, 4320), (3600, 4320)]:
        error = _not_taken(engine, url, server, job)
        assert isinstance(error, Snooze)
        assert waits_s[0] <= error.seconds <= waits_s[1]
        job = after(engine, job, [Snoozed(0.0, str(error))], apart=timedelta(minutes=5))
    assert job.attempt == 1
    # When that has lasted for a day
    job = after(engine, job, [NOT_TAKEN] * 24, apart=timedelta(hours=1))
    error = _not_taken(engine, url, server, job)
    assert isinstance(error, PermanentFailure)
    assert str(error) == "for a day the mail server says not now: 452"
    # Then a replay, which is another attempt, has a day of its own
    ended(engine, job, Errored("PermanentFailure", str(error), permanent=True))
    with engine.begin() as tx:
        replay_if_open(tx, scalar(engine, "SELECT id FROM dead_letters"), "olga")
    (job,) = claimed(engine, [job.id])
    assert isinstance(_not_taken(engine, url, server, job), Snooze)


def test_a_mail_that_met_an_outage_a_day_ago_is_greylisted_like_any_other(
    engine: Engine, url: str, server: Server
) -> None:
    outage = Snoozed(0.0, "the mail server answers 421")
    job = after(engine, _about(engine, "ada@example.com", MailOrderRejected), [outage] * 5, apart=timedelta(hours=6))
    assert isinstance(_not_taken(engine, url, server, job), Snooze)


def test_a_mail_that_is_not_taken_is_counted_as_the_failure_of_something_outside(
    engine: Engine, url: str, server: Server
) -> None:
    job = _about(engine, "ada@example.com", MailOrderRejected)
    counted = JOB_ERRORS.labels(job.kind, "external")
    before = counted._value.get()
    assert isinstance(ending_of_job(_not_taken(engine, url, server, job), job), Snoozed)
    assert counted._value.get() - before == 1


def _not_taken(engine: Engine, url: str, server: Server, job: ClaimedJob) -> Exception:
    server.answers["DATA"] = "452 the disk is full"
    with pytest.raises((Snooze, PermanentFailure)) as raised:
        _tell_of(engine, url, job)
    return raised.value


def _tell(engine: Engine, url: str, address: str, *, rejected: bool = False) -> UUID:
    """The handler of the mail runs for an order of this customer. Answers the job's id."""
    job = _about(engine, address, MailOrderRejected if rejected else MailOrderConfirmed)
    _tell_of(engine, url, job)
    return job.id


def _about(engine: Engine, address: str, kind: type[MailOrderRejected | MailOrderConfirmed]) -> ClaimedJob:
    tenant_id = a_tenant(engine)
    a_product(engine, tenant_id)
    (order,) = accepted(engine, [an_order(tenant_id, {"LAMP": 2}, customer_email=address)])
    return running(engine, tenant_id, kind(order.order_id))


def _tell_of(engine: Engine, url: str, job: ClaimedJob) -> None:
    given = resources(engine, url)
    ctx = JobContext(job, given, 30.0)
    try:
        HANDLERS[job.kind].run(find_kind(job.kind).decode(job.args), ctx)
    finally:
        ctx.close()
        given.mailer._drop()
