"""`longshore jobs` against a real database: seeing a job, hurrying it, stopping it, watching it end."""

import json
import sys
from datetime import UTC, datetime
from io import StringIO
from threading import Thread, Timer
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, Row

from domain.aftermath import cancel
from domain.ids import new_id
from domain.job_kinds import GenerateReport, ReserveInventory
from domain.jobs.attempts import ClaimedJob, report_progress_if_held, start_if_due
from domain.jobs.controls import Scope, pause
from domain.jobs.due import ring_due_in_lanes
from domain.jobs.queries import get_job
from domain.jobs.retry_policy import Cancelled, Errored, Succeeded
from domain.lanes.lanes import SMTP, disable_lane, open_lane
from ops.cli import job_watch
from ops.cli.jobs import app
from ops.cli.output import Output
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    all_due,
    emptied_database,
    module_database,
)
from tests.integration.command_line import Stage


@pytest.fixture
def stage(engine: Engine, database_url: str) -> Stage:
    return Stage(engine, database_url)


class TestList:
    def test_names_the_newest_first_and_filters(self, stage: Stage) -> None:
        order_id = new_id()
        first, second = stage.waiting(order_id=order_id), stage.waiting(GenerateReport(new_id()))
        dead = stage.dead()
        listed = stage.json(app, "list")
        assert [job["id"] for job in listed] == [str(dead), str(second), str(first)]
        assert "args" not in listed[0]

        def only(*words: object) -> list[str]:
            return [job["id"] for job in stage.json(app, "list", *words)]

        assert only("--state", "dead") == [str(dead)]
        assert only("--queue", "reports") == only("--kind", "report.generate") == [str(second)]
        assert only("--order", order_id) == [str(first)]
        assert only("--limit", 1) == [str(dead)]
        assert only("--state", "dead", "--queue", "reports") == []

    def test_finds_every_cancelled_job_asked_for_or_not(self, stage: Stage) -> None:
        running, waiting, stays = stage.running(), stage.waiting(), stage.running()
        stage.run(app, "cancel", waiting, "--yes")
        stage.end(running, Cancelled())
        stage.end(stays, Succeeded())
        listed = stage.json(app, "list", "--state", "cancelled")
        assert [job["id"] for job in listed] == [str(waiting), str(running.id)]

    def test_is_a_table_without_json(self, stage: Stage) -> None:
        job_id = stage.dead()
        heading, row = stage.run(app, "list").stdout.splitlines()
        assert heading.split() == ["id", "kind", "queue", "state", "attempts", "created", "due", "error"]
        assert row.startswith(str(job_id))
        assert row.endswith("PermanentFailure: no such mailbox 7")

    def test_knows_the_states(self, stage: Stage) -> None:
        result = stage.run(app, "list", "--state", "sleeping")
        assert result.exit_code == 2


