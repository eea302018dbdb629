"""Migrating: the schema is at the head of `migrations/`, with partitions ahead and the standing schedules.

Twice at once is safe.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from domain.database import connect
from domain.jobs.partitions import create_partitions_ahead
from domain.lanes.lanes import SMTP, SMTP_ROOM, open_lane
from domain.roles import grant_rights
from domain.schedules.standing import declare_standing

MIGRATIONS = Path(__file__).parents[1] / "migrations"


def upgrade(database_url: str, revision: str = "head") -> None:
    """The schema is at `revision`. A second process waits for the first and finds nothing to do."""
    _migrate(database_url, lambda config: command.upgrade(config, revision))
    engine = connect(database_url, process="migrate")
    with engine.begin() as tx:
        if revision == "head":
            tx.execute(text("SELECT pg_advisory_xact_lock(hashtext('longshore.rights'))"))
            grant_rights(tx)
        create_partitions_ahead(tx, datetime.now(UTC))
        open_lane(tx, SMTP, "email", SMTP_ROOM)
        declare_standing(tx, datetime.now(UTC))
    engine.dispose()


def downgrade(database_url: str, revision: str = "base") -> None:
    """The schema is back at `revision`; what the later ones held is gone."""
    _migrate(database_url, lambda config: command.downgrade(config, revision))


def head() -> str:
    """The newest revision this code knows."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise RuntimeError("there are no migrations")
    return found


def current(engine: Engine) -> str | None:
    """The revision the database is at."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _migrate(database_url: str, run: Callable[[Config], None]) -> None:
    engine = connect(database_url, process="migrate")
    try:
        with engine.connect() as connection:
            connection.execute(text("SET lock_timeout = 0"))  # whoever migrates now may need longer than other locks
            connection.execute(text("SELECT pg_advisory_lock(hashtext('longshore.migrate'))"))
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            run(config)
            connection.execute(text("SELECT pg_advisory_unlock(hashtext('longshore.migrate'))"))
            connection.commit()
    finally:
        engine.dispose()
