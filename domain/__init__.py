"""The rules and the transactions. No HTTP, no broker, no SMTP; the caller brings the open transaction and commits."""
