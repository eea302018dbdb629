"""Hostile endpoints on real sockets: each is answered for in time, and none leads where it must not."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domain.webhooks.answer_rules import Answer
from workers.clients import guarded_http, look_ups
from workers.clients.guarded_http import READ_MAX_BYTES, GuardedHttp

LOOPBACK = [ip_network("127.0.0.0/8")]
BODY = b'{"type": "order.confirmed"}'
HEADERS = {"Content-Type": "application/json", "webhook-id": "msg_1"}
SHORT_S = 0.3

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Requests(list[bytes]):
    """What a server received, in order, and how many connections brought it."""

    connections = 0


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head + await reader.readexactly(length)


def reply(head: str = "HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port; whatever is still open when the block ends is closed."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def answering(*replies: bytes, seen: Requests | None = None) -> Handler:
    """Keeps the connection alive and sends the replies in turn, the last one for ever."""
    requests = Requests() if seen is None else seen

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.connections += 1
        while True:
            requests.append(await read_request(reader))
            writer.write(replies[min(len(requests), len(replies)) - 1])
            await writer.drain()

    return handler


def dripping(head: bytes, drop: bytes, every_s: float) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(every_s)

    return handler


class Names(AbstractResolver):
    """Answers each look-up with the next list of addresses, then with the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:  # noqa: ARG002
        addresses = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=10 if ":" in ip else 2, proto=6, flags=0)
            for ip in addresses
        ]

    async def close(self) -> None:
        pass


async def post(port: int, *, host: str = "127.0.0.1", scheme: str = "http", **client: Any) -> Answer:
    http = GuardedHttp(**{"allowed_networks": LOOPBACK, "total_timeout_s": SHORT_S * 10, **client})
    try:
        return await http.post(f"{scheme}://{host}:{port}/in", BODY, HEADERS)
    finally:
        await http.close()


def answer_of(handler: Handler, **client: Any) -> Answer:
    async def once() -> Answer:
        async with serving(handler) as port:
            return await post(port, **client)

    return asyncio.run(once())


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_a_good_endpoint_gets_the_exact_bytes_and_its_answer_is_kept() -> None:
    seen = Requests()
    answer = answer_of(answering(reply("HTTP/1.1 201 Created", b"thanks"), seen=seen))
    assert (answer.status, answer.error, answer.body) == (201, None, "thanks")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert body == BODY
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /in http/1.1"
    assert b"webhook-id: msg_1" in lines
    assert b"accept-encoding: identity" in lines
    assert any(line.startswith(b"user-agent: longshore/") for line in lines)


def test_the_headers_that_steer_us_are_read_and_the_control_header_only_over_tls() -> None:
    head = "HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nwebhook-delivery: disable\r\nLocation: /x\r\nX-Other: 1"
    answer = answer_of(answering(reply(head)))
    assert (answer.status, answer.retry_after, answer.control, answer.location) == (503, "120", None, "/x")


def test_connections_are_kept_alive_and_recycled_when_they_are_old() -> None:
    async def connections(age_s: float) -> tuple[int, int]:
        seen = Requests()
        http = GuardedHttp(LOOPBACK, connection_age_s=age_s)
        async with serving(answering(reply(), seen=seen)) as port:
            for _ in range(5):
                assert (await http.post(f"http://127.0.0.1:{port}/", BODY, {})).status == 200
            await http.close()
        return len(seen), seen.connections

    assert asyncio.run(connections(60.0)) == (5, 1)
    assert asyncio.run(connections(0.0)) == (5, 5)


def test_recycling_disturbs_no_post_under_way() -> None:
    async def scenario() -> None:
        may_answer = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            await may_answer.wait()
            writer.write(reply())
            await writer.drain()

        http = GuardedHttp(LOOPBACK, connection_age_s=0.0)
        async with serving(slow) as slow_port, serving(answering(reply())) as port:
            posting = asyncio.create_task(http.post(f"http://127.0.0.1:{slow_port}/", BODY, {}))
            for _ in range(3):
                assert (await http.post(f"http://127.0.0.1:{port}/", BODY, {})).status == 200
            may_answer.set()
            answer = await posting
            assert (answer.status, answer.error) == (200, None)
            await http.close()

    run(scenario())


