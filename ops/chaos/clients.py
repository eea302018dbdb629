"""A caller who behaves as the documentation tells: keeps its connections, repeats under its key what it is not sure of.

What goes unanswered goes to the next API, as behind a load balancer.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from uuid import uuid4

import msgspec

from ops.chaos.history import Done, Ending, History, Posted, Verb
from ops.chaos.wires import HOST

TIMEOUT_S = 4.0
PATIENCE_S = 12.0
_V1 = "/api/v1"
#: What a caller is asked to try again later with.
_LATER = {429, 500, 502, 503, 504}

FIRST_ANSWER_LOST = "an unknown commit had committed"
FIRST_POST_LOST = "an unknown commit had not"
REPLAYED = "a 202 was replayed"
SHED = "a request was turned away (429 or 503)"


class Answer(msgspec.Struct, frozen=True):
    """Status and body; 0 and nothing when the connection did not survive it."""

    status: int = 0
    body: bytes = b""
    is_replay: bool = False
    #: False when nobody listened: then it was surely not done.
    is_sent: bool = True

    @property
    def done(self) -> Done:
        """A lost answer and one of ours that failed are neither success nor failure."""
        if self.status == 0 or self.status >= 500:
            return "unknown" if self.is_sent else "fail"
        return "ok" if self.status < 400 else "fail"


class Client:
    """One caller, with a connection of each thread to each API that it keeps as long as it lasts."""

    def __init__(self, ports: Sequence[int], randomly: random.Random, history: History) -> None:
        self._ports, self._random, self._history = ports, randomly, history
        self._own = threading.local()
        self._port = randomly.choice(ports)

    def call(self, method: str, path: str, key: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body; (0, b"") when the connection did not survive it."""
        answer = self.ask(method, path, key, body, **headers)
        return answer.status, answer.body

    def ask(self, method: str, path: str, key: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = {"Content-Type": "application/json"} if body is not None else {}
        answer = self._exchange(method, _V1 + path, body, {"X-API-Key": key, **content, **named})
        self._history.saw(f"{method} {path.split('/')[1].partition('?')[0]} {answer.status}")
        if answer.status in {429, 503}:
            self._history.meets(SHED)
        self._port = self._next(but=self._port if answer.status in {0, *_LATER} else 0)
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        port = self._port
        connection = self._open.get(port)
        if connection is None:
            connection = self._open[port] = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            del self._open[port]
            return Answer(is_sent=not isinstance(error, ConnectionRefusedError))
        if answer.will_close:
            connection.close()
        return Answer(answer.status, said, answer.headers.get("Idempotent-Replayed") == "true")

    @property
    def _open(self) -> dict[int, http.client.HTTPConnection]:
        """By port, those of this thread."""
        found: dict[int, http.client.HTTPConnection] = self._own.__dict__.setdefault("open", {})
        return found

    def _next(self, but: int) -> int:
        return self._random.choice([port for port in self._ports if port != but] or self._ports)

    def close(self) -> None:
        """The connections of this thread."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def post(self, posted: Posted, patience_s: float) -> None:
        """The order is accepted or refused when this returns, or its outcome is still unknown."""
        deadline = time.monotonic() + patience_s
        in_doubt = False
        while True:
            answer = self.ask("POST", "/orders", posted.tenant.api_key, posted.body, Idempotency_Key=posted.key)
            if answer.status == http.client.ACCEPTED:
                return self._accepted(posted, answer, in_doubt)
            if answer.status not in {0, 409, *_LATER}:
                posted.outcome, posted.refusal = "refused", f"{answer.status} {answer.body[:300]!r}"
                return self._history.did("order", "fail")
            if answer.is_sent:
                in_doubt = posted.was_unknown = True
            if time.monotonic() > deadline:
                return self._history.did("order", "unknown")
            time.sleep(self._random.uniform(0.05, 0.3))

    def once(self, path: str, key: str, body: bytes) -> Answer:
        """What creates something is posted under a key of its own until its outcome is known, and then once more.

        The answer is the same, or the caller's patience is at its end.
        """
        own, deadline = uuid4().hex, time.monotonic() + PATIENCE_S
        answer = self.ask("POST", path, key, body, Idempotency_Key=own)
        while answer.status in {0, http.client.CONFLICT, *_LATER} and time.monotonic() < deadline:
            time.sleep(self._random.uniform(0.05, 0.3))
            answer = self.ask("POST", path, key, body, Idempotency_Key=own)
        if answer.done == "ok":
            again = self.ask("POST", path, key, body, Idempotency_Key=own)
            if again.status not in {0, *_LATER} and again.body != answer.body:
                self._history.is_strange(
                    f"POST {path} was repeated under its key, and answered {again.status} otherwise"
                )
        return answer

    def end(self, posted: Posted, verb: Verb) -> None:
        """It is asked, once, that this order ends so."""
        ending = Ending(posted.order_id, verb)
        self._history.endings.append(ending)
        answer = self.ask("POST", f"/orders/{posted.order_id}/{verb}", posted.tenant.api_key)
        self._history.did(verb, answer.done)
        if answer.status == http.client.ACCEPTED:
            ending.job_id = json.loads(answer.body)["data"]["id"]

    def _accepted(self, posted: Posted, answer: Answer, in_doubt: bool) -> None:
        self._history.did("order", "ok")
        if answer.is_replay:
            self._history.meets(REPLAYED)
        if in_doubt and posted.outcome != "accepted":
            self._history.meets(FIRST_ANSWER_LOST if answer.is_replay else FIRST_POST_LOST)
        posted.answers.add(answer.body)
        if posted.outcome != "accepted":
            data = json.loads(answer.body)["data"]
            posted.order_id, posted.job_id = data["order"]["id"], data["job"]["id"]
            posted.outcome, posted.accepted_at = "accepted", time.monotonic()
            self._history.accept(posted)
