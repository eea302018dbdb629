"""The catalogue of error codes, so that the `type` of a problem resolves to what it means."""

from litestar import Router, get
from litestar.params import FromPath
from msgspec import Struct

from api.envelope import CODES, Page, Pagination, Success
from domain.errors import NotFound


class CodeView(Struct, rename="camel"):
    """One code: stable, unlike the texts. `retryable` = the same request may succeed later."""

    code: str
    status: int
    title: str
    retryable: bool


@get("/", summary="List error codes", sync_to_thread=False)
def get_codes() -> Page[CodeView]:
    """Every code that an answer can carry."""
    return Page(data=[_show(code) for code in sorted(CODES)], pagination=Pagination(None, has_more=False))


@get("/{code:str}", summary="Read an error code", sync_to_thread=False)
def get_code(code: FromPath[str]) -> Success[CodeView]:
    """One code."""
    if code not in CODES:
        raise NotFound(resource="Error code")
    return Success(data=_show(code))


def _show(code: str) -> CodeView:
    found = CODES[code]
    return CodeView(code, found.status, found.title, found.retryable)


router = Router("/errors", route_handlers=[get_codes, get_code], tags=["Errors"])
