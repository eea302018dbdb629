"""TCP links that a fault can bend: every connection between two processes of a run goes through one.

All wires live in one event loop on a thread of its own, so that bending one is a plain call from anywhere. A wire that
is not bent forwards bytes as they come, both ways.
"""

import asyncio
import random
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal, Self, TypeVar

import msgspec

HOST = "127.0.0.1"
_CHUNK = 64 * 1024
_T = TypeVar("_T")

Way = Literal["requests", "replies", "both"]


class Bend(msgspec.Struct, frozen=True):
    """What a wire does to the bytes that pass one `way`.

    `cut`: connections are reset, new ones refused by a reset. `swallow`: bytes vanish, connections stand, and are reset
    when the wire is straight again. `delay_s`: each chunk waits so long. `bytes_per_s`: a trickle. `flip`: the share of
    chunks in which one byte is another. `after`: only connections on which these words were asked, one after the other,
    since the wire was bent.
    """

    way: Way = "both"
    cut: bool = False
    swallow: bool = False
    delay_s: float = 0.0
    bytes_per_s: int = 0
    flip: float = 0.0
    after: tuple[bytes, ...] = ()

    def bends(self, way: Way) -> bool:
        return self.way in {way, "both"}


STRAIGHT = Bend()


class Wire:
    """One link: listens on a port of its own, connects on to `target`. Made and used by `Wires`."""

    def __init__(self, target: int, randomly: random.Random) -> None:
        self.target, self.port = target, 0
        self.bend = STRAIGHT
        #: Chunks that a bend has touched: a fault that touched nothing has not fired.
        self.touched = 0
        self._random = randomly
        self._open: set[asyncio.StreamWriter] = set()
        self._swallowed: set[asyncio.StreamWriter] = set()
        #: How many words of `after` each caller has asked, by the port it calls from.
        self._asked: dict[int, int] = {}
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset(self._open)

    async def become(self, bend: Bend) -> None:
        self.bend = bend
        self._asked.clear()
        if bend.cut:
            self.touched += len(self._open)
            self._reset(self._open)
        if not bend.swallow:
            self._reset(self._swallowed)  # a stream with a hole in it must not go on

    async def aim(self, target: int) -> None:
        self.target = target
        self._reset(self._open)

    async def struck(self) -> list[int]:
        """The ports of the callers who have asked every word of `after`."""
        return [caller for caller in self._asked if self._is_struck(self.bend, caller)]

    def _is_struck(self, bend: Bend, caller: int) -> bool:
        return self._asked.get(caller, 0) == len(bend.after)

    def _hear(self, bend: Bend, caller: int, data: bytes) -> None:
        asked = self._asked.get(caller, 0)
        while asked < len(bend.after) and bend.after[asked] in data:
            asked += 1
        self._asked[caller] = asked

    def _reset(self, writers: set[asyncio.StreamWriter]) -> None:
        for writer in list(writers):
            writer.transport.abort()
        writers.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.bend.cut:
            self.touched += 1
            return writer.transport.abort()
        try:
            onward_reader, onward = await asyncio.open_connection(HOST, self.target)
        except OSError:
            return writer.transport.abort()  # nobody listens there: the caller is refused, if a little late
        self._open |= {writer, onward}
        caller: int = writer.get_extra_info("peername")[1]
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, onward, "requests", caller))
                pumps.create_task(self._pump(onward_reader, writer, "replies", caller))
        except* (OSError, ConnectionError):
            pass
        finally:
            for end in (writer, onward):
                self._open.discard(end)
                self._swallowed.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, caller: int) -> None:
        while data := await reader.read(_CHUNK):
            bend = self.bend
            if bend.after and way == "requests":
                self._hear(bend, caller, data)
            if bend is not STRAIGHT and bend.bends(way) and self._is_struck(bend, caller):
                self.touched += 1
                data = await self._bent(data, bend, writer)
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    async def _bent(self, data: bytes, bend: Bend, writer: asyncio.StreamWriter) -> bytes:
        if bend.swallow:
            self._swallowed.add(writer)
            return b""
        if bend.delay_s:
            await asyncio.sleep(bend.delay_s)
        if bend.bytes_per_s:
            for byte in range(0, len(data), bend.bytes_per_s):
                if self.bend is not bend:
                    return data[byte:]
                writer.write(data[byte : byte + bend.bytes_per_s])
                await asyncio.sleep(1)
            return b""
        if self._random.random() < bend.flip:
            place = self._random.randrange(len(data))
            return data[:place] + bytes([data[place] ^ (1 << self._random.randrange(8))]) + data[place + 1 :]
        return data


class Wires:
    """All links of a run, by name. A context: leaving it ends every connection."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # for faults, not for secrets
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._wires: dict[str, Wire] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for wire in self._wires.values():
            self._do(wire.close())
        self._do(_end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def add(self, name: str, target: int) -> int:
        """A new link to this port. Answers the port to connect to instead."""
        self._wires[name] = wire = Wire(target, self._random)
        self._do(wire.listen())
        return wire.port

    def bend(self, name: str, bend: Bend) -> None:
        self._do(self._wires[name].become(bend))

    def straighten(self, *names: str) -> None:
        """These links, or all, forward everything again."""
        for name in names or tuple(self._wires):
            self._do(self._wires[name].become(STRAIGHT))

    def aim(self, name: str, target: int) -> None:
        """This link leads to another port from now on, and whoever spoke to the former one is cut off."""
        self._do(self._wires[name].aim(target))

    def touched(self, name: str) -> int:
        return self._wires[name].touched

    def struck(self, name: str) -> list[int]:
        """The ports of those whose connection a bend with `after` has come to."""
        return self._do(self._wires[name].struck())

    @property
    def names(self) -> list[str]:
        return sorted(self._wires)

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _end_tasks() -> None:
    """No connection is half way through anything any more."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
