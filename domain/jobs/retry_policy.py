"""What the end of an attempt means for its job. Pure: the same job, ending, clock and jitter give the same decision.

Also the words a handler may use to say how it ended: `PermanentFailure`, `RetryLater`, `Snooze`, `DependencyDown`,
`ExternalFailure`; any other exception is retried by the kind's policy too, and taken for a mistake of ours.
"""

from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from domain.jobs.state_machine import JobState
from domain.text_rules import said_by

#: A job that takes its worker down this often is dead: it would take down the next one too.
MAX_CRASHES = 3


class PermanentFailure(Exception):
    """Trying again cannot help: the job is dead at once."""


class ExternalFailure(Exception):
    """Something that is not ours failed, as it may: the kind's policy says when to try again."""


class RetryLater(Exception):
    """This attempt failed; the next one shall start `after_s` seconds from now. Raise it `from` what went wrong."""

    def __init__(self, after_s: float, why: str = "") -> None:
        super().__init__(why or f"again in {after_s:g} s")
        self.after_s = after_s


class Snooze(Exception):
    """Too early: come back in `seconds` without using up an attempt."""

    def __init__(self, seconds: float, why: str = "") -> None:
        super().__init__(why or f"snoozed for {seconds:g} s")
        self.seconds = seconds


class DependencyDown(Exception):
    """What the job needs is down: its lane is parked, and the job waits without using up an attempt."""

    def __init__(self, lane: str, why: str = "") -> None:
        super().__init__(why or f"{lane} is down")
        self.lane = lane


class Backoff(msgspec.Struct, frozen=True):
    """Exponential back-off with full jitter: 0 to `base * 2 ** (attempt - 1)` seconds, at most `cap`.

    `max_attempts` counts the first try. See "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    max_attempts: int = 5
    base: float = 1.0
    cap: float = 3600.0

    def delay_s(self, attempt: int, jitter: float) -> float:
        """Seconds to wait after attempt number `attempt` (1 = the first), with `jitter` in [0, 1)."""
        return self.longest_s(attempt) * jitter

    def longest_s(self, attempt: int) -> float:
        # The exponent is bounded because 2.0 ** 1024 overflows, long after any cap is reached.
        return min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))


class Timetable(msgspec.Struct, frozen=True):
    """Fixed waits between attempts; jitter lengthens each by at most `stretch`, never shortens it."""

    waits: tuple[float, ...]
    stretch: float = 0.2

    @property
    def max_attempts(self) -> int:
        return len(self.waits) + 1

    def delay_s(self, attempt: int, jitter: float) -> float:
        """Seconds to wait after attempt number `attempt`; past the end of the timetable, the last wait again."""
        return self.waits[min(attempt, len(self.waits)) - 1] * (1 + self.stretch * jitter)


class RetryPolicy(Protocol):
    """How often a kind is tried, and how long it waits in between."""

    @property
    def max_attempts(self) -> int: ...

    def delay_s(self, attempt: int, jitter: float) -> float: ...


class Succeeded(msgspec.Struct, frozen=True):
    """The handler returned. `result` is what a poller of the job sees, if anything."""

    result: object = None


class Errored(msgspec.Struct, frozen=True):
    """The handler raised, or its time was up."""

    error_class: str
    message: str
    traceback: str = ""
    permanent: bool = False
    retry_after_s: float | None = None


class Snoozed(msgspec.Struct, frozen=True):
    """The attempt does not count: too early, a dependency was down, or the worker is shutting down (`handed_back`)."""

    seconds: float
    why: str
    handed_back: bool = False


class Crashed(msgspec.Struct, frozen=True):
    """The worker fell silent past its lease. `crashes` counts this one too."""

    crashes: int


class Cancelled(msgspec.Struct, frozen=True):
    """The handler noticed that somebody asked for its job to be cancelled."""


class DeadlineExceeded(msgspec.Struct, frozen=True):
    """The job's deadline passed before it could run."""


