"""Products: what can be ordered, and at which price."""
