"""`longshore dlq`: dead letters found, understood, and replayed, edited and replayed, or discarded. Each once."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from ops.cli.confirm import confirm, counted
from ops.cli.database import database
from ops.cli.options import By, Json, Limit, Reason, Yes, operator, read_id, read_moment, read_word, refuse_unknown
from ops.cli.output import Output, answering

app = typer.Typer(no_args_is_help=True, help="Dead letters: see why jobs gave up; replay, edit or discard them.")

Id = Annotated[UUID, typer.Argument(metavar="ID", parser=read_id, help="A dead letter.", show_default=False)]
Ids = Annotated[
    list[UUID] | None, typer.Argument(metavar="ID", parser=read_id, help="Dead letters.", show_default=False)
]
Kind = Annotated[str | None, typer.Option("--kind", parser=read_word, metavar="KIND", help="Only jobs of this kind.")]
Fingerprint = Annotated[
    str | None,
    typer.Option("--fingerprint", parser=read_word, metavar="TEXT", help="Only this fault, as `cases` lists it."),
]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since", parser=read_moment, metavar="TIME", help="Only those who died since then: 1h, 7d, or an ISO time."
    ),
]
AllResolutions = Annotated[bool, typer.Option("--all-resolutions", help="Those already dealt with too.")]
All = Annotated[bool, typer.Option("--all", help="All open ones that match; wants a filter.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Args = Annotated[str | None, typer.Option("--args", help="The new arguments as JSON. Default: $EDITOR opens the old.")]

_LIST = {
    "id": "id",
    "kind": "kind",
    "fingerprint": "fingerprint",
    "cause": "cause",
    "error": "error",
    "attempts": "attempts",
    "died": "diedAt",
    "resolution": "resolution",
}
_CASES = {
    "fingerprint": "fingerprint",
    "kind": "kind",
    "count": "count",
    "error": "error",
    "first": "firstDiedAt",
    "last": "lastDiedAt",
}


@app.command("list")
def list_(
    kind: Kind = None,
    fingerprint: Fingerprint = None,
    since: Since = None,
    all_resolutions: AllResolutions = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """The newest ones that wait for a decision.

    Example: longshore dlq list --since 1h --kind webhook.deliver
    """
    with answering(as_json) as out, database() as engine:
        from domain.jobs.dead_letters import find_dead_letters
        from domain.stretch import Stretch
        from ops.cli.records import dead_letter_record

        wanted = _wanted(kind, fingerprint, since, all_resolutions)
        with engine.begin() as tx:
            rows = find_dead_letters(tx, wanted, Stretch(limit))
        empty = "" if rows else _nothing(wanted)
        out.records([dead_letter_record(row) for row in rows], _LIST, empty)


@app.command()
def cases(
    kind: Kind = None,
    fingerprint: Fingerprint = None,
    since: Since = None,
    all_resolutions: AllResolutions = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """One row per fault instead of one per job, the most frequent first.

    Example: longshore dlq cases --since 24h
    """
    with answering(as_json) as out, database() as engine:
        from domain.jobs.dead_letters import group_dead_letters
        from ops.cli.records import masked, record

        wanted = _wanted(kind, fingerprint, since, all_resolutions)
        with engine.begin() as tx:
            rows = group_dead_letters(tx, wanted, limit)
        empty = "" if rows else _nothing(wanted)
        out.records([masked(record(row)) for row in rows], _CASES, empty)


@app.command()
def show(dead_letter_id: Id, as_json: Json = False) -> None:
    """Everything known about one: what it was to do, why it gave up, each attempt, and what was decided."""
    with answering(as_json) as out, database() as engine:
        from domain.jobs.dead_letters import get_dead_letter
        from domain.jobs.queries import attempts_of
        from ops.cli import dead_letter_page

        with engine.begin() as tx:
            letter = get_dead_letter(tx, dead_letter_id)
            attempts = attempts_of(tx, [letter.job_id])[letter.job_id]
        dead_letter_page.show(out, letter, attempts)


@app.command()
def replay(  # noqa: PLR0913  # one per option
    ids: Ids = None,
    *,
    everything: All = False,
    kind: Kind = None,
    fingerprint: Fingerprint = None,
    since: Since = None,
    dry_run: DryRun = False,
    reason: Reason = None,
    by: By = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Queue the jobs again, under the same ids.

    Example: longshore dlq replay --all --fingerprint 0a1b2c3d4e5f --dry-run
    """
    with answering(as_json) as out, database() as engine:
        from domain.jobs.dead_letters import replay_if_open
        from ops.cli import triage

        found = triage.chosen(engine, ids or [], everything, _wanted(kind, fingerprint, since))
        if dry_run:
            raise typer.Exit(triage.preview(engine, found, everything, out, "replayed"))
        if found:
            confirm(f"Replay {counted(len(found), 'dead letter')}?", yes)
        who = operator(by)
        tally = triage.act_on_each(engine, found, lambda tx, letter: replay_if_open(tx, letter, who, reason))
        raise typer.Exit(triage.report(out, tally, "replayed"))


