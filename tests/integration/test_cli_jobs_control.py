"""`longshore jobs` on jobs that wait for others, and on how urgent they are."""

from uuid import uuid4

import pytest
from sqlalchemy import Engine

from domain.job_kinds import CheckInvariants
from domain.jobs.groups import enqueue_group
from domain.jobs.outbox import new_job
from domain.jobs.retry_policy import Succeeded
from ops.cli.jobs import app
from tests.integration.command_line import Stage


@pytest.fixture
def stage(engine: Engine, database_url: str) -> Stage:
    return Stage(engine, database_url)


class TestGroups:
    def test_are_shown_with_what_has_become_of_the_children(self, stage: Stage) -> None:
        child, other, then = (new_job(CheckInvariants(), tenant_id=stage.tenant_id) for _ in range(3))
        with stage.engine.begin() as tx:
            enqueue_group(tx, [child, other], then)
        page = stage.json(app, "show", then.id)
        assert page["children"] == {"total": 2, "waiting": 2, "succeeded": 0, "dead": 0, "cancelled": 0}
        assert (page["dueAt"], page["parentId"]) == (None, None)
        text = stage.run(app, "show", then.id).stdout
        assert "children  2 total, 2 waiting, 0 succeeded, 0 dead, 0 cancelled" in text
        assert "outbox  due when its children have ended" in text
        assert stage.json(app, "show", child.id)["parentId"] == str(then.id)
        assert stage.json(app, "show", child.id)["children"] is None
        listed = stage.json(app, "list", "--parent", then.id)
        assert [job["id"] for job in listed] == [str(other.id), str(child.id)]


class TestReprioritise:
    def test_moves_a_waiting_job_and_says_who_did(self, stage: Stage) -> None:
        job_id = stage.waiting()
        done = stage.json(app, "reprioritise", job_id, "--to", 2, "--reason", "the customer waits")
        assert done == {"id": str(job_id), "priority": 2}
        assert stage.json(app, "show", job_id)["priority"] == 2
        assert stage.scalar("SELECT priority FROM outbox") == 2
        assert stage.scalar("SELECT reason FROM audit_log") == "the customer waits"
        said = stage.run(app, "reprioritise", job_id, "--to", -2).stdout
        assert said == f"Job {job_id} has the priority -2.\n"

    def test_refuses_what_has_ended_what_is_unknown_and_what_is_off_the_scale(self, stage: Stage) -> None:
        job = stage.running()
        stage.end(job, Succeeded())
        ended = stage.run(app, "reprioritise", job.id, "--to", 1)
        assert (ended.exit_code, ended.stderr) == (6, "The job is succeeded and cannot be reprioritised.\n")
        assert stage.run(app, "reprioritise", uuid4(), "--to", 1).exit_code == 3
        assert stage.run(app, "reprioritise", job.id, "--to", 3).exit_code == 2
        assert stage.run(app, "reprioritise", job.id).exit_code == 2