def test_a_kept_connection_that_the_server_closed_is_no_failure() -> None:
    seen = Requests()

    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Promises keep-alive, then reads the next request and hangs up on it, as a server whose idle time ran out."""
        seen.connections += 1
        seen.append(await read_request(reader))
        writer.write(reply())
        await reader.readexactly(1)

    async def scenario() -> None:
        http = GuardedHttp(LOOPBACK)
        async with serving(one_each) as port:
            for _ in range(2):
                answer = await http.post(f"http://127.0.0.1:{port}/", BODY, {})
                assert (answer.status, answer.error) == (200, None)
            await http.close()
        assert (len(seen), seen.connections) == (2, 2)

    run(scenario())


def test_a_reply_dropped_after_the_request_is_a_lost_connection_and_sent_once() -> None:
    seen = Requests()

    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))

    answer = answer_of(hang_up)
    assert (answer.status, answer.error) == (None, "connection_lost")
    assert len(seen) == 1


def test_a_reply_cut_in_the_middle_keeps_its_status_and_its_error() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    answer = answer_of(cut)
    assert (answer.status, answer.body) == (200, "half")
    assert answer.error in {"connection_lost", "invalid_response"}


def test_an_endpoint_that_hangs_ends_at_the_deadline() -> None:
    async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    answer = answer_of(hang, total_timeout_s=SHORT_S)
    assert (answer.status, answer.error) == (None, "timeout_total")
    assert answer.duration_ms >= SHORT_S * 1000


def test_the_deadline_of_one_post_may_be_its_own() -> None:
    async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        http = GuardedHttp(LOOPBACK, total_timeout_s=3600)
        async with serving(hang) as port:
            answer = await http.post(f"http://127.0.0.1:{port}/", BODY, {}, total_timeout_s=SHORT_S)
            assert answer.error == "timeout_total"
            await http.close()

    run(scenario())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", None),
        (b"HTTP/1.1 100 Continue\r\n\r\n", None),
    ],
    ids=["body", "header", "interim"],
)
def test_dripping_cannot_stretch_the_deadline(head: bytes, status: int | None) -> None:
    drop = head if status is None and b"100" in head else b"."
    answer = answer_of(dripping(head, drop, 0.05), total_timeout_s=SHORT_S)
    assert (answer.status, answer.error) == (status, "timeout_total")


def test_an_endless_body_is_left_after_the_cap_and_its_connection_closed() -> None:
    left = asyncio.Event()
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
                await writer.drain()
        finally:
            left.set()

    async def scenario() -> None:
        http = GuardedHttp(LOOPBACK, total_timeout_s=30)
        async with serving(endless) as port:
            answer = await http.post(f"http://127.0.0.1:{port}/", BODY, {})
            await asyncio.wait_for(left.wait(), 10)
            await http.close()
        assert (answer.status, answer.error, answer.body) == (200, None, "x" * 4096)
        assert sent < 64 * READ_MAX_BYTES + 16 * 1024 * 1024  # bounded by socket buffers

    run(scenario())


def test_a_gzip_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"boom" * 2_500_000)
    answer = answer_of(answering(reply("HTTP/1.1 200 OK\r\nContent-Encoding: gzip", bomb)))
    assert (answer.status, answer.error) == (200, None)
    assert 0 < len(answer.body) <= 4096
    assert "boomboom" not in answer.body


def test_a_header_of_ten_megabytes_is_refused() -> None:
    answer = answer_of(answering(b"HTTP/1.1 200 OK\r\nX-Big: " + b"x" * 10_000_000 + b"\r\n\r\n"))
    assert (answer.status, answer.error) == (None, "invalid_response")


def test_ten_thousand_headers_are_refused() -> None:
    answer = answer_of(answering(b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 10_000 + b"\r\n"))
    assert (answer.status, answer.error) == (None, "invalid_response")


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=\xfe; Domain=\r\nContent-Type: ;charset=\xff\r\nContent-Length:0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[bad\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 unasked\r\n\r\n",
    ],
)
def test_whatever_comes_back_is_an_answer(noise: bytes) -> None:
    async def noisy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(noise)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    answer = answer_of(noisy)
    assert answer.status is not None or answer.error in {"invalid_response", "connection_lost"}


def test_what_is_kept_is_text_that_the_database_takes() -> None:
    odd = (
        b"HTTP/1.1 500 Oops\r\nRetry-After: \xff\r\nLocation: /"
        + b"x" * 5000
        + b"\r\nContent-Length: 5\r\n\r\na\0b\xff\xc3"
    )
    answer = answer_of(answering(odd))
    assert answer.body == "ab\ufffd\ufffd"
    assert (answer.retry_after or "").encode() == b"?"
    assert len(answer.location or "") == 2048


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    seen = Requests()
    head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: http://169.254.169.254/latest/meta-data/"
    answer = answer_of(answering(reply(head), reply(), seen=seen))
    assert (answer.status, answer.error) == (status, None)
    assert answer.location == "http://169.254.169.254/latest/meta-data/"
    assert len(seen) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost", "0x7f000001"])  # noqa: S104
def test_loopback_is_blocked_unless_the_operator_allows_it(host: str) -> None:
    async def scenario() -> None:
        seen = Requests()
        async with serving(answering(reply(), seen=seen)) as port:
            answer = await post(port, host=host, allowed_networks=[])
            assert (answer.status, answer.error) == (None, "blocked_address")
        assert seen.connections == 0

    run(scenario())


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1"])
def test_an_address_in_disguise_is_refused(host: str) -> None:
    answer = answer_of(answering(reply()), host=host)
    assert (answer.status, answer.error) == (None, "invalid_url")


def test_the_allowed_network_is_reached_by_the_systems_look_up_too() -> None:
    allowed = [*LOOPBACK, ip_network("::1/128")]
    assert answer_of(answering(reply()), host="localhost", allowed_networks=allowed).status == 200


@pytest.mark.parametrize("answers", [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "fd00::1"]])
def test_a_name_with_one_forbidden_address_is_refused_whole(answers: list[str]) -> None:
    async def scenario() -> None:
        seen = Requests()
        async with serving(answering(reply(), seen=seen)) as port:
            answer = await post(port, host="hooks.example", resolver=Names(answers))
            assert (answer.status, answer.error) == (None, "blocked_address")
        assert seen.connections == 0

    run(scenario())


def test_a_name_that_is_pointed_inside_later_is_blocked_then() -> None:
    async def scenario() -> None:
        outside = [ip_network("127.0.0.2/32")]
        names = Names(["127.0.0.2"], ["127.0.0.1"])
        http = GuardedHttp(outside, connection_age_s=0.0, resolver=names)
        seen = Requests()
        async with serving(answering(reply(), seen=seen), host="0.0.0.0") as port:  # noqa: S104
            url = f"http://hooks.example:{port}/"
            assert (await http.post(url, BODY, {})).status == 200
            assert (await http.post(url, BODY, {})).error == "blocked_address"
            await http.close()
        assert (len(seen), names.asked) == (1, 2)

    run(scenario())


def test_the_socket_is_guarded_even_if_the_look_up_is_fooled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def trusting(self: Any, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return await Names(["127.0.0.1", "127.0.0.3"]).resolve(host, port)

    monkeypatch.setattr(guarded_http._JudgingResolver, "resolve", trusting)
    answer = answer_of(answering(reply()), host="hooks.example", allowed_networks=[])
    assert (answer.status, answer.error) == (None, "blocked_address")


def test_a_proxy_in_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        trapped = Requests()
        async with serving(answering(reply("HTTP/1.1 418 Proxied"), seen=trapped)) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.delenv(name, raising=False)
            async with serving(answering(reply())) as port:
                assert (await post(port)).status == 200
        assert trapped.connections == 0

    run(scenario())


def test_cookies_are_not_kept() -> None:
    async def scenario() -> None:
        seen = Requests()
        http = GuardedHttp(LOOPBACK, resolver=Names(["127.0.0.1"]))
        async with serving(answering(reply("HTTP/1.1 200 OK\r\nSet-Cookie: a=b"), seen=seen)) as port:
            for _ in range(2):
                await http.post(f"http://hooks.example:{port}/", BODY, {})
            await http.close()
        assert b"cookie" not in seen[1].lower()

    run(scenario())


def test_a_refused_connection_is_a_connect_error() -> None:
    async def scenario() -> None:
        async with serving(answering(reply())) as port:
            pass
        assert (await post(port)).error == "connect_error"

    run(scenario())


def test_a_connection_that_is_never_accepted_times_out() -> None:
    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with serving(silent) as port:  # the handshake of TLS counts as connecting
            answer = await post(port, scheme="https", connect_timeout_s=SHORT_S, total_timeout_s=30)
            assert (answer.status, answer.error) == (None, "timeout_connect")

    run(scenario())


def test_a_name_that_does_not_exist_is_a_dns_error() -> None:
    assert answer_of(answering(reply()), host="no-such-name.invalid").error == "dns_error"
    assert answer_of(answering(reply()), host="hooks.example", resolver=Names([])).error == "dns_error"


def test_a_look_up_that_takes_longer_than_all_else_may_is_part_of_the_total() -> None:
    class Silent(Names):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:  # noqa: ARG002
            await asyncio.Event().wait()
            return []

    silent = {"host": "hooks.example", "resolver": Silent(), "total_timeout_s": 0.1}
    assert answer_of(answering(reply()), **silent).error == "timeout_total"


class System:
    """In place of the system's look-up: every name is this machine, those of `hanging` take until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, threads: int, within_s: float = 0.2) -> None:
        self.asked: list[str] = []
        self.hangs_on = True
        self.hangs, self.let_go = threading.Event(), threading.Event()
        self._really = socket.getaddrinfo
        monkeypatch.setattr(look_ups, "THREADS", threads)
        monkeypatch.setattr(look_ups, "TIMEOUT_S", within_s)
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, *more: Any) -> Any:
        if not str(host).endswith(".example"):
            return self._really(host, *more)
        self.asked.append(host)
        if self.hangs_on and host.startswith("hanging"):
            self.hangs.set()
            self.let_go.wait(30)
        return self._really("127.0.0.1", *more)


