"""A fresh, migrated database per test: a copy of a template that is migrated once per session."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import Engine


class Servers(Protocol):
    @property
    def database_url(self) -> str: ...
    @property
    def redis_url(self) -> str: ...


@pytest.fixture(scope="session")
def template(stack: Servers) -> Iterator[str]:
    """The name of a migrated database that nobody connects to."""
    from ops.migrate import upgrade  # noqa: PLC0415 - only tests that want a database need the migrations

    with _database(stack.database_url, f"longshore_template_{os.getpid()}") as url:
        upgrade(url)
        yield urlsplit(url).path[1:]


@pytest.fixture
def database_url(stack: Servers, template: str) -> Iterator[str]:
    with _database(stack.database_url, f"longshore_test_{uuid4().hex}", template) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    from domain.database import connect  # noqa: PLC0415 - as above

    engine = connect(database_url, process="test")
    yield engine
    engine.dispose()


@pytest.fixture
def redis_url(stack: Servers) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.flushall()
    return stack.redis_url


@contextmanager
def _database(server_url: str, name: str, template: str = "template0") -> Iterator[str]:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(create)
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(drop)
