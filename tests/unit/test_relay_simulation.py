"""The relay and the retry policy on a clock of their own: an outbox, bells and workers that exist in memory only.

The pure parts are the product's: `FlowRinger` with its memory, windows and limits, bundles, and the decision about each
ending. Around them stands a model of what they talk to, which loses bells, relays and workers as told. Its sibling over
real SQL is tests/integration/simulation; docs/chaos.md tells how to let both look further.
"""

import os
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from domain.jobs.attempts import LEASE_S
from domain.jobs.controls import Control, Scope
from domain.jobs.due import LONGEST_VISIBILITY_S, DueRows, FlowKey
from domain.jobs.kind import KINDS, policy_of
from domain.jobs.retry_policy import MAX_CRASHES, Crashed, Ending, Errored, Snoozed, Succeeded, decide
from domain.jobs.state_machine import MOVES, TERMINAL, JobState
from workers import flow_ringer, flows
from workers.broker import HIGH_WATER_BELLS
from workers.bundle_rules import bundles_of, most_in_bundle
from workers.flow_ringer import FlowRinger
from workers.flows import LARGEST_WINDOW, LOOK_BACK, LOOK_BACK_ALL_EVERY_S, Ring
from workers.limits import Bucket, Limits

EXAMPLES = int(os.environ.get("SIMULATION_EXAMPLES", "10"))
LOOK_BACK_S = LOOK_BACK.total_seconds()
EPOCH = datetime(2026, 5, 1, tzinfo=UTC)
#: The webhooks' kind travels in bundles and waits long, the reports' travels alone and soon gives up.
NAMES = ("inventory.reserve", "webhook.deliver", "report.generate")
TENANTS = [UUID(int=number) for number in range(1, 5)]
ENDINGS: dict[str, Ending] = {
    "done": Succeeded(),
    "failed": Errored("OSError", "the disk is full"),
    "again at once": Errored("OSError", "the disk is full", retry_after_s=0.0),
    "hopeless": Errored("PermanentFailure", "no such thing", permanent=True),
    "snoozed": Snoozed(2.0, "too early"),
    "handed back": Snoozed(0.0, "the worker is stopping", handed_back=True),
}

CONTROLS: Sequence[Mapping[str, Any]] = ({"paused": True}, {"max_in_flight": 5}, {"starts_per_second": 20.0}, {})


class Job:
    """A job with its outbox row, if it has one, and its lease."""

    def __init__(self, number: int, key: FlowKey, priority: int, due_at: float, seen_from: float) -> None:
        self.id, self.key, self.priority = f"job {number}", key, priority
        self.due_at, self.has_row = due_at, True
        #: Its transaction commits then; before, nobody sees it.
        self.seen_from = seen_from
        self.state, self.attempt, self.crashes, self.alone = JobState.QUEUED, 0, 0, False
        self.lease_until = 0.0
        #: When it rang, as far as the relay can know; it may have forgotten.
        self.rings: list[float] = []
        self.was_hidden = False

    def move(self, after: JobState) -> None:
        assert after in MOVES[self.state], f"{self.state} -> {after}"
        self.state = after


class Bell(NamedTuple):
    kind: str
    ids: Sequence[str]


