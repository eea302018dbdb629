"""The tables of `longshore queues`, `workers` and `outbox`, and `longshore keys`, against a real database."""

import base64
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import typer
from sqlalchemy import Engine

from domain.fleet.workers import Process, beat
from domain.ids import new_id
from domain.invariants import INVARIANTS
from domain.job_kinds import DeliverWebhook, GenerateReport
from domain.jobs.controls import Scope, pause
from domain.lanes.lanes import SMTP, disable_lane, open_lane
from domain.tenants.key_rules import parse_key
from domain.tenants.keys import find_caller
from domain.tenants.permission_rules import permissions_of_scopes
from ops.cli import dlq, doctor, jobs, keys, kinds, main, options, outbox, processes, queues, workers
from ops.cli.output import Output, age, cell
from ops.cli.records import masked
from tests.integration.builders import emptied_database, module_database  # noqa: F401  # in place of conftest's
from tests.integration.command_line import Stage


@pytest.fixture
def stage(engine: Engine, database_url: str) -> Stage:
    return Stage(engine, database_url)


class TestQueues:
    def test_counts_what_waits_runs_and_lies_dead(self, stage: Stage) -> None:
        stage.waiting(GenerateReport(new_id()))
        stage.waiting(GenerateReport(new_id()), in_s=3600)
        stage.running(GenerateReport(new_id()))
        stage.dead()
        depths = {depth["queue"]: depth for depth in stage.json(queues.app)}
        email, reports = depths["email"], depths["reports"]
        assert (email["dead"], email["due"], email["oldestSeconds"]) == (1, 0, None)
        assert reports.pop("oldestSeconds") >= 0
        assert reports == {
            "queue": "reports", "due": 1, "bells": None, "later": 1, "held": 0, "running": 1, "dead": 0, "state": "on",
            "maxInFlight": None, "maxInFlightPerTenant": None, "startsPerSecond": None, "limits": None,
        }  # fmt: skip

    def test_prints_its_table_beside_groups_of_commands(self, stage: Stage) -> None:
        stage.waiting(GenerateReport(new_id()))
        longshore = typer.Typer()
        longshore.add_typer(queues.app, name="queues")
        longshore.add_typer(jobs.app, name="jobs")
        heading, *rows = stage.run(longshore, "queues").stdout.splitlines()
        assert heading == "queue      due  bells  later  held  running  dead  oldest s  state  limits"
        assert rows[-2].startswith("reports    1    -      0      0     0        0     0.")

    def test_names_the_queues_where_nothing_waits(self, stage: Stage) -> None:
        depths = stage.json(queues.app)
        assert [depth["queue"] for depth in depths] == ["default", "email", "inventory", "reports", "webhooks"]
        assert {depth["oldestSeconds"] for depth in depths} == {None}
        assert stage.run(queues.app).stdout.splitlines()[-1].split() == ["webhooks", *"0-0000-", "on", "-"]

    def test_counts_what_a_closed_lane_holds_apart(self, stage: Stage) -> None:
        closed(stage, SMTP)
        stage.waiting()
        email = next(depth for depth in stage.json(queues.app) if depth["queue"] == "email")
        assert (email["due"], email["held"], email["oldestSeconds"]) == (0, 1, None)


class TestWorkers:
    def test_tells_the_living_from_the_lost(self, stage: Stage) -> None:
        alive = Process(new_id(), "worker", "berth-1", 17, ["email", "reports"])
        lost = Process(new_id(), "relay", "berth-2", 18, [])
        with stage.engine.begin() as tx:
            beat(tx, alive)
            beat(tx, lost)
        with stage.engine.begin() as tx:
            tx.exec_driver_sql("UPDATE workers SET beat_at = beat_at - interval '11 s' WHERE role = 'relay'")
        shown = {process["role"]: process for process in stage.json(workers.app)}
        assert (shown["worker"]["state"], shown["relay"]["state"]) == ("alive", "lost")
        assert set(shown["worker"]) == {
            "id", "role", "host", "pid", "queues", "startedAt", "beatAt", "silentSeconds", "running", "state",
        }  # fmt: skip
        assert shown["worker"]["queues"] == ["email", "reports"]
        assert "email, reports" in stage.run(workers.app).stdout

    def test_forgets_the_lost_after_a_minute_unless_asked(self, stage: Stage) -> None:
        with stage.engine.begin() as tx:
            beat(tx, Process(new_id(), "relay", "berth-2", 18, []))
        with stage.engine.begin() as tx:
            tx.exec_driver_sql("UPDATE workers SET beat_at = beat_at - interval '61 s'")
        assert stage.json(workers.app) == []
        assert [process["state"] for process in stage.json(workers.app, "--all")] == ["lost"]


