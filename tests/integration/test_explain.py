"""The statements that must stay fast use their indexes, and the page that shows how knows all of them."""

import re
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from ops.explain import CASES, Case, plan, seed

PAGE = Path(__file__).parents[2] / "docs/operations/explain.md"
INDEXES = {
    "read an order": r"Index Scan using \w+ on orders",
    "the jobs of an order": "order_id",
    "read a job": r"Index Scan using \w+ on jobs_",
    "read a product": r"Index Scan using \w+ on products",
    "list orders": "ix_orders_list",
    "list orders, the oldest first": "ix_orders_list",
    "list jobs": "_tenant_id_id_idx on jobs_",
    "list jobs, the oldest first": "_tenant_id_id_idx on jobs_",
    "list products": "ix_products_list",
    "list products, the oldest first": "ix_products_list",
    "search products by name": "ix_products_list",
    "list webhook endpoints": "uq_webhook_endpoints_tenant_id_id",
    "list jobs of one state": r"jobs_\w+_(tenant_id_id_idx|pkey)",  # newest jobs, or newest dead letters, first
    "the intake of 100 orders": "Insert on jobs",
    "the relay's search for new flows": "Index Only Scan using ix_outbox_due",
    "the relay's look at what is due": "Index Scan using ix_outbox_due",
    "a worker's claim of a bundle of 100": "_pkey on jobs_",
    "a worker's finish of a bundle of 100": "_pkey on jobs_",
    "open dead letters": "ix_dead_letters_",
}


def test_no_statement_reads_a_whole_table_of_20_000_rows(engine: Engine) -> None:
    tenant_id: UUID = seed(engine, 20_000)
    plans = {case.title: plan(engine, case, tenant_id) for case in CASES}
    assert {title: whole_tables(lines) for title, lines in plans.items() if whole_tables(lines)} == {}
    assert {title for title, lines in plans.items() if not re.search(INDEXES[title], "\n".join(lines))} == set()
    assert whole_tables(plan(engine, WITHOUT_AN_INDEX, tenant_id))


def whole_tables(lines: list[str]) -> list[str]:
    """The sequential scans of anything that holds a row: an empty partition may be read as a whole."""
    return [
        line
        for number, line in enumerate(lines)
        if "Seq Scan" in line
        and ("rows=0.00" not in line or any("Rows Removed by Filter" in next_ for next_ in lines[number : number + 3]))
    ]


WITHOUT_AN_INDEX = Case("a search by address", lambda tx, _: tx.exec_driver_sql(
    "SELECT id FROM orders WHERE customer_email = 'nobody@example.com'"
))  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_the_page_shows_every_plan(case: Case) -> None:
    page = PAGE.read_text()
    assert "python -m ops.explain > docs/operations/explain.md" in page
    _, _, rest = page.partition(f"## {case.title.capitalize()}\n")
    shown = rest.partition("\n## ")[0]
    assert "Execution Time" in shown
    assert re.search(INDEXES[case.title], shown)
    assert whole_tables(shown.splitlines()) == []
