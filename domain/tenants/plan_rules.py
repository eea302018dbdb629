"""How many requests a minute a plan buys, for each key and each person of the tenant. Pure."""

from collections.abc import Mapping

#: By plan. `basic` is what a tenant starts with.
PLANS: Mapping[str, int] = {"basic": 100, "free": 100, "pro": 1_000, "enterprise": 10_000}
#: More than a machine can ask: for systems of one's own, and measurements.
UNLIMITED = 1_000_000_000
#: In a tenant's settings: a number of its own, whatever its plan.
REQUESTS_PER_MINUTE = "requestsPerMinute"


def requests_per_minute(plan: str, settings: Mapping[str, object]) -> int:
    """What the plan buys, unless the tenant's settings have a number of their own."""
    own = settings.get(REQUESTS_PER_MINUTE)
    return own if isinstance(own, int) else PLANS[plan]
