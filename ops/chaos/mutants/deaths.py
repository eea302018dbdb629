"""Seeded bugs of giving up: too early, or without a reason."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from domain.jobs import retry_policy
from domain.jobs.retry_policy import Decision, Ending, Errored, PermanentFailure
from domain.webhooks.answer_rules import Answer
from ops.chaos.mutants.graft import imported, mutant, replace
from workers.clients.guarded_http import GuardedHttp
from workers.clients.mailer import Mailer
from workers.context import BundleJob


@mutant("nothing is given up before its time", faults=["mail-fails", "webhook-errors", "mail-greylists"])
def nothing_is_tried_again() -> None:
    """What has failed once is dead of too many attempts."""
    decide = retry_policy._decide

    def give_up(attempt: int, max_attempts: int, ending: Ending, *more: Any) -> Decision:
        attempt = max_attempts if isinstance(ending, Errored) else attempt
        return decide(attempt, max_attempts, ending, *more)

    replace(retry_policy, "_decide", give_up)


@mutant("what is dead has a reason")
def mails_are_refused_unsent() -> None:
    """Every mail is dead at once, as if its server had refused it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermanentFailure("the mail server refuses the mail: 550")

    replace(Mailer, "send", refuse)


@mutant("what is dead has a reason")
def webhooks_are_refused_unsent() -> None:
    """Every webhook is dead at once, as if it were too large for its subscriber."""

    async def refuse(*_: Any, **__: Any) -> Answer:
        return Answer(status=413)

    replace(GuardedHttp, "post", refuse)


@mutant("what is dead has a reason")
def mails_never_come_to_their_server() -> None:
    """A mail fails three times before it is sent at all, and its server is well."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    replace(Mailer, "send", fail)


@mutant("what is dead has a reason")
def some_orders_are_never_decided() -> None:
    """The reservation of one order in ten fails at every attempt, and so does its order."""
    inventory = imported("workers.handlers.inventory")
    reserve, conclude = inventory.reserve, inventory._conclude

    def reserve_for_most(tx: Connection, job_of: Mapping[UUID, UUID], *more: Any) -> Any:
        return reserve(tx, {order_id: job_id for order_id, job_id in job_of.items() if order_id.int % 10}, *more)

    def fail_the_others(mate: BundleJob[Any], result: dict[str, Any] | None) -> None:
        if result is None:
            mate.ending = Errored("OSError", "no route")
        else:
            conclude(mate, result)

    replace(inventory, "reserve", reserve_for_most)
    replace(inventory, "_conclude", fail_the_others)
