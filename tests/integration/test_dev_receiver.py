"""The sample receiver verifies as the standard says, answers as told, and survives whatever it is sent."""

import base64
import http.client
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from ops.dev.caller import Caller, NotRunning, Refused, wait_for
from tests.integration.dev_process import free_port, longshore

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
EVENT = json.dumps({"type": "order.confirmed", "subject": "order-1", "data": {"orderId": "order-1"}})


class Sender:
    """Posts to /hooks as Longshore would."""

    def __init__(self, port: int) -> None:
        self.port = port

    def post(self, body: str | bytes, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("POST", "/hooks", body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def post_signed(self, body: str = EVENT, secret: str = SECRET) -> int:
        now = datetime.now(UTC)
        signature = Webhook(secret).sign("msg_1", now, body)
        stamp = str(int(now.timestamp()))
        headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature}
        return self.post(body, headers)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    with longshore("receiver", "--port", str(port)):
        wait_for(lambda: _is_up(port), "the receiver")
        yield port


@pytest.fixture
def control(port: int) -> Caller:
    control = Caller(f"http://127.0.0.1:{port}")
    control.send("PUT", "/secret", {"secret": SECRET})
    control.send("PUT", "/mode", {"status": 204})
    control.send("DELETE", "/deliveries")
    return control


@pytest.fixture
def sender(port: int) -> Sender:
    return Sender(port)


def test_a_signed_delivery_is_taken_and_remembered(control: Caller, sender: Sender) -> None:
    assert sender.post_signed() == 204
    (delivery,) = control.get("/deliveries")
    assert delivery["verified"] is True
    assert (delivery["webhookId"], delivery["type"], delivery["subject"]) == ("msg_1", "order.confirmed", "order-1")
    assert delivery["event"]["data"] == {"orderId": "order-1"}
    assert delivery["headers"]["webhook-id"] == "msg_1"


def test_any_secret_it_was_told_will_do(control: Caller, sender: Sender) -> None:
    newer = "whsec_" + base64.b64encode(b"n" * 32).decode()
    control.send("PUT", "/secret", {"secret": newer})
    assert sender.post_signed(secret=newer) == 204
    assert sender.post_signed(secret=SECRET) == 204


def test_it_fails_and_heals_as_told(control: Caller, sender: Sender) -> None:
    control.send("PUT", "/mode", {"status": 500})
    assert sender.post_signed() == 500
    assert control.get("/mode") == {"status": 500}
    control.send("PUT", "/mode", {"status": 204})
    assert sender.post_signed() == 204
    assert [delivery["status"] for delivery in control.get("/deliveries")] == [204, 500]


def test_what_does_not_verify_is_401_and_remembered(control: Caller, sender: Sender) -> None:
    assert sender.post_signed(secret="whsec_" + base64.b64encode(b"x" * 32).decode()) == 401
    (delivery,) = control.get("/deliveries")
    assert (delivery["verified"], delivery["status"]) == (False, 401)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"\xff\xfe", {"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": "v1,x"}),
        (b"[" * 100_000, {"webhook-id": "m", "webhook-timestamp": "x", "webhook-signature": "no comma"}),
        (b"[" * 900 + b"]" * 900, {}),
        (b'{"type": 7, "subject": ["\\ud800"]}', {"webhook-id": "\xff\xfe"}),
        (b'{"type": "\\u0000"}', {"webhook-timestamp": "1e400", "webhook-signature": ",,,"}),
    ],
)
def test_garbage_does_no_harm(control: Caller, sender: Sender, body: bytes, headers: dict[str, str]) -> None:
    assert sender.post(body, headers) == 401
    assert control.get("/deliveries")[0]["verified"] is False
    assert sender.post_signed() == 204


def test_bytes_that_are_not_http_do_no_harm(control: Caller, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(os.urandom(4096))
    assert control.get("/deliveries") == []


@pytest.mark.parametrize(
    ("path", "body"), [("/secret", {"secret": "nonsense"}), ("/mode", {"status": "x"}), ("/mode", 7)]
)
def test_orders_it_cannot_follow_are_refused(control: Caller, path: str, body: Any) -> None:
    with pytest.raises(Refused) as refused:
        control.send("PUT", path, body)
    assert refused.value.status == 422


def test_only_the_last_200_are_kept(control: Caller, sender: Sender) -> None:
    for _ in range(205):
        sender.post(b"", {})
    assert len(control.get("/deliveries")) == 200


def _is_up(port: int) -> bool:
    try:
        return bool(Caller(f"http://127.0.0.1:{port}").get("/deliveries") == [])
    except NotRunning:
        return False
