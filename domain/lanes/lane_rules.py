"""What deliveries tell about an outside dependency, and what that means for its lane. Pure.

A lane that keeps failing, or asks for a pause, is parked: its jobs wait without being tried. Once its time is up, one
probe at a time finds out whether it is back. A slow lane keeps less room, so that it never holds the workers of the
healthy ones.
"""

from datetime import datetime, timedelta

import msgspec

FULL_ROOM = 32
SLOW_ROOM = 4
SLOW_MS = 2_000
FAILURES_TO_PARK = 5
FIRST_PARK_S = 5.0
LONGEST_PARK_S = 300.0
_WEIGHT = 0.2


class Lane(msgspec.Struct, frozen=True):
    """The state of one dependency. `latency_ms` is an exponentially weighted mean, `failures` counts those in a row."""

    state: str = "healthy"
    parked_until: datetime | None = None
    failures: int = 0
    latency_ms: int = 0


class Observation(msgspec.Struct, frozen=True):
    """One job of the lane ended. `ok` None: it tells nothing of the dependency. `park_s`: what it asked for."""

    ok: bool | None
    latency_ms: int | None = None
    park_s: float | None = None
    down: bool = False


def observed(lane: Lane, seen: Observation, now: datetime) -> Lane:
    """The lane after this observation. A disabled lane stays disabled: only its owner opens it again."""
    if lane.state == "disabled" or (seen.ok is None and seen.park_s is None and not seen.down):
        return lane
    latency_ms = lane.latency_ms if seen.latency_ms is None else _mean(lane.latency_ms, seen.latency_ms)
    # Nothing is tried before its time: who ends until then was under way, and neither prolongs the wait nor ends it.
    is_known = lane.parked_until is not None and now < lane.parked_until
    failures = 0 if seen.ok else lane.failures + (not is_known)
    if seen.park_s is not None:
        asked = now + timedelta(seconds=seen.park_s)
        return Lane("parked", max(asked, lane.parked_until or asked), failures, latency_ms)
    is_away = seen.down or failures >= FAILURES_TO_PARK
    if lane.state == "parked" and (is_known or not (seen.ok or is_away)):
        return Lane("parked", lane.parked_until, failures, latency_ms)
    if is_away:
        return Lane("parked", now + timedelta(seconds=park_s(failures)), failures, latency_ms)
    return Lane("slow" if latency_ms > SLOW_MS else "healthy", None, failures, latency_ms)


def park_s(failures: int) -> float:
    """How long a lane is parked after so many failures in a row: doubling from 5 s to 5 min."""
    return min(LONGEST_PARK_S, FIRST_PARK_S * 2.0 ** min(max(failures - FAILURES_TO_PARK, 0), 30))


def room_of(state: str, full_room: int = FULL_ROOM) -> int:
    """How many jobs of a lane in this state may be in flight."""
    return SLOW_ROOM if state == "slow" else full_room


def _mean(before_ms: int, now_ms: int) -> int:
    return now_ms if before_ms == 0 else round(before_ms * (1 - _WEIGHT) + now_ms * _WEIGHT)
