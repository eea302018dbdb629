"""One application and one database per file of tests; what a test does, it does as a tenant of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from structlog.testing import capture_logs
from structlog.typing import EventDict

import api.strangers
from api.limits import Policy
from domain.database import connect
from domain.tenants import passwords
from ops.migrate import head
from ops.stack import Stack
from tests.integration.api.shop import Customer, Shop, opened, settings_for
from tests.integration.databases import a_database


@pytest.fixture(scope="module")
def shop_database_url(stack: Stack, template: str) -> Iterator[str]:
    with a_database(stack.database_url, template) as url:
        yield url


@pytest.fixture(scope="module")
def shop(shop_database_url: str, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("shop")
    settings = settings_for(shop_database_url, stack.redis_url, folder)
    engine = connect(shop_database_url, process="test", pool_size=30)
    with opened(settings, head()) as client:
        yield Shop(client, engine, settings)
    engine.dispose()


@pytest.fixture(scope="module", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Argon2id that takes no time: what it costs is argon2-cffi's to prove."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture(autouse=True)
def patient_entrance(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account may be tried as often as a test wants to."""
    monkeypatch.setattr(api.strangers, "LOG_IN", Policy("login", 1_000, 60))


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    """What is logged meanwhile, and nothing of it on the screen."""
    with capture_logs() as caught:
        yield caught


@pytest.fixture
def customer(shop: Shop) -> Customer:
    return shop.customer()


@pytest.fixture
def other(shop: Shop) -> Customer:
    """Another tenant."""
    return shop.customer()
