"""What callers tie an answer to: they are not sent what they have, and do not overwrite what they have not seen."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text

from tests.integration.api.shop import V1, Customer, error_of
from tests.integration.api.test_api_tenancy import LISTS, OWNED

SINGLE = [path for method, path in OWNED if method == "GET" and not path.endswith(("/events", "/download"))]


@pytest.fixture
def owner(customer: Customer) -> Customer:
    customer.stocked("MUG", stock=1000)
    return customer


def _one(owner: Customer, path: str) -> str:
    start, _, rest = path.partition("{")
    return f"{start}{OWNED['GET', path](owner)}{rest.partition('}')[2]}"


@pytest.mark.parametrize("path", [*SINGLE, *LISTS])
def test_what_was_seen_and_still_holds_is_304_without_a_body(owner: Customer, path: str) -> None:
    path = _one(owner, path) if "{" in path else path
    first = owner.get(path)
    tag = first.headers["ETag"]
    assert tag.startswith('"')
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert {"Authorization", "X-API-Key", "Accept"} <= set(first.headers["Vary"].split(", "))
    again = owner.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert [again.headers[name] for name in ("ETag", "Cache-Control", "Vary")] == [
        first.headers[name] for name in ("ETag", "Cache-Control", "Vary")
    ]
    assert "Content-Type" not in again.headers
    assert owner.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_an_order_is_another_when_its_timeline_has_moved(owner: Customer) -> None:
    order_id, job_id = owner.ordered()
    seen = owner.get(f"/orders/{order_id}").headers["ETag"]
    owner.shop.started(job_id)
    moved = owner.get(f"/orders/{order_id}", headers={"If-None-Match": seen})
    assert (moved.status_code, moved.json()["data"]["timeline"][0]["job"]["state"]) == (200, "running")
    assert moved.json()["data"]["order"]["version"] == 1


def test_a_product_is_another_when_its_stock_has_moved(owner: Customer) -> None:
    product_id = owner.stocked("CUP")
    seen = owner.get(f"/products/{product_id}").headers["ETag"]
    adjusted = owner.post(f"/products/{product_id}/stock-adjustments", {"delta": 1})
    now = owner.get(f"/products/{product_id}", headers={"If-None-Match": seen})
    assert (now.status_code, now.headers["ETag"]) == (200, adjusted.headers["ETag"])
    assert now.json()["data"]["version"] == 1


def test_refusals_and_other_peoples_files_are_not_kept_by_caches_on_the_way(owner: Customer) -> None:
    report_id, job_id = owner.reported()
    owner.shop.work(job_id)
    for path in (f"/reports/{report_id}/download", f"/orders/{report_id}", "/orders?limit=0"):
        answer = owner.get(path)
        assert (answer.headers["Cache-Control"], "ETag" in answer.headers) == ("private, no-cache", False)
        assert "X-API-Key" in answer.headers["Vary"]


def _cancel(owner: Customer) -> tuple[str, str, str]:
    order_id, job_id = owner.ordered()
    owner.shop.work(job_id)
    return "POST", f"/orders/{order_id}/cancel", f"/orders/{order_id}"


def _complete(owner: Customer) -> tuple[str, str, str]:
    method, path, one = _cancel(owner)
    return method, path.replace("cancel", "complete"), one


def _remove_endpoint(owner: Customer) -> tuple[str, str, str]:
    path = f"/webhook-endpoints/{owner.subscribed()}"
    return "DELETE", path, path


CHANGES: list[Callable[[Customer], tuple[str, str, str]]] = [_cancel, _complete, _remove_endpoint]
TABLES = {"orders": "orders", "webhook-endpoints": "webhook_endpoints", "products": "products"}


@pytest.mark.parametrize("change", CHANGES)
class TestIfMatch:
    def test_a_change_of_what_has_changed_since_is_412_and_does_nothing(
        self, owner: Customer, change: Callable[[Customer], tuple[str, str, str]]
    ) -> None:
        method, path, one = change(owner)
        tag = owner.get(one).headers["ETag"]
        _, kind, id_ = one.split("/")
        with owner.shop.engine.begin() as tx:
            tx.execute(text(f"UPDATE {TABLES[kind]} SET version = version + 1 WHERE id = :id"), {"id": UUID(id_)})
        before, seen = owner.rows(), owner.get(one).content
        for stale in (tag, f'{tag}, "99"', f"W/{owner.get(one).headers['ETag']}", '"no tag of ours"', "3", ""):
            answer = owner.send(method, V1 + path, headers={"If-Match": stale})
            assert "is at version" in error_of(answer, 412, "VERSION_CONFLICT")["message"]
        assert (owner.rows(), owner.get(one).content) == (before, seen)
        fresh = owner.get(one).headers["ETag"]
        assert owner.send(method, V1 + path, headers={"If-Match": f'"99", {fresh}'}).status_code < 300

    @pytest.mark.parametrize("condition", [{}, {"If-Match": "*"}])
    def test_who_does_not_say_what_he_has_seen_may_change_it(
        self, owner: Customer, change: Callable[[Customer], tuple[str, str, str]], condition: dict[str, str]
    ) -> None:
        method, path, _ = change(owner)
        assert owner.send(method, V1 + path, headers=condition).status_code < 300


def test_a_stale_condition_does_not_use_up_an_idempotency_key(owner: Customer) -> None:
    _, path, one = _cancel(owner)
    keyed = {"Idempotency-Key": "k"}
    error_of(owner.send("POST", V1 + path, headers={**keyed, "If-Match": '"99"'}), 412, "VERSION_CONFLICT")
    fresh = owner.get(one).headers["ETag"]
    assert owner.send("POST", V1 + path, headers={**keyed, "If-Match": fresh}).status_code == 202


def test_of_many_who_have_seen_the_same_one_endpoint_is_removed_once(owner: Customer) -> None:
    _, path, _ = _remove_endpoint(owner)
    tag = owner.get(path).headers["ETag"]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: owner.send("DELETE", V1 + path, headers={"If-Match": tag}), range(8)))
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 7
