"""A world of jobs on a real PostgreSQL: acts are done to many at once, and each life is held against the law."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Engine, Row, delete, text

from domain.database import connect
from domain.ids import new_id
from domain.invariants import INVARIANTS, violations_of
from domain.job_kinds import DeliverWebhook
from domain.jobs.attempts import ClaimedJob, uuid_array
from domain.jobs.kind import kind_of_class
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.partitions import within
from domain.tables.jobs import attempts, dead_letters, jobs
from domain.tables.outbox import leases, outbox
from tests.integration.builders import a_tenant
from tests.integration.simulation.acts import ENDINGS, HOUR_S, Act, Cancel, Claim, Finish, Hurry, Renew, Rescue, Resolve
from tests.integration.simulation.life import ENDS, Life, Waits, wrongs
from tests.integration.simulation.sessions import Stage

KIND = kind_of_class(DeliverWebhook)

#: What each act answered of one job, and the life after all of them.
Way = tuple[tuple[object, ...], Life]

_READ = """
    WITH asked AS MATERIALIZED (SELECT id FROM unnest(CAST(:ids AS uuid[])) AS t(id)),
    tried AS (
        SELECT job_id, array_agg(claim ORDER BY claim) AS claims, array_agg(outcome ORDER BY claim) AS outcomes
          FROM attempts WHERE job_id = ANY(CAST(:ids AS uuid[])) AND job_id {weeks} GROUP BY job_id),
    died AS (
        SELECT job_id, array_agg(id ORDER BY id) AS letters, array_agg(coalesce(resolution, 'open') ORDER BY id) AS ends
          FROM dead_letters WHERE job_id = ANY(CAST(:ids AS uuid[])) GROUP BY job_id),
    silent AS (
        SELECT held.id, held.claim FROM leases CROSS JOIN LATERAL unnest(job_ids, claims) AS held(id, claim)
         WHERE lease_until < clock_timestamp())
    SELECT j.id, j.version, j.state, j.max_attempts, o.alone, o.due_at <= clock_timestamp() AS due, j.claim, j.attempt,
           j.crashes, j.cancel_requested_at IS NOT NULL AS asked, died.letters, died.ends, tried.claims, tried.outcomes,
           j.state = 'running' AND silent.id IS NOT NULL AS is_silent
      FROM jobs AS j LEFT JOIN outbox AS o ON o.job_id = j.id LEFT JOIN tried ON tried.job_id = j.id
      LEFT JOIN died ON died.job_id = j.id LEFT JOIN silent ON silent.id = j.id AND silent.claim = j.claim
     WHERE j.id = ANY(CAST(:ids AS uuid[])) AND j.id {weeks}
    """
#: Time is what these statements say. Whatever is due within seconds is due, and whoever was given a second is silent.
_A_MOMENT_PASSES = """
    WITH due AS (
        UPDATE outbox SET due_at = clock_timestamp()
         WHERE due_at BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute')
    UPDATE leases SET lease_until = clock_timestamp()
     WHERE lease_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute'
    """
_AN_HOUR_PASSES = """
    WITH due AS (UPDATE outbox SET due_at = clock_timestamp()) UPDATE leases SET lease_until = clock_timestamp()
    """


class Broken(AssertionError):
    """A life that is against the law."""


class Engines(NamedTuple):
    """`hot` as the workers have it, for what is on trial; a look at everything wants other plans."""

    hot: Engine
    looking: Engine


@contextmanager
def engines_of(database_url: str) -> Iterator[Engines]:
    engines = Engines(
        connect(database_url, process="test", pool_size=8, hot=True), connect(database_url, process="test")
    )
    yield engines
    for engine in engines:
        engine.dispose()


class Look(NamedTuple):
    """A job as it was read."""

    life: Life
    version: int
    letters: tuple[UUID, ...]


class Wish(NamedTuple):
    """Something to be done: what, to which of the jobs, and with which variety of it."""

    act: str
    first: int
    most: int
    variety: int


class World:
    """Jobs by the order of their making. `lives` = how many have ended so far, `acts` = jobs acted on."""

    def __init__(self, engines: Engines) -> None:
        self._engine, self._looking = engines
        self.tenant_id = a_tenant(self._engine, "simulated")
        self._empty()
        self._stage = Stage(self._engine)
        self.jobs: dict[UUID, Look] = {}
        self._claims: list[Claim] = []
        self._holders: dict[UUID, list[ClaimedJob]] = {}
        self._ended: set[UUID] = set()
        self.acts, self.is_sound = 0, True

    @property
    def lives(self) -> int:
        return len(self._ended)

    def _empty(self) -> None:
        """What a world that broke has left is nobody's."""
        with self._engine.begin() as tx:
            for table in (leases, outbox, attempts, dead_letters, jobs):
                tx.execute(delete(table))

    def close(self) -> None:
        self._stage.close()

    def enqueue(self, count: int, *, allowance: int = 3, later: bool = False) -> None:
        due_at = datetime.now(UTC) + timedelta(seconds=HOUR_S) if later else None
        args = DeliverWebhook(new_id(), new_id())
        made = [new_job(args, tenant_id=self.tenant_id, max_attempts=allowance, due_at=due_at) for _ in range(count)]
        with self._engine.begin() as tx:
            enqueue(tx, made)
        expected = Life("scheduled" if later else "queued", allowance, Waits(alone=False, due=not later))
        for job_id, look in self._read([job.id for job in made]).items():
            self._see(job_id, look, [expected])

    def act_of(self, wish: Wish) -> Act:
        """The act that is wished for, on those of the jobs wished for that it can be asked of."""
        ids, some = self._some(wish), self._some(wish)[:8]  # what people do, they do one by one
        acts: dict[str, Callable[[], Act]] = {
            "claim": lambda: Claim(ids, most_crashes=(3, None, 1, 0)[wish.variety % 4], silent=wish.variety % 3 == 2),
            "finish": lambda: self._finish_of(ids, wish.variety),
            "rescue": self.rescue,
            "cancel": lambda: Cancel(some, self.tenant_id),
            "resolve": lambda: self.resolve(some, "discarded" if wish.variety == 0 else "replayed"),
            "hurry": lambda: Hurry(some),
            "renew": lambda: Renew(self._claim_of(wish), silent=wish.variety % 2 == 0),
        }
        return acts[wish.act]()

    def _claim_of(self, wish: Wish) -> Claim:
        return self._claims[wish.first % len(self._claims)] if self._claims else Claim([])

    def _some(self, wish: Wish) -> list[UUID]:
        ids = list(self.jobs)
        at = wish.first % len(ids) if ids else 0
        return ids[at : at + wish.most]

    def _finish_of(self, ids: Iterable[UUID], variety: int) -> Finish:
        """By whoever holds or ever held them: the latest, or one before, according to the variety."""
        names, ended = list(ENDINGS), {}
        for at, job_id in enumerate(ids):
            if holders := self._holders.get(job_id):
                back = 1 + (at + variety) % 3 if variety % 2 else 1
                ended[job_id] = (holders[-min(back, len(holders))], names[(at * variety + variety) % len(names)])
        return Finish(ended)

    def rescue(self) -> Rescue:
        """Of all whose holders are silent."""
        return Rescue([job_id for job_id, look in self.jobs.items() if look.life.is_silent])

    def resolve(self, ids: Iterable[UUID], resolution: str) -> Resolve:
        """Of these, the newest dead letter of each that has one."""
        letters = {job_id: self.jobs[job_id].letters for job_id in ids}
        newest = {job_id: (len(found) - 1, found[-1]) for job_id, found in letters.items() if found}
        return Resolve(newest, resolution, KIND.retry.max_attempts)

    def do(self, act: Act) -> None:
        """Nobody else is at it: what comes of it is known beforehand."""
        with self._engine.begin() as tx:
            answers = act.run(tx)
        expected = {job_id: next(iter(act.outcomes(job_id, self.jobs[job_id].life))) for job_id in act.ids}
        self._judge([act], {job_id: [((answer,), life)] for job_id, (answer, life) in expected.items()}, [answers])

    def race(self, acts: Sequence[Act], commits: Sequence[bool], order: Iterable[int]) -> None:
        """Their transactions are open at the same time. For each job it must be as if they had come one by one."""
        answers = self._stage.play([(act.run, commit) for act, commit in zip(acts, commits, strict=True)], order)
        touched = {job_id for act in acts for job_id in act.ids}
        rounds = [(act, answer) for act, answer, commit in zip(acts, answers, commits, strict=True) if commit]
        # A rescuer looks at all there is, at what the others have just claimed too.
        about = [(act, touched if isinstance(act, Rescue) else set(act.ids)) for act, _ in rounds]
        possible = {job_id: self._serial(job_id, about) for job_id in touched}
        self._judge([act for act, _ in rounds], possible, [answer for _, answer in rounds])

    def _serial(self, job_id: UUID, acts: Sequence[tuple[Act, Container[UUID]]]) -> list[Way]:
        """What each order of the acts makes of this job."""
        found: list[Way] = []
        for order in permutations(range(len(acts))):
            ways: list[Way] = [((None,) * len(acts), self.jobs[job_id].life)]
            for number, (act, about) in ((number, acts[number]) for number in order):
                if job_id in about:
                    ways = [
                        ((*answers[:number], answer, *answers[number + 1 :]), after)
                        for answers, life in ways
                        for answer, after in act.outcomes(job_id, life)
                    ]
            found += ways
        return found

    def _judge(
        self, acts: Sequence[Act], possible: Mapping[UUID, list[Way]], answers: Sequence[Mapping[UUID, object]]
    ) -> None:
        if strangers := [answer.keys() - possible.keys() for answer in answers if answer.keys() - possible.keys()]:
            self.is_sound = False
            raise Broken(f"something happened to jobs that nobody touched: {strangers}")
        if any(isinstance(act, Rescue) for act in acts):
            self._let_pass(_A_MOMENT_PASSES)
        for job_id, look in self._read(list(possible)).items():
            said = tuple(answer.get(job_id) for answer in answers)
            self._see(job_id, look, [life for heard, life in possible[job_id] if heard == said], said)
        self.acts += len(possible)
        self._note(act for act in acts if isinstance(act, Claim))

    def _note(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self._claims.append(claim)
            for job in claim.jobs:
                self._holders.setdefault(job.id, []).append(job)

    def _see(self, job_id: UUID, look: Look, expected: Sequence[Life], said: object = None) -> None:
        before = self.jobs.get(job_id)
        found = wrongs(before and before.life, look.life)
        if look.life not in expected:
            found.append(f"expected {' or '.join(map(str, expected)) or 'another answer'}")
        if before and look.version == before.version and _row(look.life) != _row(before.life):
            found.append("a change that nobody who watches its version sees")
        if found:
            self.is_sound = False
            raise Broken(f"{job_id}: answered {said}, {look.life}, before {before and before.life}: {'; '.join(found)}")
        self.jobs[job_id] = look
        if look.life.state in ENDS:
            self._ended.add(job_id)

    def _read(self, ids: Sequence[UUID]) -> dict[UUID, Look]:
        if not ids:
            return {}
        with self._looking.begin() as tx:
            rows = tx.execute(within(_READ, ids), {"ids": uuid_array(ids)}).all()
        if len(rows) != len(ids):
            raise Broken("jobs are gone, or there twice")
        return {row.id: _look_of(row) for row in rows}

    def _let_pass(self, time: str) -> None:
        with self._engine.begin() as tx:
            tx.execute(text(time))

    def wind_up(self) -> None:
        """An hour passes, the silent are rescued, and workers take whatever waits: every life has ended."""
        self._let_pass(_AN_HOUR_PASSES)
        for job_id, look in self.jobs.items():
            life, waits = look.life, look.life.waits
            later = life._replace(waits=waits and waits._replace(due=True), is_silent=life.state == "running")
            self.jobs[job_id] = look._replace(life=later)
        self.do(self.rescue())
        everybody = Claim(list(self.jobs))
        self.do(everybody)
        self.do(Finish({job.id: (job, "done") for job in everybody.jobs}))
        if alive := len(self.jobs) - self.lives:
            raise Broken(f"{alive} jobs have not ended")
        with self._looking.begin() as tx:
            broken = {invariant.name: violations_of(tx, invariant) for invariant in INVARIANTS}
        if any(broken.values()):
            raise Broken({name: rows for name, rows in broken.items() if rows})


def _row(life: Life) -> Life:
    """What the job's own row says of it."""
    return life._replace(waits=None, letters=(), history=(), is_silent=False)


def _look_of(row: Row[Any]) -> Look:
    waits = None if row.alone is None else Waits(row.alone, row.due)
    life = Life(
        state=row.state,
        allowance=row.max_attempts,
        waits=waits,
        claim=row.claim,
        attempt=row.attempt,
        crashes=row.crashes,
        asked_to_stop=row.asked,
        letters=tuple(row.ends or ()),
        history=tuple(zip(row.claims or (), row.outcomes or (), strict=True)),
        is_silent=row.is_silent,
    )
    return Look(life, row.version, tuple(row.letters or ()))
