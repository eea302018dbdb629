"""What each kind does. Importing this package registers every handler; each kind has exactly one."""

from workers.handlers import email, invariants, inventory, people, reports, webhooks

__all__ = ["email", "invariants", "inventory", "people", "reports", "webhooks"]
