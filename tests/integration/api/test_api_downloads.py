"""Downloads of reports: a stream that nothing else its tenant asks for can break, and that says how long it is."""

import http.client
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.threads import Threads
from domain.errors import Overloaded
from tests.integration.api.served import served
from tests.integration.api.shop import V1, Customer


@pytest.fixture
def file(customer: Customer) -> tuple[str, Path]:
    """The path of a download, and where its file lies."""
    report_id, job_id = customer.reported()
    customer.shop.work(job_id)
    key = customer.shop.scalar("SELECT object_key FROM reports WHERE id = :id", id=report_id)
    return f"/reports/{report_id}/download", Path(urlsplit(customer.shop.settings.reports_url).path) / key


def test_its_chunks_stand_in_no_line(
    customer: Customer, file: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lies_at = file
    lies_at.write_bytes(whole := b"row\r\n" * 1_000_000)
    said = "UPDATE reports SET byte_count = :bytes WHERE tenant_id = :tenant_id RETURNING 1"
    assert customer.shop.scalar(said, bytes=len(whole), tenant_id=customer.tenant_id)
    submit, asked = Threads.submit, []

    def only_the_handler(threads: Threads, *work: Any) -> Future[Any]:
        asked.append(work)
        if len(asked) > 1:
            raise Overloaded
        return submit(threads, *work)

    monkeypatch.setattr(Threads, "submit", only_the_handler)
    answer = customer.get(path)
    assert (answer.status_code, answer.content == whole) == (200, True)
    assert answer.headers["Content-Length"] == str(len(whole))


def test_a_file_that_is_cut_is_seen_as_such(customer: Customer, file: tuple[str, Path]) -> None:
    path, lies_at = file
    whole = lies_at.read_bytes()
    lies_at.write_bytes(whole[:-1])
    with served(customer.shop.settings) as running:
        connection, answer = running.get(V1 + path, X_API_Key=customer.key)
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(whole)))
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        connection.close()
