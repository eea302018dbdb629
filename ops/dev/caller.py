"""A caller of the development system over HTTP, with the keys of its dev.env: what `longshore demo` does is done here.

It waits when told to (429, 503), and every refusal names the request and the answer. Where nothing answers it asks
again too, if asking twice is safe: a post is only with an Idempotency-Key.
"""

import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from ops.dev.program import typed

TIMEOUT_S = 10.0
PATIENCE_S = 60.0
ASK_AGAIN_AFTER_S = 0.5
_NOT_NOW = {429, 503}
# A proxy of the environment has no business between us and this machine.
_OPENER = build_opener(ProxyHandler({}))


class NotRunning(Exception):
    """Nothing answers where the development system should be."""


class Refused(Exception):
    """The answer was not the one hoped for."""

    def __init__(self, method: str, url: str, status: int, body: str) -> None:
        super().__init__(f"{method} {url} answered {status}: {body[:500]}")
        self.status = status


class CommandFailed(Exception):
    """A command of ours did not end with 0; the message is its last word."""


class TimeIsUp(Exception):
    """What was waited for did not happen in time."""


class Caller:
    """Speaks JSON to one base URL. `headers` go with every request. Safe for many threads.

    A `patient` one outlasts an interruption of the other side; `posts_repeated` counts the posts that saw one.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str] | None = None, *, patient: bool = False) -> None:
        self.base_url, self._headers, self._patient = base_url, dict(headers or {}), patient
        self.posts_repeated, self._lock = 0, threading.Lock()

    def get(self, path: str) -> Any:
        return self.send("GET", path)

    def send(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        """The decoded answer, None if it has no body. Raises Refused or NotRunning."""
        content = None if body is None else msgspec.json.encode(body)
        request = Request(self.base_url + path, content, method=method)  # noqa: S310  # http to this machine
        for name, value in {"Content-Type": "application/json", **self._headers, **(headers or {})}.items():
            request.add_header(name, value)
        may_repeat = self._patient and (method != "POST" or request.has_header("Idempotency-key"))
        deadline, repeats = time.monotonic() + PATIENCE_S, 0
        while (answer := self._answer(request, deadline, may_repeat)) is None:
            repeats += 1
            time.sleep(ASK_AGAIN_AFTER_S)
        if repeats and method == "POST":
            with self._lock:
                self.posts_repeated += 1
        return msgspec.json.decode(answer) if answer else None

    def _answer(self, request: Request, deadline: float, may_repeat: bool) -> bytes | None:
        """None: not now."""
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                body: bytes = answer.read()
                return body
        except HTTPError as error:
            with error:
                if error.status in _NOT_NOW and time.monotonic() < deadline:
                    return None
                text = error.read().decode(errors="replace")
                raise Refused(request.get_method(), request.full_url, error.status or 0, text) from None
        except (OSError, HTTPException) as error:
            if may_repeat and time.monotonic() < deadline:
                return None
            raise NotRunning(f"nothing answers at {self.base_url}: is `{typed('up')}` running?") from error


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """What the condition answers, as soon as it is true. Raises TimeIsUp."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeIsUp(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.1)
    return found
