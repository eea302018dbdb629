"""What each kind does. Importing this package registers every handler; each kind has exactly one."""

from workers.handlers import email, inventory, reports, webhooks

__all__ = ["email", "inventory", "reports", "webhooks"]
