"""The verdict: every judge asked once."""

from itertools import islice

import ops.chaos.judges.acknowledgements
import ops.chaos.judges.attempts
import ops.chaos.judges.deaths
import ops.chaos.judges.deliveries
import ops.chaos.judges.effects
import ops.chaos.judges.endings
import ops.chaos.judges.events
import ops.chaos.judges.holds
import ops.chaos.judges.jobs
import ops.chaos.judges.leases
import ops.chaos.judges.letters
import ops.chaos.judges.logs
import ops.chaos.judges.mails
import ops.chaos.judges.noted
import ops.chaos.judges.orders
import ops.chaos.judges.pauses
import ops.chaos.judges.reports
import ops.chaos.judges.stock
import ops.chaos.judges.subscriptions
import ops.chaos.judges.ticks
import ops.chaos.judges.webhooks  # noqa: F401  # importing declares them
from ops.chaos.history import History
from ops.chaos.judges import JUDGES, Finding
from ops.chaos.observe import Seen

_SHOWN = 20


def check(history: History, seen: Seen) -> list[Finding]:
    """Every broken promise, at most 20 from each judge."""
    return [Finding(promise, what) for promise, judge in JUDGES for what in islice(judge(history, seen), _SHOWN)]
