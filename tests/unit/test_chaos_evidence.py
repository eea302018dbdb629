"""What is kept of a run that broke a promise, and what is told of one that does not come to rest."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock, create_autospec

import msgspec
import pytest
from sqlalchemy import create_engine, text

from ops.chaos import evidence
from ops.chaos.clients import Client
from ops.chaos.evidence import keep_evidence, product
from ops.chaos.judges import Finding
from ops.chaos.observe import Seen
from ops.chaos.operators import Operator
from ops.chaos.rest import Rest, settle
from ops.chaos.system import ChaosFailed, System
from tests.unit.chaos_world import World

LOST = "accepted is durable, and decided"


def seen_as_rows(world: World) -> Seen:
    """As it comes from a database, and not much of it."""
    with create_engine("sqlite://").connect() as connection:
        rows = connection.execute(text("SELECT 7 AS id, 'confirmed' AS status")).all()
    names = ("orders", "jobs", "attempts", "letters", "events_published", "stock", "ledger", "deeds")
    return msgspec.structs.replace(world.seen(), **dict.fromkeys(names, rows))


def test_what_a_finding_names_can_be_looked_up(tmp_path: Path) -> None:
    world, running = World(), create_autospec(System, instance=True)
    world.stood("flushall", "valkey")
    finding = Finding(LOST, f"order {world.posted.order_id} was accepted and is not there")
    keep_evidence(tmp_path, running, world.history, Rest(findings=[finding], seen=seen_as_rows(world)))
    running.keep_logs.assert_called_once_with(tmp_path)
    kept: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert kept["seen"]["orders"] == [{"id": 7, "status": "confirmed"}]
    assert kept["told"]["_posted"][0]["order_id"] in kept["findings"][0]["what"]
    assert kept["told"]["stage"][0]["name"] == "flushall"


def test_what_has_no_place_in_a_record_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    world = World()
    with pytest.raises(NotImplementedError, match="SimpleNamespace"):
        keep_evidence(tmp_path, create_autospec(System, instance=True), world.history, Rest(seen=world.seen()))


def test_another_product_has_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = product()
    assert ours == product()
    monkeypatch.setattr(evidence, "_ROOT", tmp_path)
    source = tmp_path / "workers" / "relay.py"
    source.parent.mkdir()
    source.write_text("one = 1\n")
    first = product()
    source.write_text("one = 2\n")
    assert len({ours, first, product()}) == 3


def test_a_system_that_does_not_come_to_rest_is_judged_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world, running = World(), create_autospec(System, instance=True)
    running.ports, running.engine, running.wait.side_effect = {}, MagicMock(), ChaosFailed("in vain")
    world.orders.clear()
    monkeypatch.setattr("ops.chaos.rest.look", lambda *_: world.seen())
    client, operator = create_autospec(Client, instance=True), create_autospec(Operator, instance=True)
    findings = settle(running, client, world.history, operator, [world.endpoint]).findings
    assert {"liveness", LOST} <= {finding.promise for finding in findings}
    monkeypatch.setattr("ops.chaos.rest.look", Mock(side_effect=ChaosFailed("nobody answers")))
    assert settle(running, client, world.history, operator, [world.endpoint]).seen is None
