"""Acting on many dead letters: chosen once, each in a transaction of its own, with a tally of what came of it.

One that somebody else resolved meanwhile is refused by itself; the others go on.
"""

import traceback
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import track
from sqlalchemy import Connection, Engine

from domain.errors import DeadLetterResolved, LongshoreError
from domain.jobs.dead_letters import DeadLetterFilter, get_dead_letter, match_dead_letters
from ops.cli.confirm import counted
from ops.cli.database import silence_of
from ops.cli.options import refuse_unknown
from ops.cli.output import ExitCode, Output, Record, complain, exit_code_of, refusal
from ops.cli.records import dead_letter_record, masked

SAMPLE = 10
PROGRESS_FROM = 20

#: What to do with one dead letter. Answers the job that runs in consequence, if one does.
Act = Callable[[Connection, UUID], UUID | None]


class Refused(msgspec.Struct, frozen=True, rename="camel"):
    """One dead letter that was left as it is."""

    id: UUID
    why: str
    code: ExitCode


class Tally(msgspec.Struct, rename="camel"):
    """What became of each of them. `jobs` is by dead letter; what a lost database or Ctrl-C cut off was not tried."""

    jobs: dict[UUID, UUID | None] = {}
    refused: list[Refused] = []
    not_tried: int = 0
    interrupted: bool = False

    @property
    def exit_code(self) -> ExitCode:
        codes = {refused.code for refused in self.refused}
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if not codes:
            return ExitCode.OK
        if self.jobs:
            return ExitCode.PARTIAL
        return codes.pop() if len(codes) == 1 else ExitCode.ERROR if ExitCode.ERROR in codes else ExitCode.REFUSED


def chosen(engine: Engine, ids: Sequence[UUID], everything: bool, wanted: DeadLetterFilter) -> list[UUID]:
    """The ids given, or with --all those that match now: what is counted, shown and asked about is what is done."""
    if bool(ids) == everything:
        raise typer.BadParameter("give the ids of dead letters, or --all with a filter")
    if everything != wanted.narrows:
        raise typer.BadParameter("--all wants at least one of --kind, --fingerprint and --since, and they want --all")
    if ids:
        return list(dict.fromkeys(ids))
    with engine.begin() as tx:
        found = match_dead_letters(tx, wanted)
    if not found:
        refuse_unknown(wanted.kind)
    return found


def preview(engine: Engine, ids: Sequence[UUID], everything: bool, out: Output, verb: str) -> ExitCode:
    """Shows how many there are and a sample, and changes nothing."""
    sample: dict[UUID, Record] = {}
    tally = Tally()
    for dead_letter_id in ids[:SAMPLE] if everything else ids:
        try:
            with engine.begin() as tx:
                sample[dead_letter_id] = _open(tx, dead_letter_id)
        except LongshoreError as error:
            tally.refused.append(Refused(dead_letter_id, refusal(error), exit_code_of(error)))
    tally.jobs = dict.fromkeys(sample)
    count = len(ids) if everything else len(sample)
    shown = list(sample.values())[:SAMPLE]
    if out.as_json:
        out.document({"dryRun": True, "count": count, "sample": shown, "refused": tally.refused})
        return tally.exit_code
    out.say(f"{counted(count, 'dead letter')} would be {verb}. Nothing was done.")
    if shown:
        out.table(shown, {"id": "id", "kind": "kind", "error": "error"})
    _complain(tally)
    return tally.exit_code


def _open(tx: Connection, dead_letter_id: UUID) -> Record:
    letter = get_dead_letter(tx, dead_letter_id)
    if letter.resolution is not None:
        raise DeadLetterResolved(resolution=letter.resolution)
    return dead_letter_record(letter)


def act_on_each(engine: Engine, ids: Sequence[UUID], act: Act) -> Tally:
    """Every one of them is tried, until the database is lost or somebody presses Ctrl-C."""
    tally = Tally()
    try:
        for dead_letter_id in _with_progress(ids):
            if not _act(engine, dead_letter_id, act, tally):
                break
    except KeyboardInterrupt:
        tally.interrupted = True
    tally.not_tried = len(ids) - len(tally.jobs) - len(tally.refused)
    return tally


def _act(engine: Engine, dead_letter_id: UUID, act: Act, tally: Tally) -> bool:
    """False when there is no point in trying the next one."""
    try:
        with engine.begin() as tx:
            job_id = act(tx, dead_letter_id)
    except LongshoreError as error:
        tally.refused.append(Refused(dead_letter_id, refusal(error), exit_code_of(error)))
    except Exception as error:  # noqa: BLE001  # one of many: it is told of, and the others go on
        silence = silence_of(error)
        code, why = silence or (ExitCode.ERROR, f"Nobody foresaw this: {type(error).__name__}.")
        if silence is None and all(refused.why != why for refused in tally.refused):
            complain(masked(traceback.format_exc().rstrip()))  # once: a thousand of them would hide the others
        tally.refused.append(Refused(dead_letter_id, why, code))
        return silence is None or getattr(getattr(error, "orig", None), "sqlstate", None) is not None
    else:
        tally.jobs[dead_letter_id] = job_id
    return True


def _with_progress(ids: Sequence[UUID]) -> Iterable[UUID]:
    console = Console(stderr=True)
    if len(ids) <= PROGRESS_FROM or not console.is_terminal:
        return ids
    return track(ids, description="dead letters", console=console, transient=True)


def report(out: Output, tally: Tally, verb: str) -> ExitCode:
    """Says what came of it. Answers the exit code: 5 when some were done and some not."""
    if out.as_json:
        done = [{"id": letter, "jobId": job} for letter, job in tally.jobs.items()]
        out.document({"done": done, "refused": tally.refused, "notTried": tally.not_tried})
        return tally.exit_code
    if len(tally.jobs) <= PROGRESS_FROM:
        for letter, job in tally.jobs.items():
            out.say(f"{verb.capitalize()} {letter}{f': job {job} is queued' if job else ''}")
    if len(tally.jobs) != 1:
        out.say(f"{verb.capitalize()} {counted(len(tally.jobs), 'dead letter')}.")
    _complain(tally)
    return tally.exit_code


def _complain(tally: Tally) -> None:
    for refused in tally.refused:
        complain(f"{refused.id}: {refused.why}")
    if tally.not_tried:
        complain(f"{counted(tally.not_tried, 'dead letter')} not tried.")
