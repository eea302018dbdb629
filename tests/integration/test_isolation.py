"""The second wall: what PostgreSQL itself shows and allows to each role, whatever a query forgets to ask."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from api.tenant_database import TenantDatabase
from domain.database import connect
from domain.roles import ALL, INTAKE, RELAY, ROLES, TENANT, WORKER, Role
from domain.tables import metadata
from ops.migrate import upgrade
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_product,
    a_tenant,
    emptied_database,
    execute,
    module_database,
    rows,
    scalar,
)

#: Whose their rows are is said by another table.
BY_ANOTHER = {"attempts", "lanes", "tenants"}
#: Nobody's: who runs, what the relay obeys, which bundles are held; whose log-ins fail, before a tenant is known.
OF_THE_FLEET = {"workers", "controls", "leases", "login_failures"}


@pytest.fixture
def bound(database_url: str) -> Iterator[Engine]:
    """Sessions of callers' requests."""
    engine = connect(database_url, process="test", role=TENANT.name)
    yield engine
    engine.dispose()


def test_each_table_with_a_tenant_is_walled_in(engine: Engine) -> None:
    walled = {
        name
        for name, enabled, forced in rows(
            engine,
            "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition",
        )
        if enabled and forced
    }
    with_a_tenant = {table.name for table in metadata.tables.values() if "tenant_id" in table.c}
    assert walled == with_a_tenant | BY_ANOTHER
    assert set(metadata.tables) - walled == OF_THE_FLEET
    policies = rows(engine, "SELECT tablename, policyname FROM pg_policies")
    assert set(policies) == {(table, policy) for table in walled for policy in ("own_rows", "all_rows")}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_may_do_what_its_page_says_and_nothing_else(engine: Engine, role: Role) -> None:
    given = rows(
        engine,
        "SELECT table_name, string_agg(privilege_type, ', ' ORDER BY array_position(ARRAY['SELECT', 'INSERT', 'UPDATE',"
        " 'DELETE'], privilege_type::text)) FROM information_schema.role_table_grants WHERE grantee = :role GROUP BY 1",
        role=role.name,
    )
    assert dict(given) == dict(role.may)
    (right,) = rows(engine, "SELECT rolsuper, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = :r", r=role.name)
    assert right == (False, False, False)


def test_no_partition_can_be_reached_past_its_table(engine: Engine, database_url: str) -> None:
    week = scalar(engine, "SELECT relname FROM pg_class WHERE relispartition AND relname LIKE 'jobs_2%' LIMIT 1")
    own = connect(database_url, process="test", role=WORKER.name)
    with pytest.raises(ProgrammingError, match="permission denied"), own.connect() as connection:
        connection.execute(text(f"SELECT FROM {week}"))
    own.dispose()


def test_a_session_that_was_not_bound_sees_nothing(engine: Engine, bound: Engine) -> None:
    tenant_id = a_tenant(engine)
    a_product(engine, tenant_id)
    with bound.connect() as connection:
        assert all(count(connection, table) == 0 for table, verbs in TENANT.may.items() if "SELECT" in verbs)
    # Nor does one whose transaction before was bound.
    with TenantDatabase(bound, tenant_id).connect() as connection:
        assert count(connection, "products") == 1
    with bound.connect() as connection:
        assert count(connection, "products") == 0


def test_a_bound_session_neither_reads_nor_writes_what_is_anothers(engine: Engine, bound: Engine) -> None:
    mine, theirs = a_tenant(engine, "mine"), a_tenant(engine, "theirs")
    for tenant_id in (mine, theirs):
        a_product(engine, tenant_id)
    with TenantDatabase(bound, mine).begin() as tx:
        assert tx.execute(text("SELECT tenant_id FROM products")).scalars().all() == [mine]
        assert tx.execute(text("UPDATE products SET name = 'Mine'")).rowcount == 1
        assert tx.execute(text("SELECT id FROM tenants")).scalars().all() == [mine]
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        TenantDatabase(bound, mine).begin() as tx,
    ):
        tx.execute(text("UPDATE products SET tenant_id = :theirs"), {"theirs": theirs})
    assert rows(engine, "SELECT name FROM products WHERE tenant_id = :theirs", theirs=theirs) == [("Lamp",)]


@pytest.mark.parametrize("role", [RELAY, INTAKE], ids=lambda role: role.name)
def test_who_needs_no_keys_cannot_read_them(database_url: str, role: Role) -> None:
    own = connect(database_url, process="test", role=role.name)
    with pytest.raises(ProgrammingError, match="permission denied for table api_keys"), own.connect() as connection:
        connection.execute(text("SELECT FROM api_keys"))
    own.dispose()


def test_rights_given_by_hand_go_with_the_next_migration(engine: Engine, database_url: str) -> None:
    execute(engine, f"GRANT {ALL} ON api_keys TO {RELAY.name}")
    upgrade(database_url)
    test_a_role_may_do_what_its_page_says_and_nothing_else(engine, RELAY)


def count(connection: Connection, table: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