@contextlib.asynccontextmanager
async def asking(system: System) -> AsyncIterator[Callable[[str], Awaitable[Answer]]]:
    """Posts to names, all of which are one server."""
    http = GuardedHttp(LOOPBACK)
    async with serving(answering(reply())) as port:
        try:
            yield lambda name: http.post(f"http://{name}.example:{port}/", BODY, {})
        finally:
            system.let_go.set()
            await http.close()


def test_a_look_up_that_never_ends_is_a_dns_error_and_takes_one_thread_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        system = System(monkeypatch, threads=2)
        async with asking(system) as post_to:
            for _ in range(3):
                answers = await asyncio.gather(*[post_to("hanging") for _ in range(4)])
                assert {answer.error for answer in answers} == {"dns_error"}
            assert (await post_to("good")).status == 200
            assert system.asked == ["hanging.example", "good.example"]
            # And once it has ended, the name is looked up anew
            system.let_go.set()
            assert (await post_to("hanging")).status == 200

    run(scenario())


def test_that_no_thread_is_free_for_a_look_up_is_no_fault_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        system = System(monkeypatch, threads=2)
        async with asking(system) as post_to:
            answers = await asyncio.gather(post_to("hanging-1"), post_to("hanging-2"), post_to("good"))
            assert [answer.error for answer in answers] == ["dns_error", "dns_error", "local_error"]
            system.let_go.set()
            assert (await post_to("good")).status == 200

    run(scenario())


