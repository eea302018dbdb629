"""The mails that people of a tenant get about their accounts."""

from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.errors import NotFound
from domain.job_kinds import MailPasswordReset, MailWelcome
from domain.tenants.password_resets import LIFETIME_MINUTES, make_reset
from domain.tenants.users import get_user
from workers.context import JobContext
from workers.handlers.email import send_mail
from workers.registry import handles


@handles(MailWelcome)
def mail_welcome(args: MailWelcome, ctx: JobContext) -> None:
    user = _find(args.user_id, ctx)
    if user is not None:
        text = f"Hello {user.name},\n\nYou have an account now: log in with this address and your password.\n"
        send_mail(ctx, user.email, "Welcome", text)


@handles(MailPasswordReset)
def mail_password_reset(args: MailPasswordReset, ctx: JobContext) -> None:
    user = _find(args.user_id, ctx)
    if user is None:
        return
    # Stored before it is sent. Another attempt mails another one, and each is good until one is used.
    token = ctx.at_once(partial(make_reset, tenant_id=ctx.tenant_id, user_id=user.id))
    text = (
        f"Hello {user.name},\n\nSomebody, probably you, has asked for a new password. This token sets one, once,"
        f" within {LIFETIME_MINUTES} minutes:\n\n{token}\n\n"
        "If it was not you, do nothing: your password stays as it is.\n"
    )
    send_mail(ctx, user.email, "Your new password", text)


def _find(user_id: UUID, ctx: JobContext) -> Row[Any] | None:
    """None = removed meanwhile: there is nobody to write to."""
    try:
        return get_user(ctx.connection, ctx.tenant_id, user_id)
    except NotFound:
        return None
