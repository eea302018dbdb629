"""`longshore tenants`: made, listed, given a plan, suspended and let on again, configured."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

import re
import sys
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ops.cli.confirm import confirm
from ops.cli.database import database
from ops.cli.options import By, Json, Reason, Yes, operator
from ops.cli.output import Output, answering

if TYPE_CHECKING:
    from sqlalchemy import Connection

app = typer.Typer(no_args_is_help=True, help="Tenants: create, list, change, suspend, resume, config, set, unset.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The tenant's name.", show_default=False)]
Key = Annotated[str, typer.Argument(metavar="KEY", help="What to configure: see `config`.", show_default=False)]
Plan = Annotated[str | None, typer.Option("--plan", help="basic, free, pro or enterprise.", show_default=False)]

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_COLUMNS = {
    "name": "name",
    "id": "id",
    "plan": "plan",
    "requests/min": "requestsPerMinute",
    "status": "status",
    "subdomain": "subdomain",
    "domain": "domain",
    "created": "createdAt",
}


@app.command()
def create(
    name: Name,
    *,
    plan: Plan = None,
    subdomain: Annotated[str | None, typer.Option("--subdomain", help="acme: they log in at acme.example.com.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="A host of its own where they log in.")] = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Make a tenant.

    Example: longshore tenants create acme --plan pro
    """
    with answering(as_json) as out, database() as engine:
        from domain.tenants.tenants import NewTenant, create_tenant

        if not 1 <= len(name.strip()) <= 200:
            raise typer.BadParameter("NAME must be 1 to 200 characters")
        tenant = NewTenant(
            name=name.strip(),
            plan=_plan(plan) or "basic",
            subdomain=_host("--subdomain", subdomain, _LABEL),
            domain=_host("--domain", domain, rf"{_LABEL}(?:\.{_LABEL})+"),
        )
        with engine.begin() as tx:
            create_tenant(tx, tenant, operator(by))
            made = _tenant(tx, tenant.name)
        _tell(out, made)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every tenant, by name."""
    with answering(as_json) as out, database() as engine:
        from domain.tenants.tenants import list_tenants

        with engine.begin() as tx:
            rows = list_tenants(tx)
        out.records([_shown(row) for row in rows], _COLUMNS, "There are no tenants.")


@app.command()
def change(
    name: Name,
    *,
    plan: Plan = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option("--requests-per-minute", min=0, help="Of each key, whatever the plan; 0 = by the plan."),
    ] = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Give it another plan, or a number of requests of its own. What is not named stays.

    Example: longshore tenants change acme --plan enterprise
    """
    with answering(as_json) as out, database() as engine:
        from domain.tenants.plan_rules import REQUESTS_PER_MINUTE
        from domain.tenants.tenants import change_tenant, find_tenant

        if plan is None and requests_per_minute is None:
            raise typer.BadParameter("say what to change: --plan or --requests-per-minute")
        settings = {} if requests_per_minute is None else {REQUESTS_PER_MINUTE: requests_per_minute or None}
        with engine.begin() as tx:
            change_tenant(tx, find_tenant(tx, name), operator(by), plan=_plan(plan), settings=settings)
            changed = _tenant(tx, name)
        _tell(out, changed)


@app.command()
def suspend(name: Name, *, reason: Reason = None, by: By = "", yes: Yes = False, as_json: Json = False) -> None:
    """Turn its keys and people away within seconds, and let its jobs wait; what runs, runs on."""
    with answering(as_json) as out, database() as engine:
        from domain.tenants.tenants import suspend_if_active

        tenant_id = _found(engine, name)
        confirm(f"Suspend tenant {name}?", yes)
        with engine.begin() as tx:
            suspend_if_active(tx, tenant_id, operator(by), reason)
            suspended = _tenant(tx, name)
        _tell(out, suspended)


@app.command()
def resume(name: Name, *, reason: Reason = None, by: By = "", as_json: Json = False) -> None:
    """Let its keys and people in again; its jobs go on."""
    with answering(as_json) as out, database() as engine:
        from domain.tenants.tenants import resume_if_suspended

        tenant_id = _found(engine, name)
        with engine.begin() as tx:
            resume_if_suspended(tx, tenant_id, operator(by), reason)
            resumed = _tenant(tx, name)
        _tell(out, resumed)


