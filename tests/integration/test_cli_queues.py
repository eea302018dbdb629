"""`longshore queues` and `longshore kinds` on real servers: paused, resumed, limited, drained; each act audited."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import pytest
import typer
from redis import Redis
from sqlalchemy import Engine

from domain.ids import new_id
from domain.job_kinds import GenerateReport
from domain.jobs.controls import Control, read_controls
from domain.jobs.retry_policy import Succeeded
from ops.cli import drain, kinds, queues
from tests.integration.builders import (  # noqa: F401  # in place of conftest's
    emptied_database,
    eventually,
    module_database,
)
from tests.integration.command_line import Stage
from workers.broker import bell, bell_list, connect_redis


@pytest.fixture
def stage(engine: Engine, database_url: str, redis_url: str) -> Stage:
    stage = Stage(engine, database_url)
    stage.environ["REDIS_URL"] = redis_url
    return stage


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return connect_redis(redis_url)


def held(stage: Stage) -> list[Control]:
    with stage.engine.begin() as tx:
        return read_controls(tx)


def acts(stage: Stage) -> list[Any]:
    with stage.engine.begin() as tx:
        sql = "SELECT action, subject, actor, reason FROM audit_log ORDER BY id"
        return [tuple(row) for row in tx.exec_driver_sql(sql)]


BOTH = pytest.mark.parametrize(
    ("app", "scope", "name"), [(queues.app, "queue", "reports"), (kinds.app, "kind", "report.generate")]
)


@BOTH
def test_a_pause_holds_until_it_is_resumed_and_both_are_audited(
    stage: Stage, app: typer.Typer, scope: Any, name: str
) -> None:
    paused = stage.json(app, "pause", name, "--reason", "the disk is full", "--by", "olga")
    assert (paused["name"], paused["state"]) == (name, "paused")
    assert held(stage) == [Control(scope, name, paused=True)]
    (row,) = [row for row in stage.json(app) if row[scope] == name]
    assert row["state"] == "paused"
    said = stage.run(app, "resume", name, "--by", "olga").stdout
    assert said == f"{scope.title()} {name} runs, without limits.\n"
    assert held(stage) == []
    assert acts(stage) == [
        (f"{scope}.paused", name, "olga", "the disk is full"),
        (f"{scope}.resumed", name, "olga", None),
    ]


@BOTH
def test_limits_are_set_one_by_one_and_lifted_together(stage: Stage, app: typer.Typer, scope: Any, name: str) -> None:
    stage.json(app, "limit", name, "--max-in-flight", 5)
    stage.run(app, "pause", name)
    told = stage.run(app, "limit", name, "--max-in-flight-per-tenant", 2).stdout
    assert told == f"{scope.title()} {name} is paused, 5 in flight, 2 in flight per tenant.\n"
    assert held(stage) == [Control(scope, name, paused=True, max_in_flight=5, max_in_flight_per_tenant=2)]
    assert "5 in flight, 2 in flight per tenant" in stage.run(app).stdout
    assert stage.scalar("SELECT detail FROM audit_log ORDER BY id DESC LIMIT 1") == {
        "max_in_flight": 5, "max_in_flight_per_tenant": 2, "starts_per_second": None,
    }  # fmt: skip
    assert stage.json(app, "limit", name, "--none")["limits"] is None
    assert held(stage) == [Control(scope, name, paused=True)]


@pytest.mark.parametrize("words", [["--per-second", "inf"], ["--max-in-flight", "99999999999"]])
def test_a_limit_that_no_number_can_be_is_refused(stage: Stage, words: list[str]) -> None:
    assert stage.run(kinds.app, "limit", "report.generate", *words).exit_code == 2
    assert held(stage) == []


def test_two_who_limit_at_once_both_get_what_they_asked_for(stage: Stage) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with ThreadPoolExecutor(1) as threads:
        with stage.engine.begin() as tx:
            tx.exec_driver_sql("INSERT INTO controls (scope, name, max_in_flight) VALUES ('queue', 'reports', 5)")
            other = threads.submit(stage.run, queues.app, "limit", "reports", "--max-in-flight-per-tenant", 2)
            eventually(lambda: stage.scalar(waiting) == 1)
        assert other.result(30).exit_code == 0
    assert held(stage) == [Control("queue", "reports", max_in_flight=5, max_in_flight_per_tenant=2)]


def test_a_kind_may_be_slowed(stage: Stage) -> None:
    assert stage.json(kinds.app, "limit", "report.generate", "--per-second", 0.5)["startsPerSecond"] == 0.5
    (row,) = [row for row in stage.json(kinds.app) if row["kind"] == "report.generate"]
    assert (row["queue"], row["bundle"], row["limits"]) == ("reports", 1, "0.5 per second")


@BOTH
@pytest.mark.parametrize(
    "words", [[], ["--none", "--max-in-flight", "1"], ["--max-in-flight", "0"], ["--max-in-flight", "many"]]
)
def test_limits_that_say_nothing_or_two_things_are_refused(
    stage: Stage, app: typer.Typer, scope: Any, name: str, words: list[str]
) -> None:
    assert stage.run(app, "limit", name, *words).exit_code == 2
    assert held(stage) == []


@BOTH
@pytest.mark.parametrize("words", [["pause"], ["resume"], ["limit", "--max-in-flight", "3"]])
def test_an_unknown_name_is_refused_with_those_there_are(
    stage: Stage, app: typer.Typer, scope: Any, name: str, words: list[str]
) -> None:
    result = stage.run(app, *words, name + "s")
    assert result.exit_code == 2
    assert f"NAME: '{name}s' is not a {scope}" in " ".join(result.stderr.replace("│", " ").split())
    assert (held(stage), acts(stage)) == ([], [])


@BOTH
def test_a_name_that_only_newer_code_knows_is_known_by_its_jobs(
    stage: Stage, app: typer.Typer, scope: Any, name: str
) -> None:
    stage.waiting()
    with stage.engine.begin() as tx:
        tx.exec_driver_sql("UPDATE outbox SET queue = 'newer', kind = 'newer'")
    assert stage.json(app, "pause", "newer")["state"] == "paused"
    with stage.engine.begin() as tx:
        tx.exec_driver_sql("DELETE FROM outbox")
    assert [row["state"] for row in stage.json(app) if row[scope] == "newer"] == ["paused"]
    assert stage.json(app, "resume", "newer")["state"] == "on"


def test_what_is_paused_is_held_and_not_due(stage: Stage) -> None:
    stage.waiting(GenerateReport(new_id()))
    stage.waiting()

    def depths() -> dict[str, tuple[int, int]]:
        return {row["queue"]: (row["due"], row["held"]) for row in stage.json(queues.app)}

    assert (depths()["reports"], depths()["email"]) == ((1, 0), (1, 0))
    stage.run(queues.app, "pause", "reports")
    stage.run(kinds.app, "pause", "email.order_confirmed")
    assert (depths()["reports"], depths()["email"]) == ((0, 1), (0, 1))


def test_the_bells_that_nobody_has_taken_are_counted_in_redis(stage: Stage, redis: Redis) -> None:
    redis.rpush(bell_list("reports"), *[bell("reports", "report.generate", ["x"])] * 3)
    assert {row["queue"]: row["bells"] for row in stage.json(queues.app)} == {
        "default": 0, "email": 0, "inventory": 0, "reports": 3, "webhooks": 0,
    }  # fmt: skip


# ---- drain


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "QUIET_FOR_S", 0.1)
    monkeypatch.setattr(drain, "POLL_S", 0.02)


def test_a_drain_pauses_and_waits_until_nothing_is_in_flight(stage: Stage, redis: Redis) -> None:
    # Given a job that runs, and a bell that nobody has taken
    job = stage.running(GenerateReport(new_id()))
    redis.rpush(bell_list("reports"), bell("reports", "report.generate", ["x"]))
    results = []
    draining = Thread(target=lambda: results.append(stage.run(queues.app, "drain", "reports", "--timeout", 60)))
    draining.start()
    eventually(lambda: held(stage) == [Control("queue", "reports", paused=True)])
    # When both are gone
    redis.delete(bell_list("reports"))
    assert draining.is_alive()
    stage.end(job, Succeeded())
    draining.join(30)
    # Then it ends, and the queue stays paused
    assert results[0].exit_code == 0, results[0].output
    assert results[0].stdout.splitlines()[-1] == "Queue reports is paused: 0 in flight, 0 bells wait."
    assert held(stage) == [Control("queue", "reports", paused=True)]
    assert [act for act, *_ in acts(stage)] == ["queue.paused"]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_drain_that_takes_too_long_ends_with_exit_code_7_and_stays_paused(stage: Stage, as_json: bool) -> None:
    stage.running(GenerateReport(new_id()))
    result = stage.run(queues.app, "drain", "reports", "--timeout", 0.05, *(["--json"] if as_json else []))
    assert result.exit_code == 7
    assert "Queue reports is paused and not yet drained." in result.stderr
    if as_json:
        assert json.loads(result.stdout) == {
            "name": "reports", "state": "paused", "drained": False, "inFlight": 1, "bells": 0,
        }  # fmt: skip
    assert held(stage) == [Control("queue", "reports", paused=True)]


def test_a_drain_that_cannot_ask_redis_says_so_and_that_the_queue_is_paused(stage: Stage) -> None:
    result = stage.run(queues.app, "drain", "reports", "--json", REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 1
    assert result.stderr.startswith("Redis does not answer")
    assert result.stderr.endswith("Queue reports is paused and not yet drained.\n")
    assert json.loads(result.stdout)["state"] == "paused"
    assert held(stage) == [Control("queue", "reports", paused=True)]


def test_a_drain_of_an_unknown_queue_pauses_nothing(stage: Stage) -> None:
    assert stage.run(queues.app, "drain", "report").exit_code == 2
    assert held(stage) == []
