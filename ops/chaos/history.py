"""What callers did and were told: the one record that the promises are held against.

An outcome is known (accepted, refused) or it is not: a lost answer and a 503 are neither success nor failure.
"""

import random
import threading
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, get_args
from uuid import uuid4

import msgspec

from ops.chaos.stage import Stage

Outcome = Literal["unknown", "accepted", "refused"]
#: Of anything that was done: it was, it was not, or nobody knows.
Done = Literal["ok", "fail", "unknown"]

#: How a caller may end an order.
Verb = Literal["cancel", "complete"]

#: Promises that only those can judge who were there.
Noted = Literal[
    "orders are taken without Valkey",
    "who is told to leave leaves",
    "each tick fires once",
    "a dead letter is resolved once",
]

#: Of every order.
CURRENCY = "USD"

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
        return msgspec.json.encode({"customerEmail": self.email, "currency": CURRENCY, "lines": lines})


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
    #: Of each of its rows what follows the id: when, status, reason, address, currency, total.
    cells: list[list[str]] = []


class Adjusted(msgspec.Struct, frozen=True):
    """Units that were added to a stock, or taken from it, by hand."""

    tenant_id: str
    sku: str
    delta: int
    done: Done


class Ending(msgspec.Struct):
    """An order that somebody wanted cancelled or completed. `job_id` is of the job that was promised with 202."""

    order_id: str
    verb: Verb
    job_id: str = ""


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
    #: What it asked to hear of.
    types: Sequence[str] = ("*",)

    def hears_of(self, type_: str) -> bool:
        return "*" in self.types or type_ in self.types


class Pause(msgspec.Struct, frozen=True):
    """A queue was surely held between these times of the database's clock."""

    queue: str
    since: datetime
    until: datetime


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
        self.noted: dict[Noted, list[str]] = {promise: [] for promise in get_args(Noted)}
        #: Which fault stood when.
        self.stage = Stage()
        self.reports: list[Asked] = []
        self.adjustments: list[Adjusted] = []
        self.endpoints: list[Endpoint] = []
        #: Those of a fault's own tenants.
        self.guests: list[Endpoint] = []
        #: Jobs that the harness has asked for, or may have.
        self.enqueued: set[str] = set()
        #: Each stands here before it is asked for.
        self.endings: list[Ending] = []
        #: The first tick of each schedule that surely stands, by its name.
        self.schedules: dict[str, datetime] = {}
        self.pauses: list[Pause] = []
        #: Dead letters that somebody was told are replayed or edited, by id.
        self.resolved: dict[str, str] = {}
        #: Jobs that a caller saw succeed.
        self.succeeded: set[str] = set()
        #: Whose an order, a job or a report is, by its id, as far as somebody was told.
        self.owners: dict[str, Tenant] = {}

    def begin(self, posted: Posted) -> None:
        with self._lock:
            self._posted.append(posted)

    def accept(self, posted: Posted) -> None:
        """It is known to be accepted, for the first time."""
        self.owners.update(dict.fromkeys((posted.order_id, posted.job_id), posted.tenant))
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

    def resolve(self, letter_id: str, how: str) -> None:
        """Somebody was told that this dead letter is replayed or edited. Each is so once, whoever asks."""
        with self._lock:
            if before := self.resolved.get(letter_id):
                self.noted["a dead letter is resolved once"].append(f"{letter_id} was {before}, and then {how}")
            self.resolved[letter_id] = how

    def is_strange(self, what: str) -> None:
        """Something that no fault excuses."""
        with self._lock:
            self.strange.append(what)

    def breaks(self, promise: Noted, what: str) -> None:
        """Likewise, and it has a name."""
        with self._lock:
            self.noted[promise].append(what)

    @property
    def posted(self) -> list[Posted]:
        with self._lock:
            return list(self._posted)

    def accepted(self) -> list[Posted]:
        return [posted for posted in self.posted if posted.outcome == "accepted"]
