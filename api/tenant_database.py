"""The second wall between tenants: in these transactions PostgreSQL itself shows the rows of one tenant only.

Every query names its tenant all the same; this is for the one that forgets. The policies are in the migrations; the
role they bind is `domain.roles.TENANT`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Connection, Engine, text

# Until the end of the transaction: the session's next one is nobody's.
_BIND = text("SELECT set_config('longshore.tenant_id', :tenant_id, true)")


class TenantDatabase:
    """The database as one tenant sees it. `engine` has sessions of the role TENANT, to which unbound nothing shows."""

    def __init__(self, engine: Engine, tenant_id: UUID) -> None:
        self._engine, self._tenant_id = engine, tenant_id

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """For reading: what is written here is rolled back."""
        with self._engine.connect() as connection:
            self._bind(connection)
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, and rolls back when it raises."""
        with self._engine.begin() as tx:
            self._bind(tx)
            yield tx

    def _bind(self, connection: Connection) -> None:
        connection.execute(_BIND, {"tenant_id": str(self._tenant_id)})


#: The database as any tenant sees it, for who has found out which one is meant.
TenantDatabases = Callable[[UUID], TenantDatabase]
