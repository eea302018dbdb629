"""How urgent a job is: among jobs of a queue that are due, the higher number goes first. Pure."""

LOWEST, DEFAULT, HIGHEST = -2, 0, 2


def checked_priority(priority: int) -> int:
    """The priority as it is. Raises ValueError when it is not on the scale."""
    if not LOWEST <= priority <= HIGHEST:
        raise ValueError(f"a priority is from {LOWEST} to {HIGHEST}, not {priority}")
    return priority