class TestOutbox:
    def test_calls_held_what_waits_in_a_closed_lane(self, stage: Stage) -> None:
        closed(stage, SMTP)
        stage.waiting()
        answer = stage.json(outbox.app)
        assert [(group["due"], group["held"]) for group in answer["groups"]] == [(0, 1)]
        assert [(lane["waiting"], lane["held"]) for lane in answer["lanes"]] == [(1, 1)]

    @pytest.mark.parametrize(("scope", "name"), [("queue", "email"), ("kind", "email.order_confirmed")])
    def test_calls_held_what_is_paused(self, stage: Stage, scope: Scope, name: str) -> None:
        with stage.engine.begin() as tx:
            pause(tx, scope, name, "test")
        stage.waiting()
        answer = stage.json(outbox.app)
        assert [(group["due"], group["held"]) for group in answer["groups"]] == [(0, 1)]

    def test_groups_the_obligations_and_lists_the_lanes_in_trouble_first(self, stage: Stage) -> None:
        with stage.engine.begin() as tx:
            open_lane(tx, SMTP, "email")
            open_lane(tx, "endpoint:1", "webhooks")
            disable_lane(tx, "endpoint:1")
        stage.waiting()
        stage.waiting()
        stage.waiting(DeliverWebhook(new_id(), new_id()))
        answer = stage.json(outbox.app)
        assert set(answer) == {"groups", "lanes"}
        assert [(group["kind"], group["lane"], group["rows"]) for group in answer["groups"]] == [
            ("email.order_confirmed", "smtp", 2),
            ("webhook.deliver", None, 1),
        ]
        assert [(lane["name"], lane["state"], lane["waiting"]) for lane in answer["lanes"]] == [
            ("endpoint:1", "disabled", 0),
            ("smtp", "healthy", 2),
        ]
        text = stage.run(outbox.app).stdout
        assert "parked until" in text
        assert "email.order_confirmed  smtp" in text

    def test_of_nothing_says_so(self, stage: Stage) -> None:
        result = stage.run(outbox.app)
        assert (result.exit_code, result.stderr) == (0, "The outbox is empty.\n")
        assert stage.json(outbox.app)["groups"] == []


class TestKeys:
    def test_a_new_one_is_alone_on_stdout_and_opens_the_door(self, stage: Stage) -> None:
        result = stage.run(keys.app, "create", "--name", "shop", "--tenant", "acme", "--scopes", "api,admin")
        assert result.exit_code == 0
        parts = parse_key(result.stdout.strip())
        assert parts
        with stage.engine.begin() as tx:
            caller = find_caller(tx, parts)
        assert caller
        assert (caller.tenant_id, caller.permissions) == (stage.tenant_id, permissions_of_scopes(["api", "admin"]))
        assert result.stdout.strip() not in result.stderr

    def test_is_not_made_for_a_tenant_that_is_not_there(self, stage: Stage) -> None:
        assert stage.run(keys.app, "create", "--name", "shop", "--tenant", "acmee").exit_code == 3
        assert stage.json(keys.app, "list") == []

    def test_is_never_shown_again(self, stage: Stage) -> None:
        made = stage.json(keys.app, "create", "--name", "shop", "--expires", "30d")
        assert set(made) == {"id", "key", "tenant", "name", "scopes", "expiresAt"}
        assert timedelta(days=29) < datetime.fromisoformat(made["expiresAt"]) - datetime.now(UTC) < timedelta(days=31)
        (listed,) = stage.json(keys.app, "list")
        assert (listed["id"], listed["tenant"], listed["scopes"]) == (made["id"], "default", ["api"])
        secret = made["key"].rpartition("_")[2]
        for words in (["list"], ["list", "--json"]):
            assert secret not in stage.run(keys.app, *words).output
        assert secret not in stage.scalar("SELECT string_agg(audit_log::text, '') FROM audit_log")

    @pytest.mark.parametrize(
        "words",
        [
            ["--scopes", "api,root"],
            ["--scopes", ","],
            ["--expires", "soon"],
            ["--expires", ""],
            ["--name", " "],
            ["--tenant", ""],
        ],
    )
    def test_is_not_made_of_wrong_words(self, stage: Stage, words: list[str]) -> None:
        given = words if "--name" in words else ["--name", "shop", *words]
        assert stage.run(keys.app, "create", *given).exit_code == 2
        assert stage.json(keys.app, "list") == []

    def test_that_is_revoked_is_gone(self, stage: Stage) -> None:
        key_id = stage.json(keys.app, "create", "--name", "shop")["id"]
        asked = stage.run(keys.app, "revoke", key_id)
        assert asked.exit_code == 6
        assert f"Revoke key {key_id} (shop) of tenant default?" in asked.stderr
        assert stage.json(keys.app, "revoke", key_id, "--yes") == {"id": key_id, "revoked": True}
        again = stage.run(keys.app, "revoke", key_id, "--yes")
        assert (again.exit_code, again.stderr) == (3, f"There is no API key {key_id}.\n")
        assert stage.scalar("SELECT string_agg(action, ' ' ORDER BY id) FROM audit_log") == (
            "api_key.created api_key.revoked"
        )


