"""The figures of business that dashboards ask for, read from the tables now and then: never in a request's way."""

from uuid import UUID

from sqlalchemy import Connection, text

_ACTIVE_USERS = text(
    """
    SELECT tenant_id, count(DISTINCT user_id) AS people FROM refresh_tokens
     WHERE revoked_at IS NULL AND created_at > clock_timestamp() - interval '15 minutes' GROUP BY tenant_id
    """
)
_LEAST_STOCK = text(
    """
    SELECT p.name, sum(s.on_hand - s.reserved) AS free
      FROM stock AS s JOIN products AS p ON p.tenant_id = s.tenant_id AND p.sku = s.sku
     GROUP BY p.name ORDER BY free, p.name LIMIT :most
    """
)


def active_users(tx: Connection) -> dict[UUID, int]:
    """By tenant: people whose session was begun or renewed within the last 15 minutes."""
    return {row.tenant_id: row.people for row in tx.execute(_ACTIVE_USERS)}


def least_stock(tx: Connection, most: int) -> dict[str, int]:
    """Free units by the name of the product: of the `most` names with the fewest. Reads every product."""
    return {name: int(free) for name, free in tx.execute(_LEAST_STOCK, {"most": most})}
