"""Deaths: nobody gives up before its time, nor without a reason that somebody outside the product knows."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from sqlalchemy import Row

import domain.job_kinds  # noqa: F401  # declares the kinds
from domain.jobs.kind import KINDS
from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.judges.webhooks import event_of
from ops.chaos.observe import Seen

_GONE = 410
_CRASHES = 3
#: Rogues, deeds and the doomed that are to fail for good.
_TOO_DEEP = "goes too deep"
#: What may spoil any attempt of a worker, and its answer from outside.
_OF_WORKERS = {"memory", "worker-stop", "gil-stall", "hang", "swizzle", "links-cut"}
#: A row that somebody holds is waited for; whoever waits in vain, or has met a deadlock, has used an attempt.
_OF_STOCK = _OF_WORKERS | {"lock-hog", "deadlocks"}
_OF_MAILS = _OF_WORKERS | {"mail-fails", "mail-greylists", "mail-refuses"}
#: Where a subscriber believes that it has answered well, or was never asked.
_OF_WEBHOOKS = _OF_WORKERS | {"webhook-hang", "webhook-drip", "webhook-bomb", "webhook-rebound"}
#: A worker may be the worse for a fault that has passed.
_AFTERMATH_S = 20.0


@judge("nothing is given up before its time")
def nobody_gives_up_too_soon(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """Who is dead of attempts has had them all, in this life; who is dead of crashes has crashed three times."""
    crashes = defaultdict[Any, list[int]](list)
    for attempt in seen.attempts:
        if attempt.outcome == "crashed":
            crashes[attempt.job_id].append(attempt.number)
    for letter, before in _lives(seen):
        made, kind = letter.number - before, KINDS.get(letter.kind)
        crashed = sum(before < number <= letter.number for number in crashes[letter.job_id])
        if letter.cause == "attempts" and kind is not None and made < kind.retry.max_attempts:
            yield f"{letter.kind} {letter.job_id} was given up after {made} attempts of {kind.retry.max_attempts}"
        if letter.cause == "crashes" and crashed < _CRASHES:
            yield f"{letter.kind} {letter.job_id} is dead of {crashed} crashes"
        if letter.cause not in {"attempts", "crashes", "permanent"}:
            yield f"{letter.kind} {letter.job_id} is dead of {letter.cause}, which nothing here has"


def _lives(seen: Seen) -> Iterator[tuple[Row[Any], int]]:
    """Each dead letter with the last attempt of the life before, which a replay has ended."""
    by_job = defaultdict[Any, list[Row[Any]]](list)
    for letter in seen.letters:
        by_job[letter.job_id].append(letter)
    for letters in by_job.values():
        letters.sort(key=lambda letter: int(letter.number))
        yield letters[0], 0
        yield from ((letter, former.number) for former, letter in pairwise(letters))


@judge("what is dead has a reason")
def deaths_have_a_reason(history: History, seen: Seen) -> Iterator[str]:
    """For good fails what is made to, a mail that the server has refused, and a webhook whose subscriber is gone. Of
    attempts dies what is the product's own only where the outside or a worker was harmed, or its rows were held.
    """
    reasons = _Reasons(history, seen)
    for letter in seen.letters:
        job = reasons.jobs.get(letter.job_id)
        if job is None:
            yield f"{letter.kind} {letter.job_id} is dead, and there is no such job"
        elif letter.cause == "permanent" and not reasons.may_fail_for_good(letter, job):
            yield f"{job.kind} {job.id} was given up for good, and nobody has refused it"
        elif letter.cause == "attempts" and not reasons.may_fail_often(letter, job):
            yield f"{job.kind} {job.id} failed again and again, and nothing was in its way"


class _Reasons:
    """Why something may be dead, as the harness knows it."""

    def __init__(self, history: History, seen: Seen) -> None:
        self._history, self._seen = history, seen
        self.jobs = {job.id: job for job in seen.jobs}
        self._emails = {posted.order_id: posted.email for posted in history.posted if posted.order_id}
        self._crashes = Counter(attempt.job_id for attempt in seen.attempts if attempt.outcome == "crashed")
        answered = [(one.path, event_of(one), one.status) for one in [*seen.deliveries, *seen.aside]]
        self._gone = {(path, event_id) for path, event_id, status in answered if status == _GONE}
        self._bad = {(path, event_id) for path, event_id, status in answered if status is None or status >= 300}

    def may_fail_for_good(self, letter: Row[Any], job: Row[Any]) -> bool:
        """Who has no memory cannot even say how a job has ended."""
        return self._is_refused(letter, job) or self._is_harmed({"memory"}, letter, job)

    def _is_refused(self, letter: Row[Any], job: Row[Any]) -> bool:
        match job.kind:
            case "chaos.deed":
                return bool(job.fails)
            case "chaos.doomed":
                return bool(letter.number == 1)
            case "chaos.rogue":
                return bool(job.how == _TOO_DEEP)
            case "email.order_confirmed" | "email.order_rejected":
                return self._emails.get(str(job.order_id)) in self._seen.refused
            case "webhook.deliver":
                return self._place(job) in self._gone
            case _:
                return False

    def may_fail_often(self, letter: Row[Any], job: Row[Any]) -> bool:
        if job.kind.startswith("email."):
            return self._has_crashed(job) or self._is_harmed(_OF_MAILS, letter, job)
        if job.kind == "webhook.deliver":
            is_bad = self._place(job) in self._bad
            return is_bad or self._has_crashed(job) or self._is_harmed(_OF_WEBHOOKS, letter, job)
        is_made_to = job.kind.startswith("chaos.")
        return is_made_to or self._has_crashed(job) or self._is_harmed(_OF_STOCK, letter, job)

    def _has_crashed(self, job: Row[Any]) -> bool:
        return self._crashes[job.id] > 0

    def _place(self, job: Row[Any]) -> tuple[str, str]:
        return self._seen.paths.get(job.endpoint_id, ""), str(job.event_id)

    def _is_harmed(self, faults: set[str], letter: Row[Any], job: Row[Any]) -> bool:
        return self._history.stage.stood(faults, job.created_at.timestamp() - _AFTERMATH_S, letter.died_at.timestamp())
