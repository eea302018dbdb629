"""PostgreSQL and Redis for `up`: those of the environment, else the embedded ones, kept alive while it runs."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ops.embedded.server import ServerDidNotStart
from ops.stack import Stack

LOOK_EVERY_S = 0.5


class Servers:
    """Where they are, and the pids of those that are ours."""

    def __init__(self, environ: Mapping[str, str], stack: Stack | None) -> None:
        self._environ, self._stack = environ, stack

    @property
    def database_url(self) -> str:
        return self._environ.get("DATABASE_URL") or self._embedded.database_url

    @property
    def redis_url(self) -> str:
        return self._environ.get("REDIS_URL") or self._embedded.redis_url

    @property
    def pids(self) -> dict[str, int]:
        return {} if self._stack is None else {name.lower(): pid for name, pid in self._stack.pids.items()}

    @property
    def are_ours(self) -> bool:
        return self._stack is not None

    @property
    def _embedded(self) -> Stack:
        if self._stack is None:
            raise AssertionError("there is no embedded stack, and the environment names no server")
        return self._stack

    @contextmanager
    def kept_alive(self, say: Callable[[str], None], when_changed: Callable[[], None]) -> Iterator[None]:
        """One of ours that dies is started again on the same port and data."""
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done, say, when_changed), name="servers")
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _watch(self, done: threading.Event, say: Callable[[str], None], when_changed: Callable[[], None]) -> None:
        while not done.wait(LOOK_EVERY_S):
            for server in () if self._stack is None else self._stack.servers:
                if server.pid is None:
                    say(f"{server.name.lower()} died; it starts again now")
                    try:
                        server.start()
                    except (ServerDidNotStart, OSError) as error:
                        say(f"{error}")
                    when_changed()


@contextmanager
def servers(data: Path, environ: Mapping[str, str]) -> Iterator[Servers]:
    """Both answer. The embedded ones start if the environment lacks either, and stop at the end."""
    if environ.get("DATABASE_URL") and environ.get("REDIS_URL"):
        yield Servers(environ, None)
        return
    with Stack(data) as stack:
        yield Servers(environ, stack)
