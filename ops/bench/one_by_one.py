"""One of two processes that reserve for each order in a transaction: `python -m ops.bench.one_by_one SHARE`.

What `hot_sku` is measured beside: the rule and the tables of the product, without its jobs. More connections than two
make it slower: they only hand the one lock round.
"""

import sys

from sqlalchemy import text

from domain.database import connect
from domain.inventory.reservations import reserve
from ops.settings import load_settings

SHARES = 2

_ORDERS = text("SELECT id, root_job_id, tenant_id FROM orders ORDER BY id")


def main(share: int) -> None:
    """Every second order is decided when this returns."""
    engine = connect(load_settings().database_url, process="one-by-one", pool_size=1)
    with engine.connect() as connection:
        orders = connection.execute(_ORDERS).all()[share::SHARES]
    for order_id, job_id, tenant_id in orders:
        with engine.begin() as tx:
            reserve(tx, {order_id: job_id}, {order_id: tenant_id}, {order_id: None})
    engine.dispose()


if __name__ == "__main__":
    main(int(sys.argv[1]))