class TestShow:
    def test_tells_of_the_obligation_that_stands(self, stage: Stage) -> None:
        job_id = stage.waiting(in_s=3600)
        page = stage.json(app, "show", job_id)
        assert (page["state"], page["obligation"]["dueAt"]) == ("scheduled", page["dueAt"])
        assert (page["timeline"], page["deadLetterId"]) == ([], None)
        text = stage.run(app, "show", job_id).stdout
        assert f"outbox  due at {datetime.fromisoformat(page['dueAt']):%Y-%m-%d %H:%M:%SZ}" in text

    @pytest.mark.parametrize(("scope", "name"), [("queue", "email"), ("kind", "email.order_confirmed")])
    def test_tells_of_a_pause(self, stage: Stage, scope: Scope, name: str) -> None:
        job_id = stage.waiting()
        with stage.engine.begin() as tx:
            pause(tx, scope, "another", by="olga")
        assert stage.json(app, "show", job_id)["waitsFor"] is None
        with stage.engine.begin() as tx:
            pause(tx, scope, name, by="olga")
        assert f"held    its {scope} is paused" in stage.run(app, "show", job_id).stdout

    def test_tells_that_its_tenant_is_suspended(self, stage: Stage) -> None:
        job_id = stage.waiting()
        with stage.engine.begin() as tx:
            tx.exec_driver_sql("UPDATE tenants SET status = 'suspended'")
        assert stage.json(app, "show", job_id)["waitsFor"] == "its tenant is suspended"

    def test_tells_that_its_lane_is_closed(self, stage: Stage) -> None:
        job_id = stage.waiting()
        with stage.engine.begin() as tx:
            open_lane(tx, SMTP, "email")
        assert stage.json(app, "show", job_id)["waitsFor"] is None
        with stage.engine.begin() as tx:
            tx.exec_driver_sql("UPDATE lanes SET state = 'parked', parked_until = '2199-01-01T00:00:00Z'")
        assert "held    its lane is parked until 2199-01-01 00:00:00Z" in stage.run(app, "show", job_id).stdout
        with stage.engine.begin() as tx:
            disable_lane(tx, SMTP)
        assert stage.json(app, "show", job_id)["waitsFor"] == "its lane is disabled"

    def test_tells_how_often_it_was_rung(self, stage: Stage) -> None:
        job_id = stage.waiting()
        for _ in range(2):
            with stage.engine.begin() as tx:
                open_lane(tx, SMTP, "email")
                tx.exec_driver_sql("UPDATE outbox SET due_at = now() - interval '1 second'")
                assert ring_due_in_lanes(tx)
        assert "outbox  rung 2x, rings again at" in stage.run(app, "show", job_id).stdout

    def test_tells_each_attempt_and_the_dead_letter(self, stage: Stage) -> None:
        job_id = stage.dead()
        page = stage.json(app, "show", job_id)
        assert [(run["number"], run["outcome"]) for run in page["timeline"]] == [(1, "dead")]
        assert page["timeline"][0]["error"]["class"] == "PermanentFailure"
        assert page["deadLetterId"] == str(stage.letter_of(job_id))
        assert page["obligation"] is None
        text = stage.run(app, "show", job_id).stdout
        assert "no obligation stands" in text
        assert "no such mailbox 7" in text

    def test_tells_until_when_its_worker_may_be_silent(self, stage: Stage) -> None:
        job = stage.running()
        page = stage.json(app, "show", job.id)
        assert datetime.fromisoformat(page["leaseUntil"]) > datetime.fromisoformat(page["startedAt"])
        stage.end(job, Succeeded())
        assert stage.json(app, "show", job.id)["leaseUntil"] is None

    def test_of_an_unknown_one_is_exit_code_3(self, stage: Stage) -> None:
        result = stage.run(app, "show", uuid4())
        assert (result.exit_code, result.stderr) == (3, "Job not found.\n")


