"""The system's look-up of names (getaddrinfo), which knows no deadline: it can hang, and holds up nobody else's.

It runs in threads of its own, never one of the event loop's few. Giving up on a look-up does not end its thread.
"""

import asyncio
import errno
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

TIMEOUT_S = 3.0
THREADS = 64
#: A look-up that takes longer is stuck: the name gets another thread, and after that one twice as long passes.
STUCK_S = 30.0
#: No more threads than this are left to look-ups that have another in their place.
MOST_LEFT = THREADS // 4

#: What getaddrinfo answers, or raises: whoever asked may have gone.
_Found = list[Any] | OSError | UnicodeError


def _ask_system(host: str, family: int) -> _Found:
    try:
        return socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as failure:
        return failure


class _LookUp(msgspec.Struct, frozen=True, eq=False):
    """One under way, and how long it may take before another is tried in its place."""

    future: Future[_Found]
    began_at: float
    patience_s: float

    def is_stuck(self) -> bool:
        return self.future.running() and time.monotonic() - self.began_at > self.patience_s


class SystemResolver(AbstractResolver):
    """One look-up at a time for each name: one that hangs takes one thread, however many wait for it and give up.

    One that is stuck is left alone, and another takes its place, seldom and only while few threads are lost that way.

    An answer within 3 s, or OSError; with EAGAIN when no thread came free: that is our own want, no fault of the name.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._under_way: dict[tuple[str, int], _LookUp] = {}
        self._left: list[Future[_Found]] = []

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
        last, patience_s = self._under_way.get(name), STUCK_S
        if last is not None:
            self._left = [left for left in self._left if left.running()]
            if not last.is_stuck() or len(self._left) >= MOST_LEFT:
                return last.future
            patience_s = 2 * last.patience_s
        look_up = _LookUp(self._submit(host, family), time.monotonic(), patience_s)
        if last is not None:
            self._left.append(last.future)
        self._under_way[name] = look_up
        look_up.future.add_done_callback(lambda _: self._forget(name, look_up))
        return look_up.future

    def _submit(self, host: str, family: int) -> Future[_Found]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")
        try:
            return self._threads.submit(_ask_system, host, family)
        except RuntimeError as failure:  # the system has no room for a thread more
            raise OSError(errno.EAGAIN, "no thread could be started to look the name up") from failure

    def _forget(self, name: tuple[str, int], look_up: _LookUp) -> None:
        if self._under_way.get(name) is look_up:  # and not another that took its place
            self._under_way.pop(name, None)

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
