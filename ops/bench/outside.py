"""The outside world of a measurement: a mail server and a webhook receiver that take everything and keep nothing.

`python -m ops.bench.outside SMTP_PORT HTTP_PORT`: as cheap as they can be, since they share the machine with what is
measured.
"""

import asyncio
import signal
import sys

HOST = "127.0.0.1"
_NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


async def take_mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much SMTP as a client needs that delivers mail after mail."""
    writer.write(b"220 outside\r\n")
    while line := await reader.readline():
        match line[:4].upper():
            case b"EHLO":
                writer.write(b"250-outside\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
            case b"DATA":
                writer.write(b"354 go on\r\n")
                await writer.drain()
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
            case b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            case _:
                writer.write(b"250 fine\r\n")
    writer.close()


async def take_webhook(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """204 to every request of a connection that stays open."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
            writer.write(_NO_CONTENT)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(smtp_port: int, http_port: int) -> None:
    """Serves until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await asyncio.start_server(take_mail, HOST, smtp_port)
    await asyncio.start_server(take_webhook, HOST, http_port)
    await stopping.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
