"""Every figure by its name, in the order of the table: a function in the module of the same name.

Found by name, not imported: a figure declares kinds of job that nobody else shall see.
"""

from importlib import import_module

from ops.bench.figure import Figure, Run

FIGURES = ("noop", "latency", "intake", "hot_sku", "backlog", "reads", "snapshot", "orders", "kills")


def measure(name: str, run: Run) -> Figure:
    """Raises BenchFailed when there is nothing to say."""
    figure: Figure = getattr(import_module(f"ops.bench.{name}"), name)(run)
    return figure
