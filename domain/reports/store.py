"""Where report files live: a directory or an S3 bucket, behind obstore. A file appears whole or not at all."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url

CHUNK_BYTES = 1 << 20


class ReportStore:
    """Files by key. `url` is file:///absolute/folder or s3://bucket/prefix (credentials from the environment)."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: ObjectStore | None = None

    @property
    def _store(self) -> ObjectStore:
        if self._opened is None:
            parts = urlsplit(self._url)
            if parts.scheme == "file":
                Path(parts.path).mkdir(parents=True, exist_ok=True)
                self._opened = LocalStore(parts.path)
            else:
                self._opened = from_url(self._url)
        return self._opened

    def write(self, key: str, chunks: Iterator[bytes]) -> int:
        """The chunks are the file `key`, replacing an earlier one of that name. Answers its size in bytes."""
        size = 0
        with obstore.open_writer(self._store, key, buffer_size=8 * CHUNK_BYTES, max_concurrency=2) as writer:
            for chunk in chunks:
                writer.write(chunk)
                size += len(chunk)
        return size

    def read(self, key: str) -> AsyncIterator[bytes]:
        """The file in chunks of about 1 MiB, awaited without a thread of ours. Raises FileNotFoundError at once."""
        found = obstore.get(self._store, key)
        return (bytes(chunk) async for chunk in found.stream(min_chunk_size=CHUNK_BYTES))
