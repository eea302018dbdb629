"""What the previous version left behind, the present one does: its waiting jobs run, its events are still told.

The rows of tests/fixtures/before_the_upgrade.json were written by the version before migration 0002, but for the
delivery, whose endpoint each run makes anew. Never change them: they are what lies in databases out there.
"""

import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from domain.webhooks.endpoints import create_endpoint
from tests.end_to_end.dev_servers import ask
from tests.end_to_end.running import Running, all_promises_hold, wait_until

ROWS = Path(__file__).parents[1] / "fixtures/before_the_upgrade.json"


@pytest.mark.timeout(120)
def test_waiting_jobs_and_events_of_the_previous_version_are_done_by_this_one(system: Running) -> None:
    # Given a tenant of the previous version: one order is not decided yet, of another the world has not been told yet
    rows: dict[str, list[dict[str, Any]]] = json.loads(ROWS.read_text())
    tenant_id = UUID(rows["tenants"][0]["id"])
    with system.engine.begin() as tx:
        write(tx, {"tenants": rows.pop("tenants")})
        key, url = base64.b64decode(system.env["SECRET_KEY"]), system.env["RECEIVER_URL"]
        endpoint, secret = create_endpoint(tx, key, tenant_id, url, ["order.confirmed"], None)
        ask(system.env["RECEIVER_CONTROL"], "/secret", "PUT", {"secret": f"whsec_{base64.b64encode(secret).decode()}"})
        write(tx, json.loads(json.dumps(rows).replace("ENDPOINT", str(endpoint.id))))
    # When the fleet goes on
    left = "SELECT 1 FROM jobs WHERE tenant_id = :tenant AND state <> 'succeeded'"
    wait_until(lambda: not system.query(left, tenant=tenant_id), 40)
    # Then both orders are confirmed, their customer and their subscriber know, and the stock adds up
    orders = system.query("SELECT id, status FROM orders WHERE tenant_id = :tenant", tenant=tenant_id)
    assert [status for _, status in orders] == ["confirmed", "confirmed"]
    for order_id, _ in orders:
        (mail,) = ask(system.env["INBOX_URL"], f"/messages?about={order_id}")
        assert str(order_id) in mail["subject"]
        told = [one for one in ask(system.env["RECEIVER_CONTROL"], "/deliveries") if one["subject"] == str(order_id)]
        assert [(one["type"], one["verified"]) for one in told] == [("order.confirmed", True)]
        assert told[0]["event"]["data"]["lines"] == [{"sku": "OLD-MUG", "quantity": 2, "unitPrice": 9.5}]
    assert system.query("SELECT on_hand, reserved FROM stock WHERE tenant_id = :tenant", tenant=tenant_id) == [(10, 4)]
    all_promises_hold(system.engine)


def write(tx: Connection, tables: dict[str, list[dict[str, Any]]]) -> None:
    """These rows, without the columns that a migration has taken away since."""
    for table, rows in tables.items():
        known = set(tx.execute(text(_COLUMNS), {"table": table}).scalars())
        for row in rows:
            names = ", ".join(sorted(known & set(row)))
            statement = f"INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_record(NULL::{table}, :row)"
            tx.execute(text(statement.replace("::", "\\:\\:")), {"row": json.dumps(row)})


_COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = :table"
