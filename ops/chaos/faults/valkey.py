"""Faults of Valkey: emptied, killed, frozen, full, read-only, forged. It holds no truth: all they may cost is time."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import ACCEPTED
from uuid import uuid4

from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ops.chaos.clients import Client
from ops.chaos.faults import Scene, fault
from ops.chaos.history import EMPTIED_AT_WORK, Posted
from workers.broker import bell, bell_list

_ORDERS, _BETWEEN_S, _WELL_FOR_S = 3, 0.6, 5.0
#: What touches these is not felt by whoever posts an order.
_NO_MATTER = {"valkey", "relay", "rescuer", "scheduler", "worker", "outside"}

_RUNNING = text("SELECT count(*) FROM jobs WHERE state = 'running'")
_SOME_JOBS = text("SELECT id FROM jobs ORDER BY id DESC LIMIT 200")


@fault("F15", "flushall", "valkey")
def empty(scene: Scene) -> Iterator[None]:
    """FLUSHALL with bells waiting and jobs running."""
    with suppress(RedisError, DBAPIError), scene.system.engine.connect() as connection:
        running = connection.execute(_RUNNING).scalar_one()
        scene.system.redis.flushall()
        scene.fires()
        scene.history.meets(EMPTIED_AT_WORK, running > 0)
    yield


@fault("F16", "valkey-kill9", "valkey", (0.5, 5.0))
def kill(scene: Scene) -> Iterator[None]:
    """kill -9 of Valkey, and an empty one in its place."""
    scene.system.stack.valkey.kill()
    scene.fires()
    try:
        yield from _orders_are_taken(scene)
    finally:
        scene.system.stack.valkey.start()


@fault("F18", "valkey-stop", "valkey", (3.0, 8.0))
def freeze(scene: Scene) -> Iterator[None]:
    """SIGSTOP of Valkey: connections stand, nothing answers."""
    if (pid := scene.system.stack.valkey.pid) is None:
        return (yield)
    os.kill(pid, signal.SIGSTOP)
    scene.fires()
    try:
        yield from _orders_are_taken(scene)
    finally:
        os.kill(pid, signal.SIGCONT)
    return None


@fault("F19", "valkey-full", "valkey", (3.0, 8.0))
def fill(scene: Scene) -> Iterator[None]:
    """No memory left: every write is refused."""
    yield from _configured(scene, "maxmemory", "1", "512mb")


@fault("F20", "valkey-evicts", "valkey", (3.0, 8.0))
def evict(scene: Scene) -> Iterator[None]:
    """Little memory, and a policy that throws bells away."""
    with suppress(RedisError):
        scene.system.redis.config_set("maxmemory-policy", "allkeys-random")
    try:
        yield from _configured(scene, "maxmemory", "1mb", "512mb")
    finally:
        with suppress(RedisError):
            scene.system.redis.config_set("maxmemory-policy", "noeviction")


@fault("F21", "valkey-read-only", "valkey", (3.0, 8.0))
def make_a_replica(scene: Scene) -> Iterator[None]:
    """Valkey becomes the replica of a dead host: READONLY to every write."""
    with suppress(RedisError):
        scene.system.redis.replicaof("127.0.0.1", 1)
        scene.fires()
    try:
        yield from _orders_are_taken(scene)
    finally:
        with suppress(RedisError):
            scene.system.redis.replicaof("NO", "ONE")


@fault("F23", "garbage-bells", "valkey")
def push_garbage(scene: Scene) -> Iterator[None]:
    """Bells that nobody can read, among those that somebody must."""
    with suppress(RedisError):
        for queue in ("inventory", "email", "webhooks", "chaos"):
            junk = [b"", b"\xff\x00", b"{}", b"[" * 5_000, scene.dice.randbytes(200)]
            scene.system.redis.lpush(bell_list(queue), *junk)
            scene.fires(len(junk))
    yield


@fault("F24", "forged-bells", "valkey")
def forge(scene: Scene) -> Iterator[None]:
    """Bells for jobs that are done, running, of others, or nobody's, in any queue."""
    with scene.system.engine.connect() as connection:
        ids = [str(job_id) for job_id in connection.execute(_SOME_JOBS).scalars()]
    ids += [str(uuid4()) for _ in range(200)]
    with suppress(RedisError):
        for queue in ("inventory", "email", "webhooks", "reports"):
            for _ in range(25):
                forged = bell(queue, "inventory.reserve", scene.dice.sample(ids, 10))
                scene.system.redis.lpush(bell_list(queue), forged)
                scene.fires()
    yield


def _configured(scene: Scene, name: str, value: str, back: str) -> Iterator[None]:
    with suppress(RedisError):
        scene.system.redis.config_set(name, value)
        scene.fires()
    try:
        yield from _orders_are_taken(scene)
    finally:
        with suppress(RedisError):
            scene.system.redis.config_set(name, back)


def _orders_are_taken(scene: Scene) -> Iterator[None]:
    """While this stands, and nothing else is in the way: of three orders, one at least is taken.

    Whoever was taken a moment before shows that the APIs are well; one order that is not, or has no answer, may be the
    haste of this machine.
    """
    posted = [Posted(scene.history.posted[0].tenant, {"PLENTY-0": 1}) for _ in range(_ORDERS)]
    accepted_at = max((one.accepted_at for one in scene.history.accepted()[-50:]), default=0.0)
    client = Client(list(scene.system.ports.values()), scene.dice, scene.history)
    was_well = time.monotonic() - accepted_at < _WELL_FOR_S
    statuses = []
    for one in posted:
        time.sleep(_BETWEEN_S)
        scene.history.begin(one)  # its outcome is unknown, and will be learned
        statuses.append(client.call("POST", "/orders", one.tenant.api_key, one.body, Idempotency_Key=one.key)[0])
    client.close()
    others = scene.others_felt(_NO_MATTER)
    if ACCEPTED not in statuses and was_well and not others:
        scene.history.breaks(
            "orders are taken without Valkey", f"at {scene.turn.name}, orders were answered {statuses}"
        )
    yield