class TestRetry:
    def test_makes_a_retrying_job_due_at_once(self, stage: Stage) -> None:
        job_id = stage.retrying()
        assert not started(stage, job_id)
        assert stage.json(app, "retry", job_id, "--reason", "disk is empty") == {
            "id": str(job_id),
            "was": "retrying",
            "deadLetterId": None,
        }
        assert stage.scalar("SELECT due_at <= clock_timestamp() FROM outbox")
        assert stage.scalar("SELECT action || reason FROM audit_log") == "job.retried_nowdisk is empty"
        assert started(stage, job_id)

    def test_makes_a_scheduled_job_due_at_once(self, stage: Stage) -> None:
        job_id = stage.waiting(GenerateReport(new_id()), in_s=3600)
        assert stage.run(app, "retry", job_id).exit_code == 0
        assert all_due(stage.engine) == [job_id]
        assert started(stage, job_id)

    def test_keeps_the_place_of_a_job_that_is_due_already(self, stage: Stage) -> None:
        job_id = stage.waiting()
        due_at = stage.scalar("SELECT due_at FROM jobs")
        assert stage.run(app, "retry", job_id).exit_code == 0
        assert stage.scalar("SELECT due_at FROM jobs") == stage.scalar("SELECT due_at FROM outbox") == due_at

    def test_rings_again_for_a_job_whose_bell_was_lost(self, stage: Stage) -> None:
        # In a lane. Without one, the relay remembers the bell and rings again when its time is over
        job_id = stage.waiting()
        with stage.engine.begin() as tx:
            open_lane(tx, SMTP, "email")
            assert len(ring_due_in_lanes(tx)) == 1
        with stage.engine.begin() as tx:
            assert ring_due_in_lanes(tx) == []
        assert stage.run(app, "retry", job_id).exit_code == 0
        with stage.engine.begin() as tx:
            assert len(ring_due_in_lanes(tx)) == 1

    def test_gives_back_an_obligation_that_was_lost(self, stage: Stage) -> None:
        job_id = stage.retrying()
        with stage.engine.begin() as tx:
            tx.exec_driver_sql("DELETE FROM outbox")
        assert stage.run(app, "retry", job_id).exit_code == 0
        assert stage.scalar("SELECT count(*) FROM outbox") == 1

    def test_replays_a_dead_job_through_its_dead_letter(self, stage: Stage) -> None:
        job_id = stage.dead()
        answer = stage.json(app, "retry", job_id)
        assert answer["deadLetterId"] == str(stage.letter_of(job_id))
        assert stage.state(job_id) == "queued"
        assert stage.resolutions() == ["replayed"]

    def test_of_a_job_that_died_twice_replays_the_last_death(self, stage: Stage) -> None:
        job_id = stage.dead()
        stage.run(app, "retry", job_id)
        (job,) = started(stage, job_id)
        stage.end(job, Errored("PermanentFailure", "again", permanent=True))
        assert stage.run(app, "retry", job_id).exit_code == 0
        assert stage.resolutions() == ["replayed", "replayed"]

    def test_refuses_a_dead_job_whose_dead_letter_was_discarded(self, stage: Stage) -> None:
        from ops.cli import dlq  # noqa: PLC0415 - only here

        job_id = stage.dead()
        stage.run(dlq.app, "discard", stage.letter_of(job_id), "--reason", "test", "--yes")
        result = stage.run(app, "retry", job_id)
        assert (result.exit_code, result.stderr) == (6, "The dead letter is discarded already.\n")

    def test_refuses_a_job_that_runs_or_has_ended(self, stage: Stage) -> None:
        job = stage.running()
        assert stage.run(app, "retry", job.id).exit_code == 6
        stage.end(job, Succeeded())
        result = stage.run(app, "retry", job.id)
        assert (result.exit_code, result.stderr) == (6, "The job is succeeded and cannot be made due.\n")
        assert stage.run(app, "retry", uuid4()).exit_code == 3
        assert stage.scalar("SELECT count(*) FROM audit_log") == 0


class TestCancel:
    def test_ends_a_waiting_job(self, stage: Stage) -> None:
        job_id = stage.waiting()
        answer = stage.json(app, "cancel", job_id, "--yes", "--reason", "test")
        assert answer == {"id": str(job_id), "cancelled": True}
        assert stage.state(job_id) == "cancelled"
        assert stage.scalar("SELECT count(*) FROM outbox") == 0
        assert stage.scalar("SELECT action || reason FROM audit_log") == "job.cancelledtest"

    def test_asks_a_running_job_to_stop(self, stage: Stage) -> None:
        job = stage.running()
        result = stage.run(app, "cancel", job.id, "--yes")
        assert (result.exit_code, result.stdout) == (0, f"Job {job.id} runs; it was asked to stop.\n")
        assert stage.state(job.id) == "running"
        assert stage.scalar("SELECT cancel_requested_at IS NOT NULL FROM jobs")
        assert stage.scalar("SELECT action FROM audit_log") == "job.cancel_requested"

    def test_without_yes_or_a_terminal_does_nothing(self, stage: Stage) -> None:
        job_id = stage.waiting()
        for extra in ([], ["--json"]):
            assert stage.run(app, "cancel", job_id, *extra).exit_code == 6
        assert stage.state(job_id) == "queued"

    def test_refuses_one_that_has_ended(self, stage: Stage) -> None:
        result = stage.run(app, "cancel", stage.dead())
        assert (result.exit_code, result.stderr) == (6, "The job is dead and cannot be cancelled.\n")
        assert stage.run(app, "cancel", uuid4()).exit_code == 3


