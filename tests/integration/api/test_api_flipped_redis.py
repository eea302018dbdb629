"""A Redis whose replies have a wrong byte: no request fails of it, and nothing ends for good."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

import api.announcements
import api.limits
import api.relay_bell
from api.announcements import Announcements
from api.limits import Policy, RateLimiter
from api.relay_bell import RelayBell

FLIPPED = [
    b":q\r\n",
    b"$3\r\nabc\r\n",
    b"*2\r\n:1\r\n:x\r\n",
    b"+\xff\xfe\r\n",
    b"$5x\r\nhello\r\n",
    b"*x\r\n",
    b"\xba1\r\n",
]
#: What a client says before it asks anything.
_GREETINGS = {b"CLIENT", b"HELLO", b"SELECT"}


class Liar:
    """Answers every question with `reply`, and keeps the first word of each."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.heard: list[bytes] = []
        self.callers = 0
        self.url = ""

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.callers += 1
        while line := await reader.readline():
            words = [await self._word(reader) for _ in range(int(line[1:]))]
            self.heard.append(words[0].upper())
            writer.write(b"+OK\r\n" if self.heard[-1] in _GREETINGS else self.reply)
            await writer.drain()
        writer.close()

    async def _word(self, reader: StreamReader) -> bytes:
        size = int((await reader.readline())[1:])
        return (await reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def lying(reply: bytes) -> AsyncIterator[Liar]:
    liar = Liar(reply)
    server = await asyncio.start_server(liar.answer, "127.0.0.1", 0)
    liar.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0?protocol=2"
    async with server, asyncio.timeout(10):
        yield liar


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # it is a wait-until
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("reply", FLIPPED, ids=ascii)
def test_callers_are_counted_here_as_when_redis_is_away(reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.limits, "_AWAY_S", 0.0)  # it is asked each time, over a connection of its own
    policy = Policy("flipped", 2, 60)

    async def ask() -> None:
        async with lying(reply) as liar, RateLimiter(liar.url) as limiter:
            standings = [await limiter.take(policy, "one") for _ in range(3)]
            assert [standing.is_granted for standing in standings] == [True, True, False]
            assert liar.callers == 3

    asyncio.run(ask())


@pytest.mark.parametrize("reply", FLIPPED, ids=ascii)
def test_the_bell_is_rung_again_and_health_says_that_redis_does_not_answer(
    reply: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.relay_bell, "_TIMEOUT_S", 0.05)

    async def ring() -> None:
        async with lying(reply) as liar, RelayBell(liar.url) as bell:
            for rings in range(1, 3):
                bell.ring()
                await until(lambda: liar.heard.count(b"LPUSH") >= rings)  # noqa: B023  # asked at once
                await asyncio.sleep(0)
            await bell.answers()  # whatever it makes of that

    asyncio.run(ring())


@pytest.mark.parametrize("reply", FLIPPED, ids=ascii)
def test_the_news_are_subscribed_to_again(reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.announcements, "_TIMEOUT_S", 0.05)
    monkeypatch.setattr(api.announcements, "_SILENCE_S", 0.1)

    async def listen() -> None:
        async with lying(reply) as liar, Announcements(liar.url, lambda _: None):
            await until(lambda: liar.heard.count(b"SUBSCRIBE") >= 2)

    asyncio.run(listen())
