"""Pages of a list: newest first, keyset cursors. A cursor is opaque, and good for the list and filters that made it."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from litestar.params import QueryParameter

from api.envelope import Page, Pagination
from domain.errors import LongshoreError

Item = TypeVar("Item")

Limit = Annotated[int, QueryParameter(ge=1, le=100, required=False, description="Items per page")]
#: Items per page unless the caller says otherwise.
DEFAULT_LIMIT = 50
Cursor = Annotated[
    str | None, QueryParameter(required=False, max_length=500, description="`nextCursor` of the page before")
]


class InvalidCursor(LongshoreError):
    """This cursor was not made by this list with these filters."""

    code = "INVALID_CURSOR"


class Position(msgspec.Struct, array_like=True, frozen=True):
    """The last item of a page: its id, its time where the list is sorted by one, and the list it belongs to."""

    id: UUID
    at: datetime | None
    of: str


def position(cursor: str | None, *filters: object) -> Position | None:
    """Where the page starts; None = at the top. Raises InvalidCursor."""
    if cursor is None:
        return None
    try:
        found = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=Position)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise InvalidCursor from error
    if found.of != _digest(filters):
        raise InvalidCursor
    return found


def start_id(cursor: str | None, *filters: object) -> UUID | None:
    """The id that the page starts before, for lists sorted by id alone. Raises InvalidCursor."""
    found = position(cursor, *filters)
    return found.id if found else None


def page(
    rows: Sequence[Any],
    limit: int,
    show: Callable[[Any], Item],
    *filters: object,
    at: Callable[[Any], datetime] | None = None,
) -> Page[Item]:
    """A page of at most `limit` of these rows, of which the caller asked for one more than that."""
    shown, more = rows[:limit], len(rows) > limit
    cursor = _encode(Position(shown[-1].id, at(shown[-1]) if at else None, _digest(filters))) if more else None
    return Page(data=[show(row) for row in shown], pagination=Pagination(cursor, more))


def _encode(at: Position) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(at)).decode().rstrip("=")


def _digest(filters: Sequence[object]) -> str:
    return hashlib.sha256(repr(filters).encode()).hexdigest()[:8]
