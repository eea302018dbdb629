"""The law of a job's life in plain Python: what each act makes of one job, and which acts are refused.

Written from docs/architecture.md and not from the SQL, so that the two can disagree. A life is all that the tables say
of a job; an act takes one job at a time and knows nothing of transactions.
"""

from itertools import pairwise
from typing import NamedTuple

MOST_CRASHES = 3
WAITS = {"scheduled", "queued", "retrying"}
ENDS = {"succeeded", "dead", "cancelled"}


class Waits(NamedTuple):
    """The outbox row of a job that waits."""

    alone: bool
    due: bool


class Life(NamedTuple):
    """One job, its outbox row, its attempts (claim number and outcome), its dead letters, oldest first."""

    state: str
    allowance: int
    waits: Waits | None
    claim: int = 0
    attempt: int = 0
    crashes: int = 0
    asked_to_stop: bool = False
    letters: tuple[str, ...] = ()
    history: tuple[tuple[int, str], ...] = ()
    #: It runs, and its worker has been silent for longer than its lease.
    is_silent: bool = False


#: What an act answers for one job, None = nothing happened, and the life after it.
Outcome = tuple[object, Life]


def claimed(life: Life, *, most_crashes: int | None, silent: bool) -> Outcome:
    """What travels alone is claimed only by who takes such jobs, and jobs that were in so many crashes."""
    if life.state not in WAITS or life.waits is None or not life.waits.due:
        return None, life
    if life.waits.alone and (most_crashes is None or life.crashes > most_crashes):
        return None, life
    claim = life.claim + 1
    return claim, life._replace(state="running", claim=claim, attempt=life.attempt + 1, waits=None, is_silent=silent)


def finished(life: Life, claim: int, ending: str) -> Outcome:
    """Only the holder of the latest claim is heard."""
    if life.state != "running" or life.claim != claim:
        return None, life
    match ending:
        case "done" | "told":
            after = _ended(life, "succeeded", "succeeded")
        case "gave way":
            after = _ended(life, "cancelled", "cancelled")._replace(asked_to_stop=True)
        case "hopeless":
            after = _buried(life, "dead")
        case "too late":
            after = _buried(life._replace(attempt=life.attempt - 1), "dead")
        case "failed" | "failed, later":
            spent = life.attempt >= life.allowance
            after = _buried(life, "dead") if spent else _again(life, "retrying", "retrying", due=ending == "failed")
        case "snoozed":
            after = _again(life._replace(attempt=life.attempt - 1), "queued", "snoozed")
        case _:
            after = _again(life._replace(attempt=life.attempt - 1), "queued", "handed_back", alone=True)
    return after.state, after


def rescued(life: Life) -> Outcome:
    """Whoever was silent for too long has lost the job."""
    if life.state != "running" or not life.is_silent:
        return None, life
    crashed = life._replace(crashes=life.crashes + 1)
    is_over = crashed.crashes >= MOST_CRASHES or life.attempt >= life.allowance
    after = _buried(crashed, "crashed") if is_over else _again(crashed, "retrying", "crashed", alone=True)
    return after.state, after


def cancelled(life: Life) -> Outcome:
    if life.state in ENDS:
        return "refused", life
    if life.state == "running":
        return "asked", life._replace(asked_to_stop=True)
    return "cancelled", life._replace(state="cancelled", asked_to_stop=True, waits=None)


def resolved(life: Life, letter: int, resolution: str, fresh_allowance: int) -> Outcome:
    """The letter of this number is replayed or discarded, once."""
    if life.letters[letter] != "open":
        return "refused", life
    letters = (*life.letters[:letter], resolution, *life.letters[letter + 1 :])
    if resolution == "discarded":
        return "done", life._replace(letters=letters)
    allowance = max(life.allowance, life.attempt + fresh_allowance)
    again = life._replace(state="queued", allowance=allowance, crashes=0, asked_to_stop=False, letters=letters)
    return "done", again._replace(waits=Waits(alone=False, due=True))


def hurried(life: Life) -> Outcome:
    if life.waits is None:
        return "refused", life
    return "done", life._replace(waits=life.waits._replace(due=True))


def _ended(life: Life, state: str, outcome: str) -> Life:
    return life._replace(state=state, is_silent=False, history=(*life.history, (life.claim, outcome)))


def _buried(life: Life, outcome: str) -> Life:
    return _ended(life, "dead", outcome)._replace(letters=(*life.letters, "open"))


def _again(life: Life, state: str, outcome: str, *, alone: bool = False, due: bool = True) -> Life:
    ended = _ended(life, "cancelled" if life.asked_to_stop else state, outcome)
    return ended if life.asked_to_stop else ended._replace(waits=Waits(alone, due))


def wrongs(before: Life | None, now: Life) -> list[str]:
    """What no life may show, whatever was done to it: none of this is read off the acts above."""
    claims = [claim for claim, _ in now.history]
    successes = [claim for claim, outcome in now.history if outcome == "succeeded"]
    found = {
        "an outbox row exactly while it waits": (now.waits is not None) == (now.state in WAITS),
        "one attempt for each claim": len(claims) == now.claim - (now.state == "running"),
        "claims only rise": all(one < next_ for one, next_ in pairwise(claims)),
        "at most one finish takes effect, and is the last": successes in ([], claims[-1:]),
        "success is a finish that took effect": (now.state == "succeeded") == bool(successes),
        "a dead letter for each death": now.letters.count("open") <= (now.state == "dead"),
        "whoever is dead can be triaged": now.state != "dead" or now.letters[-1:] in (("open",), ("discarded",)),
        "three crashes at most": now.crashes <= MOST_CRASHES and (now.crashes < MOST_CRASHES or now.state == "dead"),
        "no attempt beyond the allowance": now.attempt <= now.allowance,
    }
    if before is not None:
        is_replay = before.state == "dead" and len(set(now.letters) - {"open"}) > 0
        found |= {
            "the end is the end, but for a replay": before.state not in ENDS or now.state == before.state or is_replay,
            "no claim is returned": now.claim >= before.claim,
            "history is kept": now.history[: len(before.history)] == before.history,
        }
    return [wrong for wrong, holds in found.items() if not holds]
