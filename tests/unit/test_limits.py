"""The controls on one pass: what is paused, capped or slowed gets no more than it may, whatever the order of asking."""

from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.jobs.controls import Control, Scope
from domain.jobs.due import Closed, FlowKey
from workers.limits import Bucket, Limits

TENANTS = [UUID(int=number) for number in range(3)]
QUEUE_OF = {"email.receipt": "email", "email.welcome": "email", "report.generate": "reports"}
flow_keys = st.builds(
    lambda kind, tenant: FlowKey(QUEUE_OF[kind], kind, tenant),
    st.sampled_from(sorted(QUEUE_OF)),
    st.sampled_from(TENANTS),
)
asked = st.lists(st.tuples(flow_keys, st.integers(0, 30)), max_size=25)
in_flights = st.dictionaries(
    flow_keys.map(lambda key: (key.queue, key.kind, key.tenant_id)), st.integers(0, 12), max_size=6
)
caps = st.none() | st.integers(1, 20)
scopes: list[tuple[Scope, str]] = [("queue", "email"), ("kind", "email.receipt"), ("kind", "report.generate")]


def controls(in_all: list[int | None], per_tenant: list[int | None]) -> list[Control]:
    return [
        Control(scope, name, max_in_flight=one, max_in_flight_per_tenant=other)
        for (scope, name), one, other in zip(scopes, in_all, per_tenant, strict=True)
    ]


def limits(*held: Control, now: float = 0.0, buckets: dict[str, Bucket] | None = None) -> Limits:
    return Limits(held, {} if buckets is None else buckets, now)


def covered(control: Control, key: tuple[Any, ...]) -> bool:
    return bool(key[0 if control.scope == "queue" else 1] == control.name)


@given(st.lists(caps, min_size=3, max_size=3), st.lists(caps, min_size=3, max_size=3), in_flights, asked)
def test_no_queue_kind_or_tenant_gets_past_its_cap_and_nobody_else_is_held_back(
    in_all: list[int | None],
    per_tenant: list[int | None],
    in_flight: dict[tuple[str, str, UUID], int],
    asked: list[tuple[FlowKey, int]],
) -> None:
    held = controls(in_all, per_tenant)
    pass_ = limits(*held)
    pass_.count(in_flight)
    total = Counter(in_flight)
    for flow, wanted in asked:
        key = (flow.queue, flow.kind, flow.tenant_id)
        room = [wanted]
        for control in held:
            if covered(control, key):
                mine = {other: count for other, count in total.items() if covered(control, other)}
                theirs = sum(count for other, count in mine.items() if other[2] == flow.tenant_id)
                room += [control.max_in_flight - sum(mine.values())] if control.max_in_flight else []
                room += [control.max_in_flight_per_tenant - theirs] if control.max_in_flight_per_tenant else []
        # Exactly what the narrowest of its caps leaves free
        allowed = pass_.allow(flow, wanted)
        assert allowed == max(0, min(room))
        total[key] += allowed


def test_without_controls_everything_is_allowed() -> None:
    free = limits()
    assert (free.are_capped, free.closed()) == (False, Closed([], [], [], [], []))
    assert free.allow(FlowKey("email", "email.receipt", TENANTS[0]), 1_000) == 1_000


def test_a_paused_queue_pauses_all_of_its_kinds_and_a_paused_kind_only_itself() -> None:
    pass_ = limits(Control("queue", "email", paused=True), Control("kind", "report.generate", paused=True))
    assert pass_.is_paused(FlowKey("email", "email.receipt", TENANTS[0]))
    assert pass_.is_paused(FlowKey("reports", "report.generate", TENANTS[0]))
    assert not pass_.is_paused(FlowKey("reports", "report.other", TENANTS[0]))
    assert pass_.closed() == Closed(["email"], ["report.generate"], [], [], [])
    assert pass_.closed(["webhooks"]).queues == ["webhooks", "email"]
    assert not pass_.are_capped


