"""noop: durable no-op jobs per second, beside the job systems that a Python user would otherwise choose.

Every queue is full before its workers start; first to last start is the rate. Repeats go round the systems, so that a
noisy moment of the machine hits all alike.
"""

from collections.abc import Sequence

from ops.bench import ours
from ops.bench.cost import Others
from ops.bench.figure import Figure, Goal, Run, Value
from ops.bench.fleet import BenchFailed
from ops.bench.ours import Cost, Drain
from ops.bench.peer_catalogue import CATALOGUE, FASTEST, FLOOR, Peer
from ops.bench.peer_environments import NotInstalled, programs_of, version_of
from ops.bench.peer_process import peer_processes
from ops.bench.sink import drained
from ops.bench.spread import Spread, spread
from ops.telemetry import VERSION

TIMES_THE_FLOOR = 8.0
_SETTING = f"relay, 2 processes x {ours.THREADS} threads"
_DURABILITY = "PostgreSQL, synchronous_commit=on"
_DRAIN_WITHIN_S = 240.0


def noop(run: Run) -> Figure:
    """Ours and the peers', medians of the repeats."""
    peers = CATALOGUE if run.peers else ()
    own: list[tuple[Drain, Cost]] = []
    theirs: dict[str, list[Drain]] = {peer.name: [] for peer in peers}
    absent: dict[str, str] = {}
    for repeat in range(1, run.repeats + 1):
        run.say(f"noop {repeat}/{run.repeats}: longshore")
        own.append(ours.measure(run.jobs))
        for peer in peers:
            if peer.name not in absent:
                run.say(f"noop {repeat}/{run.repeats}: {peer.name}")
                try:
                    theirs[peer.name].append(drain_peer(peer, run))
                except (NotInstalled, BenchFailed) as error:
                    absent[peer.name] = str(error)
    rows = [_own_row(run, own), *(_row(peer, run, theirs[peer.name], absent.get(peer.name)) for peer in peers)]
    goals = [goal for name, times in ((FLOOR, TIMES_THE_FLOOR), (FASTEST, 1.0)) for goal in _goals(name, times, rows)]
    return Figure(
        "noop", "Durable no-op jobs per second", rows, goals, [*_notes(own), *absent.values()], chart="jobs/s"
    )


def drain_peer(peer: Peer, run: Run) -> Drain:
    """One repeat of one peer on fresh servers. Raises NotInstalled, BenchFailed."""
    jobs = min(run.jobs, peer.most_jobs)
    with peer_processes(peer, programs_of(peer.app, run.say)) as running:
        running.fill(jobs)
        running.start()
        others = Others()
        seen = running.sink.wait_for(jobs, _DRAIN_WITHIN_S)
        if seen < jobs:
            raise BenchFailed(f"{peer.name}: {seen} of {jobs} jobs ran. {running.last_words()}")
        settled_at, share = running.wait_settled(jobs), others.share()
        ran = drained(running.sink.marks(), jobs)
    if ran.lost:
        raise BenchFailed(f"{peer.name} lost {ran.lost} of {jobs} jobs")
    return Drain(ran, jobs / (settled_at - ran.first) if settled_at else 0.0, share)


def _own_row(run: Run, own: Sequence[tuple[Drain, Cost]]) -> dict[str, Value]:
    drains = [drain for drain, _ in own]
    return {
        "system": "longshore",
        "version": VERSION,
        **_measured(run.jobs, drains, is_kept=True),
        "kept": "state and attempt, fsync",
        "CPU us/job": spread([cost.total_us for _, cost in own]),
        "durability": _DURABILITY,
        "setting": _SETTING,
    }


def _row(peer: Peer, run: Run, drains: Sequence[Drain], absent: str | None) -> dict[str, Value]:
    shown: dict[str, Value] = {"system": peer.name, "version": version_of(peer.app)}
    if absent is not None:
        return {**shown, "jobs": "not measured"}
    kept = peer.ended is not None
    shown |= _measured(min(run.jobs, peer.most_jobs), drains, kept)
    return {**shown, "kept": peer.kept, "durability": peer.durability, "setting": peer.setting}


def _measured(jobs: int, drains: Sequence[Drain], is_kept: bool) -> dict[str, Value]:
    return {
        "jobs": float(jobs),
        "jobs/s": spread([drain.ran.jobs_per_s for drain in drains]),
        "settled/s": spread([drain.settled_per_s for drain in drains]) if is_kept else None,
        "lost": float(sum(drain.ran.lost for drain in drains)),
        "twice": float(sum(drain.ran.twice for drain in drains)),
        "others %": spread([drain.others * 100 for drain in drains]),
    }


def _goals(name: str, times: float, rows: Sequence[dict[str, Value]]) -> list[Goal]:
    rates = {str(row["system"]): row.get("jobs/s") for row in rows}
    own, other = rates["longshore"], rates.get(name)
    if not isinstance(own, Spread) or not isinstance(other, Spread):
        return []  # a peer that was not measured is named in the table
    return [Goal(f"jobs per second, times those of {name}", own.median / other.median, times)]


def _notes(own: Sequence[tuple[Drain, Cost]]) -> list[str]:
    middle = sorted((cost for _, cost in own), key=lambda cost: cost.total_us)[len(own) // 2]
    split = ", ".join(f"{name} {cost:.1f}" for name, cost in middle.by_process_us.items())
    return [f"CPU us per job, processes warm ({middle.jobs_per_s:,.0f} jobs/s): {split}; in all {middle.total_us:.1f}"]