class TestDoctor:
    def test_says_that_all_promises_hold(self, stage: Stage) -> None:
        result = stage.run(alone(doctor.doctor))
        assert result.exit_code == 0
        assert result.stdout.splitlines()[-1] == f"All {len(INVARIANTS)} promises hold."
        assert all(promise["holds"] for promise in stage.json(alone(doctor.doctor)))

    def test_shows_the_rows_that_break_one(self, stage: Stage) -> None:
        job_id = stage.waiting()
        with stage.engine.begin() as tx:
            tx.exec_driver_sql("DELETE FROM outbox")
        result = stage.run(alone(doctor.doctor))
        assert result.exit_code == 1
        assert "BROKEN" in result.stdout
        assert str(job_id) in result.stdout
        assert f"1 of {len(INVARIANTS)} promises are broken: waiting_jobs_have_obligations" in result.stderr


class TestConfig:
    def test_shows_each_setting_and_no_secret(self, stage: Stage) -> None:
        environ = {"REDIS_URL": "rediss://:swordfish@cache:6379/0?password=haddock", "MAIL_FROM": "a@b.example"}
        environ["JWT_KEYS"] = base64.b64encode(b"swordfish and haddock: 32 bytes!").decode()
        result = stage.run(processes.config, "check", **environ)
        assert result.exit_code == 0
        assert "REDIS_URL=rediss://:***@cache:6379/0?password=***" in result.stdout
        assert "SECRET_KEY=***" in result.stdout
        assert "JWT_KEYS=***" in result.stdout
        assert "MAIL_FROM=a@b.example" in result.stdout
        assert not re.search("swordfish|haddock", result.output)
        assert result.stdout.endswith("OK\n")


class TestWords:
    def test_a_moment_is_a_duration_ago_or_an_iso_time(self) -> None:
        now = datetime(2026, 5, 1, 12, tzinfo=UTC)
        assert options.read_moment("90s", now) == now - timedelta(seconds=90)
        assert options.read_moment("2w", now) == now - timedelta(weeks=2)
        assert options.read_moment("2026-04-30T08:00Z") == options.read_moment("2026-04-30 08:00")
        assert options.read_moment("2026-04-30T08:00+02:00") == datetime(2026, 4, 30, 6, tzinfo=UTC)
        for junk in ("", "h", "-1h", "1y", "1.5h", "tomorrow", "999999w"):
            with pytest.raises(typer.BadParameter):
                options.read_moment(junk)

    def test_what_is_typed_must_be_utf_8(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["longshore", "queues", "pause", "email", "--reason", "\udcff"])
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code, capsys.readouterr().err) == (2, "What was typed is not UTF-8.\n")

    def test_json_steers_no_terminal_either(self, capsys: pytest.CaptureFixture[str]) -> None:
        hostile = {"message": "a\x9b31m\u202eb\x7f\x1b\n\u00fc"}
        for say in (Output(as_json=True).document, Output(as_json=True).line):
            say(hostile)
            said = capsys.readouterr().out
            assert json.loads(said) == hostile
            assert re.findall(r"[^\x20-\x7e\n]", said) == ["\u00fc"]

    def test_a_cell_is_one_harmless_line(self) -> None:
        assert cell("a\nb\x1b[31m\u202ec") == "a b\\x1b[31m\\x202ec"
        assert cell(None) == "-"

    def test_an_age_is_in_the_largest_unit_that_fits(self) -> None:
        now = datetime(2026, 5, 1, 12, tzinfo=UTC)
        ages = {
            0: "0s ago",
            59.9: "59s ago",
            60: "1m ago",
            7_300: "2h ago",
            180_000: "2d ago",
            -0.4: "0s ago",
            -90: "in 1m",
        }
        assert {seconds: age(now - timedelta(seconds=seconds), now) for seconds in ages} == ages

    def test_addresses_are_masked_however_deep_and_operators_are_not(self) -> None:
        assert masked({"a": ["to <jo.e+x@shop.example>", 7]}) == {"a": ["to <<e-mail>>", 7]}
        assert masked("olga@harbour") == "olga@harbour"

    @pytest.mark.parametrize("app", [dlq.app, jobs.app, keys.app, kinds.app, queues.app, workers.app, outbox.app])
    def test_help_needs_neither_settings_nor_a_database(self, app: typer.Typer, stage: Stage) -> None:
        result = stage.run(app, "--help", DATABASE_URL="", TERM="dumb")
        assert result.exit_code == 0
        assert re.search("Usage", result.stdout)


def closed(stage: Stage, lane: str) -> None:
    with stage.engine.begin() as tx:
        open_lane(tx, lane, "email")
        disable_lane(tx, lane)


def alone(command: Callable[..., None]) -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app
