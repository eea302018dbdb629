"""`longshore users`: the people of a tenant, its first owner above all. Passwords are typed or piped, no arguments."""
# ruff: noqa: PLC0415  # lazy: `--help` shall not wait for the database driver

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.confirm import confirm
from ops.cli.database import database
from ops.cli.options import By, Json, Yes, operator
from ops.cli.output import answering

if TYPE_CHECKING:
    from sqlalchemy import Row

app = typer.Typer(no_args_is_help=True, help="People who log in: create, list, disable, enable, role, password.")

Tenant = Annotated[str, typer.Option("--tenant", help="Whose people.")]
Email = Annotated[str, typer.Argument(metavar="EMAIL", help="Whose account.", show_default=False)]

_COLUMNS = {
    "id": "id",
    "email": "email",
    "name": "name",
    "role": "role",
    "status": "status",
    "last log-in": "lastLoginAt",
}


@app.command()
def create(  # options by name
    *,
    email: Annotated[str, typer.Option("--email", help="What he logs in with.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="What he is called.", show_default=False)],
    role: Annotated[str, typer.Option("--role", help="owner, admin, operator or viewer.")] = "viewer",
    tenant: Annotated[str, typer.Option("--tenant", help="Whose he is.")] = "default",
    by: By = "",
    as_json: Json = False,
) -> None:
    """Make a person, who gets a mail. The password is asked for, or read from stdin.

    Example: longshore users create --tenant acme --email ada@example.com --name Ada --role owner
    """
    with answering(as_json) as out, database() as engine:
        from api.bodies import Email as Address
        from api.bodies import PersonName
        from domain.audit import record_act
        from domain.tenants.passwords import hash_password
        from domain.tenants.permission_rules import ROLES
        from domain.tenants.tenants import find_or_begin
        from domain.tenants.users import NewUser, create_user, facts_of, normal_address

        address = normal_address(_fitting("--email", email, Address))
        new = NewUser(
            email=address,
            name=_fitting("--name", name, PersonName),
            role=_role(role),
            password_hash=hash_password(_password()),
        )
        with engine.begin() as tx:
            tenant_id = find_or_begin(tx, tenant)
            row = create_user(tx, tenant_id, new, ROLES)
            record_act(tx, tenant_id, operator(by), "user.created", str(row.id), None, {"new": facts_of(row)})
        out.document(_record(row)) if as_json else out.say(f"{address} is {role} of tenant {tenant}.")


@app.command("list")
def list_(tenant: Tenant = "default", as_json: Json = False) -> None:
    """The people of a tenant, newest first."""
    with answering(as_json) as out, database() as engine:
        from domain.stretch import Stretch
        from domain.tenants.tenants import find_tenant
        from domain.tenants.users import list_users

        with engine.begin() as tx:
            rows = list_users(tx, find_tenant(tx, tenant), Stretch(10_000))
        out.records([_record(row) for row in rows], _COLUMNS, "There are no people.")


@app.command()
def disable(email: Email, tenant: Tenant = "default", by: By = "", yes: Yes = False, as_json: Json = False) -> None:
    """He is logged out everywhere, within seconds, and cannot log in. Not the last active owner."""
    confirm(f"Disable {email} of tenant {tenant}?", yes)
    _change(email, tenant, {"status": "disabled"}, by, as_json)


@app.command()
def enable(email: Email, tenant: Tenant = "default", by: By = "", as_json: Json = False) -> None:
    """He can log in again."""
    _change(email, tenant, {"status": "active"}, by, as_json)


@app.command()
def role(
    email: Email,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="owner, admin, operator or viewer.", show_default=False)],
    tenant: Tenant = "default",
    by: By = "",
    as_json: Json = False,
) -> None:
    """He has this role from now on, within seconds. Not the last active owner."""
    _change(email, tenant, {"role": _role(role)}, by, as_json)


@app.command()
def password(email: Email, tenant: Tenant = "default", by: By = "", as_json: Json = False) -> None:
    """He has this password, which is asked for or read from stdin, and is logged out everywhere."""
    with answering(as_json) as out, database() as engine:
        from domain.audit import record_act
        from domain.tenants.log_ins import forget_failures
        from domain.tenants.passwords import hash_password
        from domain.tenants.tenants import find_tenant
        from domain.tenants.users import find_user, normal_address, set_password

        with engine.begin() as tx:
            tenant_id = find_tenant(tx, tenant)
            row = find_user(tx, tenant_id, normal_address(email))
        hashed = hash_password(_password())
        with engine.begin() as tx:
            set_password(tx, tenant_id, row.id, hashed)
            forget_failures(tx, row.email)
            record_act(tx, tenant_id, operator(by), "user.password_set", str(row.id))
        out.document({"id": row.id, "passwordSet": True}) if as_json else out.say(f"{row.email} has a new password.")


def _change(email: str, tenant: str, wanted: dict[str, Any], by: str, as_json: bool) -> None:
    with answering(as_json) as out, database() as engine:
        from domain.audit import record_act
        from domain.tenants.permission_rules import ROLES
        from domain.tenants.tenants import find_tenant
        from domain.tenants.users import change_user, facts_of_change, find_user, normal_address

        with engine.begin() as tx:
            tenant_id = find_tenant(tx, tenant)
            user_id = find_user(tx, tenant_id, normal_address(email)).id
            before, after = change_user(tx, tenant_id, user_id, wanted, ROLES)
            if facts := facts_of_change(before, after):
                record_act(tx, tenant_id, operator(by), "user.changed", str(user_id), None, facts)
        out.document(_record(after)) if as_json else out.say(f"{after.email} is {after.status}, {after.role}.")


def _password() -> str:
    """Typed twice at a terminal, or the first line of stdin. Raises typer.BadParameter."""
    from domain.tenants.passwords import LONGEST, SHORTEST

    if sys.stdin.isatty():
        text: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    if not SHORTEST <= len(text) <= LONGEST or "\x00" in text:
        raise typer.BadParameter(f"a password has {SHORTEST} to {LONGEST} characters; it is read from stdin")
    return text


def _role(text: str) -> str:
    from domain.tenants.permission_rules import ROLES

    if text not in ROLES:
        raise typer.BadParameter(f"{text!r} is not a role; the roles are {', '.join(ROLES)}")
    return text


def _fitting(option: str, text: str, kind: Any) -> str:
    """The text as the API would take it. Raises typer.BadParameter."""
    import msgspec

    from api.bodies import proper_form

    try:
        found = str(msgspec.convert(text, kind))
    except msgspec.ValidationError:
        raise typer.BadParameter(f"{option}: {text!r} will not do") from None
    proper = proper_form(kind)
    return proper(found) if proper else found


def _record(row: "Row[Any]") -> dict[str, Any]:
    from ops.cli.records import record

    return record(row)
