"""A body must be JSON, unencoded: Litestar would parse JSON under any content type. Runs after authentication."""

from litestar.exceptions import HTTPException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

JSON = "application/json"


class JsonOnly(ASGIMiddleware):
    """415 for a body of another media type, or one with a Content-Encoding: it could unfold into anything."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        media_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if _has_body(headers) and (media_type != JSON or headers.get(b"content-encoding", "identity") != "identity"):
            raise HTTPException(status_code=415, detail=f"Send the body as {JSON}, without Content-Encoding.")
        await next_app(scope, receive, send)


def _has_body(headers: dict[bytes, str]) -> bool:
    return headers.get(b"content-length", "0") != "0" or b"transfer-encoding" in headers
