"""What callers see once retention has taken a job, or the result of one has expired."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain.ids import new_id
from domain.jobs.kind import KINDS, JobArgs
from domain.jobs.outbox import enqueue, new_job
from domain.jobs.partitions import create_partitions_ahead, lowest_id_at
from domain.jobs.retry_policy import Errored, Succeeded
from tests.integration.api.shop import Customer, error_of
from tests.integration.builders import declarations, execute
from workers.retention import retain

LONG_AGO = datetime.now(UTC) - timedelta(days=100)


def aged(customer: Customer, job_id: UUID) -> UUID:
    """The job as if it had been made, and had ended, long ago. Answers the id that it has then."""
    engine, old = customer.shop.engine, UUID(int=lowest_id_at(LONG_AGO).int | job_id.int & (1 << 80) - 1)
    with engine.begin() as tx:
        create_partitions_ahead(tx, LONG_AGO, weeks=0)
    ids = {"old": old, "id": job_id}
    execute(engine, "UPDATE jobs SET id = :old, finished_at = :at WHERE id = :id", **ids, at=LONG_AGO)
    for column in ("attempts.job_id", "orders.root_job_id", "reports.job_id", "dead_letters.job_id"):
        table, name = column.split(".")
        execute(engine, f"UPDATE {table} SET {name} = :old WHERE {name} = :id", **ids)
    return old


@pytest.fixture
def retained(customer: Customer) -> Customer:
    customer.stocked("MUG", stock=10)
    return customer


def test_a_job_that_was_dropped_is_not_found(retained: Customer) -> None:
    job_id = retained.ordered()[1]
    retained.shop.work(job_id)
    old = aged(retained, job_id)
    assert retained.get(f"/jobs/{old}").json()["data"]["state"] == "succeeded"
    retain(retained.shop.engine, days=30)
    error_of(retained.get(f"/jobs/{old}"), 404, "NOT_FOUND")
    error_of(retained.post(f"/jobs/{old}/cancel"), 404, "NOT_FOUND")


def test_an_order_outlives_its_jobs_and_goes_on(retained: Customer) -> None:
    order_id, job_id = retained.ordered()
    retained.shop.work(job_id)
    aged(retained, job_id)
    retain(retained.shop.engine, days=30)
    assert retained.status(order_id) == "confirmed"
    assert str(job_id) not in retained.get(f"/orders/{order_id}").text
    assert retained.get(f"/orders/{order_id}/jobs").status_code == 200
    released = retained.post(f"/orders/{order_id}/cancel")
    assert released.status_code == 202
    retained.shop.work(UUID(released.json()["data"]["id"]))
    assert retained.status(order_id) == "cancelled"


def test_the_same_key_still_answers_the_same(retained: Customer) -> None:
    first = retained.order(key="once").json()["data"]
    job_id = UUID(first["job"]["id"])
    retained.shop.work(job_id)
    aged(retained, job_id)
    retain(retained.shop.engine, days=30)
    again = retained.order(key="once")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.json()["data"]["order"] == first["order"]


def test_a_report_outlives_its_job(retained: Customer) -> None:
    report_id, job_id = retained.reported()
    retained.shop.work(job_id)
    aged(retained, job_id)
    retain(retained.shop.engine, days=30)
    assert retained.get(f"/reports/{report_id}").json()["data"]["state"] == "succeeded"
    assert retained.get(f"/reports/{report_id}/download").status_code == 200


def test_a_report_that_was_never_written_says_so_without_its_job(retained: Customer) -> None:
    report_id, job_id = retained.reported()
    retained.shop.end(retained.shop.started(job_id), Errored("PermanentFailure", "no disk", permanent=True))
    aged(retained, job_id)
    retain(retained.shop.engine, days=30)
    assert retained.get(f"/reports/{report_id}").json()["data"]["state"] == "dead"
    error = error_of(retained.get(f"/reports/{report_id}/download"), 409, "JOB_NOT_FINISHED")
    assert error["message"] == "The job is dead: its result does not exist yet."


class TestResults:
    def quoted(self, customer: Customer) -> UUID:
        job = new_job(KINDS["test.quote"].decode({}), tenant_id=customer.tenant_id)
        with customer.shop.engine.begin() as tx:
            enqueue(tx, [job])
        customer.shop.end(customer.shop.started(job.id), Succeeded({"price": 7}))
        return job.id

    def test_a_result_can_be_read_until_it_expires_and_the_job_stays(self, customer: Customer) -> None:
        with declarations():

            class Quote(JobArgs, kind="test.quote", result_ttl=3_600.0):
                pass

            job_id = self.quoted(customer)
            fresh = customer.get(f"/jobs/{job_id}").json()["data"]
            assert fresh["result"] == {"price": 7}
            lasts = datetime.fromisoformat(fresh["resultExpiresAt"]) - datetime.fromisoformat(fresh["finishedAt"])
            assert lasts == timedelta(hours=1)

            made_earlier = "UPDATE jobs SET finished_at = finished_at - interval '1 hour' WHERE id = :id"
            execute(customer.shop.engine, made_earlier, id=job_id)

            expired = customer.get(f"/jobs/{job_id}").json()["data"]
            assert (expired["state"], expired["result"]) == ("succeeded", None)
            assert datetime.fromisoformat(expired["resultExpiresAt"]) <= datetime.now(UTC)
            (listed,) = customer.get("/jobs").json()["data"]
            assert listed["result"] is None

    def test_without_a_ttl_it_lives_as_long_as_its_job(self, customer: Customer) -> None:
        with declarations():

            class Quote(JobArgs, kind="test.quote"):
                pass

            shown = customer.get(f"/jobs/{self.quoted(customer)}").json()["data"]
            assert (shown["result"], shown["resultExpiresAt"]) == ({"price": 7}, None)


def test_a_job_that_never_was_is_not_found_either(customer: Customer) -> None:
    error_of(customer.get(f"/jobs/{new_id()}"), 404, "NOT_FOUND")
