"""The mails a customer gets about an order."""

from datetime import timedelta
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.database import database_time
from domain.job_kinds import MailOrderConfirmed, MailOrderRejected
from domain.jobs.attempts import refusals_of
from domain.jobs.retry_policy import PermanentFailure, Snooze
from domain.money_rules import to_major
from domain.orders.queries import get_order, lines_of
from domain.tenants.config import read_config
from domain.tenants.config_rules import MAIL_FROM
from workers.clients.mailer import NotTaken
from workers.context import JobContext
from workers.registry import handles

#: "Not now" uses up no attempt, so something else must end a mail that is never taken.
LONGEST_NOT_TAKEN = timedelta(days=1)


@handles(MailOrderConfirmed)
def mail_order_confirmed(args: MailOrderConfirmed, ctx: JobContext) -> None:
    order, lines = _load(args.order_id, ctx)
    bought = "\n".join(
        f"  {line.quantity} x {_named(line)} at {to_major(line.unit_price, order.currency)} {order.currency}"
        for line in lines
    )
    total = f"{to_major(order.total, order.currency)} {order.currency}"
    text = f"Thank you for your order {order.id}.\n\n{bought}\n\nTotal: {total}\n\nWe are packing it now.\n"
    send_mail(ctx, order.customer_email, f"Your order {order.id} is confirmed", text)


@handles(MailOrderRejected)
def mail_order_rejected(args: MailOrderRejected, ctx: JobContext) -> None:
    order, lines = _load(args.order_id, ctx)
    wanted = ", ".join(f"{line.quantity} x {_named(line)}" for line in lines)
    text = f"We are sorry: your order {order.id} ({wanted}) cannot be served, because we are out of stock.\n"
    send_mail(ctx, order.customer_email, f"Your order {order.id} cannot be served", text)


def _named(line: Row[Any]) -> str:
    """As the customer knew it when ordering, whatever the product is called today."""
    return f"{line.name} ({line.sku})" if line.name else str(line.sku)


def _load(order_id: UUID, ctx: JobContext) -> tuple[Row[Any], list[Row[Any]]]:
    order = get_order(ctx.connection, ctx.tenant_id, order_id)
    return order, lines_of(ctx.connection, ctx.tenant_id, [order_id])[order_id]


def send_mail(ctx: JobContext, address: str, subject: str, text: str) -> None:
    """A mail from the tenant's own sender, if it has one.

    Raises what `Mailer.send` raises, but for a mail that was not taken: it comes back for a day, less and less
    often, without using up an attempt. Attempts are for those that may be out.
    """
    mail = EmailMessage()
    if (sender := read_config(ctx.connection, ctx.secret_key, ctx.tenant_id, MAIL_FROM)) is not None:
        mail["From"] = str(sender)
    mail["To"] = _only(address)
    mail["Subject"] = subject
    mail.set_content(text)
    try:
        ctx.mailer.send(mail, idempotency_key=ctx.job_id)
    except NotTaken as refused:
        past = ctx.at_once(lambda tx: refusals_of(tx, ctx.job, NotTaken.WHY))
        if database_time.now() - past.since > LONGEST_NOT_TAKEN:
            raise PermanentFailure(f"for a day {refused}") from None
        raise Snooze(refused.wait_s(past.times + 1), str(refused)) from refused
    ctx.detail = {"subject": subject}


def _only(address: str) -> Address:
    """This one mailbox: what reads as a list, a name or a header of its own would reach somebody else."""
    try:
        return Address(addr_spec=address)
    except (ValueError, MessageError, IndexError) as error:
        raise PermanentFailure("the address is none that mail can be sent to") from error
