"""What schemathesis is told of this API: how to read CSV, and which refusals of fitting values are right."""

from typing import Any

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

#: Codes of details, and of whole errors, that name a rule which no schema can say.
RULES = {
    "CURRENCY_MISMATCH",
    "DUPLICATE",
    "OUT_OF_RANGE",
    "UNKNOWN_SKU",
    "UNSAFE_URL",
    "INSUFFICIENT_STOCK",
    "INVALID_CURSOR",
    "IDEMPOTENCY_KEY_REUSED",
}


@schemathesis.deserializer("text/csv")
def read_csv(_context: Any, response: schemathesis.Response) -> str:
    return response.content.decode()


@schemathesis.check
def rules_beyond_schemas(_context: Any, response: schemathesis.Response, case: schemathesis.Case[Any]) -> None:
    """A refusal of a request that fits its schemas names a rule that they cannot say."""
    if response.status_code not in {400, 422} or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if {"cursor", "page"} <= set(case.query or {}):  # one or the other
        return
    error = response.json()["error"]
    named = {detail["code"] for detail in error["details"]} or {error["code"]}
    if not named <= RULES:
        raise RejectedPositiveData(
            operation=case.operation.label,
            status_code=response.status_code,
            allowed_statuses=["2xx"],
            message=f"the refusal names what no rule beyond the schema is: {sorted(named - RULES)}",
        )
