"""Recovery times: what dies at work, and how many seconds until everything goes on. Leases and timeouts are stock."""
