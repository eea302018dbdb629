"""The threads that serve requests, and every tenant's share of them: a quarter, so that nobody takes those of all; and
more while half of them are free.

Who asks for more waits in a line of his own, which takes no thread; and when that is long, or slow, he is told so.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from uuid import UUID

from domain.errors import Overloaded

#: Whose request is served.
TENANT: ContextVar[UUID | None] = ContextVar("tenant", default=None)
#: Requests of one tenant in one process.
MOST_WAITING = 100
#: As long as a silent PostgreSQL is waited for (`api.parts.SILENCE_S`): who has waited so long may have left.
LONGEST_WAIT_S = 6.0

Answer = TypeVar("Answer")
_Asked = tuple[Future[Any], Callable[[], Any]]


class Threads(ThreadPoolExecutor):
    """The executor of the API's event loop."""

    def __init__(self, size: int) -> None:
        super().__init__(size, thread_name_prefix="request")
        self._share, self._half = size // 4, size // 2
        self._lock = Lock()
        self._busy: Counter[UUID | None] = Counter()
        self._lines: dict[UUID | None, deque[Callable[[], None]]] = {}

    def submit(self, fn: Callable[..., Answer], /, *args: Any, **kwargs: Any) -> Future[Answer]:
        """Done when its turn among what its tenant has asked for comes; what is nobody's has no line.

        Raises Overloaded when too much waits, and so does what has waited too long.
        """
        tenant_id = TENANT.get()
        future: Future[Answer] = Future()
        work = partial(self._do, tenant_id, time.monotonic(), [(future, partial(fn, *args, **kwargs))])
        with self._lock:
            if self._has_room(tenant_id):
                self._start(tenant_id, work)
            else:
                self._stand_in_line(tenant_id, work)
        return future

    def _has_room(self, tenant_id: UUID | None) -> bool:
        return tenant_id is None or self._busy[tenant_id] < self._share or self._busy.total() < self._half

    def _start(self, tenant_id: UUID | None, work: Callable[[], None]) -> None:
        self._busy[tenant_id] += 1  # first: what could not be given a thread is done by another one later
        super().submit(work)

    def _stand_in_line(self, tenant_id: UUID | None, work: Callable[[], None]) -> None:
        line = self._lines.setdefault(tenant_id, deque())
        if len(line) >= MOST_WAITING:
            raise Overloaded
        line.append(work)

    def _do(self, tenant_id: UUID | None, asked_at: float, asked: list[_Asked]) -> None:
        future, work = asked.pop()  # an error holds the frames that it left, and the future the error: let none hold it
        try:
            if not future.set_running_or_notify_cancel():
                pass
            elif tenant_id is not None and time.monotonic() - asked_at >= LONGEST_WAIT_S:
                future.set_exception(Overloaded())
            else:
                future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # it is whoever waits for it that is told
            future.set_exception(error)
        finally:
            del future, work
            self._pass_on(tenant_id)

    def _pass_on(self, tenant_id: UUID | None) -> None:
        """The turn goes to the next in line, behind what others wait for; to the same tenant's if he has room."""
        with self._lock:
            self._busy[tenant_id] -= 1
            if not self._busy[tenant_id]:
                del self._busy[tenant_id]
            for waiting in (tenant_id, *self._lines):
                if waiting in self._lines and self._has_room(waiting):
                    line = self._lines[waiting]
                    self._start(waiting, line.popleft())
                    if not line:
                        del self._lines[waiting]
                    return
