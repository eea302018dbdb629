"""`longshore schedules` and `longshore retention` against a real database: seen, changed, asked first, audited."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from domain.jobs.partitions import create_partitions_ahead, partition_name
from domain.schedules.schedules import fire_due
from domain.schedules.standing import STANDING
from ops.cli import app
from tests.integration.builders import execute, row, rows
from tests.integration.command_line import Stage
from tests.integration.test_events import endpoint

STANDING_NAME = STANDING[0].name
LONG_AGO = datetime.now(UTC) - timedelta(days=100)
NIGHTLY = ("--kind", "invariants.check", "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--tenant", "acme")


@pytest.fixture
def stage(engine: Engine, database_url: str) -> Stage:
    return Stage(engine, database_url)


def names(stage: Stage) -> list[str]:
    return [one["name"] for one in stage.json(app, "schedules", "list")]


def added(stage: Stage, name: str = "nightly", *words: str) -> Any:
    return stage.json(app, "schedules", "add", name, *NIGHTLY, *words)


class TestAdd:
    def test_it_stands_in_the_list_with_its_next_tick(self, stage: Stage) -> None:
        made = added(stage)
        (listed,) = (one for one in stage.json(app, "schedules", "list") if one["name"] == "nightly")
        assert listed == made == stage.json(app, "schedules", "show", "nightly")
        assert datetime.fromisoformat(made["nextAt"]) > datetime.now(UTC)
        assert {name: made[name] for name in ("kind", "cron", "timeZone", "catchUp", "tenant", "state", "args")} == {
            "kind": "invariants.check",
            "cron": "30 2 * * *",
            "timeZone": "Europe/Berlin",
            "catchUp": "skip",
            "tenant": "acme",
            "state": "on",
            "args": {},
        }

    def test_a_person_gets_a_table(self, stage: Stage) -> None:
        added(stage)
        heading, *lines = stage.run(app, "schedules", "list").stdout.splitlines()
        assert heading.split()[:4] == ["name", "kind", "cron", "zone"]
        assert [line.split()[0] for line in lines] == ["nightly", STANDING_NAME]

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("--cron", "61 * * * *"), 2, "cron: '61 * * * *' cannot be read: bad minute"),
            (("--zone", "Europe/Atlantis"), 2, "timeZone: 'Europe/Atlantis' is no IANA time zone"),
            (("--kind", "no.kind"), 2, "kind: 'no.kind' is not a kind; the kinds are "),
            (("--args", '{"order": 1}'), 2, "args: invariants.check has no order"),
            (("--args", "[]"), 2, "--args: has to be a JSON object"),
            (("--catch-up", "some"), 2, "catch-up"),
            (("--tenant", "nobody"), 3, "Tenant nobody not found"),
        ],
    )
    def test_what_does_not_fit_is_named(self, stage: Stage, words: tuple[str, ...], code: int, said: str) -> None:
        result = stage.run(app, "schedules", "add", "nightly", *NIGHTLY, *words)
        assert result.exit_code == code
        assert said in " ".join(result.stderr.split())
        assert names(stage) == [STANDING_NAME]

    def test_a_name_is_taken_once(self, stage: Stage) -> None:
        added(stage)
        result = stage.run(app, "schedules", "add", "nightly", *NIGHTLY)
        assert (result.exit_code, result.stderr) == (1, "Schedule nightly exists already.\n")

    def test_the_names_of_the_code_are_not_for_operators(self, stage: Stage) -> None:
        assert stage.run(app, "schedules", "add", "system.mine", *NIGHTLY).exit_code == 6


def test_next_shows_the_clock_on_the_wall(stage: Stage) -> None:
    added(stage)
    ticks = stage.json(app, "schedules", "next", "nightly", "--count", "400")
    assert len(ticks) == 400
    local = {one["local"][11:16] for one in ticks}
    assert local == {"02:30", "03:00"}  # 03:00 in the night that has no 02:30
    assert datetime.fromisoformat(ticks[0]["tick"]) == datetime.fromisoformat(ticks[0]["local"])


def test_pause_and_resume(stage: Stage) -> None:
    added(stage)
    paused = stage.json(app, "schedules", "pause", "nightly", "--reason", "freeze")
    assert (paused["state"], paused["pausedReason"]) == ("paused", "freeze")
    with stage.engine.begin() as tx:
        assert "nightly" not in [one.name for one in fire_due(tx, datetime.now(UTC) + timedelta(days=2))]
    resumed = stage.json(app, "schedules", "resume", "nightly")
    assert (resumed["state"], resumed["pausedAt"], resumed["pausedReason"]) == ("on", None, None)


def test_run_now_queues_a_job(stage: Stage) -> None:
    added(stage)
    ran = stage.json(app, "schedules", "run-now", "nightly")
    assert row(stage.engine, "SELECT kind, tenant_id FROM jobs WHERE id = :id", id=ran["jobId"]) == (
        "invariants.check",
        stage.tenant_id,
    )
    assert stage.json(app, "schedules", "show", "nightly")["lastJobId"] == ran["jobId"]


def test_remove_asks_first(stage: Stage) -> None:
    added(stage)
    assert stage.run(app, "schedules", "remove", "nightly").exit_code == 6
    assert names(stage) == ["nightly", STANDING_NAME]
    assert stage.run(app, "schedules", "remove", "nightly", "--yes").exit_code == 0
    assert names(stage) == [STANDING_NAME]


def test_what_the_code_declares_can_be_paused_and_not_removed(stage: Stage) -> None:
    assert stage.run(app, "schedules", "remove", STANDING_NAME, "--yes").exit_code == 6
    assert stage.run(app, "schedules", "pause", STANDING_NAME).exit_code == 0


@pytest.mark.parametrize("command", ["show", "next", "pause", "resume", "run-now", "remove"])
def test_an_unknown_name_is_not_found(stage: Stage, command: str) -> None:
    result = stage.run(app, "schedules", command, "nobody")
    assert (result.exit_code, result.stderr) == (3, "Schedule nobody not found.\n")


@pytest.mark.parametrize(
    ("change", "command", "said"),
    [
        ("time_zone = 'Europe/Atlantis'", "resume", "timeZone: "),
        ("time_zone = 'Europe/Atlantis'", "next", "timeZone: "),
        ("kind = 'no.kind'", "run-now", "kind: this version knows no kind no.kind"),
    ],
)
def test_what_this_version_cannot_read_is_named(stage: Stage, change: str, command: str, said: str) -> None:
    added(stage)
    execute(stage.engine, f"UPDATE schedules SET {change} WHERE name = 'nightly'")
    result = stage.run(app, "schedules", command, "nightly")
    assert result.exit_code == 2
    assert f"The schedule cannot be read. {said}" in result.stderr


def test_every_act_is_audited_with_who_and_why(stage: Stage) -> None:
    added(stage, "nightly", "--by", "olga")
    for command in ("pause", "resume", "run-now", "remove"):
        words = ("--yes",) if command == "remove" else ()
        stage.run(app, "schedules", command, "nightly", "--by", "olga", "--reason", "a test", *words)
    found = rows(stage.engine, "SELECT actor, action, subject, reason, tenant_id FROM audit_log ORDER BY id")
    acts = ["added", "paused", "resumed", "run_now", "removed"]
    assert [act.action for act in found] == [f"schedule.{act}" for act in acts]
    assert {(act.actor, act.subject, act.tenant_id) for act in found} == {("olga", "nightly", stage.tenant_id)}
    assert [act.reason for act in found] == [None, *["a test"] * 4]


class TestRetention:
    @pytest.fixture(autouse=True)
    def old(self, stage: Stage) -> str:
        with stage.engine.begin() as tx:
            create_partitions_ahead(tx, LONG_AGO, weeks=0)
        return partition_name("jobs", LONG_AGO)

    def test_a_dry_run_counts_and_drops_nothing(self, stage: Stage, old: str) -> None:
        outlook = stage.json(app, "retention", "run", "--dry-run")
        assert {"partition": old, "rows": 0, "staying": 0} in outlook["partitions"]
        assert [outlook[what] for what in ("strays", "results", "events", "deadLetters")] == [0, 0, 0, 0]
        assert old in stage.run(app, "retention", "run", "--dry-run").stdout
        assert rows(stage.engine, "SELECT to_regclass(:name)", name=old)[0][0] == old

    def test_it_asks_first(self, stage: Stage, old: str) -> None:
        assert stage.run(app, "retention", "run").exit_code == 6
        assert rows(stage.engine, "SELECT to_regclass(:name)", name=old)[0][0] == old

    def test_it_drops_and_says_so(self, stage: Stage, old: str) -> None:
        done = stage.json(app, "retention", "run", "--yes", "--by", "olga")
        assert old in done["dropped"]
        assert done["postponed"] == []
        act = row(stage.engine, "SELECT actor, action, detail FROM audit_log")
        assert (act.actor, act.action) == ("olga", "retention.run")
        assert act.detail["dropped"] == done["dropped"]

    def test_what_has_to_wait_is_exit_code_5(self, stage: Stage, old: str) -> None:
        with stage.engine.begin() as reader:
            reader.exec_driver_sql("SELECT count(*) FROM jobs")
            result = stage.run(app, "retention", "run", "--yes")
        assert result.exit_code == 5
        assert f"{old} has to wait" in result.stderr

    def test_it_ends_deleted_endpoints_and_says_so_before_and_after(self, stage: Stage) -> None:
        endpoint(stage.engine, stage.tenant_id, "*")
        execute(stage.engine, "UPDATE webhook_endpoints SET event_types = '{}'")
        assert stage.json(app, "retention", "run", "--dry-run")["deletedEndpoints"] == 1
        said = "Of 1 deleted endpoint the history leaves and what waits is cancelled."
        assert said in stage.run(app, "retention", "run", "--dry-run").stdout
        assert said in stage.run(app, "retention", "run").stderr
        done = stage.run(app, "retention", "run", "--yes").stdout
        assert "Of 1 deleted endpoint the history left and what waited was cancelled." in done
        assert rows(stage.engine, "SELECT FROM webhook_endpoints") == []
        assert "deleted endpoint" not in stage.run(app, "retention", "run", "--dry-run").stdout
