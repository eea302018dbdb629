"""`longshore audit`: who did what to whom, and the proof that nobody has changed that record since."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from typing import Annotated

import typer

from ops.cli.database import database
from ops.cli.options import Json, Limit, read_word
from ops.cli.output import ExitCode, answering, leave

app = typer.Typer(no_args_is_help=True, help="The audit log: list, verify.")

_COLUMNS = {
    "at": "at",
    "tenant": "tenant",
    "actor": "actor",
    "action": "action",
    "subject": "subject",
    "reason": "reason",
    "detail": "detail",
}
_CHAINS = {"tenant": "tenantId", "acts": "length", "last hash": "hash", "state": "state"}


@app.command("list")
def list_(
    *,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", parser=read_word, metavar="NAME", help="Of this tenant only.", show_default=False),
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", parser=read_word, metavar="TEXT", help="Such as dead_letter.replayed.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", parser=read_word, metavar="TEXT", help="Of this job, key, queue ... only."),
    ] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Acts, newest first."""
    with answering(as_json) as out, database() as engine:
        from domain.audit import ActFilter, list_acts
        from domain.tenants.tenants import find_tenant
        from ops.cli.records import masked, record

        with engine.begin() as tx:
            wanted = ActFilter(find_tenant(tx, tenant) if tenant else None, action, subject)
            acts = [record(row) for row in list_acts(tx, wanted, limit=limit)]
        shown = [
            {**act, "hash": act["hash"].hex(), "reason": masked(act["reason"]), "detail": masked(act["detail"])}
            for act in acts
        ]
        out.records(shown, _COLUMNS, "Nobody has done anything.")


@app.command()
def verify(as_json: Json = False) -> None:
    """Reckon every chain anew. Exit code 1 when one is broken.

    Keep the last hashes elsewhere: a log that was replaced as a whole has others.
    """
    with answering(as_json) as out, database() as engine:
        from domain.audit import verify_chains

        with engine.begin() as tx:
            chains = verify_chains(tx)
        shown = [
            {
                "tenantId": chain.tenant_id,
                "length": chain.length,
                "hash": chain.hash.hex(),
                "brokenAt": chain.broken_at,
                "state": "ok" if chain.broken_at is None else f"BROKEN at {chain.broken_at}",
            }
            for chain in chains
        ]
        out.records(shown, _CHAINS, "Nobody has done anything.")
    if broken := sum(chain.broken_at is not None for chain in chains):
        leave(ExitCode.ERROR, f"{broken} of {len(chains)} chains are broken: acts were changed, removed or slipped in.")
