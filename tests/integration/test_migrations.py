"""The migrations build what `domain.tables` says, take all of it away again, and may be run twice at once."""

from collections.abc import Iterator
from contextlib import closing
from threading import Event

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from domain.database import connect
from domain.ids import new_id
from domain.job_kinds import ReserveInventory
from domain.jobs.queries import JobFilter, list_jobs
from domain.jobs.retry_policy import Succeeded
from domain.stretch import Stretch
from domain.tables import metadata
from ops import migrate
from ops.cli import app
from ops.migrate import MIGRATIONS, current, downgrade, head, upgrade
from tests.integration.builders import a_tenant, at_once, claimed, ended, enqueued, eventually, execute, rows, scalar
from tests.integration.command_line import ENVIRON
from tests.integration.conftest import Servers
from tests.integration.databases import a_database

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
OURS = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%' "
    "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
    "UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace "
    "AND typname NOT LIKE '%alembic_version%'"
)


@pytest.fixture
def empty_url(stack: Servers) -> Iterator[str]:
    """A database in which nothing has been migrated."""
    with a_database(stack.database_url) as url:
        yield url


@pytest.fixture
def empty(empty_url: str) -> Iterator[Engine]:
    engine = connect(empty_url, process="test")
    yield engine
    engine.dispose()


def names(engine: Engine, sql: str = TABLES) -> set[str]:
    return {name for (name,) in rows(engine, sql)}


def test_an_empty_database_gets_every_table_and_the_weeks_ahead(empty: Engine, empty_url: str) -> None:
    upgrade(empty_url)
    assert set(metadata.tables) <= names(empty)
    assert current(empty) == head()
    assert len({name for name in names(empty) if name.startswith("jobs_") and "w" in name}) == 9
    assert scalar(empty, "SELECT name FROM lanes") == "smtp"


