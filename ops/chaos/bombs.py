"""Answers that are made to fill up whoever reads them: headers or a body without end, and compressed ones.

A bomb ends by itself after some megabytes: whoever still reads then would have read on for ever.
"""

import asyncio
import gzip
import zlib
from functools import cache
from typing import Literal

Bomb = Literal["headers", "body", "gzip", "chained"]

#: Far more than two kernels and a proxy hold for a reader who has stopped reading.
MOST_BYTES = 48 * 1024 * 1024
#: What zlib calls the two formats.
GZIP, DEFLATE = 31, 15
_CHUNK = 64 * 1024
_UNFOLDED = 256 * 1024 * 1024


async def throw(bomb: Bomb, writer: asyncio.StreamWriter) -> bool:
    """True when somebody took all of it."""
    if bomb == "headers":
        return await _pour(writer, b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"y" * 4_000 + b"\r\n")
    if bomb == "body":
        return await _pour(writer, b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n", b"z" * _CHUNK)
    folded = await asyncio.to_thread(folded_blanks, GZIP)
    folded = folded if bomb == "gzip" else gzip.compress(folded)
    encoding = "gzip" if bomb == "gzip" else "gzip, gzip"
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(folded)}\r\n\r\n"
    writer.write(head.encode() + folded)
    await writer.drain()
    return False


async def _pour(writer: asyncio.StreamWriter, head: bytes, more: bytes) -> bool:
    writer.write(head)
    for _ in range(MOST_BYTES // len(more)):
        writer.write(more)
        await writer.drain()
    return True


@cache
def folded_blanks(wbits: int) -> bytes:
    """256 MiB of blanks, in a quarter of one."""
    packer, blanks = zlib.compressobj(wbits=wbits), b" " * 1024 * 1024
    return b"".join([*(packer.compress(blanks) for _ in range(_UNFOLDED // len(blanks))), packer.flush()])
