"""Every kind is whole: one name, one payload that decodes, one handler; a wrong declaration fails at import."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

import workers.handlers
from domain import job_kinds
from domain.event_types import EVENT_TYPES, OrderConfirmed
from domain.jobs.kind import KINDS, JobArgs, UnknownJobKind, consumers_of, find_kind, kind_of, queues
from workers.registry import HANDLERS, handles

ID = "0197a0f4-0000-7000-8000-000000000001"

#: A payload of every kind as it lies in the database of a running system. Only add lines: what is stored must decode.
STORED: list[tuple[str, dict[str, Any]]] = [
    ("inventory.reserve", {"order_id": ID}),
    ("inventory.release", {"order_id": ID}),
    ("inventory.ship", {"order_id": ID}),
    ("email.order_confirmed", {"order_id": ID}),
    ("email.order_rejected", {"order_id": ID}),
    ("email.welcome", {"user_id": ID}),
    ("email.password_reset", {"user_id": ID}),
    ("webhook.deliver", {"endpoint_id": ID, "event_id": ID}),
    ("report.generate", {"report_id": ID}),
    ("invariants.check", {}),
]


@pytest.fixture
def registries() -> Iterator[None]:
    """What a test declares is forgotten after it."""
    kinds, handlers = dict(KINDS), dict(HANDLERS)
    yield
    KINDS.clear()
    KINDS.update(kinds)
    HANDLERS.clear()
    HANDLERS.update(handlers)


def declared() -> list[type[JobArgs]]:
    found = vars(job_kinds).values()
    return [one for one in found if isinstance(one, type) and issubclass(one, JobArgs) and one is not JobArgs]


def test_every_kind_has_a_handler_and_every_handler_a_kind() -> None:
    ours = {kind.name for kind in KINDS.values() if kind.payload.__module__ == "domain.job_kinds"}
    done = {name for name, handler in HANDLERS.items() if handler.run.__module__.startswith("workers.handlers.")}
    assert done == ours
    assert len(ours) == len(declared()) >= 7
    assert set(workers.handlers.__all__) >= {HANDLERS[name].run.__module__.rpartition(".")[2] for name in ours}


def test_names_are_a_room_and_what_happens_in_it() -> None:
    assert all(payload.kind.name.count(".") == 1 for payload in declared())  # type: ignore[attr-defined]
    assert Counter(payload.kind.name for payload in declared()).most_common(1)[0][1] == 1  # type: ignore[attr-defined]


def test_every_policy_allows_at_least_one_attempt_and_every_timeout_ends() -> None:
    for payload in declared():
        kind = KINDS[payload.kind.name]  # type: ignore[attr-defined]
        assert kind.retry.max_attempts >= 1
        assert 0 < kind.timeout_s < float("inf")
        assert 1 <= kind.bundle <= 100
        assert kind.queue in queues()


@pytest.mark.parametrize(("name", "args"), STORED)
def test_a_payload_stored_by_an_earlier_version_still_decodes(name: str, args: dict[str, Any]) -> None:
    payload = find_kind(name).decode(args)
    assert json.loads(msgspec.json.encode(payload)) == args
    assert kind_of(payload).name == name


def test_every_kind_has_a_stored_payload_to_answer_for() -> None:
    assert {name for name, _ in STORED} == {payload.kind.name for payload in declared()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("args", [{}, {"order_id": "7"}, {"order_id": None}, [], "x", None])
def test_a_payload_that_cannot_be_read_is_refused(args: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        find_kind("inventory.reserve").decode(args)


def test_a_name_can_be_taken_once(registries: None) -> None:
    with pytest.raises(ValueError, match=r"'inventory\.reserve' is declared twice"):

        class Another(JobArgs, kind="inventory.reserve"):
            order_id: UUID


def test_a_kind_that_wants_more_than_its_event_carries_fails_at_its_declaration(registries: None) -> None:
    with pytest.raises(ValueError, match=r"'test\.greedy' needs phone, which OrderConfirmed does not carry"):

        class Greedy(JobArgs, kind="test.greedy", on=OrderConfirmed):
            order_id: UUID
            phone: str

    assert "test.greedy" not in KINDS


def test_a_kind_declared_on_an_event_consumes_it_and_no_other(registries: None) -> None:
    class Modest(JobArgs, kind="test.modest", on=OrderConfirmed):
        order_id: UUID

    assert "test.modest" in {kind.name for kind in consumers_of(OrderConfirmed)}
    others = [event for event in EVENT_TYPES.values() if event is not OrderConfirmed]
    assert not any("test.modest" in {kind.name for kind in consumers_of(event)} for event in others)


def test_a_second_handler_of_a_kind_fails_at_import() -> None:
    with pytest.raises(ValueError, match=r"'inventory\.reserve' has two handlers"):
        handles(job_kinds.ReserveInventory)(print)


def test_an_unknown_kind_is_said_to_be_unknown() -> None:
    with pytest.raises(UnknownJobKind, match=r"no\.such"):
        find_kind("no.such")


def test_a_kind_says_how_urgent_it_is_how_long_it_is_worth_doing_and_what_makes_a_twin(registries: None) -> None:
    class Sync(JobArgs, kind="test.sync", priority=1, expires=60.0, unique_by=("customer", "year"), unique_for=3600.0):
        customer: str
        year: int
        why: str = ""

    kind = KINDS["test.sync"]
    assert (kind.priority, kind.expires_s, kind.unique_for_s) == (1, 60.0, 3600.0)
    key = kind.unique_key_of(Sync("ada", 2026, "new"))
    assert key == kind.unique_key_of(Sync("ada", 2026, "old"))
    assert key not in {kind.unique_key_of(Sync("ada", 2027)), kind.unique_key_of(Sync("ad", 2026))}
    assert find_kind("inventory.reserve").unique_key_of(job_kinds.ReserveInventory(UUID(ID))) is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"priority": 3}, "a priority is from -2 to 2, not 3"),
        ({"unique_by": ("phone",)}, "is unique by phone, which it does not have"),
        ({"unique_for": 60.0}, "says how long it is unique, and not by what"),
    ],
)
def test_a_declaration_that_makes_no_sense_fails(registries: None, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):

        class Wrong(JobArgs, kind="test.wrong", **options):
            customer: str

    assert "test.wrong" not in KINDS
