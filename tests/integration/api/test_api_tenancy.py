"""Nobody sees or moves what is another tenant's: every route of the API is walked, a new one must join the table."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import Connection, Engine, event

import api.routes.orders
from api.parts import POOL_SIZE
from domain.ids import new_id
from domain.orders.queries import list_orders
from tests.integration.api.shop import V1, Customer, Shop, error_of, ids_of

#: How a tenant gets one of what the route is about.
OWNED: dict[tuple[str, str], Callable[[Customer], object]] = {
    ("GET", "/orders/{order_id}"): lambda owner: owner.ordered()[0],
    ("GET", "/orders/{order_id}/summary"): lambda owner: owner.ordered()[0],
    ("GET", "/orders/{order_id}/jobs"): lambda owner: owner.ordered()[0],
    ("POST", "/orders/{order_id}/cancel"): lambda owner: owner.ordered()[0],
    ("POST", "/orders/{order_id}/complete"): lambda owner: _confirmed(owner),  # noqa: PLW0108  # defined below
    ("GET", "/jobs/{job_id}"): lambda owner: owner.ordered()[1],
    ("GET", "/jobs/{job_id}/events"): lambda owner: _cancelled(owner),  # noqa: PLW0108  # defined below
    ("POST", "/jobs/{job_id}/cancel"): lambda owner: owner.ordered()[1],
    ("GET", "/products/{product_id}"): lambda owner: owner.stocked("CUP"),
    ("PATCH", "/products/{product_id}"): lambda owner: owner.stocked("CUP"),
    ("POST", "/products/{product_id}/stock-adjustments"): lambda owner: owner.stocked("CUP"),
    ("GET", "/reports/{report_id}"): lambda owner: owner.reported()[0],
    ("GET", "/reports/{report_id}/download"): lambda owner: _written(owner),  # noqa: PLW0108  # defined below
    ("GET", "/webhook-endpoints/{endpoint_id}"): lambda owner: owner.subscribed(),
    ("PATCH", "/webhook-endpoints/{endpoint_id}"): lambda owner: owner.subscribed(),
    ("DELETE", "/webhook-endpoints/{endpoint_id}"): lambda owner: owner.subscribed(),
    ("GET", "/admin/dead-letters/{dead_letter_id}"): lambda owner: owner.buried(),
    ("GET", "/users/{user_id}"): lambda owner: owner.employed(),
    ("PATCH", "/users/{user_id}"): lambda owner: owner.employed(),
    ("DELETE", "/users/{user_id}"): lambda owner: owner.employed(),
}
BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/products/{product_id}/stock-adjustments"): {"delta": 1},
    ("PATCH", "/products/{product_id}"): {"name": "Another"},
    ("PATCH", "/webhook-endpoints/{endpoint_id}"): {"status": "disabled"},
    ("PATCH", "/users/{user_id}"): {"name": "Eve"},
}
#: How many statements a page takes, however long it is; the first binds the transaction to its tenant.
LISTS = {
    "/orders": 3,
    "/jobs": 2,
    "/products": 2,
    "/reports": 2,
    "/webhook-endpoints": 2,
    "/admin/dead-letters": 2,
    "/users": 2,
}


@pytest.fixture
def owner(customer: Customer) -> Customer:
    customer.stocked("MUG", stock=1000)
    return customer


def _confirmed(owner: Customer) -> object:
    order_id, job_id = owner.ordered()
    owner.shop.work(job_id)
    return order_id


def _cancelled(owner: Customer) -> object:
    """A job that has ended: so does its stream."""
    _, job_id = owner.ordered()
    assert owner.post(f"/jobs/{job_id}/cancel").status_code == 202
    return job_id


def _written(owner: Customer) -> object:
    report_id, job_id = owner.reported()
    owner.shop.work(job_id)
    return report_id


def _routes(app: Litestar) -> set[tuple[str, str]]:
    routes = (route for route in app.routes if isinstance(route, HTTPRoute))
    return {
        (method, route.path_format.removeprefix(V1))
        for route in routes
        for method in route.methods - {"OPTIONS"}
        if route.path_format.startswith(V1)
    }


def test_every_route_with_an_id_is_in_the_table(shop: Shop) -> None:
    assert {route for route in _routes(shop.client.app) if "{" in route[1]} == set(OWNED)


def test_every_list_is_in_the_table(shop: Shop) -> None:
    reads = {path for method, path in _routes(shop.client.app) if method == "GET" and "{" not in path}
    assert reads - {"/health", "/users/me"} == set(LISTS)


@pytest.mark.parametrize(("method", "path"), OWNED)
def test_another_tenants_id_is_as_unknown_as_any(owner: Customer, other: Customer, method: str, path: str) -> None:
    theirs = OWNED[method, path](owner)
    name = path[path.index("{") : path.index("}") + 1]
    before, sold = owner.rows(), other.rows()
    body = BODIES.get((method, path))

    def ask(customer: Customer, id_: object) -> int:
        options = {"json": body} if body else {}
        response = customer.send(method, V1 + path.replace(name, str(id_)), **options)
        if customer is other:
            error_of(response, 404, "NOT_FOUND")
            assert str(owner.tenant_id) not in response.text
        return response.status_code

    for id_ in (theirs, uuid4(), new_id(), other.tenant_id):
        assert ask(other, id_) == 404
    assert (owner.rows(), other.rows()) == (before, sold)
    error_of(
        other.send(method, V1 + path.replace(name, "1' OR '1'='1"), json=body) if body else
        other.send(method, V1 + path.replace(name, "1' OR '1'='1")),
        400,
        "VALIDATION_ERROR",
    )  # fmt: skip
    assert ask(owner, theirs) < 300


@pytest.fixture
def forgetful() -> Iterator[None]:
    """Every statement of the code forgets to ask for its tenant: any tenant's row will do."""
    forgotten = 0

    def forget(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
        nonlocal forgotten
        statement, count = _ASKS_FOR_ITS_TENANT.subn(r"(\1 OR true)", statement)
        forgotten += count
        return statement, parameters

    event.listen(Engine, "before_cursor_execute", forget, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", forget)
    assert forgotten, "no statement asked for its tenant"


#: As SQLAlchemy writes it and as we write it; not in the assignments of an INSERT or UPDATE.
_ASKS_FOR_ITS_TENANT = re.compile(r"((?:\w+\.)?tenant_id = %\(\w+\)s(?:::UUID)?)")


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(("method", "path"), OWNED)
def test_the_database_keeps_tenants_apart_when_the_code_does_not(
    owner: Customer, other: Customer, method: str, path: str
) -> None:
    test_another_tenants_id_is_as_unknown_as_any(owner, other, method, path)


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("path", LISTS)
def test_the_database_keeps_lists_apart_when_the_code_does_not(owner: Customer, other: Customer, path: str) -> None:
    _one_of_each(owner)
    assert ids_of(owner.get(path)) != []
    assert ids_of(other.get(path)) == []


@pytest.mark.parametrize("path", LISTS)
def test_a_list_shows_no_other_tenants_rows_in_a_constant_number_of_statements(
    owner: Customer, other: Customer, path: str
) -> None:
    _one_of_each(owner)
    few = _counted(owner, path)
    for _ in range(4):
        _one_of_each(owner)
    many = _counted(owner, path)
    assert len(ids_of(owner.get(path))) >= 5
    assert ids_of(other.get(path)) == []
    assert few == many == LISTS[path]


def test_an_order_is_read_in_a_constant_number_of_statements(owner: Customer) -> None:
    order_id, job_id = owner.ordered()
    waiting = _counted(owner, f"/orders/{order_id}")
    owner.subscribed("order.created", "order.confirmed")
    owner.shop.work(job_id)
    assert len(owner.get(f"/orders/{order_id}").json()["data"]["timeline"]) == 4
    assert waiting == _counted(owner, f"/orders/{order_id}") == 5


def test_a_summary_takes_four_statements_after_the_one_that_binds(owner: Customer) -> None:
    order_id, job_id = owner.ordered()
    assert _counted(owner, f"/orders/{order_id}/summary") == 5
    endpoint_id = owner.subscribed("order.created", "order.confirmed")
    owner.shop.work(job_id)
    assert _counted(owner, f"/orders/{order_id}/summary") == 5
    told = owner.get(f"/orders/{order_id}/summary").json()["data"]
    assert told["order"] == owner.get(f"/orders/{order_id}").json()["data"]["order"]
    assert [(job["kind"], job["state"], job["done"], job["attempts"]) for job in told["jobs"]] == [
        ("inventory.reserve", "succeeded", True, 1),
        ("email.order_confirmed", "queued", False, 0),
    ]
    assert [(one["endpointId"], one["event"], one["state"], one["attempts"]) for one in told["deliveries"]] == [
        (str(endpoint_id), "order.created", "queued", 0),
        (str(endpoint_id), "order.confirmed", "queued", 0),
    ]
    assert {UUID(one["jobId"]) for one in told["deliveries"]} < set(_job_ids(owner, order_id))


def _job_ids(owner: Customer, order_id: UUID) -> list[UUID]:
    return [UUID(id_) for id_ in ids_of(owner.get(f"/orders/{order_id}/jobs"))]


def _one_of_each(owner: Customer) -> None:
    sku = f"SKU-{new_id()}"
    owner.stocked(sku)
    owner.ordered(sku)
    owner.buried()
    owner.subscribed("order.completed")
    owner.employed()


def _counted(owner: Customer, path: str) -> int:
    """Statements of one answer, that of the key apart: it has just been asked."""
    assert owner.get(path).status_code == 200
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert owner.get(path).status_code == 200
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return len(statements)


def test_slow_reads_of_one_tenant_leave_threads_to_the_others(
    customer: Customer, other: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [one.get("/orders").status_code for one in (customer, other)] == [200, 200]  # so that they are known
    let, begun = threading.Event(), threading.Semaphore(0)

    def list_slowly(tx: Connection, tenant_id: UUID, *args: Any, **more: Any) -> Any:
        if tenant_id == customer.tenant_id:
            begun.release()
            assert let.wait(20)
        return list_orders(tx, tenant_id, *args, **more)

    monkeypatch.setattr(api.routes.orders, "list_orders", list_slowly)
    with ThreadPoolExecutor(21) as pool:
        slow = [pool.submit(customer.get, "/orders") for _ in range(20)]
        try:
            for _ in range(POOL_SIZE // 2):
                assert begun.acquire(timeout=20)
            assert pool.submit(other.get, "/orders").result(15).status_code == 200
            assert not begun.acquire(blocking=False)
        finally:
            let.set()
        assert {future.result(20).status_code for future in slow} == {200}
