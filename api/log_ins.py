"""Log-ins, and what becomes of them: the transactions of people who have shown nothing yet but an address or a token.

They run under the role API, since no tenant is known before; what is refused is refused in the same words and time,
whether the address is anybody's or not.
"""

import time
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine

from api.hashing import Hashing
from api.ring import LOOK_UP_WITHIN_S, in_time
from api.token_ring import TokenRing
from api.tokens import AccessTokens
from domain.audit import record_act
from domain.errors import DependencyUnavailable, LogInRefused, TenantSuspended, TokenRefused
from domain.tenants.log_ins import (
    MOST_FAILURES,
    Candidate,
    Door,
    Person,
    Try,
    count_try,
    find_candidate,
    find_person,
    log_in_if_unchanged,
    take_back_try,
)
from domain.tenants.password_resets import Reset, is_open, reset_if_open
from domain.tenants.passwords import is_outdated
from domain.tenants.refresh_tokens import RefreshToken, replace_if_unused, start_family
from ops.settings import Settings
from ops.telemetry import log

logger = log(__name__)

Origin = dict[str, str]


class Tokens(msgspec.Struct):
    """The tokens of a log-in, under the names of RFC 6749, section 5.1; `expires_in` in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105  # the sort of it


class LogIns:
    """Everything that makes, renews and ends log-ins."""

    def __init__(self, engine: Engine, tokens: AccessTokens, ring: TokenRing, settings: Settings) -> None:
        self._engine, self._tokens, self._ring = engine, tokens, ring
        self._lifetime = settings.refresh_lifetime
        self.hashing = Hashing()

    async def log_in(self, email: str, password: str, door: Door, origin: Origin) -> Tokens:
        """Raises LogInRefused, AccountLocked, TenantSuspended, TooManyPasswords."""
        self.hashing.refuse_a_crowd()
        given_up_at = time.monotonic() + LOOK_UP_WITHIN_S
        counted, candidate = await in_time(lambda: self._try(email, door, given_up_at))
        try:
            return await self._enter(candidate, password, origin)
        except LogInRefused:
            if counted.failures >= MOST_FAILURES:
                await in_time(lambda: self._note_lock(candidate, origin))
            raise
        except Exception:  # whatever kept him out, his password was not wrong
            await in_time(lambda: self._take_back(email, counted))
            raise

    async def _enter(self, candidate: Candidate | None, password: str, origin: Origin) -> Tokens:
        hashed = candidate.password_hash if candidate else None
        if not await self.hashing.matches(hashed, password) or candidate is None:
            raise LogInRefused
        if candidate.is_suspended:
            raise TenantSuspended
        new_hash = await self.hashing.hash(password) if is_outdated(candidate.password_hash) else None
        return await in_time(lambda: self._start(candidate, new_hash, origin))

    def _try(self, email: str, door: Door, given_up_at: float) -> tuple[Try, Candidate | None]:
        counted = None
        try:
            with self._engine.begin() as tx:
                counted, candidate = count_try(tx, email), find_candidate(tx, email, door)
                _refuse_if_late(given_up_at)
            _refuse_if_late(given_up_at)  # it may be the commit that took so long
        except Exception:
            if counted is not None:  # by a commit that was late, or that nobody has answered
                self._take_back(email, counted)
            raise
        return counted, candidate

    def _take_back(self, email: str, counted: Try) -> None:
        with self._engine.begin() as tx:
            take_back_try(tx, email, counted)

    def _note_lock(self, candidate: Candidate | None, origin: Origin) -> None:
        logger.warning("user.locked", user=str(candidate.person.id) if candidate else None, ip=origin["ip"])
        if candidate is not None:
            with self._engine.begin() as tx:
                _record(tx, candidate.person.tenant_id, candidate.person.id, "user.locked", origin)

    def _start(self, candidate: Candidate, new_hash: str | None, origin: Origin) -> Tokens:
        person = candidate.person
        with self._engine.begin() as tx:
            log_in_if_unchanged(tx, candidate, new_hash)
            started = start_family(tx, person.tenant_id, person.id, self._lifetime)
            _record(tx, person.tenant_id, person.id, "user.logged_in", origin)
        return self._signed(person, started)

    async def refresh(self, token: str, origin: Origin) -> Tokens:
        """Raises TokenRefused; for a token that was used before, when the whole log-in is over. TenantSuspended."""
        return await in_time(lambda: self._refresh(token, origin))

    def _refresh(self, token: str, origin: Origin) -> Tokens:
        with self._engine.begin() as tx:
            found = replace_if_unused(tx, token)
            if isinstance(found, RefreshToken):
                person = find_person(tx, found.tenant_id, found.user_id, found.family)
                if person is None:
                    raise TokenRefused
                return self._signed(person, found)
            if found is not None:
                facts = {**origin, "family": str(found.family)}
                _record(tx, found.tenant_id, found.user_id, "user.refresh_token_reused", facts)
        if found is not None:
            self._ring.forget(found.family)
        raise TokenRefused

    def _signed(self, person: Person, refresh: RefreshToken) -> Tokens:
        access, expires_in = self._tokens.sign(person, refresh.family, refresh.expires_at)
        return Tokens(access, refresh.token, expires_in)

    async def reset_password(self, token: str, password: str, origin: Origin) -> None:
        """The password is set and every log-in of the person over. Raises TokenRefused."""
        if not await in_time(lambda: self._is_open(token)):
            raise TokenRefused
        hashed = await self.hashing.hash(password)
        if await in_time(lambda: self._reset(token, hashed, origin)) is None:
            raise TokenRefused

    def _is_open(self, token: str) -> bool:
        with self._engine.begin() as tx:
            return is_open(tx, token)

    def _reset(self, token: str, hashed: str, origin: Origin) -> Reset | None:
        with self._engine.begin() as tx:
            done = reset_if_open(tx, token, hashed)
            if done is not None:
                _record(tx, done.tenant_id, done.user_id, "user.password_reset", origin)
        return done

    def find(self, email: str, door: Door) -> Person | None:
        """Whose address this is."""
        with self._engine.connect() as connection:
            candidate = find_candidate(connection, email, door)
        return candidate.person if candidate is not None and not candidate.is_suspended else None


def _refuse_if_late(given_up_at: float) -> None:
    if time.monotonic() >= given_up_at:  # he has been told 503, and nobody will look at his password
        raise DependencyUnavailable


def _record(tx: Connection, tenant_id: UUID, user_id: UUID, action: str, origin: Origin) -> None:
    record_act(tx, tenant_id, f"user:{user_id}", action, str(user_id), detail=origin)
