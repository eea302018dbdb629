"""The API beside which the intake is measured: the very same application and server but for where orders are stored.

`python -m ops.bench.floors no-database`: routes, keys, validation and answers as ever, and nothing is stored: what HTTP
alone costs. `one-transaction-each`: stored as ever, but each request by itself, from a pool of threads.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from unittest.mock import patch
from uuid import UUID

from litestar import Litestar
from sqlalchemy import Engine

import api.app
import api.parts
import ops.server
from api.ingress import Ingress
from api.key_ring import KeyRing
from domain.database import connect
from domain.errors import LongshoreError
from domain.ids import new_id
from domain.jobs.relay_bell import Hint
from domain.orders.intake import AcceptedOrder, IntakeOrder, accept_orders
from domain.tenants.callers import Caller
from domain.tenants.key_rules import KeyParts, parse_key
from domain.tenants.permission_rules import PERMISSIONS
from domain.tenants.plan_rules import UNLIMITED
from ops.settings import Settings, load_settings

#: Where the one key and its tenant are told.
API_KEY, TENANT_ID = "BENCH_API_KEY", "BENCH_TENANT_ID"
#: More make it slower here: they wait for each other's commits and for the interpreter.
CONNECTIONS = 8


class NoDatabase(Ingress):
    """Every order is accepted and forgotten."""

    async def __aenter__(self) -> "NoDatabase":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def accept(self, order: IntakeOrder, waited_s: float = 0.0) -> AcceptedOrder:  # noqa: ARG002  # nothing becomes of it
        return AcceptedOrder(new_id(), new_id(), datetime.now(UTC))


class OneTransactionEach(Ingress):
    """Every order has a transaction of its own, as any handler has that stores something."""

    def __init__(self, engine: Engine, committed: Callable[[Hint | None], None]) -> None:
        super().__init__(engine, committed)
        self._each = connect(os.environ["DATABASE_URL"], process="ingress", pool_size=CONNECTIONS)
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    async def __aenter__(self) -> "OneTransactionEach":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown()
        self._each.dispose()

    async def accept(self, order: IntakeOrder, waited_s: float = 0.0) -> AcceptedOrder:  # noqa: ARG002  # no deadline
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._store_one, order)
        if isinstance(answer, LongshoreError):
            raise answer
        self._committed(None)
        return answer

    def _store_one(self, order: IntakeOrder) -> AcceptedOrder | LongshoreError:
        with self._each.begin() as tx:
            return accept_orders(tx, [order])[0]


class OneKey(KeyRing):
    """Knows a single key without asking the database."""

    def __init__(self, key: str, tenant_id: UUID) -> None:
        super().__init__(connect(os.environ["DATABASE_URL"], process="api"))  # which nobody asks
        self._key, self._tenant_id = parse_key(key), tenant_id

    def _find(self, parts: KeyParts) -> Caller | None:
        return Caller(self._tenant_id, f"key:{parts.id}", PERMISSIONS, UNLIMITED) if parts == self._key else None


def no_database(settings: Settings, schema: str | None = None) -> Litestar:
    """The application, asking PostgreSQL for nothing."""
    app = api.app.create_app(settings, schema)
    app.state.key_ring = OneKey(os.environ[API_KEY], UUID(os.environ[TENANT_ID]))
    return app


def main(floor: str) -> None:
    ingress, create = {
        "no-database": (NoDatabase, no_database),
        "one-transaction-each": (OneTransactionEach, api.app.create_app),
    }[floor]
    with patch.object(api.parts, "Ingress", ingress), patch.object(ops.server, "create_app", create):
        ops.server.serve(load_settings())


if __name__ == "__main__":
    main(sys.argv[1])