class Memory:
    """What the relay talks to, and the workers, rescuers and people who talk to it too."""

    def __init__(self) -> None:
        self.now, self.healed_at = 1_000.0, 0.0
        self.made, self.lives, self.restarts = 0, 0, 0
        self.jobs: dict[str, Job] = {}
        self.outbox: dict[FlowKey, dict[str, Job]] = defaultdict(dict)
        self.running: dict[str, Job] = {}
        self.bells: dict[str, deque[Bell]] = defaultdict(deque)
        self.controls: dict[tuple[Scope, str], Control] = {}
        self.buckets: dict[str, Bucket] = {}
        self.relay = self._new_relay()
        #: Who had a row to ring before the last pass and got nothing by it.
        self.passed_by: set[FlowKey] = set()

    # ---- what the relay reads

    def new_flows(self, _connection: object, known: Collection[FlowKey], limit: int) -> list[FlowKey]:
        found = [key for key, rows in self.outbox.items() if key not in known and any(map(self._seen, rows.values()))]
        return found[:limit]

    def due_rows(
        self, _connection: object, flows: Sequence[FlowKey], since: Sequence[datetime], limits: Sequence[int]
    ) -> list[DueRows]:
        return [self._head(*asked) for asked in zip(flows, since, limits, strict=True)]

    def _head(self, key: FlowKey, since: datetime, most: int) -> DueRows:
        due = [job for job in self._due(key) if job.due_at >= _seconds(since)]
        due.sort(key=_urgency)
        head, is_cut = due[:most], len(due) >= most
        behind = [job for job in due[most:] if job.priority < head[-1].priority] if is_cut else []
        oldest = min((job.due_at for job in [*head, *behind]), default=None)
        return DueRows(
            [job.id for job in head if not job.alone],
            [job.id for job in head if job.alone],
            None if oldest is None else _date(oldest),
            _date(self.now),
            is_cut,
        )

    def _due(self, key: FlowKey) -> list[Job]:
        return [job for job in self.outbox[key].values() if self._seen(job) and job.due_at <= self.now]

    def _seen(self, job: Job) -> bool:
        return job.seen_from <= self.now

    def standing(self, _connection: object, ids: Collection[str]) -> list[str]:
        return [job_id for job_id in ids if job_id in self.jobs and self.jobs[job_id].has_row]

    def stored_in_flight(self, _connection: object) -> Mapping[tuple[str, str, UUID], int]:
        return Counter((job.key.queue, job.key.kind, job.key.tenant_id) for job in self.running.values())

    def bells_waiting(self, _redis: object, queues: Collection[str]) -> dict[str, int]:
        return {queue: len(self.bells[queue]) for queue in queues}

    # ---- what the relay does

    @contextmanager
    def pipeline(self, **_: object) -> Iterator["Memory"]:
        yield self

    def rpush(self, queue: str, bell: Bell) -> None:
        self.bells[queue].append(bell)
        self.pushed.append(bell)

    def execute(self) -> None: ...

    def _new_relay(self) -> FlowRinger:
        return FlowRinger(None, self)  # type: ignore[arg-type]  # this is all it sees of PostgreSQL and Redis

    def ring(self) -> int:
        """One pass of the relay, judged by the bells that it pushed."""
        self.pushed: list[Bell] = []
        self._forget_who_is_gone()
        hungry = {key: len(self._unrung(key)) for key in list(self.outbox)}
        with patch.multiple(
            flow_ringer,
            new_flows=self.new_flows,
            due_rows=self.due_rows,
            standing=self.standing,
            stored_in_flight=self.stored_in_flight,
            bells_waiting=self.bells_waiting,
            bell_list=lambda queue: queue,
            bell=lambda _queue, kind, ids: Bell(kind, ids),
            count_rings=lambda *_: None,
            time=SimpleNamespace(monotonic=lambda: self.now),
        ):
            rung = self.relay.ring(Limits(list(self.controls.values()), self.buckets, self.now))
        assert sorted(rung) == sorted(job_id for bell in self.pushed for job_id in bell.ids)
        self._judge(hungry)
        return len(rung)

    def _forget_who_is_gone(self) -> None:
        """As the relay does. What was claimed and put back between two passes looks like a row that nobody claimed; and
        who stands behind a row that may ring may be more than the relay reads, and is forgotten too.
        """
        for job in self.running.values():
            job.rings, job.was_hidden = [], True
        for key, rows in self.outbox.items():
            is_behind = False
            for job in sorted(rows.values(), key=_urgency):
                if not self._seen(job) or job.due_at > self.now:
                    job.rings = job.rings if any(control.paused for control in self._controls_of(key)) else []
                    job.was_hidden = True
                elif not job.rings or job.was_hidden or self.now - job.rings[-1] >= _quiet_s(job):
                    is_behind = True
                job.was_hidden |= is_behind

    def _unrung(self, key: FlowKey) -> list[Job]:
        """Not those that were committed so late that only a look all the way back finds them."""
        return [job for job in self._due(key) if not job.rings and job.seen_from < job.due_at + LOOK_BACK_S]

    # ---- judgement

    def _judge(self, hungry: Mapping[FlowKey, int]) -> None:
        rung = [self.jobs[job_id] for bell in self.pushed for job_id in bell.ids]
        assert len({job.id for job in rung}) == len(rung), "rung twice in one pass"
        for bell in self.pushed:
            assert len(bell.ids) <= most_in_bundle(bell.kind)
            assert len(bell.ids) == 1 or not any(self.jobs[job_id].alone for job_id in bell.ids)
            assert {self.jobs[job_id].key.kind for job_id in bell.ids} == {bell.kind}
        for job in rung:
            assert job.has_row, "rings for nothing"
            assert self._seen(job), "rings before its transaction has committed"
            assert job.due_at <= self.now, "rings before its time"
            assert not any(control.paused for control in self._controls_of(job.key)), "rings although it is paused"
            self._judge_storm(job)
            job.rings.append(self.now)
        for queue, bells in self.bells.items():
            assert len(bells) <= (HIGH_WATER_BELLS + LARGEST_WINDOW) * (1 + self.restarts), queue
        self._judge_caps({job.key for job in rung})
        self._judge_fairness(Counter(job.key for job in rung), hungry)

    def _judge_storm(self, job: Job) -> None:
        """At least a second lies between two bells of a row, then ever more."""
        if job.was_hidden:
            job.rings, job.was_hidden = [], False
        assert not job.rings or self.now - job.rings[-1] >= _quiet_s(job), "a storm of bells"

    def _judge_caps(self, rung: set[FlowKey]) -> None:
        in_flight = Counter(job.key for job in self.running.values())
        in_flight.update(job.key for rows in self.outbox.values() for job in rows.values() if self._is_rung(job))
        for (scope, name), control in self.controls.items():
            mine = {key: count for key, count in in_flight.items() if getattr(key, scope) == name}
            if control.max_in_flight is not None and rung & mine.keys():
                assert sum(mine.values()) <= control.max_in_flight, "more in flight than the cap"

    def _is_rung(self, job: Job) -> bool:
        return bool(job.rings) and self.now - job.rings[-1] < _quiet_s(job)

    def _judge_fairness(self, given: Counter[FlowKey], hungry: Mapping[FlowKey, int]) -> None:
        """Nobody is passed by twice in a row while a tenant with work of the same kind gets more than one."""
        passed_by = {key for key, wanted in hungry.items() if wanted and not given[key]}
        if not self.controls:
            for key in passed_by & self.passed_by:
                mates = [count for mate, count in given.items() if mate.kind == key.kind]
                assert max(mates, default=0) <= 1, f"{key} is starved"
        self.passed_by = passed_by if not self.controls else set()

    def _controls_of(self, key: FlowKey) -> list[Control]:
        return [control for (scope, name), control in self.controls.items() if getattr(key, scope) == name]

    # ---- everybody else

    def enqueue(self, name: str, tenant: int, count: int, priority: int, delay_s: float, commits_in_s: float) -> None:
        key = FlowKey(KINDS[name].queue, name, TENANTS[tenant])
        for _ in range(count):
            self.made += 1
            job = Job(self.made, key, priority, self.now + delay_s, self.now + commits_in_s)
            self.jobs[job.id] = self.outbox[key][job.id] = job

    def work(self, queue: str, bells: int) -> None:
        """Workers take so many bells. What is not due, or not there any more, is nobody's."""
        for _ in range(min(bells, len(self.bells[queue]))):
            for job_id in self.bells[queue].popleft().ids:
                job = self.jobs.get(job_id)
                if job and job.has_row and job.due_at <= self.now:
                    self._drop_row(job)
                    job.move(JobState.RUNNING)
                    job.attempt += 1
                    job.lease_until = self.now + LEASE_S
                    self.running[job.id] = job

    def _drop_row(self, job: Job) -> None:
        del self.outbox[job.key][job.id]
        job.has_row = False

    def end(self, count: int, ending: Ending, jitter: float) -> None:
        for job in list(self.running.values())[:count]:
            self._end(job, ending, jitter)

    def rescue(self) -> None:
        for job in [job for job in self.running.values() if job.lease_until < self.now]:
            job.crashes += 1
            self._end(job, Crashed(job.crashes), 0.5)

    def _end(self, job: Job, ending: Ending, jitter: float) -> None:
        policy = policy_of(job.key.kind)
        decision = decide(job.attempt, policy.max_attempts, ending, policy, _date(self.now), jitter)
        job.move(decision.state)
        del self.running[job.id]
        job.attempt -= decision.attempt_returned
        assert (decision.due_at is None) == (decision.state in TERMINAL), "waits for nothing, or for ever"
        assert job.crashes <= MAX_CRASHES
        assert job.attempt <= policy.max_attempts
        if decision.due_at is None:
            self._bury(job)
        else:
            was_alone, job.alone = job.alone, decision.outcome in {"crashed", "handed_back"}
            job.due_at, job.rings = _seconds(decision.due_at), job.rings if job.alone == was_alone else []
            assert self.now <= job.due_at
            job.has_row, job.seen_from, self.outbox[job.key][job.id] = True, self.now, job

    def cancel(self, at: int) -> None:
        waiting = [job for rows in self.outbox.values() for job in rows.values()]
        if waiting:
            job = waiting[at % len(waiting)]
            self._drop_row(job)
            job.move(JobState.CANCELLED)
            self._bury(job)

    def _bury(self, job: Job) -> None:
        self.lives += 1
        del self.jobs[job.id]

    def control(self, name: str, control: Mapping[str, Any]) -> None:
        self.controls["kind", name] = Control("kind", name, **control)
        if not control:
            del self.controls["kind", name]

    def lose_bells(self) -> None:
        self.bells.clear()

    def lose_relay(self) -> None:
        """Another one leads, and remembers nothing."""
        self.relay, self.restarts = self._new_relay(), self.restarts + 1
        for rows in self.outbox.values():
            for job in rows.values():
                job.rings = []

    def wind_up(self) -> None:
        """All is well again: whatever is due rings, runs and ends, and nobody waits longer than a lost bell may."""
        self.controls.clear()
        self.healed_at = self.now
        while self.jobs:
            rung = self.ring()
            for queue in list(self.bells):
                self.work(queue, len(self.bells[queue]))
            self.rescue()
            self.end(len(self.running), ENDINGS["done"], 0.0)
            self._judge_patience()
            self.now += 0.03 if rung else 1.0

    def _judge_patience(self) -> None:
        """What never rang is found by the next look all the way back; what rang in vain rings again."""
        for key in self.outbox:
            for job in self._due(key):
                since = max(job.due_at, job.seen_from, self.healed_at)
                longest_s = LOOK_BACK_ALL_EVERY_S + (LONGEST_VISIBILITY_S if job.rings else 0.0) + 5.0
                assert self.now - since <= longest_s, f"{job.id} is forgotten"