def test_a_look_up_waits_for_a_thread_as_long_as_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        system = System(monkeypatch, threads=1, within_s=20)
        async with asking(system) as post_to:
            both = asyncio.gather(post_to("hanging"), post_to("good"))
            assert await asyncio.to_thread(system.hangs.wait, 20)
            system.let_go.set()
            assert [answer.status for answer in await both] == [200, 200]

    run(scenario())


def test_that_no_thread_can_be_started_for_a_look_up_is_no_fault_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    really = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("lookup"):
            raise RuntimeError("can't start new thread")
        really(thread)

    async def scenario() -> None:
        async with asking(System(monkeypatch, threads=2)) as post_to:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                assert (await post_to("good")).error == "local_error"
            assert (await post_to("good")).status == 200

    run(scenario())


def test_a_name_whose_look_up_is_stuck_gets_another_thread_and_few_are_lost_that_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        system = System(monkeypatch, threads=4)
        monkeypatch.setattr(look_ups, "STUCK_S", 0.0)
        monkeypatch.setattr(look_ups, "MOST_LEFT", 2)
        async with asking(system) as post_to:
            # Given a name that hangs, each time that it is looked up: three threads, and no more
            assert [(await post_to("hanging")).error for _ in range(5)] == ["dns_error"] * 5
            assert system.asked == ["hanging.example"] * 3
            assert (await post_to("good")).status == 200
            # When those that were lost come back, nothing is left of them
            system.let_go.set()
            assert (await post_to("hanging")).status == 200
        # And when it hangs once only, the name is not lost with it
        system = System(monkeypatch, threads=2)
        async with asking(system) as post_to:
            assert (await post_to("hanging")).error == "dns_error"
            system.hangs_on = False
            assert (await post_to("hanging")).status == 200

    run(scenario())


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://127.0.0.1/", "http://", "http://[::1/", "http://127.0.0.1:99999/"]
)
def test_a_url_nobody_can_post_to_is_an_invalid_url(url: str) -> None:
    async def scenario() -> None:
        http = GuardedHttp(LOOPBACK)
        assert (await http.post(url, BODY, {})).error == "invalid_url"
        await http.close()

    run(scenario())


