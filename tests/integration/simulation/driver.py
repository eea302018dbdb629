"""A seeded search: worlds of many jobs, whose lives cross in every way that the dice think of."""

import random

from tests.integration.simulation.sessions import orders_of
from tests.integration.simulation.world import Engines, Wish, World

ACTS = ("claim", "finish", "rescue", "cancel", "resolve", "hurry", "renew")
#: Those that move whole bundles come more often than those that people do.
_WEIGHTS = (8, 8, 3, 1, 2, 1, 3)
_ORDERS = {sessions: list(orders_of(sessions)) for sessions in (2, 3)}


def drive(engines: Engines, dice: random.Random, *, jobs: int, rounds: int) -> tuple[int, int]:
    """One world from its first job to its last end. Answers how many jobs lived, and how often one was acted on."""
    world = World(engines)
    try:
        for _ in range(4):
            world.enqueue(jobs // 4, allowance=dice.randint(1, 4), later=dice.random() < 0.2)
        for _ in range(rounds):
            if dice.random() < 0.3:
                _race(world, dice, jobs)
            else:
                world.do(world.act_of(_wish(dice, jobs)))
        world.wind_up()
    finally:
        world.close()
    return world.lives, world.acts


def _race(world: World, dice: random.Random, jobs: int) -> None:
    sessions = dice.choice((2, 2, 3))
    acts = [world.act_of(_wish(dice, jobs)) for _ in range(sessions)]
    world.race(acts, [dice.random() < 0.8 for _ in acts], dice.choice(_ORDERS[sessions]))


def _wish(dice: random.Random, jobs: int) -> Wish:
    (act,) = dice.choices(ACTS, _WEIGHTS)
    return Wish(act, dice.randrange(jobs), dice.randint(1, jobs), dice.randrange(12))
