"""What every process tells of itself: structured logs on stdout, and metrics under the names of the field.

A leaf: imports nothing of ours. Logs are one JSON object per line; they never carry a secret, an address or a payload.
"""

import json
import logging
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import lru_cache
from itertools import accumulate
from threading import Lock
from typing import Any, TextIO, cast

import msgspec
import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

VERSION = "0.1.0"

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class BatchHistogram(Collector):
    """A histogram of durations in seconds, with one label, that takes many observations under one lock.

    prometheus_client's own takes two locks for each: too much for what happens once per job.
    """

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._lock = Lock()
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        REGISTRY.register(self)

    def observe_all(self, label: str, seconds: Sequence[float]) -> None:
        """Each of these durations counts."""
        places = [bisect_left(DURATION_BUCKETS, duration) for duration in seconds]
        with self._lock:
            counts = self._counts.setdefault(label, [0] * (len(DURATION_BUCKETS) + 1))
            for place in places:
                counts[place] += 1
            self._sums[label] = self._sums.get(label, 0.0) + sum(seconds)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        with self._lock:
            for label, counts in self._counts.items():
                bounds = [*map(floatToGoString, DURATION_BUCKETS), "+Inf"]
                cumulative = list(zip(bounds, map(float, accumulate(counts)), strict=True))
                family.add_metric([label], cumulative, self._sums[label])
        yield family


