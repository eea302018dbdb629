"""A tenant of a fault's own: its product, its orders and its endpoints are judged like any other's, and leave no trace.

Its endpoints are deleted before the run ends, so that what waits for them is cancelled.
"""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
from sqlalchemy.exc import DBAPIError

from ops.chaos.clients import Client
from ops.chaos.faults import Scene
from ops.chaos.history import Endpoint, Posted, Tenant
from ops.chaos.tenants import make_tenant, product_of

_PATIENCE_S, _TRIES = 6.0, 5
_GONE_WITHIN_S = 60.0


class Guest:
    """Asks as any caller does. `sku` is its one product."""

    def __init__(self, scene: Scene, tenant: Tenant) -> None:
        self._scene, self.tenant = scene, tenant
        self.sku = tenant.scarce[0]
        self._client = Client(list(scene.system.ports.values()), scene.dice, scene.history)

    def call(self, method: str, path: str, key: str, said: object = None) -> tuple[int, bytes]:
        """Tried until it is answered, a few times."""
        body = None if said is None else msgspec.json.encode(said)
        status, answer = self._client.call(method, path, key, body)
        for _ in range(_TRIES):
            if status and status < 500:
                break
            time.sleep(0.3)
            status, answer = self._client.call(method, path, key, body)
        return status, answer

    def order(self, count: int) -> list[Posted]:
        """So many orders of one piece, all at the same moment. Their outcome is known, or resolved after the faults."""
        wanted = [Posted(self.tenant, {self.sku: 1}) for _ in range(count)]
        together = threading.Barrier(count)

        def post(posted: Posted) -> None:
            self._scene.history.begin(posted)
            together.wait()
            self._client.post(posted, _PATIENCE_S)

        threads = [threading.Thread(target=post, args=(posted,), daemon=True) for posted in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return wanted

    @contextmanager
    def endpoint(self, url: str) -> Iterator[str | None]:
        """Its id; None when it could not be made."""
        status, said = self.call("POST", "/webhook-endpoints", self.tenant.api_key, {"url": url, "eventTypes": ["*"]})
        endpoint_id: str | None = msgspec.json.decode(said)["data"]["id"] if status == 201 else None
        made = Endpoint(self.tenant, urlsplit(url).path, endpoint_id or "", since=time.time())
        self._scene.history.guests.append(made)
        try:
            yield endpoint_id
        finally:
            made.ending = time.time()
            self._scene.system.wait(self._has_left, "an endpoint could not be deleted", _GONE_WITHIN_S)

    def _has_left(self) -> bool:
        """Every endpoint of the guest is gone, also one whose making was answered to nobody."""
        status, said = self.call("GET", "/webhook-endpoints", self.tenant.api_key)
        return status == http.client.OK and all(self._delete(one["id"]) for one in msgspec.json.decode(said)["data"])

    def _delete(self, endpoint_id: str) -> bool:
        guests = self._scene.history.guests
        if endpoint_id not in {one.id for one in guests}:
            guests.append(Endpoint(self.tenant, guests[-1].path, endpoint_id, ending=time.time()))
        return self.call("DELETE", f"/webhook-endpoints/{endpoint_id}", self.tenant.api_key)[0] in {204, 404}


def guest(scene: Scene, stock: int) -> Guest | None:
    """A new one, with so many pieces of its product; None when an outage is in its way."""
    name, sku = f"guest-{uuid4().hex}", f"HOT-{scene.dice.randrange(10**6)}"
    try:
        made = Guest(scene, make_tenant(scene.system, name, [sku], [sku]))
    except DBAPIError:
        return None
    # 409: it was made, and the answer was lost.
    return (
        made if made.call("POST", "/products", made.tenant.admin_key, product_of(sku, stock))[0] in {201, 409} else None
    )
