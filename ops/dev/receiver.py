"""A sample webhook receiver: verifies with the public library, answers as it was told, remembers what came.

`POST /hooks` is for Longshore; `PUT /secret`, `GET` and `PUT /mode`, `GET` and `DELETE /deliveries` are for whoever
tries it out. Whatever is sent to it, it goes on.
"""

from collections import deque
from datetime import UTC, datetime

import msgspec
from aiohttp import web
from standardwebhooks import Webhook

from domain.webhooks.signature_rules import secret_bytes

HOST = "127.0.0.1"
KEPT = 200
LARGEST_BODY_BYTES = 1024 * 1024
_SECRETS_KEPT = 100
_OK = 204
_SHOWN_HEADERS = ("webhook-", "x-webhook-", "content-type", "user-agent", "traceparent")


class Secret(msgspec.Struct, forbid_unknown_fields=True):
    secret: str


class Mode(msgspec.Struct, forbid_unknown_fields=True):
    """How to answer what verifies."""

    status: int


class Delivery(msgspec.Struct, frozen=True, rename="camel"):
    """One request to `/hooks`, and how it was answered."""

    webhook_id: str | None
    type: str | None
    subject: str | None
    verified: bool
    status: int
    received_at: datetime
    headers: dict[str, str]
    event: msgspec.Raw | None


class Receiver:
    """Knows its secrets, its mood and its last deliveries; all of it forgotten at the end."""

    def __init__(self) -> None:
        self._secrets: deque[Webhook] = deque(maxlen=_SECRETS_KEPT)
        self._deliveries: deque[Delivery] = deque(maxlen=KEPT)
        self._status = _OK

    def app(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST_BODY_BYTES)
        app.add_routes(
            [
                web.post("/hooks", self.receive),
                web.put("/secret", self.learn_secret),
                web.get("/mode", self.show_mode),
                web.put("/mode", self.change_mode),
                web.get("/deliveries", self.list_deliveries),
                web.delete("/deliveries", self.forget_deliveries),
            ]
        )
        return app

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): _writable(value) for name, value in request.headers.items()}
        verified = any(_verifies(secret, body, headers) for secret in self._secrets)
        delivery = _delivery(body, headers, verified, self._status if verified else 401)
        self._deliveries.append(delivery)
        return web.Response(status=delivery.status)

    async def learn_secret(self, request: web.Request) -> web.Response:
        """One more secret; a delivery is verified when any of them fits."""
        try:
            told = msgspec.json.decode(await request.read(), type=Secret).secret
            secret = Webhook(secret_bytes(told))  # the library would take nonsense for a secret
        except ValueError as error:
            return _refused(str(error))
        self._secrets.append(secret)
        return web.Response(status=204)

    async def show_mode(self, _request: web.Request) -> web.Response:
        return _json(Mode(self._status))

    async def change_mode(self, request: web.Request) -> web.Response:
        try:
            mode = msgspec.json.decode(await request.read(), type=Mode)
        except msgspec.MsgspecError as error:
            return _refused(str(error))
        if not 200 <= mode.status <= 599:
            return _refused("a status is between 200 and 599")
        self._status = mode.status
        return web.Response(status=204)

    async def list_deliveries(self, _request: web.Request) -> web.Response:
        """Newest first."""
        return _json(list(reversed(self._deliveries)))

    async def forget_deliveries(self, _request: web.Request) -> web.Response:
        self._deliveries.clear()
        return web.Response(status=204)


def run_receiver(port: int) -> None:
    """Serves until SIGTERM or SIGINT."""
    web.run_app(Receiver().app(), host=HOST, port=port, print=None, access_log=None, shutdown_timeout=2.0)


def _verifies(secret: Webhook, body: bytes, headers: dict[str, str]) -> bool:
    try:
        secret.verify(body, headers, json_parse=False)
    except Exception:  # noqa: BLE001  # garbage fails in many ways inside the library; none of them verifies
        return False
    return True


def _delivery(body: bytes, headers: dict[str, str], verified: bool, status: int) -> Delivery:
    try:
        event = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        event = None
    said = event if isinstance(event, dict) else {}
    return Delivery(
        webhook_id=headers.get("webhook-id"),
        type=_text(said.get("type")) or headers.get("x-webhook-event"),
        subject=_text(said.get("subject")),
        verified=verified,
        status=status,
        received_at=datetime.now(UTC),
        headers={name: value for name, value in headers.items() if name.startswith(_SHOWN_HEADERS)},
        event=None if event is None else msgspec.Raw(body),
    )


def _writable(value: str) -> str:
    """Bytes that are no UTF-8 arrive as lone surrogates, which JSON cannot carry."""
    return value.encode(errors="replace").decode()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _refused(why: str) -> web.Response:
    return _json({"error": why}, 422)
