"""Groups over HTTP: the job that waits shows what has become of the others, and they name it."""

from typing import Any
from uuid import UUID

import pytest

from domain.ids import new_id
from domain.job_kinds import GenerateReport
from domain.jobs.groups import enqueue_group
from domain.jobs.outbox import new_job
from domain.jobs.retry_policy import Succeeded
from tests.integration.api.shop import Customer, ids_of

NONE_YET = {"total": 2, "waiting": 2, "succeeded": 0, "dead": 0, "cancelled": 0}


@pytest.fixture
def group(customer: Customer) -> tuple[UUID, list[UUID]]:
    """A job that waits, and the two that it waits for."""
    first, second, then = (new_job(GenerateReport(new_id()), tenant_id=customer.tenant_id) for _ in range(3))
    with customer.shop.engine.begin() as tx:
        return enqueue_group(tx, [first, second], then), [first.id, second.id]


def seen(customer: Customer, job_id: UUID, **headers: str) -> dict[str, Any]:
    data: dict[str, Any] = customer.get(f"/jobs/{job_id}", headers=headers).json()["data"]
    return data


def test_the_job_that_waits_shows_its_children_and_they_name_it(
    customer: Customer, group: tuple[UUID, list[UUID]]
) -> None:
    then, children = group
    waiting = seen(customer, then)
    assert (waiting["state"], waiting["children"], waiting["parentId"]) == ("scheduled", NONE_YET, None)
    child = seen(customer, children[0])
    assert (child["parentId"], child["children"], child["priority"]) == (str(then), None, 0)
    assert ids_of(customer.get(f"/jobs?parentId={then}")) == [str(job_id) for job_id in reversed(children)]


def test_the_end_of_a_child_is_news_of_the_job_that_waits(customer: Customer, group: tuple[UUID, list[UUID]]) -> None:
    then, (first, second) = group
    tag = customer.get(f"/jobs/{then}").headers["ETag"]
    customer.shop.end(customer.shop.started(first), Succeeded())
    changed = customer.get(f"/jobs/{then}", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.json()["data"]["children"] == {**NONE_YET, "waiting": 1, "succeeded": 1}
    customer.shop.end(customer.shop.started(second), Succeeded())
    assert customer.shop.started(then).id == then


def test_the_children_of_another_tenants_job_are_not_listed(customer: Customer, group: tuple[UUID, list[UUID]]) -> None:
    stranger = customer.shop.customer()
    assert ids_of(stranger.get(f"/jobs?parentId={group[0]}")) == []
    assert stranger.get(f"/jobs/{group[0]}").status_code == 404
