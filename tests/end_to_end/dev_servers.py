"""Asking what the development servers beside a running system have seen: the inbox, the receiver, the metrics."""

import http.client
from contextlib import closing
from typing import Any

import msgspec


def fetched(url: str, path: str, method: str = "GET", body: object = None) -> bytes:
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)) as connection:
        connection.request(method, path, None if body is None else msgspec.json.encode(body))
        return connection.getresponse().read()


def ask(url: str, path: str, method: str = "GET", body: object = None) -> Any:
    """The same for those who answer in JSON, or with nothing."""
    answer = fetched(url, path, method, body)
    return msgspec.json.decode(answer) if answer else None
