"""Seeded bugs of deliveries: too many, too soon, or called off."""

from collections.abc import Mapping
from itertools import count
from typing import Any

import msgspec

from domain.webhooks.answer_rules import Answer
from domain.webhooks.endpoints import Subscriber, subscriber
from ops.chaos.mutants.graft import imported, mutant, replace, rewrite
from workers.clients import guarded_http
from workers.clients.guarded_http import GuardedHttp


@mutant("webhooks are few")
def each_webhook_goes_out_twice() -> None:
    """A webhook is posted, and to be sure it is posted again."""
    post = GuardedHttp.post

    async def post_twice(self: GuardedHttp, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        await post(self, url, body, headers)
        return await post(self, url, body, headers)

    replace(GuardedHttp, "post", post_twice)


@mutant("webhooks go where they may, when they may", faults=["webhook-errors"])
def retry_after_is_not_heard() -> None:
    """Whatever time to wait a subscriber asks for, the kind's own timetable counts."""
    answer = guarded_http._Seen.answer

    def answer_deafly(self: Any, *what: Any) -> Answer:
        return msgspec.structs.replace(answer(self, *what), retry_after=None)

    replace(guarded_http._Seen, "answer", answer_deafly)


@mutant("nothing is called off by itself")
def some_endpoints_seem_deleted() -> None:
    """One look-up in five takes its endpoint for deleted, and the delivery for done."""
    looks = count(1)

    def forgetful(*whose: Any) -> Subscriber | None:
        return None if next(looks) % 5 == 0 else subscriber(*whose)

    replace(imported("workers.handlers.webhooks"), "subscriber", forgetful)


@mutant("nothing is called off by itself", faults=["webhook-hang"])
def one_endpoint_takes_all_along() -> None:
    """With an endpoint go the deliveries that wait for any other of its tenant."""
    rewrite("domain.webhooks.deletion", "_LOCK_SOME", "lane = :lane", "(lane = :lane OR lane LIKE 'endpoint%')")
