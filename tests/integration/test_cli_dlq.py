"""`longshore dlq` against a real database: what an operator sees, does, and is kept from doing."""

import json
import os
import pty
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from domain.ids import new_id
from domain.job_kinds import GenerateReport, MailOrderConfirmed
from domain.jobs.dead_letters import discard_if_open
from ops.cli import triage
from ops.cli.database import silence_of
from ops.cli.dlq import app
from tests.integration.builders import emptied_database, module_database  # noqa: F401  # in place of conftest's
from tests.integration.command_line import Stage

RECORD = {
    "id", "jobId", "tenantId", "kind", "queue", "fingerprint", "cause", "error", "attempts", "diedAt", "resolution",
    "resolvedAt", "resolvedBy", "reason", "replayJobId",
}  # fmt: skip


@pytest.fixture
def stage(engine: Engine, database_url: str) -> Stage:
    return Stage(engine, database_url)


class TestList:
    def test_names_the_open_ones_newest_first(self, stage: Stage) -> None:
        older, newer = stage.dead_letters(2)
        records = stage.json(app, "list")
        assert [record["id"] for record in records] == [str(newer), str(older)]
        assert set(records[0]) == RECORD
        assert records[0]["error"] == {"class": "PermanentFailure", "message": "no such mailbox 7"}
        assert records[0]["diedAt"].endswith("Z")
        assert datetime.fromisoformat(records[0]["diedAt"]).tzinfo

    def test_leaves_out_those_dealt_with_unless_asked(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1)
        assert stage.run(app, "discard", letter, "--reason", "test", "--yes").exit_code == 0
        assert stage.json(app, "list") == []
        (record,) = stage.json(app, "list", "--all-resolutions")
        assert (record["resolution"], record["reason"]) == ("discarded", "test")
        assert record["resolvedBy"].startswith("olga@")

    def test_filters_by_kind_fingerprint_and_time(self, stage: Stage) -> None:
        stage.dead()
        stage.dead("out of paper", GenerateReport(new_id()))
        report, mail = stage.json(app, "list")
        assert stage.json(app, "list", "--kind", "report.generate") == [report]
        assert stage.json(app, "list", "--fingerprint", mail["fingerprint"]) == [mail]
        assert stage.json(app, "list", "--since", mail["diedAt"]) == [report, mail]
        assert stage.json(app, "list", "--since", "1h", "--limit", 1) == [report]
        assert stage.json(app, "list", "--since", "2199-01-01") == []

    def test_is_plain_text_and_whole_without_a_terminal(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1, "x" * 300)
        result = stage.run(app, "list", COLUMNS="40", FORCE_COLOR="1")
        heading, row = result.stdout.splitlines()
        assert " ".join(heading.split()) == "id kind fingerprint cause error attempts died resolution"
        assert row.startswith(f"{letter}  email.order_confirmed")
        assert "x" * 300 in row
        assert "\x1b" not in result.output

    def test_on_a_narrow_terminal_cuts_errors_but_never_an_id(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1, "x" * 300)
        terminal, end = pty.openpty()
        environ = {**os.environ, **stage.environ, "COLUMNS": "60", "TERM": "xterm"}
        subprocess.run(
            [sys.executable, "-c", "from ops.cli.dlq import app; app()", "list"],
            stdout=end,
            env={name: value for name, value in environ.items() if value is not None},
            timeout=60,
            check=True,
        )
        shown = os.read(terminal, 10_000).decode()
        os.close(end)
        os.close(terminal)
        assert str(letter) in shown
        assert "PermanentFailure: xxxxx…" in shown
        assert re.search(r"\ds ago", shown)

    def test_says_when_nothing_matches_apart_from_the_answer(self, stage: Stage) -> None:
        result = stage.run(app, "list")
        assert (result.exit_code, result.stdout, result.stderr) == (
            0,
            "",
            "There are no open dead letters.\n",
        )
        assert stage.run(app, "list", "--since", "1h").stderr == "No dead letters match.\n"

    def test_names_the_kinds_when_it_does_not_know_one(self, stage: Stage) -> None:
        result = stage.run(app, "list", "--kind", "email.order_confirmd")
        assert result.exit_code == 2
        assert "email.order_confirmed" in result.stderr

    def test_refuses_a_time_it_cannot_read(self, stage: Stage) -> None:
        result = stage.run(app, "list", "--since", "yesterday")
        assert result.exit_code == 2
        assert "yesterday" in result.stderr

    def test_shows_no_escape_sequence_and_no_address_of_a_customer(self, stage: Stage) -> None:
        stage.dead("\x1b[2Jno mailbox jane.roe@shop.example")
        for words in (["list"], ["list", "--json"], ["cases"], ["cases", "--json"]):
            shown = stage.run(app, *words).output
            assert "\x1b" not in shown
            assert "jane" not in shown
            assert "<e-mail>" in shown


