"""The application behind its real server, in a thread of this process: streams and hang-ups are the server's doing."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from api.app import create_app
from ops.server import listener
from ops.settings import Settings
from tests.end_to_end.running import wait_until


class Stream:
    """One open event stream, read event by event."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self.connection, self.response = connection, response

    def next(self) -> dict[str, str] | None:
        """The fields of the next event, those of a comment under an empty name; None when the stream has ended."""
        fields: dict[str, str] = {}
        while line := self.response.readline().decode():
            if line == "\n":
                return fields
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value
        self.hang_up()
        return None

    def job(self) -> tuple[str, str]:
        """The id and the state that the next event tells; a heartbeat tells none."""
        fields = self.next()
        assert fields is not None
        assert fields["event"] == "job.state"
        return fields["id"], json.loads(fields["data"])["state"]

    def hang_up(self) -> None:
        self.response.close()
        self.connection.close()


class Served:
    """The running server as a caller reaches it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: list[Stream] = []

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The answer's head; the body is still to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection, connection.getresponse()

    def follow(self, job_id: UUID, key: str, **headers: str) -> Stream:
        connection, response = self.get(f"/api/v1/jobs/{job_id}/events", X_API_Key=key, **headers)
        assert response.status == 200, response.read()
        stream = Stream(connection, response)
        self.streams.append(stream)
        assert stream.next() == {"retry": "3000"}
        return stream

    def read(self, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of a whole answer."""
        connection, response = self.get(path, **headers)
        body = response.read()
        connection.close()
        return response.status, json.loads(body) if body else None, dict(response.headers)


@contextmanager
def served(settings: Settings) -> Iterator[Served]:
    """A fresh application on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    app = create_app(settings)
    stop: Callable[[], object]

    async def serve() -> None:
        nonlocal stop
        server = listener(app, "127.0.0.1", port)
        loop = asyncio.get_running_loop()

        def end() -> None:
            app.state.news.close()
            server.stop()  # type: ignore[no-untyped-call]  # granian leaves it unannotated

        stop = lambda: loop.call_soon_threadsafe(end)  # noqa: E731
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    wait_until(lambda: _answers(port))
    running = Served(port)
    try:
        yield running
    finally:
        for stream in running.streams:
            stream.hang_up()
        stop()
        thread.join(20)
        assert not thread.is_alive()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
