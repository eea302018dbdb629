"""Faults of a primary and its standby: cancelled waits, no standby, failover, the old primary back, spoilt WAL."""

import re
import time
from collections.abc import Iterator
from http.client import ACCEPTED, SERVICE_UNAVAILABLE

from ops.chaos.clients import Client
from ops.chaos.faults import Scene, fault
from ops.chaos.history import Posted
from ops.chaos.standby import LINK, NotInStep, Pair, end
from ops.chaos.wires import Bend
from ops.embedded.postgresql import Postgresql
from ops.embedded.server import ServerDidNotStart

_SEGMENT = 16 * 1024 * 1024
_OURS = "application_name LIKE 'longshore-%%' AND application_name <> 'longshore-chaos'"
_WAITING = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND {_OURS}"  # noqa: S608
_CANCEL = f"SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND {_OURS}"  # noqa: S608
# A command that an operator typed before knows the old address only. What it commits there waits for a standby that
# never comes, and is reported to nobody as done.
_SPEAKERS = f"""
    SELECT string_agg(application_name, ', ') FROM pg_stat_activity
     WHERE {_OURS} AND application_name <> 'longshore-cli'
"""  # noqa: S608
_ROWS = "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM jobs) + (SELECT count(*) FROM attempts)"
#: What a server says of a record that is not what was written.
_REFUSED = re.compile(
    "incorrect resource manager data checksum|incorrect prev-link|invalid resource manager|unexpected"
)


def _pair(scene: Scene) -> Pair:
    if scene.system.pair is None:
        raise RuntimeError("a run without a standby has a fault that needs one")
    return scene.system.pair


def _fail_over(scene: Scene) -> Postgresql:
    """At times the address moves before the standby takes writes. Answers the former primary."""
    pair = _pair(scene)
    lost = pair.lose_primary()
    if scene.dice.random() < 0.5:
        scene.system.follow()
        time.sleep(scene.dice.uniform(0.0, 1.0))
        pair.promote()
    else:
        pair.promote()
        scene.system.follow()
    return lost


@fault("F29", "sync-wait-cancelled", "postgresql", (0.0, 1.0), needs_standby=True)
def cancel_waits(scene: Scene) -> Iterator[None]:
    """Commits that wait for a standby that hears nothing are cancelled; at times it takes over then, without them."""
    pair = _pair(scene)
    scene.system.wires.bend(LINK, Bend(swallow=True))
    until = time.monotonic() + scene.dice.uniform(1.0, 3.0)
    while time.monotonic() < until:
        time.sleep(0.1)
        scene.fires(int(str(pair.ask_primary(_CANCEL))))
    yield
    if scene.dice.random() < 0.5:
        _fail_over(scene)
        scene.system.wires.straighten(LINK)
        pair.renew()
    else:
        scene.system.wires.straighten(LINK)


@fault("F30", "standby-down", "postgresql", (2.0, 6.0), needs_standby=True)
def stop_the_standby(scene: Scene) -> Iterator[None]:
    """The standby is gone for seconds: nothing is accepted, callers are told so in time, and afterwards all goes on."""
    pair = _pair(scene)
    end(pair.standby)
    try:
        posted = Posted(next(one.tenant for one in scene.history.posted), {"PLENTY-0": 1})
        scene.history.begin(posted)  # its outcome is unknown, and will be learned
        client = Client(list(scene.system.ports.values()), scene.dice, scene.history)
        words = ("POST", "/orders", posted.tenant.api_key, posted.body)
        status, _ = client.call(*words, Idempotency_Key=posted.key)
        if status == ACCEPTED:
            scene.history.is_strange(f"key {posted.key} was accepted while no standby was there to have it")
        scene.fires(status == SERVICE_UNAVAILABLE)
        yield
        scene.fires(int(str(pair.ask_primary(_WAITING))))
    finally:
        pair.standby.start()


@fault("F31", "failover", "postgresql", (0.5, 3.0), needs_standby=True)
def lose_the_primary(scene: Scene) -> Iterator[None]:
    """kill -9 of the primary under load, and the standby takes over: all that was acknowledged is there."""
    _fail_over(scene)
    scene.fires()
    yield
    _pair(scene).renew()


@fault("F32", "old-primary-returns", "postgresql", (1.0, 4.0), needs_standby=True)
def bring_the_old_primary_back(scene: Scene) -> Iterator[None]:
    """After a failover the old primary comes up again on its old port: nobody of ours speaks to it."""
    pair = _pair(scene)
    old = _fail_over(scene)
    old.start()
    rows = pair.ask(old, _ROWS)
    scene.fires()
    yield
    speakers = pair.ask(old, _SPEAKERS)
    if speakers or pair.ask(old, _ROWS) != rows:
        scene.history.is_strange(f"the old primary came back, and was spoken to by {speakers or 'somebody'}")
    pair.renew()


@fault("F43", "standby-wal-corrupt", "postgresql", (1.0, 3.0), needs_standby=True)
def spoil_what_it_has_yet_to_replay(scene: Scene) -> Iterator[None]:
    """A bit of what the standby has yet to replay is another: it refuses that, and gets it again or is made anew."""
    pair = _pair(scene)
    standby = pair.standby
    pair.ask(standby, "SELECT pg_wal_replay_pause()")
    time.sleep(scene.dice.uniform(0.5, 1.0))
    replayed = _number(pair.ask(standby, "SELECT pg_last_wal_replay_lsn()"))
    received = _number(pair.ask(standby, "SELECT pg_last_wal_receive_lsn()"))
    end(standby)
    said = len(standby.log.read_text(errors="replace"))
    if received > replayed > 0:
        _flip(standby, scene.dice.randrange(replayed, received), scene.dice.randrange(8))
    try:
        standby.start()
    except ServerDidNotStart:
        scene.fires()
    yield
    try:
        pair.wait_until_in_step(10.0)
    except NotInStep:
        pair.renew()
    scene.fires(bool(_REFUSED.search(standby.log.read_text(errors="replace")[said:])))


def _number(lsn: object) -> int:
    """Where in the log `16/B374D848` is, in bytes; 0 when the standby has none yet."""
    high, low = str(lsn or "0/0").split("/")
    return (int(high, 16) << 32) + int(low, 16)


def _flip(standby: Postgresql, place: int, bit: int) -> None:
    timeline = max(path.name[:8] for path in (standby.folder / "pg_wal").glob("[0-9A-F]" * 24))
    name = f"{timeline}{place >> 32:08X}{(place & 0xFFFFFFFF) // _SEGMENT:08X}"
    with (standby.folder / "pg_wal" / name).open("r+b") as log:
        log.seek(place % _SEGMENT)
        (byte,) = log.read(1)
        log.seek(place % _SEGMENT)
        log.write(bytes([byte ^ (1 << bit)]))
