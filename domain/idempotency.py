"""Requests under an Idempotency-Key: the answer to the first stands in the transaction of its effect, for all of them.

For everything that creates something but orders, whose key is a column of the order. A crash leaves neither the key nor
the effect. Stored answers are sealed: one of them shows a secret, once.
"""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, select, text, update
from sqlalchemy.exc import OperationalError

from domain.database import LOCK_TIMEOUT_MS
from domain.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from domain.standby import wait_for_standby
from domain.tables.idempotency import idempotency_keys
from domain.vault import seal, unseal

#: An answer is kept for so long at least; after that its key is as good as new.
KEPT_FOR = timedelta(hours=72)
#: A twin waits so long for the first one to end. It holds a connection meanwhile.
PATIENCE_MS = 1_500
_LOCK_NOT_AVAILABLE = "55P03"


class KeyedRequest(msgspec.Struct, frozen=True):
    """Whose request it is, to which route, under which key; `request_hash` is a digest of all that it says."""

    tenant_id: UUID
    route: str
    key: str
    request_hash: bytes


class StoredAnswer(msgspec.Struct, frozen=True):
    """What a request was answered, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


_PATIENCE = text("SELECT set_config('lock_timeout', :ms, true)")
# A key that is known and not expired stays locked until the caller commits: retention cannot take it meanwhile.
_TAKE = text(
    """
    INSERT INTO idempotency_keys (tenant_id, route, key, request_hash, expires_at)
    VALUES (:tenant_id, :route, :key, :request_hash, clock_timestamp() + CAST(:kept_for AS interval))
        ON CONFLICT (tenant_id, route, key) DO UPDATE
       SET request_hash = excluded.request_hash, status = NULL, headers = NULL, body = NULL,
           created_at = clock_timestamp(), expires_at = excluded.expires_at
     WHERE idempotency_keys.expires_at <= clock_timestamp()
    """
)


def take_key(tx: Connection, vault_key: bytes, asked: KeyedRequest) -> StoredAnswer | None:
    """None: the key is the caller's, who does the work and stores its answer in this transaction. Or that answer.

    Who comes second waits for the first one's commit. Raises IdempotencyKeyInFlight when that takes too long,
    IdempotencyKeyReused when the first request said something else.
    """
    row = msgspec.structs.asdict(asked) | {"kept_for": KEPT_FOR}
    tx.execute(_PATIENCE, {"ms": str(PATIENCE_MS)})
    try:
        taken = tx.execute(_TAKE, row).rowcount
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise IdempotencyKeyInFlight from error
        raise
    tx.execute(_PATIENCE, {"ms": str(LOCK_TIMEOUT_MS)})
    return None if taken else _stored(tx, vault_key, asked)


def _stored(tx: Connection, vault_key: bytes, asked: KeyedRequest) -> StoredAnswer:
    # A second statement on purpose: the snapshot of the first is older than the twin it waited for.
    row = tx.execute(select(idempotency_keys).where(_is(asked))).one()
    wait_for_standby(tx)  # nobody knows here how the commit of the first one ended
    if bytes(row.request_hash) != asked.request_hash:
        raise IdempotencyKeyReused
    return StoredAnswer(row.status, row.headers, unseal(vault_key, bytes(row.body), _place(asked)))


def store_answer(tx: Connection, vault_key: bytes, asked: KeyedRequest, answer: StoredAnswer) -> None:
    """Whoever sends this request again is answered so, if and only if the caller's transaction commits."""
    sealed = seal(vault_key, answer.body, _place(asked))
    values = {"status": answer.status, "headers": dict(answer.headers), "body": sealed}
    tx.execute(update(idempotency_keys).where(_is(asked)).values(values))


_FORGET = text(
    """
    DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM idempotency_keys WHERE expires_at <= clock_timestamp() LIMIT :limit FOR UPDATE SKIP LOCKED))
    """
)


def forget_expired_answers(tx: Connection, limit: int = 1_000) -> int:
    """Answers that are kept no longer leave the table. Answers how many."""
    return tx.execute(_FORGET, {"limit": limit}).rowcount


def _is(asked: KeyedRequest) -> ColumnElement[bool]:
    c = idempotency_keys.c
    return and_(c.tenant_id == asked.tenant_id, c.route == asked.route, c.key == asked.key)


def _place(asked: KeyedRequest) -> str:
    return f"idempotency_keys.body:{asked.tenant_id}:{asked.route}:{asked.key}"
