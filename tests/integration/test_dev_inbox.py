"""The development inbox takes mail over SMTP, shows it over HTTP, and is not upset by a mail nobody can read."""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

import pytest

from ops.dev.caller import Caller, NotRunning, wait_for
from tests.integration.dev_process import free_port, longshore


class Inbox(NamedTuple):
    smtp_port: int
    view: Caller
    folder: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    smtp, http, folder = free_port(), free_port(), tmp_path_factory.mktemp("data") / "inbox"
    inbox = Inbox(smtp, Caller(f"http://127.0.0.1:{http}"), folder)
    with longshore("inbox", "--smtp-port", str(smtp), "--http-port", str(http), "--data", str(folder)):
        wait_for(lambda: _is_up(inbox), "the inbox")
        yield inbox


@pytest.fixture
def inbox(running: Inbox) -> Inbox:
    running.view.send("DELETE", "/messages")
    return running


def test_a_mail_arrives_with_all_its_parts(inbox: Inbox) -> None:
    send(inbox, mail("ada@example.com", "Grüße", "Your order is confirmed: 7 €\n"))
    (found,) = inbox.view.get("/messages")
    assert (found["to"], found["from"], found["subject"]) == ("ada@example.com", "orders@longshore.example", "Grüße")
    assert found["text"].strip() == "Your order is confirmed: 7 €"
    assert found["messageId"] == "<1@longshore.example>"
    assert found["recipients"] == ["ada@example.com"]
    assert found["receivedAt"].endswith("Z")
    assert inbox.folder.stat().st_mode & 0o077 == 0


def test_the_newest_comes_first_and_deleting_empties_it(inbox: Inbox) -> None:
    for number in range(3):
        send(inbox, mail("ada@example.com", f"mail {number}", "text", number))
    assert [one["subject"] for one in inbox.view.get("/messages")] == ["mail 2", "mail 1", "mail 0"]
    assert [one["subject"] for one in inbox.view.get("/messages?limit=1")] == ["mail 2"]
    inbox.view.send("DELETE", "/messages")
    assert inbox.view.get("/messages") == []


def test_a_mail_that_came_twice_under_one_message_id_is_shown_once(inbox: Inbox) -> None:
    for number in (1, 2, 1):
        send(inbox, mail("ada@example.com", f"mail {number}", "text", number))
    found = [(one["subject"], one["copies"]) for one in inbox.view.get("/messages")]
    assert found == [("mail 1", 2), ("mail 2", 1)]


def test_the_mails_about_something_are_found_among_others(inbox: Inbox) -> None:
    for number in range(3):
        send(inbox, mail("ada@example.com", f"mail {number}", "text", number))
    assert [one["subject"] for one in inbox.view.get("/messages?about=mail%201")] == ["mail 1"]
    assert inbox.view.get("/messages?about=nothing") == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00garbage without a header",
        b"Subject: =?nonsense?Q?=FF?=\r\nContent-Type: text/plain; charset=martian\r\n\r\nbody",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n--x",
        b"To: \x00\x01<<>>@@\r\nFrom: (\r\nDate: never\r\n\r\n",
    ],
)
def test_a_mail_that_cannot_be_read_is_still_shown(inbox: Inbox, content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", inbox.smtp_port) as client:
        client.sendmail("a@longshore.example", ["ada@example.com"], content)
    send(inbox, mail("ada@example.com", "a good one", "text"))
    assert [len(inbox.view.get("/messages")), inbox.view.get("/messages")[0]["subject"]] == [2, "a good one"]


def mail(to: str, subject: str, text: str, number: int = 1) -> EmailMessage:
    made = EmailMessage()
    made["To"], made["From"], made["Subject"] = to, "orders@longshore.example", subject
    made["Message-ID"] = f"<{number}@longshore.example>"
    made.set_content(text)
    return made


def send(inbox: Inbox, message: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", inbox.smtp_port) as client:
        client.send_message(message)


def _is_up(inbox: Inbox) -> bool:
    try:
        inbox.view.get("/messages")
        with smtplib.SMTP("127.0.0.1", inbox.smtp_port):
            return True
    except (NotRunning, OSError):
        return False
