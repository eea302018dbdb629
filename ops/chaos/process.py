"""`python -m ops.chaos.process worker ...`: the command line as it is, with retries that come soon and kinds that harm.

Nothing else differs from production: leases, visibility, bundles, pools and timeouts are the stock ones. A mutant of
the harness's choice is grafted on here, and nowhere else; and a process that is flagged dies, or is of older code.
"""

# To die comes before all other imports: a crash loop shall not cost the others their machine.

import os
import sys

from ops.chaos.flags import is_flagged, note_death

if __name__ == "__main__" and is_flagged("dies"):
    note_death()
    sys.exit(3)

import msgspec

import domain.job_kinds  # noqa: F401  # declares the kinds
import ops.chaos.kinds  # declares those that harm
import workers.clients.mailer
from domain.jobs.kind import KINDS, kind_of_class
from domain.jobs.retry_policy import Backoff, Timetable
from ops.chaos.desk import DESK, serve
from ops.cli import main
from workers.registry import HANDLERS

#: A run is a minute: what would be tried again in an hour is tried again now.
SOON_S, LATE_S = 0.2, 2.0


def retry_soon() -> None:
    """Every kind keeps its number of attempts, and waits moments between them."""
    for name, kind in list(KINDS.items()):
        retry = kind.retry
        if isinstance(retry, Backoff):
            retry = msgspec.structs.replace(retry, base=SOON_S, cap=LATE_S)
        elif isinstance(retry, Timetable):
            retry = Timetable(tuple(min(LATE_S, SOON_S * 2.0**number) for number in range(len(retry.waits))))
        KINDS[name] = msgspec.structs.replace(kind, retry=retry)
    workers.clients.mailer.GREYLIST = Timetable((LATE_S,))


def be_older() -> None:
    """The code of before the newest kind: it does not know it."""
    newest = kind_of_class(ops.chaos.kinds.Newest).name
    del KINDS[newest], HANDLERS[newest]


if __name__ == "__main__":
    retry_soon()
    if is_flagged("older"):
        be_older()
    if mutant := os.environ.get("LONGSHORE_CHAOS_MUTANT"):
        # They import all of the product: a relay need not start later than in production.
        from ops.chaos.mutants import MUTANTS
        from ops.chaos.mutants.graft import as_the_owner

        as_the_owner()
        MUTANTS[mutant].graft()
    run = serve if sys.argv[1:] == [DESK] else main
    run()
