"""HEAD is answered as GET, without a body, by every route and by the real server."""

import http.client

import pytest

from tests.integration.api.served import served
from tests.integration.api.shop import V1, Customer, Shop, error_of
from tests.integration.api.test_api_tenancy import LISTS, OWNED

READS = [path for method, path in OWNED if method == "GET"]
OUTSIDE = ["/livez", "/readyz", "/errors", "/errors/NOT_FOUND", "/api-docs", "/api-docs/openapi.json", "/metrics"]
#: What no two answers have in common.
VARIES = {"x-request-id", "x-correlation-id", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"}


@pytest.fixture
def owner(customer: Customer) -> Customer:
    customer.stocked("MUG", stock=1000)
    return customer


@pytest.mark.parametrize("path", [*READS, *LISTS])
def test_every_route_that_has_get_has_head(owner: Customer, path: str) -> None:
    start, _, rest = path.partition("{")
    if rest:
        path = f"{start}{OWNED['GET', path](owner)}{rest.partition('}')[2]}"
    got, head = owner.get(path), owner.send("HEAD", V1 + path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert got.status_code == 200
    assert {name: value for name, value in head.headers.items() if name not in VARIES} == {
        name: value for name, value in got.headers.items() if name not in VARIES
    }


@pytest.mark.parametrize("path", OUTSIDE)
def test_what_stands_outside_the_business_routes_has_it_too(shop: Shop, path: str) -> None:
    got, head = shop.client.get(path), shop.client.head(path)
    assert (head.status_code, head.content, head.headers["Content-Type"]) == (
        got.status_code,
        b"",
        got.headers["Content-Type"],
    )


def test_conditions_and_refusals_hold_for_it(owner: Customer) -> None:
    path = f"{V1}/orders/{owner.ordered()[0]}"
    seen = owner.send("HEAD", path).headers["ETag"]
    assert owner.send("HEAD", path, headers={"If-None-Match": seen}).status_code == 304
    assert owner.send("HEAD", f"{V1}/orders/not-a-uuid").status_code == 400
    assert owner.send("HEAD", path, headers={"X-API-Key": "no"}).status_code == 401
    nowhere = owner.send("HEAD", f"{V1}/orders/{owner.tenant_id}")
    assert (nowhere.status_code, nowhere.content) == (404, b"")


def test_allow_lists_it_where_get_is(owner: Customer) -> None:
    refused = owner.send("DELETE", f"{V1}/orders")
    error_of(refused, 405, "METHOD_NOT_ALLOWED")
    assert {"GET", "HEAD", "POST"} <= set(refused.headers["Allow"].split(", "))
    only_posts = owner.send("HEAD", f"{V1}/orders/{owner.ordered()[0]}/cancel")
    assert only_posts.status_code == 405
    assert "HEAD" not in only_posts.headers["Allow"]
    methods = owner.shop.client.options(f"{V1}/jobs")
    assert (methods.status_code, "HEAD" in methods.headers["Allow"]) == (204, True)


def test_the_server_keeps_the_connection_and_a_stream_is_not_waited_for(owner: Customer) -> None:
    order_id, job_id = owner.ordered()
    with served(owner.shop.settings) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)

        def ask(method: str, path: str) -> tuple[bytes, str | None]:
            connection.request(method, V1 + path, headers={"X-API-Key": owner.key})
            answer = connection.getresponse()
            assert answer.status == 200
            return answer.read(), answer.headers["Content-Length"]

        assert ask("HEAD", f"/jobs/{job_id}/events") == (b"", None)
        body, length = ask("GET", f"/orders/{order_id}")
        assert str(len(body)) == length
        assert ask("HEAD", f"/orders/{order_id}") == (b"", length)
        connection.close()
