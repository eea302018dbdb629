"""`python -m ops.bench.process worker --queues bench`: the command line as it is, with the benchmarks' kinds known."""

import ops.bench.handlers  # noqa: F401  # declares and registers them
from ops.cli import main

if __name__ == "__main__":
    main()
