"""Which faults strike when: all of it from the seed, so that a run can be told by one number. Pure."""

import random
from collections.abc import Sequence

import msgspec

#: So many faults may stand at once, if they touch different things.
MOST_AT_ONCE = 3
_PAUSES_S = (0.3, 2.5)


class Planned(msgspec.Struct, frozen=True):
    """One fault's turn: seconds from the start of the load, and how long until it is healed."""

    name: str
    at_s: float
    lasts_s: float

    @property
    def ends_s(self) -> float:
        return self.at_s + self.lasts_s


class Choice(msgspec.Struct, frozen=True):
    """What the plan knows of a fault."""

    name: str
    touches: str
    seconds: tuple[float, float]


def plan_of(seed: int, seconds: float, choices: Sequence[Choice]) -> list[Planned]:
    """Faults from the start to the end of so many seconds; each is healed by then. No two touch the same thing at once.

    Every fault is drawn once before any is drawn again, so that a long run has met them all.
    """
    dice = random.Random(f"plan {seed}")  # noqa: S311  # faults, not secrets
    planned: list[tuple[Planned, str]] = []
    deck: list[Choice] = []
    now = 1.0
    while now < seconds:
        deck = deck or dice.sample(choices, len(choices))
        standing = {touches for one, touches in planned if one.ends_s > now}
        fitting = [choice for choice in deck if choice.touches not in standing]
        if fitting and len(standing) < MOST_AT_ONCE:
            choice = fitting[0]
            deck.remove(choice)
            lasts_s = dice.uniform(*choice.seconds)
            if now + lasts_s <= seconds:
                planned.append((Planned(choice.name, round(now, 2), round(lasts_s, 2)), choice.touches))
        now += dice.uniform(*_PAUSES_S)
    return [one for one, _ in planned]
