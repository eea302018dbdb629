"""Two or three at the same job at the same time: every order of their steps, each ending in a commit or not.

Whatever the order, each job must be as if they had come one after the other; a rescuer may pass by what is locked.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import product
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError

from domain.jobs import dead_letters
from tests.integration.builders import emptied_database, module_database  # noqa: F401  # in place of conftest's
from tests.integration.simulation.acts import Act, Cancel, Claim, Finish, Hurry, Renew
from tests.integration.simulation.sessions import orders_of
from tests.integration.simulation.world import Broken, World, engines_of

#: Makes jobs what they shall be beforehand, and answers the acts that meet at them.
Meeting = Callable[[World], Sequence[Act]]


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    with engines_of(database_url) as engines, closing(World(engines)) as world:
        yield world
        if world.is_sound:
            world.wind_up()


def waiting(world: World, *, later: bool = False) -> list[UUID]:
    known = set(world.jobs)
    world.enqueue(3, later=later)
    return [job_id for job_id in world.jobs if job_id not in known]


def held(world: World, *, silent: bool = False) -> Claim:
    claim = Claim(waiting(world), silent=silent)
    world.do(claim)
    return claim


def ended(claim: Claim, name: str) -> Finish:
    return Finish({job.id: (job, name) for job in claim.jobs})


def dead(world: World) -> list[UUID]:
    claim = held(world)
    world.do(ended(claim, "hopeless"))
    return list(claim.ids)


def claim_claim(world: World) -> Sequence[Act]:
    one, two, three = waiting(world)
    return Claim([one, two]), Claim([two, three])


def claim_cancel(world: World) -> Sequence[Act]:
    ids = waiting(world)
    return Claim(ids), Cancel(ids[:2], world.tenant_id)


def claim_hurry(world: World) -> Sequence[Act]:
    ids = waiting(world, later=True)
    return Claim(ids), Hurry(ids[1:])


def cancel_hurry(world: World) -> Sequence[Act]:
    ids = waiting(world, later=True)
    return Cancel(ids, world.tenant_id), Hurry(ids)


def finish_rescue(world: World) -> Sequence[Act]:
    claim = held(world, silent=True)
    return ended(claim, "done"), world.rescue()


def failure_rescue(world: World) -> Sequence[Act]:
    claim = held(world, silent=True)
    return ended(claim, "failed"), world.rescue()


def finish_cancel(world: World) -> Sequence[Act]:
    claim = held(world)
    return ended(claim, "failed"), Cancel(claim.ids, world.tenant_id)


def finish_finish(world: World) -> Sequence[Act]:
    claim = held(world)
    return ended(claim, "done"), ended(claim, "hopeless")


def rescue_rescue(world: World) -> Sequence[Act]:
    held(world, silent=True)
    return world.rescue(), world.rescue()


def rescue_renewal(world: World) -> Sequence[Act]:
    claim = held(world, silent=True)
    return world.rescue(), Renew(claim, silent=False)


def replay_replay(world: World) -> Sequence[Act]:
    ids = dead(world)
    return world.resolve(ids, "replayed"), world.resolve(ids, "replayed")


def replay_discard(world: World) -> Sequence[Act]:
    ids = dead(world)
    return world.resolve(ids, "replayed"), world.resolve(ids, "discarded")


def replay_claim(world: World) -> Sequence[Act]:
    ids = dead(world)
    return world.resolve(ids, "replayed"), Claim(ids)


PAIRS = (
    claim_claim,
    claim_cancel,
    claim_hurry,
    cancel_hurry,
    finish_rescue,
    failure_rescue,
    finish_cancel,
    finish_finish,
    rescue_rescue,
    rescue_renewal,
    replay_replay,
    replay_discard,
    replay_claim,
)


def claim_claim_cancel(world: World) -> Sequence[Act]:
    ids = waiting(world)
    return Claim(ids), Claim(ids), Cancel(ids[1:], world.tenant_id)


def finish_rescue_cancel(world: World) -> Sequence[Act]:
    claim = held(world, silent=True)
    return ended(claim, "failed"), world.rescue(), Cancel(claim.ids[:2], world.tenant_id)


@pytest.mark.parametrize("meeting", PAIRS)
def test_two_who_meet_at_a_job_come_one_after_the_other(world: World, meeting: Meeting) -> None:
    for order, commits in product(orders_of(2), [(True, True), (True, False), (False, True)]):
        world.race(meeting(world), commits, order)


@pytest.mark.parametrize("meeting", [claim_claim_cancel, finish_rescue_cancel])
def test_three_who_meet_at_a_job_come_one_after_the_other(world: World, meeting: Meeting) -> None:
    for order in orders_of(3):
        world.race(meeting(world), (True, True, True), order)


def test_a_replay_without_its_lock_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_lock_open", dead_letters.get_dead_letter)
    with pytest.raises((Broken, IntegrityError)):
        test_two_who_meet_at_a_job_come_one_after_the_other(world, replay_replay)
    world.is_sound = False
