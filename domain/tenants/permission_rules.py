"""What a caller may do: permissions by the scope of a key and by the role of a person. Pure.

A permission is `<what>:read` or `<what>:write`; each route of the API names the one it demands.
"""

from collections.abc import Iterable, Mapping

ORDERS_READ, ORDERS_WRITE = "orders:read", "orders:write"
JOBS_READ, JOBS_WRITE = "jobs:read", "jobs:write"
PRODUCTS_READ, PRODUCTS_WRITE = "products:read", "products:write"
REPORTS_READ, REPORTS_WRITE = "reports:read", "reports:write"
WEBHOOKS_READ, WEBHOOKS_WRITE = "webhooks:read", "webhooks:write"
DEAD_LETTERS_READ = "dead_letters:read"
USERS_READ, USERS_WRITE = "users:read", "users:write"
#: Whoever was let in: to learn who he is.
ANYBODY = "anybody"

_READS = frozenset({ORDERS_READ, JOBS_READ, PRODUCTS_READ, REPORTS_READ, WEBHOOKS_READ})
_WRITES = frozenset({ORDERS_WRITE, JOBS_WRITE, REPORTS_WRITE})
_ADMIN = frozenset({PRODUCTS_WRITE, DEAD_LETTERS_READ})
_PEOPLE = frozenset({USERS_READ, USERS_WRITE})

PERMISSIONS = _READS | _WRITES | _ADMIN | _PEOPLE | {WEBHOOKS_WRITE}

#: Of keys: `api` is a tenant's own business, `admin` its catalogue, its stock and its dead letters.
SCOPES: Mapping[str, frozenset[str]] = {"api": _READS | _WRITES | {WEBHOOKS_WRITE}, "admin": _ADMIN}

#: Of people. An owner may do what an admin may, and is the one who makes owners and admins.
ROLES: Mapping[str, frozenset[str]] = {
    "viewer": _READS,
    "operator": _READS | _WRITES | {DEAD_LETTERS_READ},
    "admin": PERMISSIONS,
    "owner": PERMISSIONS,
}
#: Whom each role may make, change and remove.
MAY_APPOINT: Mapping[str, frozenset[str]] = {
    "owner": frozenset(ROLES),
    "admin": frozenset({"operator", "viewer"}),
    "operator": frozenset(),
    "viewer": frozenset(),
}


def permissions_of_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """What a key with these scopes may do. A scope is a name of SCOPES, or a single permission; others give nothing."""
    return frozenset().union(*(SCOPES.get(scope, {scope} & PERMISSIONS) for scope in scopes))


def permissions_of_role(role: str, more: Iterable[str] = ()) -> frozenset[str]:
    """What a person of this role may do, and `more` that was given to him alone."""
    return ROLES[role] | (frozenset(more) & PERMISSIONS)


def may_appoint(role: str | None, permissions: frozenset[str]) -> frozenset[str]:
    """Whom a caller may make, change and remove. A key, which has no role, nobody who may do more than itself."""
    if role is not None:
        return MAY_APPOINT[role]
    return frozenset(one for one in MAY_APPOINT["admin"] if ROLES[one] <= permissions)
