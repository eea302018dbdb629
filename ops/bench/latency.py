"""latency: from the commit of a job to its start, on an idle system and at half of what the system can do.

Idle: one job each 20 ms, the same series for every system. A job carries the moment just before its enqueue call, so
the call itself can be counted in; what is promised counts from the commit.
"""

import time
from collections.abc import Mapping, Sequence

import msgspec

from domain.jobs.outbox import enqueue, new_job
from domain.jobs.relay_bell import hint_of
from ops.bench import ours
from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed, Fleet, fleet
from ops.bench.handlers import Noop
from ops.bench.peer_catalogue import CATALOGUE, Peer
from ops.bench.peer_environments import NotInstalled, programs_of, version_of
from ops.bench.peer_process import peer_processes
from ops.bench.series import Waits, waits
from ops.bench.sink import Mark
from ops.bench.spread import Spread, percentile, spread
from ops.telemetry import VERSION
from workers.broker import ring_relay

SERIES_JOBS, QUICK_SERIES_JOBS, GAP_S = 300, 100, 0.02
WARM_UP_JOBS = 200
#: After this a system that backs off while idle has begun to.
REST_S = 1.5
HALF_LOAD_S, QUICK_HALF_LOAD_S, COMMIT_EVERY_S = 10.0, 3.0, 0.01
P50_MS, P99_MS, HALF_LOAD_P99_MS = 3.0, 15.0, 100.0


class HalfLoad(msgspec.Struct, frozen=True):
    """Milliseconds from commit to start of each job at so many jobs per second."""

    jobs_per_s: float
    from_commit: list[float]


def latency(run: Run) -> Figure:
    """Ours and the peers', medians of the repeats."""
    peers = CATALOGUE if run.peers else ()
    own, loaded = list[Waits](), list[HalfLoad]()
    theirs: dict[str, list[Waits]] = {peer.name: [] for peer in peers}
    absent: dict[str, str] = {}
    for repeat in range(1, run.repeats + 1):
        run.say(f"latency {repeat}/{run.repeats}: longshore")
        idle, half = _own(run)
        own.append(idle)
        loaded.append(half)
        for peer in peers:
            if peer.name not in absent:
                run.say(f"latency {repeat}/{run.repeats}: {peer.name}")
                try:
                    theirs[peer.name].append(_of_peer(peer, run))
                except (NotInstalled, BenchFailed) as error:
                    absent[peer.name] = str(error)
    rows: list[dict[str, Value]] = [{"system": "longshore", "version": VERSION, **_shown(own, is_durable=True)}]
    rows += [_row(peer, theirs[peer.name], absent) for peer in peers]
    return Figure(
        "latency", "Enqueue to start, ms", rows, _goals(own, loaded, theirs), [*_notes(loaded), *absent.values()]
    )


def _own(run: Run) -> tuple[Waits, HalfLoad]:
    with fleet() as running:
        most = ours.drain_cold(running, run.jobs).ran.jobs_per_s
        ours.wait_until_idle(running)
        running.sink.clear()
        time.sleep(REST_S)
        sent = _series(running, _jobs(run))
        idle = waits(sent, _all_started(running, len(sent)))
        running.sink.clear()
        half = _half_load(running, most / 2, QUICK_HALF_LOAD_S if run.quick else HALF_LOAD_S)
        return idle, half


def _jobs(run: Run) -> int:
    return QUICK_SERIES_JOBS if run.quick else SERIES_JOBS


def _series(running: Fleet, jobs: int) -> list[tuple[float, float]]:
    sent, started = [], time.monotonic()
    for number in range(jobs):
        time.sleep(max(0.0, started + number * GAP_S - time.monotonic()))
        sent.append(_enqueue(running, 1))
    return sent


def _half_load(running: Fleet, jobs_per_s: float, seconds: float) -> HalfLoad:
    """Offered on time, whatever becomes of it: a system that falls behind shows it as latency."""
    each = max(1, round(jobs_per_s * COMMIT_EVERY_S))
    sent, started = [], time.monotonic()
    for number in range(round(seconds / COMMIT_EVERY_S)):
        time.sleep(max(0.0, started + number * COMMIT_EVERY_S - time.monotonic()))
        sent.append(_enqueue(running, each))
    offered = each * len(sent) / (time.monotonic() - started)
    return HalfLoad(offered, waits(sent, _all_started(running, each * len(sent))).from_return)


