"""Pages of a list: newest or oldest first, by keyset cursors; of the fields that the caller wants, with Link headers.

A cursor is opaque, and good for the list, the filters and the order that made it. What a caller may say of a list is an
allow-list; the rest is refused by `api.gate`.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from math import ceil
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID

import msgspec
from litestar import Request, Response
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from msgspec import Struct

from api.envelope import Page, Pagination
from domain.errors import LongshoreError
from domain.stretch import Stretch

Item = TypeVar("Item")

#: Items per page unless the caller says otherwise; of numbered pages as their source has it.
DEFAULT_LIMIT = 50
DEFAULT_NUMBERED_LIMIT = 20
Limit = Annotated[
    int | None,
    QueryParameter(
        ge=1,
        le=100,
        required=False,
        description=f"Items per page; {DEFAULT_LIMIT}, or {DEFAULT_NUMBERED_LIMIT} where `page` is given",
    ),
]
Cursor = Annotated[
    str | None, QueryParameter(required=False, max_length=500, description="`nextCursor` of the page before")
]
Sort = Annotated[
    Literal["-createdAt", "createdAt"], QueryParameter(required=False, description="`-` = the newest first")
]
Fields = Annotated[
    str | None,
    QueryParameter(required=False, max_length=500, description="The fields of each item to show, with commas between"),
]
PageNumber = Annotated[
    int | None,
    QueryParameter(
        ge=1, le=1_000_000, required=False, description="The page by its number, from 1, in place of a cursor"
    ),
]
#: What does not change which rows a list has, in which order.
_OF_THE_PAGE = {"cursor", "limit", "fields", "page"}


class InvalidCursor(LongshoreError):
    """This cursor was not made by this list with these filters."""

    code = "INVALID_CURSOR"


class Position(Struct, array_like=True, frozen=True):
    """The last item of a page: its id, its time where the list is sorted by one, and the list it belongs to."""

    id: UUID
    at: datetime | None
    of: str


class Listing:
    """What one request asks of a list. `limit` None = as many as is usual."""

    def __init__(
        self, request: Request[Any, Any, Any], limit: int | None, cursor: str | None, sort: str, fields: str | None
    ) -> None:
        # In the order in which they were written, which Litestar forgets.
        query = request.scope["query_string"].decode(errors="replace")
        self._path, self._asked = request.scope["path"], parse_qsl(query, keep_blank_values=True)
        self._limit, self._cursor, self._sort = limit, cursor, sort
        self._fields = _known(fields, _fields_of(request.route_handler))

    def stretch(self, *, timed: bool = False) -> Stretch:
        """The rows to read, one more than the page shows. `timed`: sorted by time and id. Raises InvalidCursor."""
        oldest_first, limit = self._sort == "createdAt", self.limit + 1
        if self._cursor is None:
            return Stretch(limit, None, oldest_first)
        start = _decode(self._cursor)
        if start.of != self._digest() or (start.at is not None) != timed:
            raise InvalidCursor
        return Stretch(limit, (start.at, start.id) if timed else (start.id,), oldest_first)

    def page(
        self, rows: Sequence[Any], show: Callable[[Any], Item], *, at: Callable[[Any], datetime] | None = None
    ) -> Response[Page[Item]]:
        """The page of the rows that `stretch` asked for. `at`: the time that the list is sorted by."""
        shown, more = rows[: self.limit], len(rows) > self.limit
        last = Position(shown[-1].id, at(shown[-1]) if at else None, self._digest()) if more else None
        cursor = _encode(last) if last else None
        links = {"first": {}, **({"next": {"cursor": cursor}} if cursor else {})}
        return self._answer([show(row) for row in shown], Pagination(cursor, more), links)

    def numbered_stretch(self, number: int) -> tuple[Stretch, int]:
        """The rows of this page, and how many come before them. Raises ValidationException beside a cursor."""
        if self._cursor is not None:
            raise ValidationException(extra=[{"key": "page", "message": "cannot stand beside a cursor"}])
        self._limit = self._limit or DEFAULT_NUMBERED_LIMIT
        return Stretch(self.limit, None, self._sort == "createdAt"), (number - 1) * self.limit

    def numbered_page(
        self, number: int, total: int, rows: Sequence[Any], show: Callable[[Any], Item]
    ) -> Response[Page[Item]]:
        """The page of this number, of so many rows in all."""
        pages = ceil(total / self.limit)
        pagination = Pagination(
            next_cursor=None,
            has_more=number < pages,
            page=number,
            limit=self.limit,
            total=total,
            total_pages=pages,
            has_next=number < pages,
            has_prev=number > 1,
        )
        near = {"first": 1, "prev": min(number - 1, pages), "next": number + 1, "last": pages}
        links = {rel: {"page": str(one)} for rel, one in near.items() if 1 <= one <= pages and one != number}
        return self._answer([show(row) for row in rows], pagination, links)

    @property
    def limit(self) -> int:
        """How many items a page shows."""
        return self._limit or DEFAULT_LIMIT

    def _answer(
        self, items: Sequence[Any], pagination: Pagination, links: Mapping[str, Mapping[str, str]]
    ) -> Response[Page[Any]]:
        data = items if self._fields is None else [_only(item, self._fields) for item in items]
        link = ", ".join(f'<{self._reference(where)}>; rel="{rel}"' for rel, where in links.items())
        return Response(Page(data=list(data), pagination=pagination), headers={"Link": link} if link else {})

    def _reference(self, where: Mapping[str, str]) -> str:
        """This list at another place (RFC 8288 takes a relative reference)."""
        asked = [(name, value) for name, value in self._asked if name not in {"cursor", "page"}]
        query = urlencode([*asked, *where.items()])
        return quote(self._path) + (f"?{query}" if query else "")

    def _digest(self) -> str:
        said = sorted((name, value) for name, value in self._asked if name not in _OF_THE_PAGE)
        return hashlib.sha256(repr((self._path, said)).encode()).hexdigest()[:8]


def listing(
    request: Request[Any, Any, Any],
    limit: Limit = None,
    cursor: Cursor = None,
    sort: Sort = "-createdAt",
    fields: Fields = None,
) -> Listing:
    """For handlers that answer a `Response[Page[...]]`."""
    return Listing(request, limit, cursor, sort, fields)


@cache
def _fields_of(handler: HTTPRouteHandler) -> frozenset[str]:
    """The fields of the items that this handler lists: of the View in its `Response[Page[View]]`."""
    (page,) = handler.parsed_fn_signature.return_type.inner_types
    return frozenset(field.encode_name for field in msgspec.structs.fields(page.inner_types[0].annotation))


def _known(asked: str | None, fields: frozenset[str]) -> frozenset[str] | None:
    if asked is None:
        return None
    wanted = frozenset(asked.split(","))
    if wanted - fields:
        why = f"must be some of {', '.join(sorted(fields))}, with commas between"
        raise ValidationException(extra=[{"key": "fields", "message": why}])
    return wanted


def _only(item: Any, fields: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(item).items() if name in fields}


def _encode(at: Position) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(at)).decode().rstrip("=")


def _decode(cursor: str) -> Position:
    try:
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=Position)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise InvalidCursor from error
