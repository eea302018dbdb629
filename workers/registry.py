"""Which function does which kind: filled by `@handles` and `@handles_bulk`, read by the executor."""

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

import msgspec

from domain.jobs.kind import JobArgs, kind_of_class


class Mode(Enum):
    """How the jobs of a bundle are run."""

    PLAIN = "plain"  # one after the other, each by itself
    ASYNC = "async"  # all at once, on the process's event loop
    BULK = "bulk"  # the whole bundle in one call


class Handler(msgspec.Struct, frozen=True):
    """The function of a kind."""

    run: Callable[..., Any]
    mode: Mode


HANDLERS: dict[str, Handler] = {}

Function = TypeVar("Function", bound=Callable[..., Any])


def handles(payload: type[JobArgs]) -> Callable[[Function], Function]:
    """The decorated `(args, ctx)` function does this kind, one job per call; a coroutine function runs on the loop."""

    def register(function: Function) -> Function:
        _register(payload, function, Mode.ASYNC if inspect.iscoroutinefunction(function) else Mode.PLAIN)
        return function

    return register


def handles_bulk(payload: type[JobArgs]) -> Callable[[Function], Function]:
    """The decorated `(bundle)` function does a whole bundle of this kind in one transaction; see BundleContext."""

    def register(function: Function) -> Function:
        _register(payload, function, Mode.BULK)
        return function

    return register


def _register(payload: type[JobArgs], function: Callable[..., Any], mode: Mode) -> None:
    kind = kind_of_class(payload).name
    if kind in HANDLERS:
        raise ValueError(f"kind {kind!r} has two handlers")
    HANDLERS[kind] = Handler(function, mode)
