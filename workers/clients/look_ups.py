"""The system's look-up of names (getaddrinfo), which knows no deadline: it can hang, and holds up nobody else's.

It runs in threads of its own, never one of the event loop's few. Giving up on a look-up does not end its thread.
"""

import asyncio
import errno
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

TIMEOUT_S = 3.0
THREADS = 64

#: What getaddrinfo answers, or raises: whoever asked may have gone.
_Found = list[Any] | OSError | UnicodeError


def _ask_system(host: str, family: int) -> _Found:
    try:
        return socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as failure:
        return failure


class SystemResolver(AbstractResolver):
    """One look-up at a time for each name: one that hangs takes one thread, however many wait for it and give up.

    An answer within 3 s, or OSError; with EAGAIN when no thread came free: that is our own want, no fault of the name.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._under_way: dict[tuple[str, int], Future[_Found]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = self._look_up(host, family)
        await asyncio.wait([asyncio.wrap_future(look_up)], timeout=TIMEOUT_S)
        if look_up.cancelled() or look_up.running():
            raise OSError("the name is not looked up in time")
        if not look_up.done():
            raise OSError(errno.EAGAIN, "no thread is free to look the name up")
        found = look_up.result()
        if isinstance(found, Exception):
            raise found
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=str(where[0]), port=port, family=kind, proto=protocol, flags=flags)
            for kind, _, protocol, _, where in found
        ]

    def _look_up(self, host: str, family: int) -> Future[_Found]:
        name = host, family
        if (under_way := self._under_way.get(name)) is not None:
            return under_way
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")
        self._under_way[name] = look_up = self._threads.submit(_ask_system, host, family)
        look_up.add_done_callback(lambda _: self._under_way.pop(name, None))
        return look_up

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
