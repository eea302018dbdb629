"""Whose an access token is, and what he may do as the database says now: a token says only who, not what he may."""

from functools import partial
from uuid import UUID

from sqlalchemy import Engine

from api.ring import Ring
from api.tokens import AccessTokens, Claims
from domain.errors import Unauthenticated
from domain.tenants.callers import Caller
from domain.tenants.log_ins import find_person


class TokenRing(Ring[UUID]):
    """Log-ins, by the family of their refresh tokens."""

    def __init__(self, engine: Engine, tokens: AccessTokens) -> None:
        super().__init__(engine)
        self._tokens = tokens

    async def caller(self, token: str) -> Caller:
        """Who this token speaks for. One that we have signed is no guess, and looked up for anybody.

        Raises TokenExpired, TenantSuspended, and as `look_up`.
        """
        claims = self._tokens.read(token)
        if (known := self.remembered(claims.sid)) is not None:
            return known
        return await self.look_up(claims.sid, partial(self._find, claims))

    def _find(self, claims: Claims) -> Caller:
        with self.engine.connect() as connection:
            person = find_person(connection, claims.tenant_id, claims.sub, claims.sid)
        if person is None:
            raise Unauthenticated  # to be remembered: we have signed it, and what has ended never begins again
        name, family = f"user:{person.id}", claims.sid
        return Caller(
            person.tenant_id, name, person.permissions, person.requests_per_minute, person.role, person.id, family
        )
