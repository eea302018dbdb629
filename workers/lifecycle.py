"""The frame of every process of the fleet: a signal asks it to stop, a deadline makes it, its health is served.

Exit code 0 after a clean stop, 1 when the time allowed for it was up.
"""

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from domain.fleet.workers import Process, leave
from domain.ids import new_id
from ops.settings import Settings
from ops.telemetry import VERSION, configure_logging, log

logger = log(__name__)

NEED_REDIS = frozenset({"relay", "worker"})


#: Young objects between two collections; Python's own 700 make a busy worker spend a sixth of its time collecting.
_YOUNG_OBJECTS = 50_000


class Lifecycle:
    """One per process. `stopping` is set by the first signal; `shutdown_timeout_seconds` later it exits with 1.

    So it does at its end, when it was to leave because it could not go on.
    """

    def __init__(self, role: str, settings: Settings, engine: Engine, redis: Redis, queues: list[str]) -> None:
        self.process = Process(new_id(), role, socket.gethostname(), os.getpid(), queues)
        self.stopping = threading.Event()
        self._settings, self._engine, self._redis = settings, engine, redis
        self._has_failed = False

    def __enter__(self) -> "Lifecycle":
        configure_logging(
            level=self._settings.log_level,
            log_format=self._settings.log_format,
            process=self.process.role,
            environment=self._settings.environment,
            version=VERSION,
            sentry_dsn=self._settings.sentry_dsn,
        )
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._on_signal)
        threading.excepthook = _leave_at_once
        self._serve_health()
        _collect_rarely()
        logger.info("process_started", role=self.process.role, pid=self.process.pid, queues=self.process.queues)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, Exception):
            logger.critical("process.died", role=self.process.role, exc_info=error)
        try:
            with self._engine.begin() as tx:
                leave(tx, self.process.id)
        except SQLAlchemyError:
            logger.warning("process.row_left_behind", role=self.process.role)
        logger.info("shutdown_complete", role=self.process.role)
        if self._has_failed and error is None:
            sys.exit(1)

    def leave(self) -> None:
        """As a signal, and whoever supervises the process shall start another."""
        self._has_failed = True
        self._begin_to_stop("none")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._begin_to_stop(signal.Signals(number).name)

    def _begin_to_stop(self, name: str) -> None:
        if not self.stopping.is_set():
            # Not from the handler itself: it interrupts whatever the main thread does, a log line included.
            threading.Thread(target=self._stop, args=(name,), daemon=True).start()

    def _stop(self, name: str) -> None:
        logger.info("shutdown_started", signal=name)
        timer = threading.Timer(self._settings.shutdown_timeout_seconds, self._give_up)
        timer.daemon = True
        timer.start()
        self.stopping.set()

    def _give_up(self) -> None:
        logger.error("shutdown_forced", after_seconds=self._settings.shutdown_timeout_seconds)
        os._exit(1)

    def _serve_health(self) -> None:
        if self._settings.metrics_port:
            server = HealthServer((self._settings.host, self._settings.metrics_port), self.checks)
            threading.Thread(target=server.serve_forever, name="health", daemon=True).start()

    def checks(self) -> dict[str, str]:
        """`ok` or `down` per dependency of this role. Without Redis no bell is rung or heard; the others need none."""
        checks = {"postgresql": _check(self._ping_database)}
        return checks | ({"redis": _check(self._ping_redis)} if self.process.role in NEED_REDIS else {})

    def _ping_database(self) -> None:
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def _ping_redis(self) -> None:
        self._redis.ping()


def _check(ping: Callable[[], None]) -> str:
    try:
        ping()
    except (SQLAlchemyError, RedisError):
        return "down"
    return "ok"


class HealthServer(ThreadingHTTPServer):
    """`/livez`, `/readyz` and `/metrics` of a process that serves nothing else."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], checks: Callable[[], dict[str, str]]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, HealthHandler)
        self.checks = checks


class HealthHandler(BaseHTTPRequestHandler):
    """Answers GET; everything else is 404."""

    server: HealthServer

    def do_GET(self) -> None:
        match self.path:
            case "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest())
            case "/livez" | "/health/live":
                self._answer(200, "application/json", b'{"status":"ok"}')
            case "/readyz" | "/health/ready" | "/ready":
                checks = self.server.checks()
                ready = set(checks.values()) == {"ok"}
                body = msgspec.json.encode({"status": "ready" if ready else "not_ready", "checks": checks})
                self._answer(200 if ready else 503, "application/json", body)
            case _:
                self._answer(404, "application/json", b'{"status":"not_found"}')

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's signature
        """Probes come every few seconds: not worth a line."""


def _leave_at_once(died: threading.ExceptHookArgs) -> None:
    """A process that has lost a thread is not whole, and takes work that it may never end: others take over from it."""
    try:
        thread = died.thread.name if died.thread else ""
        logger.critical("process.thread_died", thread=thread, exc_info=died.exc_value)
    finally:
        os._exit(1)


def _collect_rarely() -> None:
    """What a bundle makes dies by its reference count; cycles are rare and can wait. What stands now, stays."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
