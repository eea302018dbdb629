"""Noticing that a caller has hung up while its request waits: the handler would wait on for nobody."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Request


@contextmanager
def leaving(request: Request[Any, Any, Any], wake: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Calls `wake` when the caller has left, and tells whether that is so. For requests whose body nobody reads."""
    gone = asyncio.create_task(_leave(request))
    gone.add_done_callback(lambda _: wake())
    try:
        yield gone.done
    finally:
        gone.cancel()


async def _leave(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