def _enqueue(running: Fleet, count: int) -> tuple[float, float]:
    """So many jobs in one transaction, the relay woken as the API does it: the moments before, and at the commit."""
    before = time.monotonic()
    jobs = [new_job(Noop(before), tenant_id=running.tenant_id) for _ in range(count)]
    with running.commits.connect() as connection:  # one statement, one commit, as the peers' calls are
        enqueue(connection, jobs)
    committed = time.monotonic()
    ring_relay(running.redis, hint_of(jobs))
    return before, committed


def _all_started(running: Fleet, jobs: int) -> Sequence[Mark]:
    if (seen := running.sink.wait_for(jobs, 60.0)) < jobs:
        raise BenchFailed(f"{seen} of {jobs} jobs started")
    return running.sink.marks()


def _of_peer(peer: Peer, run: Run) -> Waits:
    jobs = _jobs(run)
    with peer_processes(peer, programs_of(peer.app, run.say)) as running:
        running.fill(WARM_UP_JOBS)
        running.start()
        running.sink.wait_for(WARM_UP_JOBS, 60.0)
        time.sleep(REST_S)
        running.sink.clear()
        sent = running.series(jobs, GAP_S)
        if (seen := running.sink.wait_for(jobs, 60.0)) < jobs:
            raise BenchFailed(f"{peer.name}: {seen} of {jobs} jobs started")
        return waits(sent, running.sink.marks())


def _row(peer: Peer, measured: Sequence[Waits], absent: Mapping[str, str]) -> dict[str, Value]:
    shown: dict[str, Value] = {"system": peer.name, "version": version_of(peer.app)}
    if peer.name in absent:
        return {**shown, "p50": "not measured"}
    return {**shown, **_shown(measured, peer.is_transactional), "setting": peer.setting}


def _shown(measured: Sequence[Waits], is_durable: bool) -> dict[str, Value]:
    shown: dict[str, Value] = {
        "p50": _spread([one.from_call for one in measured], 50),
        "p99": _spread([one.from_call for one in measured], 99),
        "commit to start p50": _spread([one.from_return for one in measured], 50) if is_durable else None,
        "commit to start p99": _spread([one.from_return for one in measured], 99) if is_durable else None,
    }
    return shown


def _spread(series: Sequence[Sequence[float]], percent: float) -> Spread:
    return spread([percentile(values, percent) for values in series])


def _goals(own: Sequence[Waits], loaded: Sequence[HalfLoad], theirs: Mapping[str, Sequence[Waits]]) -> list[Goal]:
    from_commit = [one.from_return for one in own]
    half = _spread([one.from_commit for one in loaded], 99)
    goals = [
        Goal("commit to start, idle, p50 in ms", _spread(from_commit, 50).median, P50_MS, at_most=True),
        Goal("commit to start, idle, p99 in ms", _spread(from_commit, 99).median, P99_MS, at_most=True),
        Goal("commit to start at half of the maximum load, p99 in ms", half.median, HALF_LOAD_P99_MS, at_most=True),
    ]
    rivals = [
        _spread([one.from_call for one in theirs[peer.name]], 50).median
        for peer in CATALOGUE
        if peer.is_transactional and theirs.get(peer.name)
    ]
    if rivals:
        ratio = _spread([one.from_call for one in own], 50).median / min(rivals)
        goals.append(Goal("p50 from the call, times that of the fastest transactional peer", ratio, 1.0, at_most=True))
    return goals


def _notes(loaded: Sequence[HalfLoad]) -> list[str]:
    offered = spread([half.jobs_per_s for half in loaded]).median
    p50 = _spread([half.from_commit for half in loaded], 50).median
    return [f"Half load: {offered:,.0f} jobs/s offered, one commit each 10 ms, p50 {p50:.1f} ms from commit to start."]
