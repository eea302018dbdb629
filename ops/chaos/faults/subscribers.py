"""Faults of one subscriber: it wants no more, or its name points elsewhere by now. Its endpoint is a fault's own."""

from collections.abc import Iterator
from uuid import uuid4

from sqlalchemy import TextClause, text

from ops.chaos.faults import Scene, fault
from ops.chaos.guests import guest
from ops.chaos.outside import ASIDE, Mood
from ops.chaos.wires import HOST

_STOCK, _ORDERS = 100, 6
#: In a mix, deliveries stand in line behind those of everybody else, and that line hardly moves before others heal.
_WITHIN_S = 90.0
_DISABLED = text("SELECT count(disabled_at) FROM webhook_endpoints WHERE id = :id")
_POINT_ELSEWHERE = text("UPDATE webhook_endpoints SET url = :url WHERE id = :id")
_BLOCKED = text(
    """
    SELECT count(*) FROM attempts AS a JOIN webhook_deliveries AS d ON d.job_id = a.job_id
     WHERE d.endpoint_id = :id AND a.detail ->> 'error' = 'blocked_address'
    """
)
#: They lead to this very machine, and none is in the network that a run allows.
_INWARD = ("[::1]", "[::]", "0.0.0.0", "[::ffff:0.0.0.0]")  # noqa: S104  # nobody listens there


@fault("F50", "webhook-rebound", "subscribers", (2.0, 5.0))
def point_inward(scene: Scene) -> Iterator[None]:
    """What an endpoint's URL means has changed since it was registered: it leads inward, and nothing goes there."""
    port, host = scene.system.outside.canary_port, scene.dice.choice(_INWARD)
    if (visitor := guest(scene, _STOCK)) is None:
        return (yield)
    with visitor.endpoint(f"http://{HOST}:{scene.system.webhook_port}{ASIDE}") as endpoint_id:
        if endpoint_id:
            with scene.system.engine.begin() as tx:
                tx.execute(_POINT_ELSEWHERE, {"id": endpoint_id, "url": f"http://{host}:{port}/"})
            visitor.order(_ORDERS)
        yield
        if endpoint_id:
            scene.fires(_seen_times(scene, _BLOCKED, endpoint_id))
    return None


@fault("F52", "webhook-gone", "subscribers", (2.0, 5.0))
def want_no_more(scene: Scene) -> Iterator[None]:
    """A subscriber answers 410: its endpoint is disabled, and hears nothing of what comes after."""
    path, outside = f"{ASIDE}-{uuid4().hex}", scene.system.outside
    outside.asides[path] = Mood(status=410, chance=1.0)
    if (visitor := guest(scene, _STOCK)) is None:
        return (yield)
    with visitor.endpoint(f"http://{HOST}:{scene.system.webhook_port}{path}") as endpoint_id:
        if endpoint_id:
            visitor.order(_ORDERS)
            scene.fires(_seen_times(scene, _DISABLED, endpoint_id))
        later = visitor.order(_ORDERS) if scene.turn.times else []
        yield
        said = b"".join(delivery.body for delivery in outside.aside if delivery.path == path)
        for posted in later:
            if posted.order_id and posted.order_id.encode() in said:
                scene.history.is_strange(f"a disabled endpoint was told of order {posted.order_id}")
    return None


def _seen_times(scene: Scene, query: TextClause, endpoint_id: str) -> int:
    """What it counts, once that is anything; 0 when it stays away."""

    seen = 0

    def is_seen() -> bool:
        nonlocal seen
        with scene.system.engine.connect() as connection:
            seen = int(connection.execute(query, {"id": endpoint_id}).scalar_one())
        return seen > 0

    scene.comes_true(is_seen, _WITHIN_S)
    return seen
