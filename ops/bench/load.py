"""Callers that post orders as fast as they are answered: `python -m ops.bench.load PLAN`, a process of its own.

Each caller has one connection and one request under way. A request is a handful of bytes put together, an answer is
read no further than its status and length, so that the callers cost the machine as little as callers can.
"""

import asyncio
import sys
import time
from collections import Counter
from itertools import count

import msgspec

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Plan(msgspec.Struct, frozen=True):
    """What to post, and for how long. A rate is counted after the warm-up. `most` = no more orders than that."""

    port: int
    api_key: str
    skus: list[str]
    callers: int
    warm_up_s: float
    seconds: float
    most: int = 10_000_000


class Answered(msgspec.Struct, frozen=True):
    """What came back: how many answers of each status within the counted time, and how long that was."""

    statuses: dict[int, int]
    seconds: float
    posted: int

    @property
    def accepted_per_s(self) -> float:
        return self.statuses.get(202, 0) / self.seconds


class Posting:
    """What the callers share: the next order, the clock, the counts."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._numbers = plan, count()
        self._run = f"{time.time_ns():x}"
        self._heads = [_request(plan, sku) for sku in plan.skus]
        self.began = time.monotonic()
        self._counted_from = self.began + plan.warm_up_s
        self._until = self._counted_from + plan.seconds
        self.posted, self.statuses = 0, Counter[int]()
        self.last = self._counted_from

    def next_request(self) -> bytes | None:
        """None: enough."""
        if self.posted >= self._plan.most or time.monotonic() >= self._until:
            return None
        self.posted += 1
        number = next(self._numbers)
        head, body = self._heads[number % len(self._heads)]
        return b"%bidempotency-key: %b-%d\r\n\r\n%b" % (head, self._run.encode(), number, body)

    def answered(self, status: int) -> None:
        now = time.monotonic()
        if now >= self._counted_from:
            self.statuses[status] += 1
            self.last = now

    def result(self) -> Answered:
        return Answered(dict(self.statuses), max(1e-9, self.last - self._counted_from), self.posted)


class Caller(asyncio.Protocol):
    """One connection: the next order goes out when the last one was answered."""

    def __init__(self, posting: Posting) -> None:
        self._posting, self._buffer, self._missing = posting, b"", 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a TCP connection's is one
        self._post()

    def _post(self) -> None:
        request = self._posting.next_request()
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(_END_OF_HEAD)
        if not end or len(rest) < _length(head):
            return
        self._buffer = b""
        self._posting.answered(int(head[9:12]))
        self._post()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None) if exc is None else self.done.set_exception(exc)


async def post(plan: Plan) -> Answered:
    """Raises OSError when a connection fails."""
    loop, posting = asyncio.get_running_loop(), Posting(plan)
    made = [await loop.create_connection(lambda: Caller(posting), "127.0.0.1", plan.port) for _ in range(plan.callers)]
    await asyncio.gather(*(caller.done for _, caller in made))
    return posting.result()


def _request(plan: Plan, sku: str) -> tuple[bytes, bytes]:
    body = (
        f'{{"customerEmail": "ada@example.com", "currency": "USD", "lines": [{{"sku": "{sku}", "quantity": 1}}]}}'
    ).encode()
    head = (
        f"POST /api/v1/orders HTTP/1.1\r\nhost: 127.0.0.1:{plan.port}\r\nx-api-key: {plan.api_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    ).encode()
    return head, body


def _length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(_LENGTH) + len(_LENGTH)
    return int(lower[start : lower.find(b"\r\n", start) if b"\r\n" in lower[start:] else len(lower)])


if __name__ == "__main__":
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    sys.stdout.write(msgspec.json.encode(asyncio.run(post(plan))).decode())
