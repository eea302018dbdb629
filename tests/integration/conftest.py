"""A fresh, migrated database per test: a copy of a template that is migrated once per session."""

from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

import pytest
import redis
from sqlalchemy import Engine

from tests.integration.databases import a_database


class Servers(Protocol):
    @property
    def database_url(self) -> str: ...
    @property
    def redis_url(self) -> str: ...


@pytest.fixture(scope="session")
def template(stack: Servers) -> Iterator[str]:
    """The name of a migrated database that nobody connects to."""
    from ops.migrate import upgrade  # noqa: PLC0415 - only tests that want a database need the migrations

    with a_database(stack.database_url) as url:
        upgrade(url)
        yield urlsplit(url).path[1:]


@pytest.fixture
def database_url(stack: Servers, template: str) -> Iterator[str]:
    with a_database(stack.database_url, template) as url:
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
