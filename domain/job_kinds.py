"""Every kind of job on one page: its payload, queue, retry policy, timeout and bundle size. Bare numbers are seconds.

To add a kind: declare it here, write its function in `workers/handlers/`; see docs/adding-a-kind.md.
"""

from uuid import UUID

from domain.event_types import OrderConfirmed, OrderRejected
from domain.jobs.kind import JobArgs
from domain.jobs.retry_policy import Backoff, Timetable

_MINUTE, _HOUR = 60.0, 3600.0

#: Twelve attempts over 3.2 days: a subscriber's weekend is covered.
WEBHOOK_TIMETABLE = Timetable(
    waits=(
        5.0,
        30.0,
        2 * _MINUTE,
        10 * _MINUTE,
        30 * _MINUTE,
        2 * _HOUR,
        5 * _HOUR,
        10 * _HOUR,
        14 * _HOUR,
        20 * _HOUR,
        24 * _HOUR,
    )
)

_RESERVATION = Backoff(max_attempts=10, base=0.5, cap=60.0)
#: Three, because each attempt may leave a copy of the mail when the server's answer is lost.
_MAIL = Backoff(max_attempts=3, base=30.0, cap=600.0)
#: One after the other, at some tens of milliseconds each: who waits a second behind his mates is handed back.
_MAILS = 20


class ReserveInventory(JobArgs, kind="inventory.reserve", queue="inventory", retry=_RESERVATION, timeout=30.0):
    """Reserve stock for every line of an order, or reject it: the root job of an order."""

    order_id: UUID


class ReleaseInventory(JobArgs, kind="inventory.release", queue="inventory", retry=_RESERVATION, timeout=30.0):
    """Free what an order holds, and cancel the order."""

    order_id: UUID


class ShipInventory(JobArgs, kind="inventory.ship", queue="inventory", retry=_RESERVATION, timeout=30.0):
    """Take what an order holds off the shelf, and complete the order."""

    order_id: UUID


class MailOrderConfirmed(
    JobArgs,
    kind="email.order_confirmed",
    queue="email",
    retry=_MAIL,
    timeout=30.0,
    bundle=_MAILS,
    lane="smtp",
    on=OrderConfirmed,
):
    """Tell the customer that the order is confirmed."""

    order_id: UUID


class MailOrderRejected(
    JobArgs,
    kind="email.order_rejected",
    queue="email",
    retry=_MAIL,
    timeout=30.0,
    bundle=_MAILS,
    lane="smtp",
    on=OrderRejected,
):
    """Tell the customer that the order is rejected, and why."""

    order_id: UUID


class MailWelcome(JobArgs, kind="email.welcome", queue="email", retry=_MAIL, timeout=30.0, bundle=_MAILS, lane="smtp"):
    """Tell somebody that he has an account."""

    user_id: UUID


class MailPasswordReset(
    JobArgs,
    kind="email.password_reset",
    queue="email",
    retry=_MAIL,
    timeout=30.0,
    bundle=_MAILS,
    lane="smtp",
    expires=_HOUR,
    unique_by=("user_id",),
    unique_for=_MINUTE,
):
    """Mail a token that sets a new password. The token is made by the attempt: a job's arguments can be read."""

    user_id: UUID


class DeliverWebhook(JobArgs, kind="webhook.deliver", queue="webhooks", retry=WEBHOOK_TIMETABLE, timeout=35.0):
    """Deliver one event to one subscriber's endpoint."""

    endpoint_id: UUID
    event_id: UUID


class GenerateReport(
    JobArgs,
    kind="report.generate",
    queue="reports",
    retry=Backoff(max_attempts=3, base=10.0, cap=600.0),
    timeout=_HOUR,
    bundle=1,
):
    """Write a report's file, row by row."""

    report_id: UUID


class CheckInvariants(
    JobArgs,
    kind="invariants.check",
    queue="default",
    retry=Backoff(max_attempts=3, base=60.0, cap=300.0),
    timeout=_HOUR,
    bundle=1,
):
    """Reconcile what the tables say of each other: stock and its ledger, orders, jobs and obligations."""