class TestCases:
    def test_one_row_per_fault_the_most_frequent_first(self, stage: Stage) -> None:
        for number in range(3):
            stage.dead(f"no such mailbox {number}")
        stage.dead("out of paper", GenerateReport(new_id()))
        often, once = stage.json(app, "cases")
        assert set(often) == {"kind", "fingerprint", "error", "count", "firstDiedAt", "lastDiedAt"}
        assert (often["count"], often["kind"]) == (3, "email.order_confirmed")
        assert often["error"]["message"] == "no such mailbox 2"
        assert often["firstDiedAt"] < often["lastDiedAt"]
        assert (once["count"], once["firstDiedAt"]) == (1, once["lastDiedAt"])
        assert stage.json(app, "cases", "--kind", "report.generate") == [once]


class TestShow:
    def test_tells_everything(self, stage: Stage) -> None:
        order_id = new_id()
        frames = 'Traceback\n  File "mail.py", line 7, in send\nPermanentFailure: to jane@shop.example'
        job_id = stage.dead(args=MailOrderConfirmed(order_id), traceback=frames)
        page = stage.json(app, "show", stage.letter_of(job_id))
        assert set(page) > RECORD
        assert page["args"] == {"order_id": str(order_id)}
        assert page["traceback"].endswith("in send\nPermanentFailure: to <e-mail>")
        assert [attempt["outcome"] for attempt in page["timeline"]] == ["dead"]
        text = stage.run(app, "show", stage.letter_of(job_id)).stdout
        assert all(word in text for word in (str(job_id), str(order_id), "no such mailbox 7", "in send", "attempts"))

    def test_of_an_unknown_one_is_exit_code_3(self, stage: Stage) -> None:
        result = stage.run(app, "show", uuid4())
        assert (result.exit_code, result.stderr) == (3, "Dead letter not found.\n")

    def test_of_what_is_no_id_is_exit_code_2(self, stage: Stage) -> None:
        result = stage.run(app, "show", "seven", COLUMNS="200")
        assert result.exit_code == 2
        assert "'seven' is not an id" in result.stderr


