"""The threads that serve requests, and every tenant's share of them: a quarter, so that nobody takes those of all.

Who asks for more waits in a line of his own, which takes no thread; and when that is long he is told so.
"""

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

Answer = TypeVar("Answer")


class Threads(ThreadPoolExecutor):
    """The executor of the API's event loop."""

    def __init__(self, size: int) -> None:
        super().__init__(size, thread_name_prefix="request")
        self._share = size // 4
        self._lock = Lock()
        self._busy: Counter[UUID] = Counter()
        self._lines: dict[UUID, deque[Callable[[], None]]] = {}

    def submit(self, fn: Callable[..., Answer], /, *args: Any, **kwargs: Any) -> Future[Answer]:
        """Done when its turn among what its tenant has asked for comes. Raises Overloaded when too much waits."""
        tenant_id = TENANT.get()
        if tenant_id is None:
            return super().submit(fn, *args, **kwargs)
        future: Future[Answer] = Future()
        work = partial(self._do, tenant_id, future, partial(fn, *args, **kwargs))
        with self._lock:
            if self._busy[tenant_id] < self._share:
                self._busy[tenant_id] += 1  # first: what could not be given a thread is done by another one later
                super().submit(work)
            else:
                self._stand_in_line(tenant_id, work)
        return future

    def _stand_in_line(self, tenant_id: UUID, work: Callable[[], None]) -> None:
        line = self._lines.setdefault(tenant_id, deque())
        if len(line) >= MOST_WAITING:
            raise Overloaded
        line.append(work)

    def _do(self, tenant_id: UUID, future: Future[Answer], work: Callable[[], Answer]) -> None:
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # it is whoever waits for it that is told
            future.set_exception(error)
        finally:
            self._pass_on(tenant_id)

    def _pass_on(self, tenant_id: UUID) -> None:
        """The turn goes to the next in line, behind what others wait for."""
        with self._lock:
            if line := self._lines.get(tenant_id):
                super().submit(line.popleft())
                return
            self._lines.pop(tenant_id, None)
            self._busy[tenant_id] -= 1
            if not self._busy[tenant_id]:
                del self._busy[tenant_id]