def test_the_tables_that_were_migrated_are_those_that_the_code_declares(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_a_column_that_no_migration_made_is_noticed(engine: Engine) -> None:
    """The check above can fail."""
    execute(engine, "ALTER TABLE orders ADD COLUMN forgotten text")
    with pytest.raises(Exception, match=r"New upgrade operations detected.*forgotten"):
        test_the_tables_that_were_migrated_are_those_that_the_code_declares(engine)


def test_down_to_the_base_leaves_nothing_of_ours_and_up_again_builds_it_all(empty: Engine, empty_url: str) -> None:
    upgrade(empty_url)
    before = names(empty)

    downgrade(empty_url)
    assert names(empty, OURS) == set()

    upgrade(empty_url)
    assert names(empty) == before


def test_the_command_goes_back_only_when_it_is_told_twice_and_says_where_the_database_is(
    empty: Engine, empty_url: str
) -> None:
    def said(*words: str) -> tuple[int, str]:
        environ = {**ENVIRON, "DATABASE_URL": empty_url}
        result = CliRunner().invoke(app, ["migrate", *words], env=environ, catch_exceptions=False)
        return result.exit_code, result.output

    assert said() == (0, f"The database is at {head()}.\n")
    assert said("0003") == (0, f"The database is at {head()}.\n")
    code, question = said("--down", "base")
    assert (code, current(empty)) == (6, head())
    assert f"from {head()} back to base" in question
    assert said("--down", "base", "--yes") == (0, "The database is at base.\n")
    assert "jobs" not in names(empty)


def test_the_leases_of_running_jobs_go_down_with_the_schema_and_come_up_again(empty: Engine, empty_url: str) -> None:
    # Given a bundle that runs, a job that waits, and one that has ended
    upgrade(empty_url)
    tenant_id = a_tenant(empty)
    waiting, done, *ids = enqueued(empty, tenant_id, *(ReserveInventory(new_id()) for _ in range(4)))
    (ended_job,) = claimed(empty, [done])
    ended(empty, ended_job, Succeeded())
    held = {job.id: job.claim for job in claimed(empty, ids)}
    until = scalar(empty, "SELECT lease_until FROM leases WHERE job_ids @> CAST(:ids AS uuid[])", ids=ids)
    # When the schema goes back
    downgrade(empty_url, "0001")
    found = dict(rows(empty, "SELECT id, lease_until FROM jobs"))
    assert found == {waiting: None, done: None, **dict.fromkeys(ids, until)}
    # And forth, then each running job has its lease
    upgrade(empty_url)
    leases = rows(empty, "SELECT job_ids, claims, lease_until FROM leases")
    assert sorted(leases) == sorted(([job_id], [claim], until) for job_id, claim in held.items())


def test_a_job_that_had_cancelled_itself_is_found_after_the_upgrade(empty: Engine, empty_url: str) -> None:
    upgrade(empty_url)
    tenant_id = a_tenant(empty)
    by_itself, waiting = enqueued(empty, tenant_id, *(ReserveInventory(new_id()) for _ in range(2)))
    downgrade(empty_url, "0003")
    execute(empty, "UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE id = :id", id=by_itself)
    upgrade(empty_url)
    with empty.begin() as tx:
        assert [job.id for job in list_jobs(tx, tenant_id, JobFilter(state="cancelled"), Stretch(9))] == [by_itself]
    assert scalar(empty, "SELECT cancel_requested_at IS NULL FROM jobs WHERE id = :id", id=waiting)


def test_the_delivery_of_an_event_that_has_left_goes_when_the_schema_goes_back(empty: Engine, empty_url: str) -> None:
    """Deliveries leave after their events; the older schema knows none without."""
    upgrade(empty_url)
    execute(
        empty,
        """
        WITH endpoint AS (
            INSERT INTO webhook_endpoints (id, tenant_id, url, event_types, secrets)
            VALUES (uuidv7(), :tenant_id, 'https://a.example/', '{*}', '{}') RETURNING id, tenant_id)
        INSERT INTO webhook_deliveries (job_id, tenant_id, endpoint_id, event_id, endpoint_version)
        SELECT uuidv7(), tenant_id, id, uuidv7(), 1 FROM endpoint
        """,
        tenant_id=a_tenant(empty),
    )
    downgrade(empty_url, "0003")
    assert rows(empty, "SELECT FROM webhook_deliveries") == []
    upgrade(empty_url)


def test_an_upgrade_of_a_migrated_database_changes_nothing(empty: Engine, empty_url: str) -> None:
    upgrade(empty_url)
    before = names(empty)
    execute(empty, "UPDATE lanes SET state = 'parked'")
    upgrade(empty_url)
    assert names(empty) == before
    assert scalar(empty, "SELECT state FROM lanes") == "parked"


def test_two_upgrades_at_once_both_succeed(empty: Engine, empty_url: str) -> None:
    assert at_once(lambda: upgrade(empty_url), lambda: upgrade(empty_url)) == [None, None]
    assert current(empty) == head()
    assert set(metadata.tables) <= names(empty)


def test_an_upgrade_waits_for_a_slow_one_longer_than_for_any_other_lock(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given sessions that give up on a lock soon, and another process that holds the migration for longer than that
    monkeypatch.setattr("domain.database.LOCK_TIMEOUT_MS", 50)
    released = Event()
    with closing(psycopg.connect(database_url, autocommit=True)) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('longshore.migrate'))")

        def release() -> None:
            eventually(lambda: _is_waiting(engine))
            with engine.connect() as connection:
                connection.execute(text("SELECT pg_sleep(0.2)"))
            released.set()
            other.execute("SELECT pg_advisory_unlock(hashtext('longshore.migrate'))")

        # When the schema is upgraded meanwhile
        outcomes = at_once(lambda: migrate.upgrade(database_url), release)
    # Then it waited
    assert outcomes == [None, None]
    assert released.is_set()


def _is_waiting(engine: Engine) -> bool:
    return bool(rows(engine, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