class TestReplay:
    def test_queues_the_same_job_and_says_who_and_why(self, stage: Stage) -> None:
        job_id = stage.dead()
        letter = stage.letter_of(job_id)
        answer = stage.json(app, "replay", letter, "--by", "olga@harbour", "--yes", "--reason", "mailbox made")
        assert answer == {"done": [{"id": str(letter), "jobId": str(job_id)}], "refused": [], "notTried": 0}
        assert stage.state(job_id) == "queued"
        assert stage.scalar("SELECT max_attempts - attempt FROM jobs") == 3  # the whole allowance of its kind again
        assert stage.scalar("SELECT actor || action || reason FROM audit_log") == (
            "olga@harbourdead_letter.replayedmailbox made"
        )

    def test_of_a_single_one_asks_too(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1)
        result = stage.run(app, "replay", letter)
        assert (result.exit_code, result.stdout) == (6, "")
        assert "Replay 1 dead letter?" in result.stderr
        assert stage.resolutions() == [None]

    def test_of_one_replayed_before_is_refused(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1)
        assert stage.run(app, "replay", letter, "--yes").exit_code == 0
        again = stage.run(app, "replay", letter, "--yes")
        assert (again.exit_code, again.stderr) == (6, f"{letter}: The dead letter is replayed already.\n")

    def test_of_some_that_can_and_some_that_cannot_is_exit_code_5(self, stage: Stage) -> None:
        first, second = stage.dead_letters(2)
        unknown = uuid4()
        result = stage.run(app, "replay", first, second, unknown, "--yes", "--json")
        assert result.exit_code == 5
        answer = json.loads(result.stdout)
        assert [done["id"] for done in answer["done"]] == [str(first), str(second)]
        assert answer["refused"] == [{"id": str(unknown), "why": "Dead letter not found.", "code": 3}]
        assert stage.run(app, "replay", unknown, "--yes").exit_code == 3
        assert stage.run(app, "replay", first, unknown, "--yes").exit_code == 6

    def test_of_all_wants_a_filter_and_an_id_wants_none(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1)
        for words in ([], ["--all"], ["--kind", "x"], [letter, "--all", "--kind", "x"], [letter, "--since", "1h"]):
            assert stage.run(app, "replay", *words, "--yes").exit_code == 2
        assert stage.resolutions() == [None]

    @pytest.mark.parametrize("option", ["--kind", "--fingerprint", "--since"])
    def test_of_all_takes_no_variable_that_is_not_set_for_a_filter(self, stage: Stage, option: str) -> None:
        stage.dead_letters(1)
        given = {"--kind": "email.order_confirmed", "--since": "1h", option: ""}
        words = [word for name, value in given.items() for word in (name, value)]
        for command in (["discard", "--all", "--reason", "test", "--yes"], ["replay", "--all", "--yes"], ["list"]):
            refused = stage.run(app, *command, *words)
            assert refused.exit_code == 2
            assert f"Invalid value for '{option}'" in refused.stderr
        assert stage.resolutions() == [None]

    def test_of_all_that_match_leaves_the_others(self, stage: Stage) -> None:
        stage.dead_letters(3)
        stage.dead("out of paper", GenerateReport(new_id()))
        result = stage.run(app, "replay", "--all", "--kind", "email.order_confirmed", "--yes")
        assert result.exit_code == 0
        assert "Replayed 3 dead letters." in result.stdout
        assert stage.resolutions() == ["replayed", "replayed", "replayed", None]

    def test_of_all_without_yes_or_a_terminal_does_nothing(self, stage: Stage) -> None:
        stage.dead_letters(2)
        for extra in ([], ["--json"]):
            result = stage.run(app, "replay", "--all", "--since", "1h", *extra)
            assert (result.exit_code, result.stdout) == (6, "")
            assert "Replay 2 dead letters?" in result.stderr
            assert "--yes" in result.stderr
        assert stage.resolutions() == [None, None]

    def test_of_all_of_none_is_no_error(self, stage: Stage) -> None:
        assert stage.json(app, "replay", "--all", "--kind", "report.generate")["done"] == []
        unknown = stage.run(app, "replay", "--all", "--kind", "no.such", "--yes")
        assert unknown.exit_code == 2
        assert "report.generate" in unknown.stderr

    def test_as_a_dry_run_shows_and_changes_nothing(self, stage: Stage) -> None:
        letters = stage.dead_letters(12)
        answer = stage.json(app, "replay", "--all", "--since", "1h", "--dry-run")
        assert (answer["dryRun"], answer["count"], len(answer["sample"])) == (True, 12, 10)
        assert answer["sample"][0]["id"] == str(letters[0])
        text = stage.run(app, "replay", letters[0], "--dry-run")
        assert (text.exit_code, text.stdout.splitlines()[0]) == (
            0,
            "1 dead letter would be replayed. Nothing was done.",
        )
        assert set(stage.resolutions()) == {None}
        assert stage.scalar("SELECT count(*) FROM outbox") == 0
        assert stage.scalar("SELECT count(*) FROM audit_log") == 0

    def test_as_a_dry_run_foretells_the_refusal(self, stage: Stage) -> None:
        first, second = stage.dead_letters(2)
        stage.run(app, "replay", first, "--yes")
        assert stage.run(app, "replay", first, "--dry-run").exit_code == 6
        assert stage.run(app, "replay", first, second, "--dry-run").exit_code == 5

    def test_reports_one_that_was_resolved_meanwhile(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = stage.dead_letters(2)
        act = triage.act_on_each

        def somebody_is_faster(engine: Engine, ids: list[UUID], what: triage.Act) -> triage.Tally:
            with stage.engine.begin() as tx:
                discard_if_open(tx, second, "somebody")
            return act(engine, ids, what)

        monkeypatch.setattr(triage, "act_on_each", somebody_is_faster)
        result = stage.run(app, "replay", "--all", "--since", "1h", "--yes", "--json")
        assert result.exit_code == 5
        answer = json.loads(result.stdout)
        assert [done["id"] for done in answer["done"]] == [str(first)]
        assert answer["refused"][0] == {"id": str(second), "why": "The dead letter is discarded already.", "code": 6}

    def test_by_two_operators_at_once_happens_once(self, stage: Stage) -> None:
        letters = stage.dead_letters(5)
        together = Barrier(2)

        def operator(name: str) -> subprocess.CompletedProcess[str]:
            together.wait()
            return command(stage, "replay", *letters, "--by", name, "--yes", "--json")

        with ThreadPoolExecutor(2) as threads:
            one, other = threads.map(operator, ("one", "other"))
        done = [found["id"] for result in (one, other) for found in json.loads(result.stdout)["done"]]
        assert sorted(done) == sorted(map(str, letters))
        assert {one.returncode, other.returncode} <= {0, 5, 6}
        assert stage.scalar("SELECT count(*) FROM outbox") == 5
        assert stage.scalar("SELECT count(*) FROM audit_log") == 5

    def test_stops_at_ctrl_c_and_says_how_far_it_came(self, stage: Stage) -> None:
        letters = stage.dead_letters(3)

        def act(tx: object, letter: UUID) -> UUID:
            if letter == letters[1]:
                raise KeyboardInterrupt
            return letter

        tally = triage.act_on_each(stage.engine, letters, act)
        assert (list(tally.jobs), tally.not_tried, tally.exit_code) == (letters[:1], 2, 130)


class TestEdit:
    def test_queues_a_new_job_with_the_new_arguments(self, stage: Stage) -> None:
        job_id, order_id = stage.dead(), new_id()
        letter = stage.letter_of(job_id)
        result = stage.run(app, "edit", letter, "--args", json.dumps({"order_id": str(order_id)}), "--json")
        assert result.exit_code == 0
        answer = json.loads(result.stdout)
        assert answer["after"] == {"order_id": str(order_id)}
        assert f'+  "order_id": "{order_id}"' in result.stderr
        assert stage.state(job_id) == "dead"
        assert stage.state(UUID(answer["jobId"])) == "queued"
        assert stage.scalar("SELECT parent_id FROM jobs WHERE id = :id", id=answer["jobId"]) == job_id
        assert stage.resolutions() == ["edited"]

    @pytest.mark.parametrize(
        ("args", "complaint"),
        [
            ("{", "JSON object"),
            ("[]", "JSON object"),
            ("{}", "order_id"),
            ('{"order_id": 7}', "order_id"),
            ('{"order_id": "01890000-0000-7000-8000-000000000000", "colour": "red"}', "colour"),
        ],
    )
    def test_refuses_arguments_that_do_not_fit_the_kind(self, stage: Stage, args: str, complaint: str) -> None:
        (letter,) = stage.dead_letters(1)
        result = stage.run(app, "edit", letter, "--args", args)
        assert result.exit_code == 2
        assert complaint in result.stderr
        assert stage.resolutions() == [None]

    def test_refuses_the_same_arguments(self, stage: Stage) -> None:
        order_id = new_id()
        letter = stage.letter_of(stage.dead(args=MailOrderConfirmed(order_id)))
        assert stage.run(app, "edit", letter, "--args", json.dumps({"order_id": str(order_id)})).exit_code == 6
        assert stage.resolutions() == [None]

    def test_of_one_resolved_before_is_refused_before_an_editor_opens(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1)
        stage.run(app, "replay", letter, "--yes")
        assert stage.run(app, "edit", letter, EDITOR="false").exit_code == 6

    def test_takes_the_arguments_from_an_editor_and_asks(self, stage: Stage, tmp_path: Path) -> None:
        (letter,) = stage.dead_letters(1)
        editor = tmp_path / "an editor"
        editor.write_text(f'#!/bin/sh\necho \'{{"order_id": "{new_id()}"}}\' > "$1"\n')
        editor.chmod(0o755)
        assert stage.run(app, "edit", letter, EDITOR=f"'{editor}'").exit_code == 6
        assert stage.resolutions() == [None]
        assert stage.run(app, "edit", letter, "--yes", EDITOR=f"'{editor}'").exit_code == 0
        assert stage.resolutions() == ["edited"]

    @pytest.mark.parametrize("editor", ["no-such-editor", "'vi", "sh -c \"printf '\\377' > $0\""])
    def test_with_an_editor_that_fails_is_refused(self, stage: Stage, editor: str) -> None:
        (letter,) = stage.dead_letters(1)
        refused = stage.run(app, "edit", letter, EDITOR=editor)
        assert (refused.exit_code, refused.stderr.partition("(")[0]) == (6, "The editor failed ")
        assert stage.resolutions() == [None]

    def test_without_editor_terminal_or_arguments_is_a_wrong_usage(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1)
        assert stage.run(app, "edit", letter).exit_code == 2


class TestDiscard:
    def test_closes_it_for_good_and_leaves_the_job_dead(self, stage: Stage) -> None:
        job_id = stage.dead()
        letter = stage.letter_of(job_id)
        answer = stage.json(app, "discard", letter, "--reason", "the shop is closed", "--yes")
        assert answer["done"] == [{"id": str(letter), "jobId": None}]
        assert stage.state(job_id) == "dead"
        assert stage.run(app, "replay", letter, "--yes").exit_code == 6

    def test_wants_a_reason(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1)
        assert stage.run(app, "discard", letter, "--yes").exit_code == 2
        assert stage.resolutions() == [None]

    def test_of_a_single_one_asks_too(self, stage: Stage) -> None:
        (letter,) = stage.dead_letters(1)
        result = stage.run(app, "discard", letter, "--reason", "test")
        assert result.exit_code == 6
        assert "Discard 1 dead letter for good?" in result.stderr
        assert stage.resolutions() == [None]

    @pytest.mark.parametrize(("answer", "code", "resolution"), [("y", 0, "discarded"), ("n", 6, None), ("", 6, None)])
    def test_obeys_what_is_answered_on_a_terminal(
        self, stage: Stage, answer: str, code: int, resolution: str | None
    ) -> None:
        (letter,) = stage.dead_letters(1)
        terminal, end = pty.openpty()
        os.write(terminal, f"{answer}\n".encode())
        result = command(stage, "discard", letter, "--reason", "test", terminal=end)
        os.close(end)
        os.close(terminal)
        assert result.returncode == code
        assert stage.resolutions() == [resolution]


class TestDatabase:
    def test_that_does_not_answer_is_one_clear_line(self, stage: Stage) -> None:
        result = stage.run(app, "list", "--json", DATABASE_URL="postgresql://me:swordfish@127.0.0.1:1/none")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("The database does not answer: ")
        assert result.stderr.count("\n") == 1
        assert "swordfish" not in result.output

    def test_that_is_not_migrated_is_one_clear_line(self, stage: Stage) -> None:
        result = stage.run(app, "list", DATABASE_URL=f"{stage.database_url.rpartition('/')[0]}/postgres")
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert "migrated" in result.stderr

    def test_of_a_url_that_cannot_be_read_shows_no_password(self, stage: Stage) -> None:
        result = stage.run(app, "list", DATABASE_URL="postgresql://me:had@dock@host:port/name")
        assert result.exit_code == 2
        assert "dock" not in result.output
        assert "DATABASE_URL" in result.stderr

    def test_without_settings_names_each_that_is_missing(self, stage: Stage) -> None:
        result = stage.run(app, "list", DATABASE_URL="", SECRET_KEY="")
        assert result.exit_code == 2
        assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["DATABASE_URL", "SECRET_KEY"]

    @pytest.mark.parametrize("state", ["25P03", "25006", "08006", "53200", "57014", "40P01"])
    def test_that_interrupts_a_command_is_one_clear_line(self, stage: Stage, state: str) -> None:
        with pytest.raises(DBAPIError) as raised, stage.engine.begin() as tx:
            tx.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{state}'; END $$")
        assert silence_of(raised.value) == (1, "The database was interrupted, try again: not now")

    def test_and_what_nobody_foresaw_costs_a_bulk_one_dead_letter(self, stage: Stage) -> None:
        letters = stage.dead_letters(3)

        def act(tx: Connection, letter: UUID) -> UUID:
            if letter == letters[1]:
                raise ZeroDivisionError("a secret of the job")
            return letter

        tally = triage.act_on_each(stage.engine, letters, act)
        assert (list(tally.jobs), tally.not_tried, tally.exit_code) == ([letters[0], letters[2]], 0, 5)
        assert [(refused.why, refused.code) for refused in tally.refused] == [
            ("Nobody foresaw this: ZeroDivisionError.", 1)
        ]

    def test_and_what_nobody_foresaw_shows_its_stack_once_without_local_variables_and_addresses(
        self, stage: Stage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def act(_tx: Connection, _letter: UUID) -> UUID:
            local = f"swordfish {len(stage.database_url)}"
            raise KeyError("ada@example.com" if local else "")

        tally = triage.act_on_each(stage.engine, stage.dead_letters(3), act)
        shown = capsys.readouterr()
        assert (len(tally.refused), shown.out) == (3, "")
        assert shown.err.count("Traceback") == 1
        assert "in act\n" in shown.err
        assert "ada@" not in shown.err
        assert f"swordfish {len(stage.database_url)}" not in shown.err

    def test_that_cannot_hold_what_was_asked_for_is_one_clear_line(self, stage: Stage) -> None:
        for sql in ("SELECT CAST('\"\\u0000\"' AS jsonb)", "SELECT CAST(99999999999 AS integer)"):
            with pytest.raises(DBAPIError) as raised, stage.engine.begin() as tx:
                tx.exec_driver_sql(sql)
            silence = silence_of(raised.value)
            assert silence is not None
            assert (silence[0], silence[1].partition(": ")[0]) == (2, "The database cannot hold this")

    def test_that_drops_a_connection_costs_a_bulk_one_dead_letter(self, stage: Stage) -> None:
        letters = stage.dead_letters(3)

        def act(tx: Connection, letter: UUID) -> UUID:
            if letter == letters[1]:
                tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            return letter

        tally = triage.act_on_each(stage.engine, letters, act)
        assert (list(tally.jobs), tally.exit_code) == ([letters[0], letters[2]], 5)
        assert "try again" in tally.refused[0].why


def command(stage: Stage, *words: object, terminal: int | None = None) -> "subprocess.CompletedProcess[str]":
    """The same as a process of its own: two at once, or one with a terminal."""
    environ = {name: value for name, value in {**os.environ, **stage.environ}.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", "from ops.cli.dlq import app; app()", *map(str, words)],
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if terminal is None else terminal,
        env=environ,
        text=True,
        timeout=60,
        check=False,
    )
