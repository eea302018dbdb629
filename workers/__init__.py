"""The processes: outbox -> relay -> broker -> executor -> recorded outcome. Imports domain, never api."""
