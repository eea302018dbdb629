"""Everything that can go wrong by the caller's or the state's doing: one class per fact, each with a stable code.

The class docstring is the message; facts are keyword arguments. The HTTP status of a code is in `api/envelope.py`.
"""

from collections.abc import Sequence
from typing import ClassVar

import msgspec


class Violation(msgspec.Struct, frozen=True):
    """One thing wrong with one field. `field` is a path as the caller wrote it, such as `lines[0].sku`."""

    field: str
    message: str
    code: str = "INVALID"


class LongshoreError(Exception):
    """Something went wrong on our side."""

    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, *, violations: Sequence[Violation] = (), **facts: object) -> None:
        super().__init__((type(self).__doc__ or "").split("\n", maxsplit=1)[0].format(**facts))
        self.violations = list(violations)
        self.policies: list[str] = []  # of the limits that were exceeded
        self.facts = facts


class BodyInvalid(LongshoreError):
    """The body does not fit its schema."""

    code = "VALIDATION_ERROR"


class ScheduleInvalid(BodyInvalid):
    """The schedule cannot be read."""


class NotFound(LongshoreError):
    """{resource} not found."""

    code = "NOT_FOUND"


class DuplicateResource(LongshoreError):
    """{resource} {key} exists already."""

    code = "DUPLICATE_RESOURCE"


class IdempotencyKeyRequired(LongshoreError):
    """Send an Idempotency-Key header: it makes a retry of this request safe."""

    code = "IDEMPOTENCY_KEY_REQUIRED"


class IdempotencyKeyReused(LongshoreError):
    """This Idempotency-Key was used for another body."""

    code = "IDEMPOTENCY_KEY_REUSED"


class IdempotencyKeyInFlight(LongshoreError):
    """The first request with this Idempotency-Key is still under way; try again shortly."""

    code = "IDEMPOTENCY_KEY_IN_FLIGHT"


class InvalidState(LongshoreError):
    """{resource} is {state} and cannot be {verb}."""

    code = "INVALID_STATE"


class VersionConflict(LongshoreError):
    """{resource} has changed since you read it, and is at version {version} now."""

    code = "VERSION_CONFLICT"


class PlanExhausted(LongshoreError):
    """The plan {plan} has room for {most} {resource}, and that many are there."""

    code = "PLAN_EXHAUSTED"


class OrderNotCancellable(InvalidState):
    """The order is {state} and cannot be cancelled."""

    code = "ORDER_NOT_CANCELLABLE"


class LastOwner(InvalidState):
    """The last active owner of a tenant cannot be removed, disabled or given another role."""

    code = "INVALID_STATE"


class JobNotFinished(LongshoreError):
    """The job is {state}: its result does not exist yet."""

    code = "JOB_NOT_FINISHED"


class ResultExpired(LongshoreError):
    """{resource} is no longer kept."""

    code = "RESULT_EXPIRED"


class DeadLetterResolved(LongshoreError):
    """The dead letter is {resolution} already."""

    code = "INVALID_STATE"


class TwinExists(LongshoreError):
    """Job {job_id} has the same unique key."""

    code = "INVALID_STATE"


class InsufficientStock(LongshoreError):
    """{sku} has {available} units free, fewer than asked for."""

    code = "INSUFFICIENT_STOCK"


class Unauthenticated(LongshoreError):
    """Send a valid API key as X-API-Key, or a key or an access token as Authorization: Bearer."""

    code = "UNAUTHENTICATED"


class TokenExpired(LongshoreError):
    """The access token has expired: ask for the next one with the refresh token."""

    code = "TOKEN_EXPIRED"


class LogInRefused(LongshoreError):
    """There is no such log-in: the e-mail address or the password is wrong."""

    code = "UNAUTHENTICATED"


class TokenRefused(LongshoreError):
    """The token was used or revoked, has expired, or was never made."""

    code = "UNAUTHENTICATED"


class AccountLocked(LongshoreError):
    """Too many log-ins with this address have failed; try again in 15 minutes."""

    code = "ACCOUNT_LOCKED"


class Forbidden(LongshoreError):
    """This takes the permission {permission}, which you lack."""

    code = "FORBIDDEN"


class AboveYou(LongshoreError):
    """You may not make, change or remove a person with the role {role}."""

    code = "FORBIDDEN"


class NotAPerson(LongshoreError):
    """This takes the log-in of a person: a key has no account."""

    code = "FORBIDDEN"


class TenantMismatch(LongshoreError):
    """X-Tenant-ID names another tenant than your key or token."""

    code = "TENANT_MISMATCH"


class TenantSuspended(LongshoreError):
    """The tenant is suspended."""

    code = "TENANT_SUSPENDED"


class Overloaded(LongshoreError):
    """Too many requests are waiting; try again shortly, with the same Idempotency-Key if it had one."""

    code = "OVERLOADED"


class TooManyWaiters(LongshoreError):
    """Too many requests wait for news of jobs; ask without waiting, or try again shortly."""

    code = "OVERLOADED"


class TooManyPasswords(LongshoreError):
    """Too many passwords wait to be checked; try again shortly."""

    code = "OVERLOADED"


class DependencyUnavailable(LongshoreError):
    """The database does not answer; try again shortly. Nothing was accepted, or the same Idempotency-Key finds it."""

    code = "DEPENDENCY_UNAVAILABLE"
