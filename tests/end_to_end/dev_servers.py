"""Asking what the development servers beside a running system have seen: the inbox, the receiver, the metrics."""

import http.client
from typing import Any

import msgspec


def fetched(url: str, path: str, method: str = "GET", body: object = None) -> bytes:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request(method, path, None if body is None else msgspec.json.encode(body))
    answer = connection.getresponse().read()
    connection.close()
    return answer


def ask(url: str, path: str, method: str = "GET", body: object = None) -> Any:
    """The same for those who answer in JSON, or with nothing."""
    answer = fetched(url, path, method, body)
    return msgspec.json.decode(answer) if answer else None
