"""How a seeded bug is declared, and grafted onto the processes of a run. None is reachable in production.

A graft changes the loaded product in place, and fails when the place is not there any more: a mutant that changes
nothing would look like one that nobody can catch.
"""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import msgspec
from sqlalchemy import TextClause, text


class Mutant(msgspec.Struct, frozen=True):
    """One bug: what it breaks, and how it is grafted on.

    `faults` provoke it; none = load alone does. It is caught when one of the promises in `breaks` is found broken, and
    by no other: a mutant whose nature is to get stuck names "liveness".
    """

    name: str
    summary: str
    faults: tuple[str, ...]
    breaks: tuple[str, ...]
    graft: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}


def mutant(*breaks: str, faults: Sequence[str] = ()) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """The decorated function grafts this bug on; its docstring says what is wrong then."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        name = function.__name__.replace("_", "-")
        if name in MUTANTS:
            raise ValueError(f"mutant {name} is declared twice")
        MUTANTS[name] = Mutant(name, (function.__doc__ or "").strip(), tuple(faults), breaks, function)
        return function

    return register


def rewritten(module: str, name: str, old: str, new: str) -> TextClause | str:
    """This constant of a module, SQL as text or as a string, with one piece replaced."""
    was: TextClause | str = getattr(import_module(module), name)
    sql = was.text if isinstance(was, TextClause) else was
    if old not in sql:
        raise ValueError(f"{module}.{name} does not say {old!r} any more: the mutant must be made anew")
    changed = sql.replace(old, new)
    return text(changed) if isinstance(was, TextClause) else changed


def rewrite(module: str, name: str, old: str, new: str) -> None:
    """From now on it is so."""
    setattr(import_module(module), name, rewritten(module, name, old, new))


def replace(holder: Any, name: str, by: Callable[..., Any]) -> None:
    """What goes by this name there, a function of a module or a method of a class, is another one."""
    if not hasattr(holder, name):
        raise ValueError(f"{holder.__name__} has no {name} any more: the mutant must be made anew")
    setattr(holder, name, by)


def as_the_owner() -> None:
    """Sessions take no role: rights that a bug lacks would stop it, and nobody would know what the checker sees."""
    database = imported("domain.database")
    make = database.create_engine

    def make_free(url: str, *, connect_args: dict[str, Any], **more: Any) -> Any:
        options = re.sub(r"-c role=\w+", "", connect_args["options"])
        return make(url, connect_args={**connect_args, "options": options}, **more)

    replace(database, "create_engine", make_free)


def imported(module: str) -> Any:
    """The module, where names that it imported from others can be replaced."""
    return import_module(module)
