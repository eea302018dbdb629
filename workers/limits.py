"""The operators' controls, applied to one pass of the relay: what is paused, and how many may still be rung. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from domain.jobs.controls import Control
from domain.jobs.due import Closed, FlowKey


class Bucket:
    """Tokens for a kind that may start so many jobs per second; it holds a quarter of a second's worth."""

    def __init__(self, now: float) -> None:
        self._tokens, self._filled_at = 0.0, now

    def tokens(self, per_second: float, now: float) -> int:
        most = max(1.0, per_second / 4)
        self._tokens = min(most, self._tokens + (now - self._filled_at) * per_second)
        self._filled_at = now
        return int(self._tokens)

    def take(self, count: int) -> None:
        self._tokens -= count


class Limits:
    """The controls, and what they leave free in this pass."""

    def __init__(self, controls: Sequence[Control], buckets: dict[str, Bucket], now: float) -> None:
        self._controls = {(control.scope, control.name): control for control in controls}
        self._buckets = buckets
        self._free: dict[tuple[str, ...], int] = {}
        for control in controls:
            if control.scope == "kind" and control.starts_per_second is not None:
                bucket = buckets.setdefault(control.name, Bucket(now))
                self._free["starts", control.name] = bucket.tokens(control.starts_per_second, now)

    @property
    def are_capped(self) -> bool:
        """Some cap stands, so that what runs must be counted."""
        return any(control.is_capped for control in self._controls.values())

    def is_open(self, flow: FlowKey) -> bool:
        """Nothing is asked of this flow."""
        return not self._of(flow)

    def is_paused(self, flow: FlowKey) -> bool:
        """Its queue or its kind is paused, or its tenant suspended."""
        return any(control.paused for control in self._of(flow))

    def is_capped(self, flow: FlowKey) -> bool:
        """A cap stands that counts what is in flight of this flow."""
        return any(control.is_capped for control in self._of(flow))

    def closed(self, queues: Sequence[str] = ()) -> Closed:
        """Who gets nothing in this pass: these queues, what is paused, and what has used up its limit."""
        full: list[tuple[str, ...]] = [key for key, free in self._free.items() if free <= 0]
        full += [scope for scope, control in self._controls.items() if control.paused]
        whole, tenants = ([key for key in full if len(key) == length] for length in (2, 3))
        return Closed(
            queues=[*queues, *(name for scope, name in whole if scope == "queue")],
            kinds=[name for scope, name in whole if scope in {"kind", "starts"}],
            tenants=[name for scope, name in whole if scope == "tenant"],
            tenants_of_queues=[(name, tenant_id) for scope, name, tenant_id in tenants if scope == "queue"],
            tenants_of_kinds=[(name, tenant_id) for scope, name, tenant_id in tenants if scope == "kind"],
        )

    def count(self, in_flight: Mapping[tuple[str, str, UUID], int]) -> None:
        """So many are rung or running, by queue, kind and tenant."""
        for control in self._controls.values():
            mine = {
                key: count
                for key, count in in_flight.items()
                if key[0 if control.scope == "queue" else 1] == control.name
            }
            if control.max_in_flight is not None:
                self._free[control.scope, control.name] = control.max_in_flight - sum(mine.values())
            if control.max_in_flight_per_tenant is not None:
                theirs: Counter[str] = Counter()
                for (_, _, tenant), count in mine.items():
                    theirs[str(tenant)] += count
                for tenant_id, count in theirs.items():
                    key = (control.scope, control.name, tenant_id)
                    self._free[key] = control.max_in_flight_per_tenant - count

    def allow(self, flow: FlowKey, wanted: int) -> int:
        """How many of `wanted` jobs of this flow may be rung; they count from now on."""
        keys = self._keys(flow)
        allowed = max(0, min([wanted, *(self._free[key] for key in keys)]))
        for key in keys:
            self._free[key] -= allowed
        return allowed

    def note_started(self, kind: str, count: int) -> None:
        """So many jobs of this kind were rung: they have used their tokens."""
        if kind in self._buckets:
            self._buckets[kind].take(count)

    def _of(self, flow: FlowKey) -> list[Control]:
        scopes = (("queue", flow.queue), ("kind", flow.kind), ("tenant", str(flow.tenant_id)))
        return [self._controls[scope] for scope in scopes if scope in self._controls]

    def _keys(self, flow: FlowKey) -> list[tuple[str, ...]]:
        keys: list[tuple[str, ...]] = [("starts", flow.kind)]
        for control in self._of(flow):
            keys.append((control.scope, control.name))
            if control.max_in_flight_per_tenant is not None:
                keys.append((control.scope, control.name, str(flow.tenant_id)))
                self._free.setdefault(keys[-1], control.max_in_flight_per_tenant)
        return [key for key in keys if key in self._free]
