"""The record of which fault stood when: it excuses what a fault may have done, and nothing else."""

import time

from ops.chaos.stage import FELT_FOR_S, Stage

NOW = time.time()


def stage() -> Stage:
    made = Stage()
    for name, touches, since, until in (("flushall", "valkey", 20.0, 21.0), ("api-kill9", "web", 40.0, 42.0)):
        with made.standing(name, touches) as turn:
            pass
        turn.since, turn.until = NOW + since, NOW + until
    return made


def test_a_fault_is_felt_while_it_stands_and_a_while_after() -> None:
    for since, until, felt in (
        (0.0, 19.9, []),
        (0.0, 20.1, ["flushall"]),
        (21.0 + FELT_FOR_S - 0.1, 39.0, ["flushall"]),
        (21.0 + FELT_FOR_S, 39.0, []),
        (25.0, 41.0, ["flushall", "api-kill9"]),
        (42.0 + FELT_FOR_S, 99.0, []),
    ):
        assert stage().felt(NOW + since, NOW + until) == felt


def test_what_touches_nothing_that_matters_is_not_felt() -> None:
    assert stage().felt(NOW, harmless={"valkey"}) == ["api-kill9"]


def test_what_still_stands_is_felt() -> None:
    made = Stage()
    with made.standing("slow-link", "links"):
        assert made.felt(time.time() + 1_000) == ["slow-link"]
    assert made.felt(time.time() + 1_000) == []
