"""A stretch of a list, by the columns that sort it: what is added meanwhile moves nothing (keyset pagination)."""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, tuple_


class Stretch(msgspec.Struct, frozen=True):
    """At most `limit` rows, newest first or `oldest_first`; those behind `after`, which are the sorting values of a row
    and end with its id, or from the start.
    """

    limit: int
    after: tuple[Any, ...] | None = None
    oldest_first: bool = False

    def of(self, query: Select[Any], *columns: ColumnElement[Any]) -> Select[Any]:
        """The query, sorted by these columns and cut to this stretch."""
        ordered = query.order_by(*(c if self.oldest_first else c.desc() for c in columns)).limit(self.limit)
        if self.after is None:
            return ordered
        here, behind = tuple_(*columns), tuple_(*self.after)
        return ordered.where(here > behind if self.oldest_first else here < behind)
