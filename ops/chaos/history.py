"""What callers did and were told: the one record that the promises are held against.

An outcome is known (accepted, refused) or it is not: a lost answer and a 503 are neither success nor failure.
"""

import random
import threading
from collections import Counter, deque
from datetime import datetime
from typing import Literal
from uuid import uuid4

import msgspec

Outcome = Literal["unknown", "accepted", "refused"]
#: Of anything that was done: it was, it was not, or nobody knows.
Done = Literal["ok", "fail", "unknown"]

#: Noted by the fault that does it.
EMPTIED_AT_WORK = "Valkey was emptied while a job ran"

_RECENT = 200


class Tenant(msgspec.Struct, frozen=True):
    """One customer of the system, with its keys and what it sells."""

    id: str
    name: str
    api_key: str
    admin_key: str
    #: SKUs that run out, and those that never do.
    scarce: list[str]
    plenty: list[str]
    #: By SKU.
    product_ids: dict[str, str] = msgspec.field(default_factory=dict)


class Posted(msgspec.Struct):
    """One order that a caller wants, under one key, posted as often as it takes to know. `accepted_at` is monotonic."""

    tenant: Tenant
    lines: dict[str, int]
    key: str = msgspec.field(default_factory=lambda: uuid4().hex)
    outcome: Outcome = "unknown"
    order_id: str = ""
    job_id: str = ""
    accepted_at: float = 0.0
    #: What was answered under this key besides the first 202: all must be the same bytes.
    answers: set[bytes] = msgspec.field(default_factory=set)
    refusal: str = ""
    #: A caller did not know for a while, or until all was over.
    was_unknown: bool = False

    @property
    def email(self) -> str:
        """Of nobody else: a mail tells whose order it is about."""
        return f"{self.key}@{self.tenant.name}.example.com"

    @property
    def body(self) -> bytes:
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in self.lines.items()]
        return msgspec.json.encode({"customerEmail": self.email, "currency": "USD", "lines": lines})


class Asked(msgspec.Struct):
    """One report that was promised. Times are of the wall clock, as in its period; `asked_at` is monotonic."""

    tenant: Tenant
    report_id: str
    job_id: str
    since: datetime
    until: datetime
    asked_at: float
    #: What its file was when it was downloaded; None before.
    order_ids: list[str] | None = None
    size: int = 0
    said_rows: int | None = None
    said_bytes: int | None = None


class Adjusted(msgspec.Struct, frozen=True):
    """Units that were added to a stock, or taken from it, by hand."""

    tenant_id: str
    sku: str
    delta: int
    done: Done


class Endpoint(msgspec.Struct):
    """One subscriber. Times are of the wall clock, in seconds: when it was known to stand, and known to be gone."""

    tenant: Tenant
    path: str
    #: Both empty when the answer was lost: it may stand all the same.
    id: str = ""
    secret: str = ""
    since: float = float("inf")
    #: When its end was asked for: from then on nobody owes it anything.
    ending: float = float("inf")
    gone: float = float("inf")


class History:
    """Safe for many threads. Lists only grow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._posted: list[Posted] = []
        self._recent: deque[Posted] = deque(maxlen=_RECENT)
        #: Statuses seen, by route: the load says what it met.
        self.statuses: Counter[str] = Counter()
        #: What was done, and how often it was so: "cancel unknown".
        self.operations: Counter[str] = Counter()
        #: Events of interest that only a caller can see.
        self.met: Counter[str] = Counter()
        self.strange: list[str] = []
        self.reports: list[Asked] = []
        self.adjustments: list[Adjusted] = []
        self.endpoints: list[Endpoint] = []
        #: Dead letters that somebody was told are replayed or edited, by id.
        self.resolved: dict[str, str] = {}
        #: Jobs that a caller saw succeed.
        self.succeeded: set[str] = set()

    def begin(self, posted: Posted) -> None:
        with self._lock:
            self._posted.append(posted)

    def accept(self, posted: Posted) -> None:
        """It is known to be accepted, for the first time."""
        self._recent.append(posted)

    def recent(self, dice: random.Random, most: int = _RECENT) -> Posted | None:
        """One of those accepted last, if there are any."""
        count = len(self._recent)
        return self._recent[-1 - dice.randrange(min(count, most))] if count else None

    def saw(self, what: str) -> None:
        with self._lock:
            self.statuses[what] += 1

    def did(self, operation: str, done: Done) -> None:
        with self._lock:
            self.operations[f"{operation} {done}"] += 1

    def meets(self, event: str, times: int = 1) -> None:
        with self._lock:
            self.met[event] += times

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
