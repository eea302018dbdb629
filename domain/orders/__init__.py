"""Orders: taken in with their root job, decided by the inventory, read back by their owner."""
