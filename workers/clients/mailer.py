"""Mail out over SMTP: one connection per thread, kept open; every failure sorted into ours, theirs and for good.

Plain handlers are synchronous, so the standard library's client serves without an event loop.
"""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate
from random import random
from threading import local
from urllib.parse import unquote, urlsplit
from uuid import UUID

from domain.jobs.retry_policy import DependencyDown, PermanentFailure, RetryLater, Timetable
from domain.lanes.lanes import SMTP
from workers.clients.patience import patiently

TIMEOUT_S = 10.0
#: A server that greylists wants to see the same mail again after some minutes; one that is full, not so often.
GREYLIST = Timetable((300.0, 600.0, 1200.0, 2400.0, 3600.0))


class NotTaken(RetryLater):
    """The server has said that it did not take the mail, for now: no copy of it can be under way."""

    #: How its reason begins.
    WHY = "the mail server says not now"

    def __init__(self, code: int) -> None:
        super().__init__(GREYLIST.waits[0], f"{self.WHY}: {code}")

    def wait_s(self, times: int) -> float:
        """How long to wait when it has said so for the `times`th time in a row."""
        return GREYLIST.delay_s(times, random())  # noqa: S311  # jitter


class Mailer:
    """Thread-safe. `url` is smtp://, smtp+starttls:// or smtps:// with optional user:password@."""

    def __init__(self, url: str, sender: str) -> None:
        self._url, self._sender = urlsplit(url), sender
        self._kept = local()

    def send(self, mail: EmailMessage, idempotency_key: UUID) -> None:
        """The server has taken responsibility for the mail. Its Message-ID is the same on every attempt of a job.

        Raises DependencyDown when the server cannot be reached, NotTaken when it says not now, PermanentFailure when it
        will never take this mail, or took it for some of the recipients only: a retry would be a second mail to them. A
        connection lost after the data was sent is none of these: the mail may be out.
        """
        if not any(mail[name].addresses for name in ("To", "Cc", "Bcc") if name in mail):
            raise PermanentFailure("the mail names nobody whom it goes to")
        self._complete(mail, idempotency_key)
        client = self._client()
        try:
            refused = client.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            raise _judged(_code_of(error)) from None  # it names the recipient
        except smtplib.SMTPResponseException as error:
            self._drop()
            raise _judged(error.smtp_code) from None
        except (OSError, smtplib.SMTPException):
            self._drop()
            raise
        if refused:
            codes = ", ".join(sorted({str(code) for code, _ in refused.values()}))
            raise PermanentFailure(f"the mail server refuses {len(refused)} of the recipients: {codes}")

    def _complete(self, mail: EmailMessage, idempotency_key: UUID) -> None:
        if "From" not in mail:
            mail["From"] = self._sender
        mail["Date"] = formatdate(usegmt=True)
        mail["Message-ID"] = f"<{idempotency_key}@{self._sender.rpartition('@')[2].rstrip('>')}>"

    def _client(self) -> smtplib.SMTP:
        kept: smtplib.SMTP | None = getattr(self._kept, "client", None)
        if kept is not None and _answers(kept):
            return kept
        self._drop()
        try:
            self._kept.client = patiently(self._open)
        except (OSError, smtplib.SMTPException) as error:
            raise DependencyDown(SMTP, f"the mail server cannot be reached: {type(error).__name__}") from error
        client: smtplib.SMTP = self._kept.client
        return client

    def _open(self) -> smtplib.SMTP:
        host, port = self._url.hostname or "127.0.0.1", self._url.port or 0
        if self._url.scheme == "smtps":
            client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        else:
            client = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
        try:
            self._greet(client)
        except BaseException:
            client.close()
            raise
        return client

    def _greet(self, client: smtplib.SMTP) -> None:
        if self._url.scheme == "smtp+starttls":
            client.starttls(context=ssl.create_default_context())
        if self._url.username:
            client.login(unquote(self._url.username), unquote(self._url.password or ""))
        client.ehlo_or_helo_if_needed()  # or the first mail would say it, and pay for a server that wants nobody now

    def _drop(self) -> None:
        client: smtplib.SMTP | None = getattr(self._kept, "client", None)
        if client is not None:
            client.close()
        self._kept.client = None


def _judged(code: int) -> Exception:
    """What a reply code of the server means for the job (RFC 5321, 4.2.1)."""
    if code in {421, 454}:
        return DependencyDown(SMTP, f"the mail server answers {code}")
    if 400 <= code < 500:
        return NotTaken(code)
    return PermanentFailure(f"the mail server refuses the mail: {code}")


def _code_of(refused: smtplib.SMTPRecipientsRefused) -> int:
    codes = {code for code, _ in refused.recipients.values()}
    return 421 if 421 in codes else max(codes)  # after a 421 nobody else was asked about


def _answers(client: smtplib.SMTP) -> bool:
    try:
        return client.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False
