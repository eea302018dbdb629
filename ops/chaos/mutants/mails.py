"""Seeded bugs of what mails say, and how often."""

import smtplib
from email.message import EmailMessage
from typing import Any

from ops.chaos.mutants.graft import imported, mutant, replace
from workers.clients.mailer import Mailer


@mutant("mails are few")
def each_mail_goes_out_twice() -> None:
    """A mail is handed to its server twice over."""
    open_ = Mailer._open

    def open_twofold(self: Mailer) -> smtplib.SMTP:
        client = open_(self)
        send = client.send_message

        def send_twice(mail: EmailMessage) -> Any:
            send(mail)
            return send(mail)

        client.send_message = send_twice  # type: ignore[method-assign, assignment]
        return client

    replace(Mailer, "_open", open_twofold)


@mutant("mails tell the truth")
def mails_tell_of_the_order_before() -> None:
    """A mail says what the one before it, of the same process, should have said."""
    email = imported("workers.handlers.email")
    send, said = email.send_mail, list[tuple[str, str]]()

    def send_the_former(ctx: Any, address: str, *words: str) -> None:
        said.append((words[0], words[1]))
        send(ctx, address, *said[max(-2, -len(said))])

    replace(email, "send_mail", send_the_former)


@mutant("mails tell the truth")
def whoever_is_rejected_is_told_that_all_is_well() -> None:
    """A rejected order is confirmed, by mail."""
    email = imported("workers.handlers.email")
    send = email.send_mail

    def send_good_news(ctx: Any, address: str, subject: str, text: str) -> None:
        send(ctx, address, subject.replace("cannot be served", "is confirmed"), text)

    replace(email, "send_mail", send_good_news)
