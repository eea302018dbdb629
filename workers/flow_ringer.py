"""Rings the rows without a lane: whose turn it is, how many there is room for, and the bells."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from uuid import UUID

from redis import Redis
from sqlalchemy import Connection

from domain.jobs.controls import stored_in_flight
from domain.jobs.due import FlowKey, due_rows, new_flows, standing
from domain.jobs.relay_bell import Hint
from workers.broker import HIGH_WATER_BELLS, bell, bell_list, bells_waiting
from workers.bundle_rules import bundles_of, most_in_bundle, run_together
from workers.flows import LOST_AFTER_S, MOST_EMPTY, REMEMBER_EMPTY_S, Flow, Waiting, Window, evenly
from workers.limits import Limits
from workers.tally import count_rings

#: Flows read in one pass; the others have their turn in the next.
FLOWS_PER_PASS = 64

#: A queue and a kind in it.
Kind = tuple[str, str]

_seen_at = attrgetter("seen_at")
_served_at = attrgetter("served_at")


def _rung(waiting: Waiting) -> int:
    return len(waiting.flow.rung)


class FlowRinger:
    """Lives as long as its process leads: what it remembers of the rings is right for nobody else."""

    def __init__(self, connection: Connection, redis: Redis) -> None:
        self._connection, self._redis = connection, redis
        self._flows: dict[FlowKey, Flow] = {}
        self._windows: dict[Kind, Window] = {}
        #: After a pass: more could be rung than there was room for.
        self.is_behind = False
        #: After such a pass: a window grew, because the workers had nearly emptied it.
        self.is_growing = False

    def ring(self, limits: Limits) -> list[str]:
        """One pass over the flows whose turn it is, those first that are known already. Answers the ids it rang."""
        self.is_behind = self.is_growing = False
        rung = self._ring_flows(self._whose_turn(limits), limits)
        if new := self._find_new_flows():
            rung += self._ring_flows(self._open(new, limits), limits)
        return rung

    def ring_hinted(self, hint: Hint, limits: Limits) -> list[str]:
        """The jobs of the hint, if nobody could be before them: their flow was empty, and no limit may stand."""
        flow = self._flows.get(FlowKey(hint.queue, hint.kind, hint.tenant_id))
        if flow is None or flow.had_rows or flow.rung or not limits.is_open(flow.key):
            return []
        ids = [str(job_id) for job_id in hint.job_ids]
        return self._ring(self._redis, (hint.queue, hint.kind), [Waiting(flow, ids, [])], limits)

    def _ring_flows(self, turn: Mapping[Kind, Sequence[Flow]], limits: Limits) -> list[str]:
        picks = self._pick(turn, limits)
        full = self._full_queues({queue for queue, _ in picks})
        picks = {kind: mates for kind, mates in picks.items() if kind[0] not in full}
        if not picks:
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            rung = [job_id for kind, mates in picks.items() for job_id in self._ring(pipe, kind, mates, limits)]
            pipe.execute()
        return rung

    def _full_queues(self, queues: set[str]) -> set[str]:
        """Asked only about queues with bells that may still lie there: an idle system shall not wait for the answer."""
        doubtful = queues & {flow.key.queue for flow in self._flows.values() if flow.rung}
        depths = bells_waiting(self._redis, doubtful) if doubtful else {}
        return {queue for queue, depth in depths.items() if depth >= HIGH_WATER_BELLS}

    def _find_new_flows(self) -> list[Flow]:
        now = time.monotonic()
        empty = sorted((flow for flow in self._flows.values() if flow.seen_at < flow.served_at), key=_seen_at)
        for left, flow in zip(range(len(empty), 0, -1), empty, strict=True):
            if left > MOST_EMPTY or now - flow.seen_at > REMEMBER_EMPTY_S:
                del self._flows[flow.key]
        new = [Flow(key, now) for key in new_flows(self._connection, self._flows, FLOWS_PER_PASS)]
        self._flows |= {flow.key: flow for flow in new}
        return new

    def _whose_turn(self, limits: Limits) -> dict[Kind, list[Flow]]:
        """Those that waited longest for their turn, of all that may be rung, by queue and kind."""
        return self._open(sorted(self._flows.values(), key=_served_at), limits)

    def _open(self, flows: Sequence[Flow], limits: Limits) -> dict[Kind, list[Flow]]:
        open_ = [flow for flow in flows if not limits.is_paused(flow.key)]
        turn: dict[Kind, list[Flow]] = {}
        for flow in open_[:FLOWS_PER_PASS]:
            turn.setdefault((flow.key.queue, flow.key.kind), []).append(flow)
        return turn

    def _pick(self, turn: Mapping[Kind, Sequence[Flow]], limits: Limits) -> dict[Kind, list[Waiting]]:
        """Who rings now. Tenants share the room of a kind evenly; who gets none of it is the first in the next pass."""
        waiting = self._read(turn)
        self._look_for_unseen(turn, limits)
        unclaimed: Counter[Kind] = Counter()
        for flow in self._flows.values():
            unclaimed[flow.key.queue, flow.key.kind] += len(flow.rung)
        if limits.are_capped:
            limits.count(self._in_flight())
        picks = {}
        for kind, mates in waiting.items():
            mates.sort(key=_rung)  # room that is too small for all goes to who has least in Redis
            window, now = self._window(kind), time.monotonic()
            self.is_growing |= window.adapt(unclaimed[kind], max(mate.flow.longest_wait_s(now) for mate in mates), now)
            given = evenly(window.size - unclaimed[kind], [len(mate) for mate in mates])
            given = [limits.allow(mate.flow.key, count) for mate, count in zip(mates, given, strict=True)]
            if sum(given) < sum(len(mate) for mate in mates):
                window.note_full()
                self.is_behind = True
            if any(given):
                picks[kind] = [mate.first(count) for mate, count in zip(mates, given, strict=True) if count]
        return picks

    def _read(self, turn: Mapping[Kind, Sequence[Flow]]) -> dict[Kind, list[Waiting]]:
        flows = [flow for mates in turn.values() for flow in mates]
        limits = [self._limit(kind, flow, mates) for kind, mates in turn.items() for flow in mates]
        now = time.monotonic()
        starts = [flow.start_of_scan(now) for flow in flows]
        empty = self._emptied({flow.key.queue for flow in flows if flow.longest_wait_s(now) >= LOST_AFTER_S})
        rows = due_rows(self._connection, [flow.key for flow in flows], starts, limits)
        now = time.monotonic()
        waiting: dict[Kind, list[Waiting]] = {}
        for flow, read in zip(flows, rows, strict=True):
            waiting.setdefault((flow.key.queue, flow.key.kind), []).append(
                flow.read(read, now, list_is_empty=flow.key.queue in empty)
            )
        return waiting

    def _emptied(self, queues: set[str]) -> set[str]:
        depths = bells_waiting(self._redis, queues) if queues else {}
        return {queue for queue, depth in depths.items() if not depth}

    def _look_for_unseen(self, turn: Mapping[Kind, Sequence[Flow]], limits: Limits) -> None:
        """A cap counts those too that were rung and now stand behind more urgent ones than were read."""
        flows = [flow for mates in turn.values() for flow in mates if flow.unseen and limits.is_capped(flow.key)]
        found = set(standing(self._connection, [job_id for flow in flows for job_id in flow.unseen]))
        for flow in flows:
            flow.note_standing(found & flow.unseen.keys(), time.monotonic())

    def _limit(self, kind: Kind, flow: Flow, mates: Sequence[Flow]) -> int:
        """How many rows to read: what is rung already, or what there may be room for. A lone flow may fill a window."""
        busy = sum(mate.had_rows for mate in mates)
        return max(len(flow.rung), self._window(kind).next_size // max(1, busy)) + 1

    def _window(self, kind: Kind) -> Window:
        if kind not in self._windows:
            self._windows[kind] = Window(most_in_bundle(kind[1]), together=run_together(kind[1]))
        return self._windows[kind]

    def _in_flight(self) -> Counter[tuple[str, str, UUID]]:
        """Counted after the rows were read: whoever was claimed in between counts twice, never not at all."""
        in_flight = Counter(stored_in_flight(self._connection))
        for key, flow in self._flows.items():
            in_flight[key.queue, key.kind, key.tenant_id] += len(flow.rung)
        return in_flight

    def _ring(self, pipe: Redis, kind: Kind, mates: Sequence[Waiting], limits: Limits) -> list[str]:
        queue, name = kind
        # Who has least to ring goes first: a single job of one tenant does not stand behind a hundred of another.
        mates = sorted(mates, key=len)
        together = [job_id for mate in mates for job_id in mate.together]
        alone = [job_id for mate in mates for job_id in mate.alone]
        for bundle in bundles_of(together, alone, self._window(kind).bundle):
            pipe.rpush(bell_list(queue), bell(queue, name, bundle))
        now = time.monotonic()
        again = sum(
            mate.flow.note_rung(mate.together, now) + mate.flow.note_rung(mate.alone, now, alone=True) for mate in mates
        )
        rung = together + alone
        limits.note_started(name, len(rung))
        count_rings(queue, len(rung) - again, again)
        return rung
