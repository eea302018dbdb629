"""What callers did and were told: the one record that the promises are held against.

An outcome is known (accepted, refused) or it is not: a lost answer and a 503 are neither success nor failure.
"""

import threading
from typing import Literal
from uuid import uuid4

import msgspec

Outcome = Literal["unknown", "accepted", "refused"]


class Tenant(msgspec.Struct, frozen=True):
    """One customer of the system, with its keys and what it sells."""

    id: str
    name: str
    api_key: str
    admin_key: str
    #: SKUs that run out, and those that never do.
    scarce: list[str]
    plenty: list[str]


class Posted(msgspec.Struct):
    """One order that a caller wants, under one key, posted as often as it takes to know. Times are monotonic."""

    tenant: Tenant
    lines: dict[str, int]
    at: float
    key: str = msgspec.field(default_factory=lambda: uuid4().hex)
    outcome: Outcome = "unknown"
    order_id: str = ""
    job_id: str = ""
    accepted_at: float = 0.0
    tries: int = 0
    #: What was answered under this key besides the first 202: all must be the same bytes.
    answers: set[bytes] = msgspec.field(default_factory=set)
    refusal: str = ""

    @property
    def email(self) -> str:
        """Of nobody else: a mail tells whose order it is about."""
        return f"{self.key}@{self.tenant.name}.example.com"

    @property
    def body(self) -> bytes:
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in self.lines.items()]
        return msgspec.json.encode({"customerEmail": self.email, "currency": "USD", "lines": lines})


class History:
    """Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._posted: list[Posted] = []
        #: Statuses seen, by route: the load says what it met.
        self.statuses: dict[str, int] = {}
        self.strange: list[str] = []

    def begin(self, posted: Posted) -> None:
        with self._lock:
            self._posted.append(posted)

    def saw(self, what: str) -> None:
        with self._lock:
            self.statuses[what] = self.statuses.get(what, 0) + 1

    def is_strange(self, what: str) -> None:
        """Something that no fault excuses."""
        with self._lock:
            self.strange.append(what)

    @property
    def posted(self) -> list[Posted]:
        with self._lock:
            return list(self._posted)

    def accepted(self) -> list[Posted]:
        return [posted for posted in self.posted if posted.outcome == "accepted"]
