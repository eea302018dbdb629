"""The intake: many concurrent requests, one statement and one commit, each answered when it is durable.

Natural batching, no delay: while one flush is under way the next one gathers. What waits is bounded, and nothing is
answered before its commit; a commit whose outcome is unknown is a 503, and the same Idempotency-Key resolves it.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from domain.errors import DependencyUnavailable, LongshoreError, Overloaded
from domain.jobs.relay_bell import Hint, hint_for
from domain.orders.intake import ROOT, AcceptedOrder, IntakeOrder, accept_orders
from domain.outages import is_outage
from ops.telemetry import INTAKE_FLUSH_SIZE, ORDERS_ACCEPTED, ORDERS_CREATED, log

logger = log(__name__)

MOST_PER_FLUSH = 200
MOST_WAITING = 5_000
#: So long after his request came a caller is told 503; his order may still become durable, and its key finds it.
DEADLINE_S = 2.0

Answer = AcceptedOrder | LongshoreError
Waiting = tuple[IntakeOrder, "asyncio.Future[Answer]"]


class Ingress:
    """One per API process, an async context: leaving it drains what waits."""

    def __init__(self, engine: Engine, committed: Callable[[Hint | None], None]) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._committed = committed
        self._waiting: deque[Waiting] = deque()
        self._wanted = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingress")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Ingress":
        self._task = asyncio.create_task(self._flush_when_wanted())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._wanted.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def accept(self, order: IntakeOrder, waited_s: float = 0.0) -> AcceptedOrder:
        """The order is durable when this returns. `waited_s` is what its caller has waited already.

        Raises what `accept_orders` answers for it, Overloaded when too much waits, DependencyUnavailable when
        PostgreSQL does not answer in time.
        """
        if self._closing or len(self._waiting) >= MOST_WAITING:
            raise Overloaded
        if (left_s := DEADLINE_S - waited_s) <= 0:
            raise DependencyUnavailable
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, answer))
        self._wanted.set()
        try:
            async with asyncio.timeout(left_s):
                outcome = await answer
        except TimeoutError:
            raise DependencyUnavailable from None
        if isinstance(outcome, LongshoreError):
            raise outcome
        return outcome

    async def _flush_when_wanted(self) -> None:
        while not (self._closing and not self._waiting):
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                await self._flush()

    async def _flush(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_PER_FLUSH))]
        batch = [waiting for waiting in batch if not waiting[1].done()]  # its caller has been told 503
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._store, [order for order, _ in batch])
        except Exception as error:  # noqa: BLE001  # there may be no thread for it now; the next must have its turn
            logger.warning("intake.flush_failed", orders=len(batch), error=type(error).__name__)
            answers = [_unknown(error) for _ in batch]
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
        made = [
            (order.tenant_id, answer.job_id)
            for (order, _), answer in zip(batch, answers, strict=True)
            if isinstance(answer, AcceptedOrder) and not answer.replayed
        ]
        if made:
            self._committed(hint_for(ROOT.queue, ROOT.name, made))

    def _store(self, orders: Sequence[IntakeOrder]) -> Sequence[Answer]:
        """One answer per order. When the flush fails for a reason of one row, the rows are tried one by one."""
        try:
            with self._engine.connect() as connection:
                answers = accept_orders(connection, orders)
        except Exception as error:  # noqa: BLE001  # whatever one flush meets, the next must have its turn
            logger.warning("intake.flush_failed", orders=len(orders), error=type(error).__name__)
            if len(orders) > 1 and not is_outage(error):  # other rows may do better
                return [answer for order in orders for answer in self._store([order])]
            return [_refusal(error) for _ in orders]
        INTAKE_FLUSH_SIZE.observe(len(orders))
        _count(orders, answers)
        return answers


def _count(orders: Sequence[IntakeOrder], answers: Sequence[Answer]) -> None:
    made = Counter(
        order.tenant_id
        for order, answer in zip(orders, answers, strict=True)
        if isinstance(answer, AcceptedOrder) and not answer.replayed
    )
    ORDERS_ACCEPTED.inc(made.total())
    for tenant_id, count in made.items():
        ORDERS_CREATED.labels(str(tenant_id), "accepted").inc(count)


def _unknown(error: Exception) -> LongshoreError:
    refusal = DependencyUnavailable()
    refusal.__cause__ = error
    return refusal


def _refusal(error: Exception) -> LongshoreError:
    away = isinstance(error, OperationalError) or is_outage(error)
    refusal = DependencyUnavailable() if away else LongshoreError()
    refusal.__cause__ = error  # the log of its request tells why
    return refusal
