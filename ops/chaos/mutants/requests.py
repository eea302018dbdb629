"""Seeded bugs of requests: their keys, their neighbours, and what was asked for."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from api.once import Once
from domain.errors import BodyInvalid
from domain.orders.intake import IntakeOrder, accept_orders
from ops.chaos.mutants.graft import imported, mutant, replace, rewrite


@mutant("callers see what they were told")
def keys_are_for_orders_only() -> None:
    """Whatever else is created under a key is created anew each time that it is sent."""
    answer = Once.answer

    def answer_anew(self: Once, body: object, effect: Any) -> Any:
        self._key = None
        return answer(self, body, effect)

    replace(Once, "answer", answer_anew)


@mutant("what is right is not refused")
def bad_order_fails_its_neighbours() -> None:
    """An order of what nobody sells is refused together with all that were stored with it."""

    def accept_all_or_none(connection: Connection, wanted: Sequence[IntakeOrder]) -> Sequence[Any]:
        answers = accept_orders(connection, wanted)
        refusal = next((answer for answer in answers if isinstance(answer, BodyInvalid)), None)
        return answers if refusal is None else [refusal] * len(answers)

    replace(imported("api.ingress"), "accept_orders", accept_all_or_none)


@mutant("nobody hears what he did not ask for")
def every_event_to_every_endpoint() -> None:
    """An endpoint hears of everything, whatever it asked for."""
    rewrite("domain.events", "_SUBSCRIBED", "tenant_id, event_types", "tenant_id, ARRAY['*'] AS event_types")
    rewrite("domain.events", "_SUBSCRIBED", "OR '*' = ANY(event_types)", "OR true")