HTTP_REQUESTS = Counter("http_requests", "Requests answered, by route template.", ["method", "route", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds",
    "From the request's first byte to the answer's start.",
    ["method", "route"],
    buckets=LATENCY_BUCKETS,
)
ORDERS_ACCEPTED = Counter("longshore_orders_accepted", "Orders made durable.")
# Five under names that dashboards of business look for, tenant included.
ORDERS_CREATED = Counter("orders_created", "Orders made durable, by tenant.", ["tenant_id", "status"])
ORDER_PROCESSING = Histogram(
    "order_processing_duration_seconds",
    "From the order's acceptance to the decision about its stock.",
    ["tenant_id", "payment_method"],
    buckets=DURATION_BUCKETS,
)
ACTIVE_USERS = Gauge("active_users_current", "People whose session was renewed within 15 minutes.", ["tenant_id"])
PRODUCT_STOCK = Gauge("product_stock_quantity", "Free units: of the 1000 products with the fewest.", ["product_name"])
DATABASE_CONNECTIONS = Gauge("database_connections_active", "Connections that this process has open to PostgreSQL.")
RATE_LIMITED = Counter("longshore_rate_limited", "Requests refused for being too many.", ["policy"])
IDEMPOTENCY = Counter("longshore_idempotency", "Keys seen: new, replayed, mismatch or in_flight.", ["outcome"])
INTAKE_FLUSH_SIZE = Histogram(
    "longshore_intake_flush_orders", "Orders per commit.", buckets=(1, 2, 5, 10, 20, 50, 100, 200)
)
LIVE_WAITERS = Gauge("longshore_live_waiters", "Requests that wait for news of a job: long polls and event streams.")
OUTBOX_RINGS = Counter(
    "longshore_outbox_rings", "Obligations rung; `again` = nobody had claimed them.", ["queue", "again"]
)
RELAY_PASS = Histogram("longshore_outbox_relay_batch_seconds", "One pass of the relay.", buckets=LATENCY_BUCKETS)
JOB_ATTEMPTS = Counter("longshore_job_attempts", "Attempts ended, by outcome.", ["kind", "outcome"])
JOB_DURATION = BatchHistogram("longshore_job_duration_seconds", "From the claim to the end of the attempt.", "kind")
JOB_WAIT = BatchHistogram("longshore_job_wait_seconds", "From due to claimed.", "kind")
JOBS_IN_PROGRESS = Gauge("longshore_jobs_in_progress", "Jobs this process holds.")
THREADS_STUCK = Gauge("longshore_threads_stuck", "Threads whose job was to be done half a minute ago, and is not.")
FINISHES_REFUSED = Counter("longshore_finishes_refused", "Finishes that the fence refused: the lease was taken over.")
RESCUES = Counter("longshore_rescues", "Jobs taken over from silent workers.", ["queue"])
QUEUE_DEPTH = Gauge("longshore_queue_depth", "Jobs by queue and state, from PostgreSQL.", ["queue", "state"])
LANES = Gauge(
    "longshore_lanes", "Lanes by queue and state: `parked` = an open circuit, `disabled` for good.", ["queue", "state"]
)
OUTBOX_OLDEST = Gauge("longshore_outbox_oldest_seconds", "Age of the oldest obligation that is due.", ["queue"])
JOB_ERRORS = Counter(
    "longshore_job_errors",
    "Exceptions that ended an attempt: operational, external or programming.",
    ["kind", "category"],
)
UNEXPECTED_ERRORS = Counter("longshore_unexpected_errors", "Errors that nobody foresaw: logged with their stacks.")
LOG_LINES_LOST = Counter("longshore_log_lines_lost", "Writes of the log that stdout refused: its reader has gone.")
BUILD = Gauge("longshore_build_info", "1, labelled with the version that runs.", ["version"])

#: To the next part of PostgreSQL's message, of SQLAlchemy's, or of a stack.
_DETAIL = re.compile(
    r"^DETAIL:.*?(?=^(?:HINT|CONTEXT|QUERY|LOCATION):|^\[SQL: |^$|^Traceback|\Z)", re.MULTILINE | re.DOTALL
)
_MASKED = "DETAIL:  ***\n"
_LAST_WORDS_S = 2.0
_SAME_ON_EVERY_LINE = ("environment", "service", "version")
_SECRET_WORDS = ("secret", "password", "token", "authorization", "api_key", "apikey", "dsn", "email")


class Stdout:
    """Where lines go. One that nobody takes, as when a pipe's reader has died or a disk is full, is counted and lost.

    A process whose work is done must not fail because it could not tell of it, and must not stay because it could not
    say that it leaves.
    """

    def write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
        except OSError:
            LOG_LINES_LOST.inc()

    def flush(self) -> None:
        try:
            sys.stdout.flush()
        except OSError:
            LOG_LINES_LOST.inc()


def configure_logging(
    *, level: str, log_format: str, process: str, environment: str, version: str, sentry_dsn: str = ""
) -> None:
    """Every log line of this process, the libraries' included, goes to stdout as one event with these defaults.

    Errors that are logged with their stacks are counted, and told to Sentry if `sentry_dsn` names one.
    """
    defaults = {"service": f"longshore-{process}", "version": version, "environment": environment}
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        lambda _logger, _method, event: {**defaults, **event},
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", key="timestamp"),
        redact,
        _unexpected_errors(sentry_dsn, f"longshore@{version}", environment),
    ]
    # Plain tracebacks: those with local variables would show secrets and addresses.
    rendered: list[Any] = (
        [structlog.processors.format_exc_info, without_details, structlog.processors.JSONRenderer(json_line)]
        if log_format == "json"
        else [
            structlog.processors.format_exc_info,
            without_details,
            without_repetition,
            structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    stdout = Stdout()
    structlog.configure(
        # Straight to stdout: the way through the standard library doubles the cost of a line, one per request.
        processors=[*shared, *rendered],
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, stdout)),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("dramatiq", "aiohttp.access", "mail.log", "granian.access", "_granian"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    BUILD.labels(version).set(1)


def _unexpected_errors(sentry_dsn: str, release: str, environment: str) -> Any:
    """A processor that counts the errors that come with their stacks, and tells Sentry of them."""
    if sentry_dsn:
        import sentry_sdk  # noqa: PLC0415  # a tenth of a second, for those who want it
        from sentry_sdk.integrations.atexit import AtexitIntegration  # noqa: PLC0415

        sentry_sdk.init(
            sentry_dsn,
            release=release,
            environment=environment,
            default_integrations=False,  # they read along in requests and statements
            integrations=[AtexitIntegration(callback=lambda _pending, _timeout_s: None)],
            include_local_variables=False,
            send_default_pii=False,
            max_breadcrumbs=0,
            auto_session_tracking=False,
            before_send=_told_to_sentry,
        )

    def processor(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if error := event.get("exc_info"):
            UNEXPECTED_ERRORS.inc()
            if sentry_dsn:
                told = {name: value for name, value in event.items() if name not in {"exc_info", "_record"}}
                with sentry_sdk.new_scope() as scope:
                    scope.set_tag("service", told.pop("service"))
                    scope.set_context("event", told)
                    scope.capture_exception(None if error is True else error)
                if event["level"] == "critical":  # the last that is heard of this process
                    sentry_sdk.flush(_LAST_WORDS_S)
        return event

    return processor


def _told_to_sentry(event: Any, _hint: object) -> Any:
    for raised in event.get("exception", {}).get("values", ()):
        raised["value"] = _DETAIL.sub(_MASKED, raised.get("value") or "")
    return event


def without_details(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """PostgreSQL's details of an error are left out of its stack: they quote rows, addresses and all."""
    if "exception" in event:
        event["exception"] = _DETAIL.sub(_MASKED, event["exception"])
    return event


def json_line(event: dict[str, Any], default: Callable[[object], str]) -> str:
    """The event as JSON in ASCII, so that no encoding of stdout can refuse it. `default` says what JSON cannot."""
    try:
        return str(msgspec.json.encode(event, enc_hook=default), "ascii")
    except (UnicodeError, TypeError):  # letters beyond ASCII, half characters, keys that are no text: rare, and slower
        return json.dumps(event, default=default)


def without_repetition(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For one reader at a terminal: what is the same on every line is left out, and so is an id's second name."""
    for name in _SAME_ON_EVERY_LINE:
        event.pop(name, None)
    for name in ("correlationId", "request_id"):
        if name in event and event[name] == event.get("requestId"):
            del event[name]
    return event


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Values under a name that sounds like a secret or an address are masked, however they came into the event."""
    for name in event:
        if _sounds_secret(name):
            event[name] = "***"
    return event


@lru_cache(1_000)  # names are words of the code: few, and seen on every line
def _sounds_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def log(name: str) -> Any:
    """A logger; events are dotted words, such as `job.retrying`, with their facts as keywords."""
    return structlog.get_logger(name)
