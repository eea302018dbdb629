"""What browsers are told on every answer, errors and pages alike (OWASP Secure Headers; Fetch Standard for CORS).

The API itself is for programs. These headers protect whoever opens its pages, or a caller's page that talks to it.
"""

from litestar.config.cors import CORSConfig

_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: https:; "
    "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)
#: As raw ASGI headers. No page may be framed, load from elsewhere, or run a script that stands in it.
SECURITY_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-xss-protection", b"0"),  # the filter of old browsers could be turned against the page
    (b"referrer-policy", b"no-referrer"),
]
_ASKED_WITH = ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID"]
_ASKED_WITH += ["Prefer", "X-API-Key", "X-Correlation-ID", "X-Request-ID", "X-Tenant-ID", "traceparent"]
_ANSWERED_WITH = ["ETag", "Idempotent-Replayed", "Link", "Link", "Location", "Preference-Applied", "RateLimit"]
_ANSWERED_WITH += ["RateLimit-Policy", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining"]
_ANSWERED_WITH += ["X-RateLimit-Reset", "X-Request-ID"]


def cross_origin(origins: list[str]) -> CORSConfig | None:
    """Pages of these origins may call the API with a key of theirs; None when there are none. No cookies are taken."""
    if not origins:
        return None
    return CORSConfig(allow_origins=origins, allow_headers=_ASKED_WITH, expose_headers=_ANSWERED_WITH)
