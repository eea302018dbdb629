"""Valkey as it was a while ago: bells that were heard long since are there again."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from ops.chaos.faults import Scene, fault

_WITHIN_S = 6.0


@fault("F17", "valkey-stale-snapshot", "valkey", (5.0, 15.0))
def come_back_older(scene: Scene) -> Iterator[None]:
    """Valkey dies, and comes back as it was a while ago: bells rise from the dead."""
    server = scene.system.stack.valkey
    snapshot = server.folder / "dump.rdb"
    try:
        bells = _save_with_bells(scene.system.redis, snapshot)
        yield
        server.kill()
    finally:
        server.start()
        with suppress(RedisError):
            scene.fires(bells if scene.system.redis.info("persistence")["rdb_last_load_keys_loaded"] else 0)
        snapshot.unlink(missing_ok=True)  # the next start is of an empty one again


def _save_with_bells(redis: Redis, snapshot: Path) -> int:
    """Bells lie there for moments: saved again and again until some are in it. Answers how many lists of them are."""
    until = time.monotonic() + _WITHIN_S
    redis.config_set("rdbcompression", "no")
    while time.monotonic() < until:
        redis.save()
        if bells := snapshot.read_bytes().count(b"longshore:bells:"):
            return bells
        time.sleep(0.005)
    return 0