@app.command()
def config(name: Name, *, as_json: Json = False) -> None:
    """What it is configured with, and what it could be. A sealed value is not shown."""
    with answering(as_json) as out, database() as engine:
        from domain.tenants.config import list_config
        from domain.tenants.config_rules import KEYS
        from domain.tenants.tenants import find_tenant

        with engine.begin() as tx:
            held = {row.key: row for row in list_config(tx, find_tenant(tx, name))}
        shown = [
            {"key": key, "value": _value(held.get(key)), "default": known.default, "means": known.means}
            for key, known in KEYS.items()
        ]
        out.records(shown, {"key": "key", "value": "value", "default": "default", "means": "means"}, "")


@app.command("set")
def set_(
    name: Name,
    key: Key,
    value: Annotated[str, typer.Argument(help="The value; - reads it from stdin.", show_default=False)],
    *,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Seal it in the table.")] = False,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Configure it. Flags are on, off, or a share such as 25%.

    Example: longshore tenants set acme flags.webhooks.legacy-headers off
    """
    with answering(as_json) as out, database() as engine:
        from domain.tenants.config import set_config
        from domain.tenants.config_rules import KEYS
        from domain.tenants.tenants import find_tenant
        from ops.settings import load_settings

        try:
            said = KEYS[_known(key)].read(sys.stdin.readline().strip() if value == "-" else value)
        except ValueError as error:
            raise typer.BadParameter(f"{key} {error}") from None
        secret = load_settings().secret_bytes
        with engine.begin() as tx:
            set_config(tx, secret, find_tenant(tx, name), key, said, operator(by), encrypted=encrypt)
        done = {"tenant": name, "key": key, "encrypted": encrypt}
        out.document(done) if as_json else out.say(f"{key} of {name} is set.")


@app.command()
def unset(name: Name, key: Key, *, by: By = "", as_json: Json = False) -> None:
    """Let the default hold again."""
    with answering(as_json) as out, database() as engine:
        from domain.tenants.config import unset_config
        from domain.tenants.tenants import find_tenant

        with engine.begin() as tx:
            unset_config(tx, find_tenant(tx, name), _known(key), operator(by))
        out.document({"tenant": name, "key": key}) if as_json else out.say(f"{key} of {name} is unset.")


def _known(key: str) -> str:
    from domain.tenants.config_rules import KEYS

    if key not in KEYS:
        raise typer.BadParameter(f"{key!r} is not a key; the keys are {', '.join(KEYS)}")
    return key


def _value(row: Any) -> object:
    return None if row is None else "(sealed)" if row.is_encrypted else row.value


def _found(engine: Any, name: str) -> UUID:
    from domain.tenants.tenants import find_tenant

    with engine.begin() as tx:
        return find_tenant(tx, name)


def _plan(plan: str | None) -> str | None:
    from domain.tenants.plan_rules import PLANS

    if plan is not None and plan not in PLANS:
        raise typer.BadParameter(f"--plan: one of {', '.join(PLANS)}")
    return plan


def _host(option: str, given: str | None, form: str) -> str | None:
    host = given.lower() if given else None  # the case of a host does not matter (RFC 4343)
    if host is not None and (len(host) > 200 or not re.fullmatch(form, host)):
        raise typer.BadParameter(f"{option}: letters, digits and dashes, as in acme, or acme.example of a domain")
    return host


def _tenant(tx: "Connection", name: str) -> dict[str, Any]:
    from domain.tenants.tenants import list_tenants

    (tenant,) = (_shown(row) for row in list_tenants(tx) if row.name == name)
    return tenant


def _tell(out: Output, tenant: dict[str, Any]) -> None:
    out.document(tenant) if out.as_json else out.table([tenant], _COLUMNS)


def _shown(row: Any) -> dict[str, Any]:
    from domain.tenants.plan_rules import requests_per_minute
    from ops.cli.records import record

    return {**record(row), "requestsPerMinute": requests_per_minute(row.plan, row.settings)}