def test_running_out_of_sockets_is_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(24, "Too many open files")

    async def scenario() -> None:
        async with serving(answering(reply())) as port:
            with monkeypatch.context() as patch:
                patch.setattr(GuardedHttp, "_open_socket", exhausted)
                assert (await post(port)).error == "local_error"

    run(scenario())


def test_a_line_break_in_a_header_of_ours_is_refused_before_anything_is_sent() -> None:
    async def scenario() -> None:
        http = GuardedHttp(LOOPBACK)
        with pytest.raises(ValueError, match="line break"):
            await http.post("http://127.0.0.1/", BODY, {"X-Custom": "a\r\nX-Injected: b"})
        await http.close()

    run(scenario())


def test_cancelling_a_post_cancels_it_and_leaves_the_client_usable() -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()

        async def first_hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            if not arrived.is_set():
                arrived.set()
                await asyncio.Event().wait()
            writer.write(reply())
            await writer.drain()

        http = GuardedHttp(LOOPBACK)
        async with serving(first_hangs) as port:
            url = f"http://127.0.0.1:{port}/"
            posting = asyncio.create_task(http.post(url, BODY, {}))
            await arrived.wait()
            posting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await posting
            assert (await http.post(url, BODY, {})).status == 200
            await http.close()

    run(scenario())


def test_closing_ends_what_is_under_way_and_the_client_opens_again() -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await read_request(reader)
            arrived.set()
            await asyncio.Event().wait()

        http = GuardedHttp(LOOPBACK, total_timeout_s=30)
        async with serving(hang) as port:
            posting = asyncio.create_task(http.post(f"http://127.0.0.1:{port}/", BODY, {}))
            await arrived.wait()
            await http.close()
            assert (await posting).error == "connection_lost"
        async with serving(answering(reply())) as port:
            assert (await http.post(f"http://127.0.0.1:{port}/", BODY, {})).status == 200
        await http.close()
        await http.close()

    run(scenario())


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = self._sign("Test authority", self.key, x509.BasicConstraints(ca=True, path_length=0))

    def trusted(self) -> ssl.SSLContext:
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def server(self, name: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key, x509.SubjectAlternativeName([x509.DNSName(name)]))
        chain = self.folder / f"{name}.pem"
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(extension, critical=True)
            .sign(self.key, hashes.SHA256())
        )


def tls_answer(tmp_path: Path, certified: str, called: str, *, trusted: bool) -> Answer:
    authority = Authority(tmp_path)
    head = "HTTP/1.1 200 OK\r\nwebhook-delivery: pause=30\r\nWebhook-Delivery: rate=5"
    context = authority.trusted() if trusted else None

    async def once() -> Answer:
        async with serving(answering(reply(head)), tls=authority.server(certified)) as port:
            return await post(port, scheme="https", host=called, resolver=Names(["127.0.0.1"]), ssl_context=context)

    return asyncio.run(once())


def test_tls_with_a_trusted_certificate_delivers_and_its_control_header_counts(tmp_path: Path) -> None:
    answer = tls_answer(tmp_path, "hooks.example", "hooks.example", trusted=True)
    assert (answer.status, answer.error, answer.control) == (200, None, "pause=30,rate=5")


def test_tls_with_the_wrong_name_is_refused(tmp_path: Path) -> None:
    answer = tls_answer(tmp_path, "other.example", "hooks.example", trusted=True)
    assert (answer.status, answer.error) == (None, "tls_error")


def test_tls_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    answer = tls_answer(tmp_path, "hooks.example", "hooks.example", trusted=False)
    assert (answer.status, answer.error) == (None, "tls_error")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_demands_a_certificate_of_ours_is_a_tls_error(tmp_path: Path, version: ssl.TLSVersion) -> None:
    authority = Authority(tmp_path)
    demanding = authority.server("hooks.example")
    demanding.verify_mode, demanding.maximum_version = ssl.CERT_REQUIRED, version
    told = threading.Event()

    def refuse() -> None:
        """In a thread: asyncio's own server hangs up before its alert is out, others do not."""
        connection, _ = listener.accept()
        with demanding.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
            with pytest.raises(ssl.SSLError):
                secured.do_handshake()
            told.wait(10)

    client = {"resolver": Names(["127.0.0.1"]), "ssl_context": authority.trusted()}
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        refusal = threads.submit(refuse)
        answer = asyncio.run(post(listener.getsockname()[1], scheme="https", host="hooks.example", **client))
        told.set()
        refusal.result()
    assert (answer.status, answer.error) == (None, "tls_error")


def test_a_server_that_does_not_speak_tls_is_a_tls_error() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    assert answer_of(plain, scheme="https").error == "tls_error"