def _urgency(job: Job) -> tuple[int, float]:
    return -job.priority, job.due_at


def _quiet_s(job: Job) -> float:
    """How long a row is quiet after its last ring at least: that of a bell which lies nowhere any more."""
    return min(LONGEST_VISIBILITY_S, 1 << (len(job.rings) - 1))


def _date(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def _seconds(date: datetime) -> float:
    return (date - EPOCH).total_seconds()


class Relays(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()

    @rule(
        name=st.sampled_from(NAMES),
        tenant=st.integers(0, 3),
        count=st.integers(1, 60),
        priority=st.integers(-1, 1),
        delay_s=st.sampled_from((0.0, 0.0, 0.5, 20.0)),
        commits_in_s=st.sampled_from((0.0, 0.0, 0.8, 9.0)),
    )
    def enqueue(self, **row: Any) -> None:
        self.memory.enqueue(**row)

    @rule(passes=st.integers(1, 4))
    def ring(self, passes: int) -> None:
        for _ in range(passes):
            self.memory.ring()
            self.memory.now += 0.03

    @rule(name=st.sampled_from(NAMES), bells=st.integers(1, 30))
    def work(self, name: str, bells: int) -> None:
        self.memory.work(KINDS[name].queue, bells)

    @rule(count=st.integers(1, 100), name=st.sampled_from(sorted(ENDINGS)), jitter=st.floats(0, 0.99))
    def end(self, count: int, name: str, jitter: float) -> None:
        self.memory.end(count, ENDINGS[name], jitter)

    @rule(seconds=st.sampled_from((0.01, 0.3, 1.0, 3.0, 9.0, 70.0)))
    def wait(self, seconds: float) -> None:
        self.memory.now += seconds
        self.memory.rescue()

    @rule(at=st.integers(0, 50))
    def cancel(self, at: int) -> None:
        self.memory.cancel(at)

    @rule()
    def lose_bells(self) -> None:
        self.memory.lose_bells()

    @rule()
    def lose_relay(self) -> None:
        self.memory.lose_relay()

    @rule(
        name=st.sampled_from(NAMES),
        control=st.sampled_from(CONTROLS),
    )
    def control(self, name: str, control: Mapping[str, Any]) -> None:
        self.memory.control(name, control)

    def teardown(self) -> None:
        self.memory.wind_up()


def test_whatever_is_lost_everything_due_is_rung_and_nobody_is_rung_too_often() -> None:
    run_state_machine_as_test(
        Relays,
        settings=settings(
            max_examples=5 * EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_thousands_of_lives_pass_through_the_relay() -> None:
    started = time.monotonic()
    lives = _live_many(max(1, EXAMPLES // 2))
    took_s = time.monotonic() - started
    print(f"{lives} lives in memory, {lives / took_s:,.0f} a second")
    assert lives


#: What may be gone or wrong, where it is patched in, and what stands there instead.
MUTANTS: dict[str, tuple[object, str, object]] = {
    "rows ring once": (Ring, "is_over", lambda *_, **__: False),
    "rows ring at every pass": (Ring, "is_over", lambda *_, **__: True),
    "one tenant gets it all": (
        flow_ringer,
        "evenly",
        lambda room, wants: [max(0, room), *[0] * 9][: len(wants)],
    ),
    "a pause is not heard": (Limits, "is_paused", lambda *_: False),
    "a cap is not kept": (Limits, "allow", lambda _limits, _flow, wanted: wanted),
    "nobody looks back": (flows, "LOOK_BACK_ALL_EVERY_S", 1e9),
    "suspects travel with others": (
        flow_ringer,
        "bundles_of",
        lambda together, alone, size: bundles_of([*together, *alone], [], size),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_relay_that_is_broken_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(*MUTANTS[name])
    with pytest.raises(AssertionError):
        _live_many(10)


def _live_many(seeds: int) -> int:
    return sum(_lived(random.Random(seed)) for seed in range(seeds))


def _lived(dice: random.Random) -> int:
    memory = Memory()
    for _ in range(60):
        delay_s, late_s = dice.choice((0.0, 0.0, 0.5, 9.0)), dice.choice((0.0, 0.0, 0.8, 9.0))
        memory.enqueue(dice.choice(NAMES), dice.randrange(4), dice.randint(1, 60), dice.randint(-1, 1), delay_s, late_s)
        for _ in range(3):
            memory.ring()
            for name in NAMES:
                memory.work(KINDS[name].queue, dice.randrange(40))
            memory.end(dice.randrange(200), ENDINGS[dice.choice(("done", "done", *ENDINGS))], dice.random())
            memory.now += dice.choice((0.01, 0.03, 0.3))
        _meddle(memory, dice)
    memory.wind_up()
    return memory.lives


def _meddle(memory: Memory, dice: random.Random) -> None:
    memory.rescue()
    match dice.randrange(40):
        case 0:
            memory.lose_bells()
        case 1:
            memory.lose_relay()
        case 2:
            memory.now += 10.0
        case 3 | 4:
            memory.control(dice.choice(NAMES), dice.choice(CONTROLS))
        case 5 | 6:
            memory.controls.clear()
