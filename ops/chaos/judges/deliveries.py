"""Deliveries, as their subscribers noted them: as few as can be, no sooner than asked, none called off by itself."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from ops.chaos.history import History
from ops.chaos.judges import judge, leeway
from ops.chaos.judges.webhooks import event_of
from ops.chaos.observe import Seen
from ops.chaos.outside import RETRY_AFTER_S, Delivery

#: Where a subscriber may have answered, and nobody heard it.
_UNHEARD = {"swizzle", "links-cut", "memory"}
_LATER_S = 2.0
#: Where who heard of a time to wait may not have lived to tell it, or time itself was not what it was.
_FORGOTTEN = {"worker", "links", "postgresql", "clocks", "deploy"}
_LEASE_S = 10.0
_EARLY_S = 0.5

#: A path, and what was told there.
Place = tuple[str, str]


@judge("webhooks are few")
def webhooks_are_few(history: History, seen: Seen) -> Iterator[str]:
    """One request for each attempt; a second one only where the answer to the first was lost on a kept connection."""
    tried, allowed = Counter(attempt.job_id for attempt in seen.attempts), Counter[Place]()
    for job in seen.jobs:
        if job.kind == "webhook.deliver":
            allowed[seen.paths.get(job.endpoint_id, ""), str(job.event_id)] += tried[job.id]
    for place, came in _by_place(seen).items():
        unheard = sum(_is_unheard(history, one) for one in came)
        if len(came) > allowed[place] + min(unheard, allowed[place]):
            yield f"{place[0]} had {place[1]} {len(came)} times, in {allowed[place]} attempts"


def _is_unheard(history: History, one: Delivery) -> bool:
    return one.status is None or history.stage.stood(_UNHEARD, one.received_at - _LATER_S, one.received_at + _LATER_S)


@judge("webhooks go where they may, when they may")
def patience_is_given_to_who_asks(history: History, seen: Seen) -> Iterator[str]:
    """After a Retry-After the same message does not come again before its time, unless a human has sent it again."""
    jobs = {(seen.paths.get(job.endpoint_id, ""), str(job.event_id)): job.id for job in seen.jobs if job.event_id}
    replayed = {letter.job_id for letter in seen.letters if letter.resolution == "replayed"}
    for place, came in _by_place(seen).items():
        if jobs.get(place) not in replayed:
            yield from (
                f"{place[0]} asked for {RETRY_AFTER_S} s, and had {place[1]} after {next_.at - one.at:.1f} s"
                for one, next_ in pairwise(came)
                if one.status in {429, 503} and next_.at - one.at < RETRY_AFTER_S - _EARLY_S
                if not history.stage.stood(_FORGOTTEN, one.received_at - _LEASE_S, next_.received_at)
            )


def _by_place(seen: Seen) -> dict[Place, list[Delivery]]:
    """In the order in which they came."""
    came = defaultdict[Place, list[Delivery]](list)
    for delivery in sorted(seen.deliveries, key=lambda one: one.at):
        came[delivery.path, event_of(delivery)].append(delivery)
    return came


@judge("nothing is called off by itself")
def nobody_calls_off_by_himself(history: History, seen: Seen) -> Iterator[str]:
    """Cancelled are the deliveries of an endpoint that somebody deletes, from then on, and no job else."""
    ending = {endpoint.id: endpoint.ending for endpoint in [*seen.endpoints, *history.guests] if endpoint.id}
    for job in seen.jobs:
        if job.state == "cancelled" or job.code == "ENDPOINT_DELETED":
            since = ending.get(job.endpoint_id, float("inf"))
            if job.finished_at.timestamp() < since - leeway(history).total_seconds():
                yield f"{job.kind} {job.id} was called off ({job.code or job.state}), and nobody had asked for that"
