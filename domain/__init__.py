"""The rules and the transactions. No HTTP, no broker, no SMTP: whoever calls brings the open transaction and commits it."""
