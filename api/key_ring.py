"""Whose an API key is."""

import hashlib
from collections.abc import Callable
from functools import partial

from api.ring import Ring
from domain.errors import Unauthenticated
from domain.tenants.callers import Caller
from domain.tenants.key_rules import KeyParts, parse_key
from domain.tenants.keys import find_caller


class KeyRing(Ring[bytes]):
    """Keys, by their hashes: no key is kept."""

    async def caller(self, key: str, may_ask: Callable[[], None]) -> Caller:
        """Who this key speaks for. Raises as `look_up`; and for one that may be a guess what `may_ask` raises for those
        who have failed too often.
        """
        hashed = hashlib.sha256(key.encode()).digest()
        if (known := self.remembered(hashed)) is not None:
            return known
        parts = parse_key(key)
        if parts is None:
            raise Unauthenticated
        if not self.knows(hashed):
            may_ask()
        return await self.look_up(hashed, partial(self._find, parts))

    def _find(self, parts: KeyParts) -> Caller | None:
        with self.engine.begin() as tx:
            return find_caller(tx, parts)
