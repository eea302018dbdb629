"""Groups: the job that waits fires once, when all its children have ended, in whatever order and wherever they end."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from domain.aftermath import cancel, settle
from domain.database import connect
from domain.invariants import INVARIANTS, violations_of
from domain.jobs.attempts import ClaimedJob
from domain.jobs.dead_letters import discard_if_open, replay_edited_if_open, replay_if_open
from domain.jobs.decision import decided
from domain.jobs.finish import finish_of
from domain.jobs.groups import (
    NEVER,
    Children,
    Count,
    children_of,
    count_children,
    enqueue_group,
    forget_groups,
)
from domain.jobs.kind import JobArgs
from domain.jobs.outbox import new_job
from domain.jobs.partitions import lowest_id_at
from domain.jobs.queries import JobFilter, get_job, list_jobs
from domain.jobs.retry_now import make_due_now_if_waiting
from domain.jobs.retry_policy import Ending, Errored, Snoozed, Succeeded
from domain.stretch import Stretch
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    a_tenant,
    at_once,
    claimed,
    declarations,
    emptied_database,
    eventually,
    execute,
    is_obliged,
    known,
    module_database,
    row,
    rows,
    scalar,
    the_job,
)

with declarations():

    class Part(JobArgs, kind="test.part", queue="test"):
        """A child."""

        number: int

    class Whole(JobArgs, kind="test.whole", queue="test"):
        """The job that waits."""

    class OnlyOne(JobArgs, kind="test.only_one", queue="test", unique_by=("name",)):
        """A child that may be a twin."""

        name: str


FOR_GOOD = Errored("PermanentFailure", "it broke", permanent=True)
AGAIN = Errored("OSError", "the disk is full")
ENDINGS: dict[str, Ending] = {"succeeded": Succeeded(), "dead": FOR_GOOD}


@pytest.fixture(autouse=True)
def kinds() -> Iterator[None]:
    with known(Part, Whole, OnlyOne):
        yield


@pytest.fixture
def tenant_id(engine: Engine) -> UUID:
    return a_tenant(engine)


class Group:
    """A job that waits for so many children."""

    def __init__(self, engine: Engine, tenant_id: UUID, size: int = 3, *, only_if_all_succeed: bool = False) -> None:
        self.engine, self.tenant_id = engine, tenant_id
        children = [new_job(Part(number), tenant_id=tenant_id) for number in range(size)]
        self.children = [child.id for child in children]
        with engine.begin() as tx:
            then = new_job(Whole(), tenant_id=tenant_id)
            self.id = enqueue_group(tx, children, then, only_if_all_succeed=only_if_all_succeed)

    def end(self, child: int, state: str = "succeeded") -> None:
        if state == "cancelled":
            with self.engine.begin() as tx:
                assert cancel(tx, self.tenant_id, self.children[child])
        else:
            settle_all(self.engine, claimed(self.engine, [self.children[child]]), ENDINGS[state])

    def letter(self, child: int) -> UUID:
        sql = "SELECT id FROM dead_letters WHERE job_id = :id AND resolution IS NULL"
        return UUID(str(scalar(self.engine, sql, id=self.children[child])))

    def has_fired(self) -> bool:
        job, due_at = (
            the_job(self.engine, self.id),
            scalar(self.engine, "SELECT max(due_at) FROM outbox WHERE job_id = :id", id=self.id),
        )
        assert job.state in {"scheduled", "cancelled"}
        assert (job.state == "scheduled") == is_obliged(self.engine, self.id)
        assert due_at in (None, job.due_at)
        return bool(job.state == "scheduled" and job.due_at < NEVER)

    @property
    def counts(self) -> Children | None:
        with self.engine.begin() as tx:
            return children_of(tx, self.tenant_id, self.id)

    def run(self) -> None:
        settle_all(self.engine, claimed(self.engine, [self.id]), Succeeded())


def settle_all(engine: Engine, jobs: Sequence[ClaimedJob], ending: Ending) -> None:
    with engine.begin() as tx:
        assert len(settle(tx, [finish_of(job, ending, decided(job, ending)) for job in jobs])) == len(jobs) > 0


def assert_consistent(engine: Engine) -> None:
    with engine.begin() as tx:
        assert {
            invariant.name: violations_of(tx, invariant) for invariant in INVARIANTS if violations_of(tx, invariant)
        } == {}


def test_the_job_that_waits_is_there_from_the_beginning_and_does_not_start(engine: Engine, tenant_id: UUID) -> None:
    group = Group(engine, tenant_id)
    assert the_job(engine, group.id).state == "scheduled"
    assert {the_job(engine, child).parent_id for child in group.children} == {group.id}
    assert claimed(engine, [group.id]) == []
    assert group.counts == Children(total=3, waiting=3, succeeded=0, dead=0, cancelled=0)
    assert_consistent(engine)


def test_it_fires_with_the_last_child_and_knows_how_they_ended(engine: Engine, tenant_id: UUID) -> None:
    group = Group(engine, tenant_id)
    group.end(1)
    group.end(0, "dead")
    assert not group.has_fired()
    group.end(2, "cancelled")
    assert group.has_fired()
    assert group.counts == Children(total=3, waiting=0, succeeded=1, dead=1, cancelled=1)
    group.run()
    assert the_job(engine, group.id).state == "succeeded"
    assert_consistent(engine)


def test_a_child_that_will_run_again_has_not_ended(engine: Engine, tenant_id: UUID) -> None:
    group = Group(engine, tenant_id, size=1)
    for ending in (AGAIN, Snoozed(0.0, "too early")):
        execute(engine, "UPDATE outbox SET due_at = now() FROM jobs WHERE id = job_id AND state = 'retrying'")
        settle_all(engine, claimed(engine, group.children), ending)
        assert not group.has_fired()
    group.end(0)
    assert group.has_fired()


def test_a_group_without_children_fires_at_once(engine: Engine, tenant_id: UUID) -> None:
    group = Group(engine, tenant_id, size=0)
    assert the_job(engine, group.id).state == "queued"
    group.run()
    assert_consistent(engine)


def test_a_twin_of_another_job_is_not_waited_for(engine: Engine, tenant_id: UUID) -> None:
    def only_ones(*names: str) -> UUID:
        with engine.begin() as tx:
            children = [new_job(OnlyOne(name), tenant_id=tenant_id) for name in names]
            return enqueue_group(tx, children, new_job(Whole(), tenant_id=tenant_id))

    only_ones("ada", "bob")
    second = only_ones("bob", "cleo", "cleo")
    assert row(engine, "SELECT total FROM job_groups WHERE id = :id", id=second).total == 1
    third = only_ones("ada")
    assert the_job(engine, third).state == "queued"


def test_a_group_is_of_one_tenant_and_its_last_job_neither_unique_nor_scheduled(
    engine: Engine, tenant_id: UUID
) -> None:
    other = a_tenant(engine, "another")
    whole = new_job(Whole(), tenant_id=tenant_id)
    wrong = [
        ([new_job(Part(1), tenant_id=other)], whole),
        ([], new_job(OnlyOne("ada"), tenant_id=tenant_id)),
        ([], new_job(Whole(), tenant_id=tenant_id, due_at=datetime.now(UTC))),
    ]
    for children, then in wrong:
        with pytest.raises(ValueError, match="group"), engine.begin() as tx:
            enqueue_group(tx, children, then)


class TestReplay:
    def test_a_dead_child_replayed_while_the_group_is_open_is_waited_for_again(
        self, engine: Engine, tenant_id: UUID
    ) -> None:
        group = Group(engine, tenant_id, size=2)
        group.end(0, "dead")
        with engine.begin() as tx:
            replay_if_open(tx, group.letter(0), by="olga")
        group.end(1)
        assert not group.has_fired()
        assert_consistent(engine)
        group.end(0)
        assert group.has_fired()
        assert group.counts == Children(total=2, waiting=0, succeeded=2, dead=0, cancelled=0)

    def test_a_child_replayed_after_the_group_fired_changes_nothing(self, engine: Engine, tenant_id: UUID) -> None:
        group = Group(engine, tenant_id, size=1)
        group.end(0, "dead")
        before = group.counts
        with engine.begin() as tx:
            replay_if_open(tx, group.letter(0), by="olga")
        group.run()
        group.end(0)
        assert group.counts == before
        assert the_job(engine, group.id).state == "succeeded"
        assert_consistent(engine)

    def test_an_edited_copy_is_waited_for_in_place_of_the_dead_child(self, engine: Engine, tenant_id: UUID) -> None:
        group = Group(engine, tenant_id, size=2, only_if_all_succeed=True)
        group.end(0, "dead")
        group.end(1)
        with engine.begin() as tx:
            copy = replay_edited_if_open(tx, group.letter(0), {"number": 7}, by="olga")
        assert the_job(engine, copy).parent_id == group.id
        assert not group.has_fired()
        assert_consistent(engine)
        settle_all(engine, claimed(engine, [copy]), Succeeded())
        assert group.has_fired()

    def test_what_retention_took_is_replayed_as_a_child_of_the_group(self, engine: Engine, tenant_id: UUID) -> None:
        group = Group(engine, tenant_id, size=1, only_if_all_succeed=True)
        group.end(0, "dead")
        execute(engine, "DELETE FROM jobs WHERE id = :id", id=group.children[0])
        with engine.begin() as tx:
            copy = replay_if_open(tx, group.letter(0), by="olga")
        settle_all(engine, claimed(engine, [copy]), Succeeded())
        assert group.has_fired()


class TestOnlyIfAllSucceed:
    def test_a_dead_child_keeps_it_waiting_until_its_replay_succeeds(self, engine: Engine, tenant_id: UUID) -> None:
        group = Group(engine, tenant_id, size=2, only_if_all_succeed=True)
        group.end(0, "dead")
        group.end(1)
        assert not group.has_fired()
        assert_consistent(engine)
        with engine.begin() as tx:
            replay_if_open(tx, group.letter(0), by="olga")
        group.end(0)
        assert group.has_fired()

    @pytest.mark.parametrize("how", ["cancelled", "discarded"])
    def test_it_is_cancelled_when_it_can_no_longer_come_true(self, engine: Engine, tenant_id: UUID, how: str) -> None:
        group = Group(engine, tenant_id, size=2, only_if_all_succeed=True)
        if how == "cancelled":
            group.end(0, "cancelled")
        else:
            group.end(0, "dead")
            with engine.begin() as tx:
                discard_if_open(tx, group.letter(0), by="olga")
        assert the_job(engine, group.id).state == "cancelled"
        group.end(1)
        assert_consistent(engine)


class TestOperators:
    def test_who_hurries_it_lets_it_run_before_its_children_and_it_runs_once(
        self, engine: Engine, tenant_id: UUID
    ) -> None:
        group = Group(engine, tenant_id, size=1)
        with engine.begin() as tx:
            make_due_now_if_waiting(tx, group.id, by="olga")
        group.run()
        group.end(0)
        assert the_job(engine, group.id).state == "succeeded"
        assert not is_obliged(engine, group.id)
        assert_consistent(engine)

    def test_who_cancels_it_leaves_its_children_alone(self, engine: Engine, tenant_id: UUID) -> None:
        group = Group(engine, tenant_id, size=1)
        with engine.begin() as tx:
            assert cancel(tx, tenant_id, group.id)
        group.end(0)
        assert the_job(engine, group.id).state == "cancelled"
        assert_consistent(engine)

    def test_the_counts_and_the_children_can_be_read(self, engine: Engine, tenant_id: UUID) -> None:
        group = Group(engine, tenant_id, size=2)
        version = the_job(engine, group.id).version
        group.end(1, "dead")
        with engine.begin() as tx:
            seen = get_job(tx, tenant_id, group.id)
            children = list_jobs(tx, tenant_id, JobFilter(parent_id=group.id), Stretch(10))
            assert get_job(tx, tenant_id, group.children[0]).children is None
        assert seen.children == {"total": 2, "waiting": 1, "succeeded": 0, "dead": 1, "cancelled": 0}
        assert seen.version > version
        assert [child.id for child in children] == group.children[::-1]


def test_a_group_is_forgotten_after_its_job(engine: Engine, tenant_id: UUID) -> None:
    gone, kept = (Group(engine, tenant_id, size=1) for _ in range(2))
    execute(engine, "DELETE FROM jobs WHERE id = :id", id=gone.id)
    with engine.begin() as tx:
        assert forget_groups(tx, gone.id) == 0  # too young
        assert forget_groups(tx, lowest_id_at(datetime.now(UTC) + timedelta(seconds=1))) == 1
    assert [found.id for found in rows(engine, "SELECT id FROM job_groups")] == [kept.id]


@pytest.fixture
def wide(database_url: str) -> Iterator[Engine]:
    wide = connect(database_url, process="test", pool_size=16, pool_timeout_s=60.0)
    yield wide
    wide.dispose()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.lists(st.sampled_from(["succeeded", "dead", "cancelled"]), min_size=1, max_size=12),
    workers=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_it_fires_exactly_once_however_its_children_end(
    wide: Engine, tenant_id: UUID, ends: list[str], workers: int, seed: int
) -> None:
    """The children are dealt to workers that end them in bundles, all at the same time."""
    group = Group(wide, tenant_id, size=len(ends))
    before = the_job(wide, group.id).version
    dealt = list(range(len(ends)))
    Random(seed).shuffle(dealt)
    hands = [hand for hand in (dealt[n::workers] for n in range(workers)) if hand]

    def work(hand: Sequence[int]) -> None:
        for state in ("succeeded", "dead"):
            if ids := [group.children[n] for n in hand if ends[n] == state]:
                settle_all(wide, claimed(wide, ids), ENDINGS[state])
        for n in hand:
            if ends[n] == "cancelled":
                group.end(n, "cancelled")

    told = at_once(*(lambda hand=hand: work(hand) for hand in hands))
    assert [answer for answer in told if answer is not None] == []
    assert group.has_fired()
    states = [ends.count(state) for state in ("succeeded", "dead", "cancelled")]
    assert group.counts == Children(len(ends), 0, *states)
    assert the_job(wide, group.id).version > before
    group.run()
    assert_consistent(wide)


def test_many_groups_whose_children_end_together_do_not_deadlock(wide: Engine, tenant_id: UUID) -> None:
    groups = [Group(wide, tenant_id, size=8) for _ in range(20)]

    def work(number: int) -> None:
        order = groups if number % 2 else groups[::-1]
        settle_all(wide, claimed(wide, [group.children[number] for group in order]), Succeeded())

    told = at_once(*(lambda number=number: work(number) for number in range(8)))
    assert [answer for answer in told if answer is not None] == []
    assert all(group.has_fired() for group in groups)


def test_groups_are_locked_in_one_order_whatever_the_order_of_the_children(wide: Engine, tenant_id: UUID) -> None:
    """While somebody holds the group in the middle, one worker waits for it, and the other for the first worker."""
    groups = [Group(wide, tenant_id, size=3).id for _ in range(3)]

    def count(ids: Sequence[UUID]) -> None:
        with wide.begin() as tx:
            count_children(tx, {group_id: Count(succeeded=1) for group_id in ids})

    with wide.connect() as holder, ThreadPoolExecutor(2) as threads:
        count_children(holder, {groups[1]: Count(succeeded=1)})
        counted = [threads.submit(count, ids) for ids in (groups, groups[::-1])]
        eventually(lambda: scalar(wide, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == 2)
        holder.rollback()
        assert [answer.result(30) for answer in counted] == [None, None]
    assert {found.succeeded for found in rows(wide, "SELECT succeeded FROM job_groups")} == {2}


def test_workers_that_end_bundle_after_bundle_of_one_group_wait_for_each_other_and_lose_no_count(
    wide: Engine, database_url: str, tenant_id: UUID
) -> None:
    """Often enough for statements to be prepared, and their plans to be generic: PostgreSQL takes another path then."""
    bundles, size = 50, 4
    group = Group(wide, tenant_id, size=4 * bundles * size)
    dealt = claimed(wide, group.children)
    execute(wide, "ANALYZE")  # or the plans are never generic
    four = connect(database_url, process="test", pool_size=4, pool_timeout_s=60.0)
    hands = [dealt[n::4] for n in range(4)]

    def work(hand: Sequence[ClaimedJob]) -> None:
        for start in range(0, len(hand), size):
            settle_all(four, hand[start : start + size], Succeeded())

    told = at_once(*(lambda hand=hand: work(hand) for hand in hands))
    four.dispose()
    assert [answer for answer in told if answer is not None] == []
    assert group.counts == Children(len(dealt), 0, len(dealt), 0, 0)
    assert group.has_fired()


def test_a_bundle_of_children_counts_with_one_update(engine: Engine, tenant_id: UUID) -> None:
    group = Group(engine, tenant_id, size=500)
    settle_all(engine, claimed(engine, group.children[:499]), Succeeded())
    assert the_job(engine, group.id).version == 2
    group.end(499)
    assert group.has_fired()
