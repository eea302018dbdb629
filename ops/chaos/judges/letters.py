"""Dead letters: what an operator was told is done is done, and done once."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row

from ops.chaos.history import History
from ops.chaos.judges import judge
from ops.chaos.kinds import TICK
from ops.chaos.observe import Seen
from ops.chaos.operators import EDITS


@judge("what an operator did is done")
def resolutions_stand(history: History, seen: Seen) -> Iterator[str]:
    letters = {str(letter.id): letter for letter in seen.letters}
    for letter_id, how in history.resolved.items():
        letter = letters.get(letter_id)
        if letter is None:
            yield f"dead letter {letter_id} was {how}, and is gone"
        elif letter.resolution != how:
            yield f"dead letter {letter_id} was {how}, and is {letter.resolution or 'open'}"


@judge("what an operator did is done")
def replays_run(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """Who was replayed ran again; for who was edited another job stands in, with what the operator wrote."""
    jobs = {job.id: job for job in seen.jobs}
    for letter in seen.letters:
        if letter.resolution in {"replayed", "edited"} and (problem := _problem(letter, jobs)):
            yield f"dead letter {letter.id} of a {letter.kind} was {letter.resolution}, and {problem}"


def _problem(letter: Row[Any], jobs: Mapping[Any, Row[Any]]) -> str:
    job = jobs.get(letter.replay_job_id)
    if job is None:
        return "no job stands in for it"
    if letter.resolution == "edited":
        if job.id == letter.job_id:
            return "no other job stands in for it"
        return "" if job.args == msgspec.to_builtins(EDITS[letter.kind]) else f"its job has {job.args}"
    has_run = job.id != letter.job_id or job.attempt > letter.number or job.state == "cancelled"
    return "" if has_run else "its job never ran again"


@judge("nothing comes from nowhere")
def nobody_else_asks_for_jobs(history: History, seen: Seen) -> Iterator[str]:
    """Of the harness's kinds there is what it asked for, and one job for each replay; ticks are judged elsewhere."""
    replayed = {letter.replay_job_id for letter in seen.letters}
    for job in seen.jobs:
        if not job.kind.startswith("chaos.") or job.kind == TICK:
            continue
        if str(job.id) not in history.enqueued and job.id not in replayed:
            yield f"{job.kind} {job.id} was asked for by nobody"


@judge("what an operator did is done")
def replayed_orders_are_decided(history: History, seen: Seen) -> Iterator[str]:  # noqa: ARG001
    """An order has failed as long as nobody has reserved for it: a replay that succeeded has decided it."""
    reserved = {job.order_id for job in seen.jobs if job.kind == "inventory.reserve" and job.state == "succeeded"}
    for order in seen.orders:
        if order.status == "failed" and order.id in reserved:
            yield f"order {order.id} has failed, and its reservation has succeeded"