@app.command()
def edit(
    dead_letter_id: Id,
    *,
    args: Args = None,
    reason: Reason = None,
    by: By = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Queue a new job with other arguments in its stead.

    Example: longshore dlq edit ID --args '{"order_id": "..."}'
    """
    with answering(as_json) as out, database() as engine:
        from domain.jobs.dead_letters import replay_edited_if_open
        from ops.cli import new_args

        with engine.begin() as tx:
            letter = new_args.open_letter(tx, dead_letter_id)
        edited = new_args.asked_for(letter, args)
        out.say(new_args.difference(letter.snapshot["args"], edited))
        if args is None:
            confirm(f"Replay {letter.kind} with these arguments?", yes)
        with engine.begin() as tx:
            job_id = replay_edited_if_open(tx, dead_letter_id, edited, operator(by), reason)
        _tell_edited(out, dead_letter_id, job_id, letter.snapshot["args"], edited)


@app.command()
def discard(  # noqa: PLR0913  # one per option
    ids: Ids = None,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit log.", show_default=False)],
    everything: All = False,
    kind: Kind = None,
    fingerprint: Fingerprint = None,
    since: Since = None,
    dry_run: DryRun = False,
    by: By = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Close them without a replay, for good.

    Example: longshore dlq discard ID --reason "the endpoint is gone"
    """
    with answering(as_json) as out, database() as engine:
        from domain.jobs.dead_letters import discard_if_open
        from ops.cli import triage

        found = triage.chosen(engine, ids or [], everything, _wanted(kind, fingerprint, since))
        if dry_run:
            raise typer.Exit(triage.preview(engine, found, everything, out, "discarded"))
        if found:
            confirm(f"Discard {counted(len(found), 'dead letter')} for good?", yes)
        who = operator(by)
        tally = triage.act_on_each(engine, found, lambda tx, letter: discard_if_open(tx, letter, who, reason))
        raise typer.Exit(triage.report(out, tally, "discarded"))


def _nothing(wanted: Any) -> str:
    refuse_unknown(wanted.kind)
    return "No dead letters match." if wanted.narrows else "There are no open dead letters."


def _wanted(kind: str | None, fingerprint: str | None, since: datetime | None, all_resolutions: bool = False) -> Any:
    from domain.jobs.dead_letters import DeadLetterFilter

    return DeadLetterFilter(kind, fingerprint, since, None if all_resolutions else False)


def _tell_edited(out: Output, dead_letter_id: UUID, job_id: UUID, before: object, after: object) -> None:
    if out.as_json:
        out.document({"id": dead_letter_id, "jobId": job_id, "before": before, "after": after})
    else:
        out.say(f"Replayed {dead_letter_id} with new arguments: job {job_id} is queued.")
