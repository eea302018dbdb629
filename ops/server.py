"""What is served: the API on granian, in one process. The console will be composed onto it here."""

import asyncio
import os
import signal

from granian.constants import Interfaces
from granian.server.embed import Server

from api.app import create_app
from ops.migrate import head
from ops.settings import Settings
from ops.telemetry import VERSION, configure_logging, log

logger = log(__name__)


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, drains what is in flight, and leaves: exit code 0, or 1 when the time is up."""
    configure_logging(
        level=settings.log_level,
        log_format=settings.log_format,
        process="api",
        environment=settings.environment,
        version=VERSION,
    )
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    app = create_app(settings, schema=head())
    # In this process: one pid to watch, to stop and to kill. Its own log would only repeat ours.
    server = Server(
        app, address=settings.host, port=settings.port, interface=Interfaces.ASGI, log_enabled=False, websockets=False
    )
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        logger.info("shutdown_started", signal=signal.Signals(number).name)
        app.state.readiness.stopping = True  # the load balancer looks elsewhere while the rest drains
        loop.call_later(settings.shutdown_timeout_seconds, os._exit, 1)
        server.stop()  # type: ignore[no-untyped-call]  # granian leaves it unannotated

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await server.serve()
