"""What a plan buys: requests a minute, for each key and each person of the tenant, and webhook endpoints. Pure."""

from collections.abc import Mapping

#: By plan. `basic` is what a tenant starts with.
PLANS: Mapping[str, int] = {"basic": 100, "free": 100, "pro": 1_000, "enterprise": 10_000}
#: By plan: each endpoint is one more job for every event, written in the transaction in which it happened.
ENDPOINTS: Mapping[str, int] = {"basic": 10, "free": 10, "pro": 25, "enterprise": 50}
#: More than a machine can ask: for systems of one's own, and measurements.
UNLIMITED = 1_000_000_000
#: In a tenant's settings: a number of its own, whatever its plan.
REQUESTS_PER_MINUTE = "requestsPerMinute"


def requests_per_minute(plan: str, settings: Mapping[str, object]) -> int:
    """What the plan buys, unless the tenant's settings have a number of their own."""
    own = settings.get(REQUESTS_PER_MINUTE)
    return own if isinstance(own, int) else PLANS[plan]
