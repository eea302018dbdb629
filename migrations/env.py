"""Alembic's entry: runs the migrations on the connection that `ops.migrate` hands over, or on DATABASE_URL."""

import os
import re

from alembic import context
from sqlalchemy import Connection

from domain.database import connect
from domain.tables import metadata

#: Partitions are made at run time by `domain.jobs.partitions`, not by migrations.
_PARTITION = re.compile(r"^(jobs|attempts)_(default|\d{4}w\d{2})$")


def include_name(name: str | None, type_: str, _parents: object) -> bool:
    return not (type_ == "table" and name is not None and _PARTITION.match(name))


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, include_name=include_name)
    with context.begin_transaction():
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    engine = connect(os.environ["DATABASE_URL"], process="migrate")
    with engine.connect() as own:
        run(own)
    engine.dispose()
