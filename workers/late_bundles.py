"""Bundles that run on though their time is up. Each has a thread, and most such threads never come back."""

import time
from uuid import UUID

#: A thread that is late for so long waits for what will not come: a lock, a look-up, a library without a timeout.
STUCK_AFTER_S = 30.0


class LateBundles:
    """One per worker process, by the lease of each bundle. Any thread may call it."""

    def __init__(self) -> None:
        self._since: dict[UUID, float] = {}

    def note(self, lease_id: UUID) -> bool:
        """A job of this bundle is past its time. True for the first of them."""
        now = time.monotonic()
        return self._since.setdefault(lease_id, now) is now

    def forget(self, lease_id: UUID) -> None:
        """This bundle has ended, or is not late after all."""
        self._since.pop(lease_id, None)

    def stuck(self) -> int:
        """How many threads of this process are lost to it, as far as can be told."""
        now = time.monotonic()
        return sum(now - since > STUCK_AFTER_S for since in list(self._since.values()))
