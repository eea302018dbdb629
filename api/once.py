"""What a request creates under an Idempotency-Key is created once, and every repetition is answered as the first.

draft-ietf-httpapi-idempotency-key-header-07. The key is optional here; orders, which demand one, keep it themselves.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from sqlalchemy import Connection

from api.envelope import CODES, answer_refusal
from api.requests import IdempotencyKey, idempotency_key
from api.tenant_database import TenantDatabase
from domain.errors import IdempotencyKeyInFlight, IdempotencyKeyReused, LongshoreError, PlanExhausted
from domain.idempotency import KeyedRequest, StoredAnswer, store_answer, take_key
from domain.tenants.callers import Caller
from ops.settings import Settings
from ops.telemetry import IDEMPOTENCY

Shown = TypeVar("Shown")
Effect = Callable[[Connection], Response[Shown]]

_CANONICAL = msgspec.json.Encoder(order="deterministic")
#: Refusals by what was found, once the work had begun. All others are made anew each time, as is that of the plan: who
#: makes room asks for the same again.
_KEPT_REFUSALS = {409, 422}
_OUTCOMES: dict[type[Exception], str] = {IdempotencyKeyReused: "mismatch", IdempotencyKeyInFlight: "in_flight"}


def request_hash(method: str, path: str, body: object) -> bytes:
    """SHA-256 of all that a request says: spacing and the order of its members do not matter."""
    return hashlib.sha256(_said(method, path, body)).digest()


def _said(method: str, path: str, body: object) -> bytes:
    return f"{method} {path}\n".encode() + _CANONICAL.encode(body)


class Once:
    """One request that creates something. Without a key it creates anew whenever it is sent."""

    def __init__(
        self, request: Request[Caller, Any, Any], database: TenantDatabase, vault_key: bytes, key: str | None
    ) -> None:
        self._request, self._database, self._vault_key, self._key = request, database, vault_key, key

    def answer(self, body: object, effect: Effect[Shown]) -> Response[Shown]:
        """What `effect` answers, when its transaction has committed; or what it answered to the same request before.

        Raises what it raises, IdempotencyKeyReused for another request, IdempotencyKeyInFlight.
        """
        if self._key is None:
            with self._database.begin() as tx:
                return effect(tx)
        try:
            answer, is_new = self._once(self._asked(self._key, body), effect)
        except tuple(_OUTCOMES) as error:
            IDEMPOTENCY.labels(_OUTCOMES[type(error)]).inc()
            raise
        IDEMPOTENCY.labels("new" if is_new else "replayed").inc()
        headers = dict(answer.headers) | ({} if is_new else {"Idempotent-Replayed": "true"})
        # The bytes as they are stored, in place of what they say.
        content: Any = answer.body
        return Response(content, status_code=answer.status, headers=headers, media_type=headers.pop("Content-Type"))

    def _once(self, asked: KeyedRequest, effect: Effect[Any]) -> tuple[StoredAnswer, bool]:
        with self._database.begin() as tx:
            if known := take_key(tx, self._vault_key, asked):
                return known, False
            answer = _to_store(self._tried(tx, effect))
            store_answer(tx, self._vault_key, asked, answer)
        return answer, True

    def _tried(self, tx: Connection, effect: Effect[Any]) -> Response[Any]:
        """The effect's answer, or its refusal: then nothing of the effect is left, and the key stays taken."""
        try:
            with tx.begin_nested():
                return effect(tx)
        except LongshoreError as error:
            if CODES[error.code].status not in _KEPT_REFUSALS or isinstance(error, PlanExhausted):
                raise
            return answer_refusal(self._request, error)

    def _asked(self, key: str, body: object) -> KeyedRequest:
        method, path = self._request.method, self._request.scope["path"]
        return KeyedRequest(
            tenant_id=self._request.user.tenant_id,
            route=f"{method} {self._request.scope['path_template']}",
            key=key,
            # Under a key: a body may hold a password, which a plain hash would let everybody guess who reads it.
            request_hash=hmac.digest(self._vault_key, _said(method, path, body), "sha256"),
        )


def _to_store(response: Response[Any]) -> StoredAnswer:
    headers = dict(response.headers) | {"Content-Type": response.media_type or "application/json"}
    return StoredAnswer(response.status_code or 200, headers, msgspec.json.encode(response.content))


def once(
    request: Request[Caller, Any, Any],
    database: NamedDependency[TenantDatabase],
    settings: NamedDependency[Settings],
    key: IdempotencyKey = None,
) -> Once:
    """For handlers that create something."""
    return Once(request, database, settings.secret_bytes, None if key is None else idempotency_key(key))
