"""How many jobs of a kind travel together, and how ids become bundles."""

from collections.abc import Sequence

import workers.handlers  # noqa: F401  # registers them
from domain.jobs.kind import KINDS
from workers.registry import HANDLERS, Mode

#: For kinds this code does not know; a worker that knows them decides.
DEFAULT_BUNDLE = 100


def most_in_bundle(kind: str) -> int:
    """How many jobs of this kind may travel together."""
    return KINDS[kind].bundle if kind in KINDS else DEFAULT_BUNDLE


def run_together(kind: str) -> bool:
    """The jobs of a bundle of this kind run at once, so that a bundle takes little longer than one of them."""
    return kind in HANDLERS and HANDLERS[kind].mode is not Mode.PLAIN


def bundles_of(together: Sequence[str], alone: Sequence[str], size: int) -> list[Sequence[str]]:
    """Every id in exactly one bundle, in order. Who came back from a crash travels alone: the guilty one is known."""
    return [together[at : at + size] for at in range(0, len(together), size)] + [[job_id] for job_id in alone]
