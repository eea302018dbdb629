"""PostgreSQL and Valkey as child processes: real servers from their wheels, for any user, root included."""