Ending = Succeeded | Errored | Snoozed | Crashed | Cancelled | DeadlineExceeded


class Decision(msgspec.Struct, frozen=True):
    """What becomes of the job. `due_at` is set exactly when it shall run again."""

    state: JobState
    outcome: str
    due_at: datetime | None = None
    attempt_returned: bool = False
    cause: str | None = None


def decide(
    attempt: int,
    max_attempts: int,
    ending: Ending,
    policy: RetryPolicy,
    now: datetime,
    jitter: float,
    deadline_at: datetime | None = None,
) -> Decision:
    """The next state of a job whose attempt number `attempt` ended like this at `now`, with `jitter` in [0, 1).

    A job that could run again only after its deadline is dead now.
    """
    decision = _decide(attempt, max_attempts, ending, policy, now, jitter)
    if deadline_at is None or decision.due_at is None or decision.due_at < deadline_at:
        return decision
    outcome = "crashed" if isinstance(ending, Crashed) else "dead"
    return Decision(JobState.DEAD, outcome, attempt_returned=decision.attempt_returned, cause="deadline")


def _decide(  # noqa: C901, PLR0911  # one case per ending: the table reads best whole
    attempt: int, max_attempts: int, ending: Ending, policy: RetryPolicy, now: datetime, jitter: float
) -> Decision:
    match ending:
        case Succeeded():
            return Decision(JobState.SUCCEEDED, "succeeded")
        case Cancelled():
            return Decision(JobState.CANCELLED, "cancelled")
        case DeadlineExceeded():
            return Decision(JobState.DEAD, "dead", attempt_returned=True, cause="deadline")
        case Snoozed(seconds=seconds, handed_back=handed_back):
            return Decision(
                JobState.QUEUED,
                "handed_back" if handed_back else "snoozed",
                due_at=now + timedelta(seconds=seconds),
                attempt_returned=True,
            )
        case Crashed(crashes=crashes) if crashes >= MAX_CRASHES:
            return Decision(JobState.DEAD, "crashed", cause="crashes")
        case Crashed() if attempt >= max_attempts:
            return Decision(JobState.DEAD, "crashed", cause="attempts")
        case Crashed(crashes=crashes):
            # At once the first time: most crashes are a deploy or the machine, not the job. Then a little slower. What
            # crashed together runs apart: a worker process takes one such job at a time.
            return Decision(JobState.RETRYING, "crashed", due_at=now + timedelta(seconds=1.0 * (crashes - 1)))
        case Errored(permanent=True):
            return Decision(JobState.DEAD, "dead", cause="permanent")
        case Errored() if attempt >= max_attempts:
            return Decision(JobState.DEAD, "dead", cause="attempts")
        case Errored(retry_after_s=after_s):
            wait_s = policy.delay_s(attempt, jitter) if after_s is None else after_s
            return Decision(JobState.RETRYING, "retrying", due_at=now + timedelta(seconds=wait_s))


def category_of(error: BaseException) -> str:
    """Whose fault it is: `operational`, what was asked for cannot be; `external`, something else failed; or else ours,
    `programming`.
    """
    match error:
        case PermanentFailure():
            return "operational"
        # Of OSError time-outs, mail and connection errors are sorts.
        case RetryLater() | DependencyDown() | ExternalFailure() | OSError():
            return "external"
        case _:
            return "programming"


def ending_of(error: BaseException, traceback: str) -> Ending:
    """How an attempt ended, read from what its handler raised. DependencyDown's lane is the executor's to park."""
    match error:
        case Snooze(seconds=seconds):
            return Snoozed(seconds, said_by(error))
        case DependencyDown():
            return Snoozed(1.0, said_by(error))
        case RetryLater(after_s=after_s):
            return Errored(type(error.__cause__ or error).__name__, said_by(error), retry_after_s=after_s)
        case PermanentFailure():
            return Errored("PermanentFailure", said_by(error), traceback, permanent=True)
        case _:
            return Errored(type(error).__name__, said_by(error), traceback)
