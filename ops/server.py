"""What is served: the API on granian, in one process. The console will be composed onto it here."""

import asyncio
import gc
import os
import signal
import threading
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from api.app import create_app
from api.job_news import MOST_WAITERS
from ops.migrate import head
from ops.settings import Settings
from ops.telemetry import VERSION, configure_logging, log

logger = log(__name__)

#: Granian counts connections here, not requests: idle ones and open streams too, so those who wait are half at most.
MOST_CONNECTIONS = 2 * MOST_WAITERS
#: What a request makes dies by its reference count; cycles are rare and can wait for so many objects.
_YOUNG_OBJECTS = 50_000


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, drains what is in flight, and leaves: exit code 0, or 1 when the time is up."""
    configure_logging(
        level=settings.log_level,
        log_format=settings.log_format,
        process="api",
        environment=settings.environment,
        version=VERSION,
        sentry_dsn=settings.sentry_dsn,
    )
    uvloop.run(_serve(settings))


def listener(app: Any, host: str, port: int) -> Server:
    """In this process: one pid to watch, to stop and to kill.

    HTTP/1.1 only: of a request in HTTP/2 each byte may be a header, and granian takes 16 MiB of them.
    """
    return Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        backlog=MOST_CONNECTIONS,
        backpressure=MOST_CONNECTIONS,
        log_enabled=False,  # it would only repeat ours
        websockets=False,
    )


async def _serve(settings: Settings) -> None:
    app = create_app(settings, schema=head())
    gc.freeze()  # what stands now stands for good: no collection need walk through it again
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
    server = listener(app, settings.host, settings.port)
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        logger.info("shutdown_started", signal=signal.Signals(number).name)
        app.state.readiness.stopping = True  # the load balancer looks elsewhere while the rest drains
        app.state.news.close()  # granian waits for open streams before it ends the application
        _leave_within(settings.shutdown_timeout_seconds)
        server.stop()  # type: ignore[no-untyped-call]  # granian leaves it unannotated

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await server.serve()


def _leave_within(seconds: int) -> None:
    # From a thread of its own: the loop may be the one that hangs, and ends before the threads it waits for.
    timer = threading.Timer(seconds, _give_up, [seconds])
    timer.daemon = True
    timer.start()


def _give_up(seconds: int) -> None:
    logger.error("shutdown_forced", after_seconds=seconds)
    os._exit(1)
