"""The Maildir of the development inbox: whole mails only, newest first, unreadable ones shown as such."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import count
from pathlib import Path

import msgspec


class Mail(msgspec.Struct, frozen=True, rename="camel"):
    """What a developer wants to see of a mail. `recipients` are the envelope's, the rest are its own headers."""

    id: str
    to: str
    from_: str = msgspec.field(name="from")
    subject: str = ""
    date: str = ""
    message_id: str = ""
    text: str = ""
    recipients: list[str] = []
    received_at: datetime | None = None
    #: How often it came under its Message-ID: a job that runs again sends its mail again.
    copies: int = 1


class MailFolder:
    """One file per mail. Names begin with the time of arrival, so that they sort."""

    def __init__(self, folder: Path) -> None:
        self._new, self._writing = folder / "new", folder / "tmp"
        for part in (folder, self._new, self._writing, folder / "cur"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number = count()

    def keep(self, content: bytes, sender: str, recipients: Sequence[str]) -> None:
        """The mail is in the folder, whole, with its envelope in front as a mail server would write it."""
        envelope = [f"Return-Path: <{sender}>", *(f"Delivered-To: {recipient}" for recipient in recipients)]
        name = f"{time.time_ns():020d}.{next(self._number):06d}.inbox"
        fresh = self._writing / name
        fresh.write_bytes("".join(f"{line}\r\n" for line in envelope).encode(errors="replace") + content)
        fresh.rename(self._new / name)

    def mails(self, limit: int | None = None, about: str = "") -> list[Mail]:
        """Newest first, each Message-ID once, as a mailbox shows them: those that hold the text *about* as sent.

        Only these are parsed, which costs a hundred times as much as to look: one order's mails are found among many.
        """
        shown: dict[str, Mail] = {}
        for path in sorted(self._new.iterdir(), reverse=True):
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # the folder is being emptied
                continue
            if about.encode() not in content:
                continue
            mail = _read(path.name, content)
            key = mail.message_id or mail.id
            if key in shown:
                shown[key] = msgspec.structs.replace(shown[key], copies=shown[key].copies + 1)
            elif limit is not None and len(shown) >= limit:
                break
            else:
                shown[key] = mail
        return list(shown.values())

    def clear(self) -> None:
        for path in self._new.iterdir():
            path.unlink(missing_ok=True)


def _read(name: str, content: bytes) -> Mail:
    received_at = datetime.fromtimestamp(int(name.partition(".")[0]) / 1e9, UTC)
    try:
        mail = message_from_bytes(content, policy=policy.default)
        return Mail(
            id=name,
            to=str(mail["To"] or ""),
            from_=str(mail["From"] or ""),
            subject=str(mail["Subject"] or ""),
            date=str(mail["Date"] or ""),
            message_id=str(mail["Message-ID"] or ""),
            text=_text(mail),
            recipients=[str(value) for value in mail.get_all("Delivered-To", [])],
            received_at=received_at,
        )
    except Exception:  # noqa: BLE001  # the standard parser raises nearly anything at hostile headers
        return Mail(id=name, to="", from_="", subject="(cannot be read)", received_at=received_at)


def _text(mail: EmailMessage) -> str:
    body = mail.get_body(("plain", "html"))
    return "" if body is None else str(body.get_content())