class TestWatch:
    def test_of_a_finished_job_ends_at_once_with_its_outcome(self, stage: Stage) -> None:
        job = stage.running()
        stage.end(job, Succeeded())
        assert stage.run(app, "watch", job.id).exit_code == 0
        assert stage.run(app, "watch", stage.dead()).exit_code == 1
        assert stage.run(app, "watch", uuid4()).exit_code == 3

    def test_of_a_cancelled_job_is_exit_code_1(self, stage: Stage) -> None:
        job_id = stage.waiting()
        with stage.engine.begin() as tx:
            cancel(tx, stage.tenant_id, job_id)
        assert stage.run(app, "watch", job_id).exit_code == 1

    def test_gives_up_when_the_time_is_up(self, stage: Stage) -> None:
        job_id = stage.waiting()
        before = datetime.now(UTC)
        result = stage.run(app, "watch", job_id, "--timeout", "0.4")
        assert (result.exit_code, result.stderr) == (7, f"Job {job_id} is still queued.\n")
        assert (datetime.now(UTC) - before).total_seconds() < 3

    def test_follows_a_job_to_its_end(self, stage: Stage) -> None:
        job = stage.running(GenerateReport(new_id()))
        work = Thread(target=lambda: _work(stage, job))
        work.start()
        result = stage.run(app, "watch", job.id, "--timeout", "30")
        work.join()
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "report.generate running, attempt 1 of 3",
            "report.generate running, attempt 1 of 3: 40 of 100 rows written",
            "report.generate succeeded, attempt 1 of 3",
        ]

    def test_waits_for_a_database_that_is_away(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        job, looks = stage.running(), 0

        def look(tx: Connection, tenant_id: UUID | None, job_id: UUID) -> Row[Any]:
            nonlocal looks
            looks += 1
            if looks == 2:
                stage.end(job, Succeeded())
                tx.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
            return get_job(tx, tenant_id, job_id)

        monkeypatch.setattr(job_watch, "get_job", look)
        result = stage.run(app, "watch", job.id, "--timeout", "30")
        assert (result.exit_code, looks) == (0, 3)

    def test_that_ends_while_the_database_is_away_says_so_and_what_was_seen_last(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job, looks = stage.running(), 0

        def look(tx: Connection, tenant_id: UUID | None, job_id: UUID) -> Row[Any]:
            nonlocal looks
            looks += 1
            if looks > 1:
                tx.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
            return get_job(tx, tenant_id, job_id)

        monkeypatch.setattr(job_watch, "get_job", look)
        result = stage.run(app, "watch", job.id, "--timeout", "0.6")
        said = f"The database does not answer. Job {job.id} was running when it last did.\n"
        assert (result.exit_code, result.stderr) == (7, said)

    def test_shows_an_error_as_it_is_on_a_terminal(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        with stage.engine.begin() as tx:
            job = get_job(tx, None, stage.dead(r"\[/x] [bold]"))
        terminal = StringIO()
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdout", terminal)
        with job_watch._shown(Output(as_json=False)) as show:
            show(job)
        assert r"\[/x] [bold]" in terminal.getvalue()

    def test_with_json_prints_a_line_per_change(self, stage: Stage) -> None:
        job = stage.running(ReserveInventory(new_id()))
        ending = Timer(0.6, lambda: stage.end(job, Errored("PermanentFailure", "no", permanent=True)))
        ending.start()
        result = stage.run(app, "watch", job.id, "--json", "--timeout", "30")
        ending.join()
        assert result.exit_code == 1
        changes = [json.loads(line) for line in result.stdout.splitlines()]
        assert [change["state"] for change in changes] == ["running", "dead"]
        assert changes[-1]["lastError"] == {"class": "PermanentFailure", "message": "no"}


def _work(stage: Stage, job: ClaimedJob) -> None:
    pause = Timer(0.8, lambda: None)
    pause.start()
    pause.join()
    with stage.engine.begin() as tx:
        report_progress_if_held(tx, job, 40, 100, "rows written")
    pause = Timer(0.8, lambda: None)
    pause.start()
    pause.join()
    stage.end(job, Succeeded())


def started(stage: Stage, job_id: UUID) -> list[ClaimedJob]:
    with stage.engine.begin() as tx:
        return start_if_due(tx, [job_id], new_id(), lease_s=600)


def test_a_queue_that_does_not_exist_is_a_usage_error_that_names_those_that_do(stage: Stage) -> None:
    refused = stage.run(app, "list", "--queue", "nope")
    assert refused.exit_code == 2
    assert "'nope' is not a queue; the queues are default, email, " in " ".join(refused.stderr.split())
    assert stage.run(app, "list", "--queue", "reports").exit_code == 0


@pytest.mark.parametrize("option", ["--state", "--kind", "--queue", "--order", "--parent"])
def test_a_filter_that_says_nothing_is_refused_by_its_name(stage: Stage, option: str) -> None:
    refused = stage.run(app, "list", option, "")
    assert refused.exit_code == 2
    assert f"Invalid value for '{option}'" in refused.stderr
