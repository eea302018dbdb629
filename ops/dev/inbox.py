"""The development inbox: takes every mail over SMTP on a loopback port, shows it over HTTP, sends nothing anywhere.

`GET /` for people, `GET /messages` for programs (`?about=TEXT` for the mails that hold it, `?limit=N` for the newest),
`DELETE /messages` to empty it.
"""

import asyncio
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
from aiosmtpd.smtp import SMTP, Envelope, Session

from ops.dev.mail_folder import MailFolder

HOST = "127.0.0.1"
LARGEST_MAIL_BYTES = 10 * 1024 * 1024
SHOWN = 200


def run_inbox(folder: Path, smtp_port: int, http_port: int) -> None:
    """Serves until SIGTERM or SIGINT."""
    mails = MailFolder(folder)
    view = View((HOST, http_port), mails)
    threading.Thread(target=view.serve_forever, name="view", daemon=True).start()
    try:
        asyncio.run(_take_mail(mails, smtp_port))
    finally:
        view.shutdown()
        view.server_close()


async def _take_mail(mails: MailFolder, port: int) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = await loop.create_server(
        lambda: SMTP(Postman(mails), hostname="inbox", data_size_limit=LARGEST_MAIL_BYTES, loop=loop), HOST, port
    )
    async with server:
        await stopping.wait()


class Postman:
    """What the SMTP server does with a mail."""

    def __init__(self, mails: MailFolder) -> None:
        self._mails = mails

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.original_content or b""
        try:
            self._mails.keep(content, envelope.mail_from or "", [str(recipient) for recipient in envelope.rcpt_tos])
        except OSError:
            return "452 4.3.1 the inbox cannot store it now"
        return "250 OK"


class View(ThreadingHTTPServer):
    """The inbox over HTTP."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], mails: MailFolder) -> None:
        super().__init__(address, ViewHandler)
        self.mails = mails


class ViewHandler(BaseHTTPRequestHandler):
    """Unknown paths are 404, other methods 501."""

    server: View

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        match url.path:
            case "/":
                self._answer(200, "text/plain; charset=utf-8", self._page())
            case "/messages":
                asked = {name: values[0] for name, values in parse_qs(url.query).items()}
                limit = asked.get("limit", "")
                mails = self.server.mails.mails(int(limit) if limit.isdecimal() else None, asked.get("about", ""))
                self._answer(200, "application/json", msgspec.json.encode(mails))
            case _:
                self._answer(404, "text/plain", b"not found\n")

    def do_DELETE(self) -> None:
        if self.path != "/messages":
            self._answer(404, "text/plain", b"not found\n")
            return
        self.server.mails.clear()
        self._answer(204, "text/plain", b"")

    def _page(self) -> bytes:
        rows = [f"{mail.received_at:%H:%M:%S}  {mail.to}  {mail.subject}" for mail in self.server.mails.mails(SHOWN)]
        return ("\n".join(rows) or "No mail yet.").encode() + b"\n"

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's signature
        """Nothing about mails is logged."""
