"""What callers tie an answer to: they are not sent what they have, and do not overwrite what they have not seen."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import msgspec
import pytest
from httpx import Response
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


class Change(msgspec.Struct, frozen=True):
    """A change of one thing, and where it is read."""

    method: str
    path: str
    one: str
    body: dict[str, object] | None = None

    def send(self, owner: Customer, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return owner.send(self.method, V1 + self.path, headers=named, **({"json": self.body} if self.body else {}))


def _cancel(owner: Customer) -> Change:
    order_id, job_id = owner.ordered()
    owner.shop.work(job_id)
    return Change("POST", f"/orders/{order_id}/cancel", f"/orders/{order_id}")


def _complete(owner: Customer) -> Change:
    order_id, job_id = owner.ordered()
    owner.shop.work(job_id)
    return Change("POST", f"/orders/{order_id}/complete", f"/orders/{order_id}")


def _remove_endpoint(owner: Customer) -> Change:
    path = f"/webhook-endpoints/{owner.subscribed()}"
    return Change("DELETE", path, path)


def _change_endpoint(owner: Customer) -> Change:
    path = f"/webhook-endpoints/{owner.subscribed()}"
    return Change("PATCH", path, path, {"status": "disabled"})


def _change_product(owner: Customer) -> Change:
    path = f"/products/{owner.stocked('CUP')}"
    return Change("PATCH", path, path, {"name": "Another"})


def _change_user(owner: Customer) -> Change:
    path = f"/users/{owner.employed()}"
    return Change("PATCH", path, path, {"name": "Another"})


def _remove_user(owner: Customer) -> Change:
    path = f"/users/{owner.employed()}"
    return Change("DELETE", path, path)


CHANGES: list[Callable[[Customer], Change]] = [_cancel, _complete, _remove_endpoint, _change_endpoint, _change_product]
CHANGES += [_change_user, _remove_user]
TABLES = {"orders": "orders", "webhook-endpoints": "webhook_endpoints", "products": "products", "users": "users"}


@pytest.mark.parametrize("change", CHANGES)
class TestIfMatch:
    def test_a_change_of_what_has_changed_since_is_412_and_does_nothing(
        self, owner: Customer, change: Callable[[Customer], Change]
    ) -> None:
        it = change(owner)
        tag = owner.get(it.one).headers["ETag"]
        _, kind, id_ = it.one.split("/")
        with owner.shop.engine.begin() as tx:
            tx.execute(text(f"UPDATE {TABLES[kind]} SET version = version + 1 WHERE id = :id"), {"id": UUID(id_)})
        before, seen = owner.rows(), owner.get(it.one).content
        for stale in (tag, f'{tag}, "99"', f"W/{owner.get(it.one).headers['ETag']}", '"no-tag-of-ours"', '""'):
            assert "is at version" in error_of(it.send(owner, If_Match=stale), 412, "VERSION_CONFLICT")["message"]
        assert (owner.rows(), owner.get(it.one).content) == (before, seen)
        fresh = owner.get(it.one).headers["ETag"]
        assert it.send(owner, If_Match=f'"99", {fresh}').status_code < 300

    @pytest.mark.parametrize("malformed", ["3", "", '"3', '"3" "4"', '*, "3"', "'3'"])
    def test_what_is_no_tag_is_a_bad_request_and_does_nothing(
        self, owner: Customer, change: Callable[[Customer], Change], malformed: str
    ) -> None:
        it = change(owner)
        before = owner.rows()
        error = error_of(it.send(owner, If_Match=malformed), 400, "VALIDATION_ERROR")
        assert [detail["field"] for detail in error["details"]] == ["If-Match"]
        assert owner.rows() == before

    @pytest.mark.parametrize("condition", [{}, {"If_Match": "*"}])
    def test_who_does_not_say_what_he_has_seen_may_change_it(
        self, owner: Customer, change: Callable[[Customer], Change], condition: dict[str, str]
    ) -> None:
        assert change(owner).send(owner, **condition).status_code < 300

    def test_who_changes_it_at_the_same_time_is_waited_for_and_noticed(
        self, owner: Customer, change: Callable[[Customer], Change]
    ) -> None:
        it = change(owner)
        tag, (_, kind, id_) = owner.get(it.one).headers["ETag"], it.one.split("/")
        bump = text(f"UPDATE {TABLES[kind]} SET version = version + 1 WHERE id = :id")
        with ThreadPoolExecutor(1) as threads, owner.shop.engine.connect() as another:
            another.execute(bump, {"id": UUID(id_)})
            answer = threads.submit(it.send, owner, If_Match=tag)
            while not owner.shop.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert not answer.done()
            another.commit()
            error_of(answer.result(), 412, "VERSION_CONFLICT")


def test_a_stale_condition_does_not_use_up_an_idempotency_key(owner: Customer) -> None:
    it = _cancel(owner)
    error_of(it.send(owner, Idempotency_Key="k", If_Match='"99"'), 412, "VERSION_CONFLICT")
    fresh = owner.get(it.one).headers["ETag"]
    assert it.send(owner, Idempotency_Key="k", If_Match=fresh).status_code == 202


def test_what_is_not_given_in_a_media_type_that_is_accepted_is_406(owner: Customer) -> None:
    report_id, job_id = owner.reported()
    owner.shop.work(job_id)
    given = {
        "/orders": "application/json",
        f"/reports/{report_id}/download": "text/csv",
        f"/jobs/{job_id}/events": "text/event-stream",
    }
    for path, media_type in given.items():
        refused = owner.get(path, headers={"Accept": "text/html"})
        assert media_type in error_of(refused, 406, "NOT_ACCEPTABLE")["message"]
        answer = owner.get(path, headers={"Accept": media_type})
        assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, media_type)
    before = owner.rows()
    error_of(owner.order(Accept="text/html"), 406, "NOT_ACCEPTABLE")
    assert owner.rows() == before
    error_of(owner.get("/orders", headers={"Accept": "text/html", "X-API-Key": "no"}), 401, "UNAUTHENTICATED")


def test_the_vendors_name_of_json_is_json(owner: Customer) -> None:
    accept = {"Accept": "application/vnd.longshore.v1+json"}
    assert owner.get("/orders", headers=accept).headers["Content-Type"] == "application/json"
    assert owner.get("/orders/x", headers=accept).headers["Content-Type"] == "application/json"


def test_a_wish_to_be_answered_at_once_is_echoed_and_changes_nothing(owner: Customer) -> None:
    asked, plain = owner.order(key="k", Prefer="respond-async, wait=10"), owner.order(key="k")
    assert (asked.headers["Preference-Applied"], asked.headers["Vary"]) == ("respond-async", "Prefer")
    assert ("Preference-Applied" in plain.headers, plain.headers["Vary"]) == (False, "Prefer")
    assert asked.content == plain.content
