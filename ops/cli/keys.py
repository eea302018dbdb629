"""`longshore keys`: API keys made, listed, revoked. A key is shown once, when it is made, and never again."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.confirm import confirm
from ops.cli.database import database
from ops.cli.options import By, Json, Yes, operator, read_duration
from ops.cli.output import ExitCode, answering, complain, leave

if TYPE_CHECKING:
    from sqlalchemy import Row

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")

_COLUMNS = {
    "id": "id",
    "tenant": "tenant",
    "name": "name",
    "scopes": "scopeNames",
    "created": "createdAt",
    "expires": "expiresAt",
    "last used": "lastUsedAt",
}


@app.command()
def create(
    *,
    name: Annotated[str, typer.Option("--name", help="What it is for.", show_default=False)],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose it is.")] = "default",
    scopes: Annotated[
        str, typer.Option("--scopes", help="What it may do: api, admin, or permissions such as orders:read.")
    ] = "api",
    expires: Annotated[
        timedelta | None,
        typer.Option(
            "--expires", parser=read_duration, metavar="TIME", help="For how long it is good: 30d. Default: for ever."
        ),
    ] = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Make a key. stdout carries the key alone.

    Example: KEY=$(longshore keys create --name shop --expires 30d)
    """
    with answering(as_json) as out, database() as engine:
        from domain.audit import record_act
        from domain.tenants.key_rules import parse_key
        from domain.tenants.keys import create_key
        from domain.tenants.tenants import find_or_begin

        wanted, expires_at = _scopes(scopes), None if expires is None else datetime.now(UTC) + expires
        with engine.begin() as tx:
            tenant_id = find_or_begin(tx, _named(tenant, "--tenant"))
            key = create_key(tx, tenant_id, _named(name, "--name"), wanted, expires_at)
            key_id = parts.id if (parts := parse_key(key)) else ""
            record_act(tx, tenant_id, operator(by), "api_key.created", key_id, None, {"name": name, "scopes": wanted})
        made = {"id": key_id, "key": key, "tenant": tenant, "name": name, "scopes": wanted, "expiresAt": expires_at}
        if as_json:
            return out.document(made)
        out.say(key)
        complain(f"Key {key_id} of tenant {tenant}: keep it now, it is not shown again.")
        return None


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every key, without its secret."""
    with answering(as_json) as out, database() as engine:
        from domain.tenants.keys import list_keys
        from ops.cli.records import record

        with engine.begin() as tx:
            keys = [record(row) for row in list_keys(tx)]
        shown = keys if as_json else [{**key, "scopeNames": ", ".join(key["scopes"])} for key in keys]
        out.records(shown, _COLUMNS, "There are no keys.")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The public part of the key.", show_default=False)],
    by: By = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """The key opens nothing any more, within seconds everywhere."""
    with answering(as_json) as out, database() as engine:
        from domain.audit import record_act
        from domain.tenants.keys import list_keys, revoke_key

        with engine.begin() as tx:
            key: Row[tuple[object, ...]] | None = next((row for row in list_keys(tx) if row.id == key_id), None)
        if key is None:
            leave(ExitCode.NOT_FOUND, f"There is no API key {key_id}.")
        confirm(f"Revoke key {key_id} ({key.name}) of tenant {key.tenant}?", yes)
        with engine.begin() as tx:
            revoke_key(tx, key_id)
            record_act(tx, key.tenant_id, operator(by), "api_key.revoked", key_id)
        out.document({"id": key_id, "revoked": True}) if as_json else out.say(f"Key {key_id} is revoked.")


def _scopes(text: str) -> list[str]:
    from domain.tenants.permission_rules import PERMISSIONS, SCOPES

    scopes = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not scopes or set(scopes) - set(SCOPES) - PERMISSIONS:
        known = ", ".join((*SCOPES, *sorted(PERMISSIONS)))
        raise typer.BadParameter(f"--scopes: a list of these, separated by commas: {known}")
    return scopes


def _named(text: str, option: str) -> str:
    if not text.strip():
        raise typer.BadParameter(f"{option} must not be empty")
    return text.strip()