def test_nothing_of_a_suspended_tenant_is_rung_and_everything_of_the_others() -> None:
    one, other, _ = TENANTS
    pass_ = limits(Control("tenant", str(one), paused=True))
    mine, theirs = (FlowKey("email", "email.receipt", tenant) for tenant in (one, other))
    assert (pass_.is_paused(mine), pass_.is_open(mine)) == (True, False)
    assert (pass_.is_paused(theirs), pass_.is_open(theirs)) == (False, True)
    assert pass_.closed() == Closed([], [], [], [], [str(one)])
    assert not pass_.are_capped


def test_who_has_used_up_a_limit_is_closed() -> None:
    one, other, _ = TENANTS
    pass_ = limits(
        Control("queue", "email", max_in_flight=9, max_in_flight_per_tenant=3),
        Control("queue", "reports", max_in_flight=2),
        Control("kind", "email.receipt", max_in_flight_per_tenant=2),
        Control("kind", "report.generate", starts_per_second=20.0),  # no token yet
    )
    pass_.count({("email", "email.receipt", one): 2, ("email", "email.welcome", other): 3, ("reports", "any", one): 2})
    assert pass_.closed() == Closed(
        ["reports"], ["report.generate"], [("email", str(other))], [("email.receipt", str(one))], []
    )
    # And whoever uses up the rest
    assert pass_.allow(FlowKey("email", "email.welcome", one), 7) == 1
    assert ("email", str(one)) in pass_.closed().tenants_of_queues
    assert [pass_.is_capped(FlowKey(queue, "any", one)) for queue in ("email", "inventory")] == [True, False]


def test_counting_again_forgets_what_was_counted_before() -> None:
    pass_ = limits(Control("queue", "email", max_in_flight=9, max_in_flight_per_tenant=5))
    flow = FlowKey("email", "email.receipt", TENANTS[0])
    for in_flight in (2, 3):
        pass_.count({(flow.queue, flow.kind, flow.tenant_id): in_flight})
    assert pass_.allow(flow, 10) == 2


ticks = st.lists(st.tuples(st.floats(0.001, 3.0), st.integers(0, 500)), min_size=1, max_size=60)


@given(st.floats(0.05, 500.0), ticks)
def test_over_any_interval_no_more_start_than_its_seconds_and_one_burst_allow(
    per_second: float, ticks: list[tuple[float, int]]
) -> None:
    buckets: dict[str, Bucket] = {}
    flow = FlowKey("email", "email.receipt", TENANTS[0])
    now, started = 0.0, []
    for passed_s, wanted in ticks:
        now += passed_s
        pass_ = limits(Control("kind", flow.kind, starts_per_second=per_second), now=now, buckets=buckets)
        allowed = pass_.allow(flow, wanted)
        assert pass_.allow(flow, 0) == 0
        pass_.note_started(flow.kind, allowed)
        started.append((now, allowed))
    burst = max(1.0, per_second / 4)
    for first in range(len(started)):
        for last in range(first, len(started)):
            passed_s = started[last][0] - started[first][0]
            assert sum(count for _, count in started[first : last + 1]) <= passed_s * per_second + burst + 1e-6


@pytest.mark.parametrize("per_second", [0.5, 3.0, 40.0])
def test_who_always_asks_starts_as_many_as_the_rate_says(per_second: float) -> None:
    buckets: dict[str, Bucket] = {}
    flow = FlowKey("email", "email.receipt", TENANTS[0])
    total = 0
    for tick in range(2_000):
        pass_ = limits(Control("kind", flow.kind, starts_per_second=per_second), now=tick * 0.02, buckets=buckets)
        allowed = pass_.allow(flow, 1_000)
        pass_.note_started(flow.kind, allowed)
        total += allowed
    assert 0.9 <= total / (per_second * 2_000 * 0.02) <= 1.1
