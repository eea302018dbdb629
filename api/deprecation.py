"""Routes that shall not be used any more say so in every answer, refusals included, and in the document.

RFC 9745 (Deprecation), RFC 8594 (Sunset), and the links of both. A route is deprecated by the words of its decorator:
`@get(..., deprecation=Deprecation(since=..., sunset=..., successor="/api/v2/orders"))`.
"""

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from typing import Any

from msgspec import Struct

Header = tuple[bytes, bytes]


class Deprecation(Struct, frozen=True):
    """`since` is when it began, `sunset` when the route is gone, `successor` the path of what is used in its place.

    Raises ValueError when the end comes before the beginning, or a moment is not in UTC.
    """

    since: datetime
    sunset: datetime | None = None
    successor: str | None = None

    def __post_init__(self) -> None:
        if any(moment.tzinfo is not UTC for moment in self._moments()) or self._moments() != sorted(self._moments()):
            raise ValueError("a route is deprecated first and gone later, both in UTC")

    def _moments(self) -> list[datetime]:
        return [self.since] if self.sunset is None else [self.since, self.sunset]


def deprecation_headers(scope: Any) -> tuple[Header, ...]:
    """Those of an answer of the route that was found, if one was, and it is deprecated."""
    handler = scope.get("route_handler")
    deprecation = None if handler is None else handler.opt.get("deprecation")
    return () if deprecation is None else _headers(deprecation)


@cache
def _headers(deprecation: Deprecation) -> tuple[Header, ...]:
    shown = [("deprecation", f"@{int(deprecation.since.timestamp())}")]
    links = ['</api-docs>; rel="deprecation"; type="text/html"']
    if deprecation.sunset is not None:
        shown.append(("sunset", format_datetime(deprecation.sunset, usegmt=True)))
    if deprecation.successor is not None:
        links.append(f'<{deprecation.successor}>; rel="successor-version"')
    return tuple((name.encode(), value.encode()) for name, value in [*shown, ("link", ", ".join(links))])
