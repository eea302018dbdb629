"""The outside world: a mail server and webhook subscribers that note everything they get, and have moods.

What is noted is what anybody outside could know. A mood says what comes back; a thing is noted before it is answered,
so that an answer that is lost is no delivery that is lost.
"""

import asyncio
import random
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from email import message_from_bytes, policy
from http import HTTPStatus
from typing import Self

import msgspec

from ops.chaos.bombs import Bomb, throw

HOST = "127.0.0.1"
#: Paths of subscribers that only a fault knows begin so; what they get is noted apart.
ASIDE = "/aside"
#: How long who asks for patience asks for it.
RETRY_AFTER_S = 3
_GREYLISTED_S = 1.5


class Delivery(msgspec.Struct, frozen=True):
    """One request of a webhook. `at` is of the monotonic clock, `received_at` in seconds of the epoch."""

    path: str
    webhook_id: str
    body: bytes
    headers: dict[str, str]
    at: float
    received_at: float
    status: int | None


class Mail(msgspec.Struct, frozen=True):
    """One mail that was sent to its final dot."""

    message_id: str
    recipient: str
    subject: str
    at: float
    acknowledged: bool
    text: str = ""


class Mood(msgspec.Struct, frozen=True):
    """How the outside answers: each of these with its chance, else well. `hang_s` before any answer.

    `location`: where a redirect points. `refuse`: the share of addresses that the mail server does not know.
    `greylist`: it takes mail for an address only some time after that was first named.
    """

    status: int = 204
    chance: float = 0.0
    hang_s: float = 0.0
    reset: float = 0.0
    drip: bool = False
    location: str = ""
    bomb: Bomb | None = None
    refuse: float = 0.0
    greylist: bool = False


#: Between two bytes of an answer that drips.
_DRIP_S = 0.2

WELL = Mood()


class Outside:
    """A context. Its ports are open, and what came is in `deliveries` and `mails`."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        #: Those to paths that only a fault knows, whose moods are in `asides`.
        self.aside: list[Delivery] = []
        self.asides: dict[str, Mood] = {}
        self.mails: list[Mail] = []
        #: Addresses that the mail server refused for good.
        self.refused: set[str] = set()
        #: Requests that reached what nobody may reach.
        self.canaries: list[str] = []
        #: Bombs that somebody read to the end.
        self.swallowed = 0
        self._named: dict[str, float] = {}
        self.webhook_mood = self.mail_mood = WELL
        #: Answers that a mood has spoiled.
        self.spoiled = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="outside", daemon=True)
        self._random = random.Random(0)  # noqa: S311  # moods, not secrets
        self.smtp_port = self.http_port = self.canary_port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.smtp_port = self._serve(self._take_mail)
        self.http_port = self._serve(self._take_webhook)
        self.canary_port = self._serve(self._sing)
        with suppress(OSError):  # a machine may have no other kind of address
            self._serve(self._sing, "::1", self.canary_port)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _serve(
        self,
        take: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
        host: str = HOST,
        wanted_port: int = 0,
    ) -> int:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await take(reader, writer)  # type: ignore[misc]  # both are coroutines
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass
            finally:
                writer.close()

        async def listen() -> int:
            server = await asyncio.start_server(talk, host, wanted_port)
            port: int = server.sockets[0].getsockname()[1]
            return port

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    async def _take_webhook(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            request, *lines = head.split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            arrived, arrived_at = time.monotonic(), time.time()
            path, webhook_id = request.split(" ")[1], headers.get("webhook-id", "")
            kept = self.aside if path.startswith(ASIDE) else self.deliveries
            status: int | None = None
            try:
                status = await self._answer(writer, self.asides.get(path, self.webhook_mood))
            finally:
                kept.append(Delivery(path, webhook_id, body, headers, arrived, arrived_at, status))
            if status is None:
                writer.transport.abort()
                return

    async def _answer(self, writer: asyncio.StreamWriter, mood: Mood) -> int | None:
        """The status that was sent; None when the connection shall go instead."""
        if mood.hang_s:
            self.spoiled += 1
            await asyncio.sleep(mood.hang_s)
        if self._random.random() < mood.reset:
            self.spoiled += 1
            return None
        status = 204
        if self._random.random() < mood.chance:
            self.spoiled += 1
            status = mood.status
            if mood.bomb is not None:
                return await self._explode(mood.bomb, writer)
        extra = f"Location: {mood.location}\r\n" if 300 <= status < 400 else ""
        extra += f"Retry-After: {RETRY_AFTER_S}\r\n" if status in {429, 503} else ""
        answer = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{extra}Content-Length: 0\r\n\r\n".encode()
        self.spoiled += mood.drip
        for part in [answer[at : at + 1] for at in range(len(answer))] if mood.drip else [answer]:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(_DRIP_S if mood.drip else 0)
        return status

    async def _explode(self, bomb: Bomb, writer: asyncio.StreamWriter) -> int | None:
        """A body counts by its status, however much of it is read; headers that do not end are no answer."""
        with suppress(OSError):
            self.swallowed += await throw(bomb, writer)
        return None if bomb == "headers" else 200

    async def _sing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The canary: whoever asks here was led astray."""
        if line := await reader.readline():
            self.canaries.append(line.decode("latin-1").strip())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def _take_mail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipient = ""
        writer.write(b"220 outside\r\n")
        while line := await reader.readline():
            match line[:4].upper():
                case b"EHLO":
                    writer.write(b"250-outside\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
                case b"RCPT":
                    recipient = line.decode().partition("<")[2].partition(">")[0]
                    reply = self._reply_to(recipient)
                    self.spoiled += not reply.startswith(b"250")
                    writer.write(reply)
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    await writer.drain()
                    content = await reader.readuntil(b"\r\n.\r\n")
                    if not await self._keep(content, recipient, writer):
                        return
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    return
                case _:
                    writer.write(b"250 fine\r\n")

    def _reply_to(self, recipient: str) -> bytes:
        """What an address is answered: the same as long as the mood lasts, except for those who come back in time."""
        mood = self.mail_mood
        if zlib.crc32(recipient.encode()) % 100 < mood.refuse * 100:
            self.refused.add(recipient)
            return b"550 unknown here\r\n"
        first = self._named.setdefault(recipient, time.monotonic())
        if mood.greylist and time.monotonic() - first < _GREYLISTED_S:
            return b"451 come back later\r\n"
        return b"451 not now\r\n" if self._random.random() < mood.chance else b"250 fine\r\n"

    async def _keep(self, content: bytes, recipient: str, writer: asyncio.StreamWriter) -> bool:
        mood = self.mail_mood
        is_lost = self._random.random() < mood.reset
        mail = message_from_bytes(content, policy=policy.default)
        about, text = str(mail["Subject"]), str(mail.get_content())
        now = time.monotonic()
        self.mails.append(Mail(str(mail["Message-ID"]), recipient, about, now, acknowledged=not is_lost, text=text))
        if is_lost:
            self.spoiled += 1
            writer.transport.abort()
            return False
        if mood.hang_s:
            self.spoiled += 1
            await asyncio.sleep(mood.hang_s)
        writer.write(b"250 taken\r\n")
        return True
