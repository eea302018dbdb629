"""What a kind of job is: a payload declared together with its queue, retry policy and timeout.

Declaring the class registers the kind; a second kind of the same name fails at import.
"""

from typing import Any

import msgspec
from msgspec import Struct, StructMeta

from domain.jobs.priority_rules import DEFAULT, checked_priority
from domain.jobs.retry_policy import Backoff, RetryPolicy


class UnknownJobKind(Exception):
    """No kind of this name is declared in this version of the code."""


class JobKind(Struct, frozen=True):
    """The declaration of a kind. `timeout_s` bounds one attempt; `bundle` is how many jobs may travel together.

    A result can be read for `result_ttl_s` after the job finished, or as long as the job when that is None. A job does
    not start later than `expires_s` after it was made. Jobs whose payloads agree in the fields `unique_by` are one job:
    until it has ended, or for `unique_for_s`.
    """

    name: str
    queue: str
    retry: RetryPolicy
    timeout_s: float
    bundle: int
    lane: str | None
    on: type[Struct] | None
    payload: Any
    result_ttl_s: float | None = None
    priority: int = DEFAULT
    expires_s: float | None = None
    unique_by: tuple[str, ...] = ()
    unique_for_s: float | None = None

    def unique_key_of(self, args: Struct) -> str | None:
        """What makes this payload a twin of another; None when jobs of this kind are not unique."""
        if not self.unique_by:
            return None
        return msgspec.json.encode([getattr(args, name) for name in self.unique_by]).decode()

    def decode(self, args: object) -> Any:
        """The payload of a stored job. Raises msgspec.ValidationError when this code cannot read it."""
        return msgspec.convert(args, self.payload)


KINDS: dict[str, JobKind] = {}


class JobArgsMeta(StructMeta):
    """Takes the policy of a kind as class keywords, as in `class SendReceipt(JobArgs, kind="email.receipt", ...)`."""

    def __new__(  # noqa: PLR0913  # one keyword per word of a declaration
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        kind: str | None = None,
        queue: str = "default",
        retry: RetryPolicy | None = None,
        timeout: float = 60.0,
        bundle: int = 100,
        lane: str | None = None,
        on: type[Struct] | None = None,
        result_ttl: float | None = None,
        priority: int = DEFAULT,
        expires: float | None = None,
        unique_by: tuple[str, ...] = (),
        unique_for: float | None = None,
        **struct_options: Any,
    ) -> Any:
        payload: Any = super().__new__(mcls, name, bases, namespace, frozen=True, **struct_options)
        if kind is not None:
            payload.kind = _register(
                JobKind(
                    name=kind,
                    queue=queue,
                    retry=retry or Backoff(),
                    timeout_s=timeout,
                    bundle=bundle,
                    lane=lane,
                    on=on,
                    payload=payload,
                    result_ttl_s=result_ttl,
                    priority=checked_priority(priority),
                    expires_s=expires,
                    unique_by=unique_by,
                    unique_for_s=unique_for,
                )
            )
        return payload


def _register(kind: JobKind) -> JobKind:
    fields = set(kind.payload.__struct_fields__)
    if kind.name in KINDS:
        raise ValueError(f"kind {kind.name!r} is declared twice")
    if kind.on is not None and (missing := fields - set(kind.on.__struct_fields__)):
        raise ValueError(
            f"kind {kind.name!r} needs {', '.join(sorted(missing))}, which {kind.on.__name__} does not carry"
        )
    if unknown := set(kind.unique_by) - fields:
        raise ValueError(f"kind {kind.name!r} is unique by {', '.join(sorted(unknown))}, which it does not have")
    if kind.unique_for_s is not None and not kind.unique_by:
        raise ValueError(f"kind {kind.name!r} says how long it is unique, and not by what")
    KINDS[kind.name] = kind
    return kind


class JobArgs(Struct, metaclass=JobArgsMeta):
    """The base of every payload. Small and without secrets: it is stored, shown to operators, kept in dead letters."""


def kind_of_class(payload: type[JobArgs]) -> JobKind:
    """The kind that this payload class declares."""
    return payload.kind  # type: ignore[attr-defined,no-any-return]  # set by the metaclass


def kind_of(args: JobArgs) -> JobKind:
    """The kind of this payload."""
    return kind_of_class(type(args))


def find_kind(name: str) -> JobKind:
    """The kind of this name. Raises UnknownJobKind."""
    try:
        return KINDS[name]
    except KeyError:
        raise UnknownJobKind(name) from None


#: For kinds this code does not know: slow enough for a deploy to bring the code that does.
UNKNOWN_KIND = Backoff(max_attempts=8, base=15.0, cap=600.0)


def policy_of(name: str) -> RetryPolicy:
    """How the kind of this name is retried, also when this code does not declare it."""
    return KINDS[name].retry if name in KINDS else UNKNOWN_KIND


def queues() -> list[str]:
    """Every queue that some kind names."""
    return sorted({kind.queue for kind in KINDS.values()})


def consumers_of(event: type[Struct]) -> list[JobKind]:
    """The kinds declared with `on=` this event."""
    return [kind for kind in KINDS.values() if kind.on is event]
