"""Litestar's document, made whole: what it finds in the handlers, and what they have in common."""

import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any, get_origin

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import OpenAPI
from litestar.utils.helpers import unwrap_partial
from msgspec import Struct

from api.envelope import Problem
from api.openapi.errors import error_responses, statuses_of
from api.openapi.examples import SECOND_FORMS, TEXTS, example_links, example_of, example_of_parameter
from api.openapi.headers import header_components, headers_of_success
from api.openapi.links import add_links
from api.openapi.names import answered
from api.openapi.reads import add_freshness, add_parts
from api.openapi.schemas import PREFIX, Schema, of_parameter, schemas_of
from api.openapi.webhooks import webhooks
from domain.tenants.permission_rules import ANYBODY

_JSON = "application/json"


class Document(OpenAPI):
    """`handlers` are those of the operations, by operation id."""

    business = ""
    handlers: dict[str, HTTPRouteHandler]

    def to_schema(self) -> dict[str, Any]:
        """The document as JSON."""
        document = super().to_schema()
        document["openapi"] = "3.1.1"
        references, schemas = schemas_of({Problem: None, **dict.fromkeys(_kinds(self.handlers.values()))})
        operations = {
            (path, method): operation for path, item in document["paths"].items() for method, operation in item.items()
        }
        for (path, method), operation in operations.items():
            handler = self.handlers[operation["operationId"]]
            add_freshness(method, operation)
            _describe(operation, handler, references, schemas)
            errors = statuses_of(path, method, operation, self.business)
            operation["responses"].pop("400", None)  # Litestar's own, in another shape
            operation["responses"] |= {
                str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(errors)
            }
        add_links(operations, schemas)
        for operation in operations.values():
            add_parts(operation, schemas)
        document["webhooks"] = webhooks(schemas)
        document["tags"] = _tags(operations.values(), self.handlers)
        document["components"] |= {
            "schemas": schemas,
            "responses": error_responses(),
            "headers": header_components(),
        }
        return document


def _kinds(handlers: Iterable[HTTPRouteHandler]) -> Iterator[Any]:
    """The types of all bodies and answers."""
    for handler in handlers:
        yield from (kind for kind in (_body(handler), *_answers(handler).values()) if kind is not None)


def _body(handler: HTTPRouteHandler) -> Any:
    return handler.parsed_data_field.annotation if handler.parsed_data_field is not None else None


def _answers(handler: HTTPRouteHandler) -> dict[str, Any]:
    """By status: the type of the body, None where there is none or none that is JSON of ours."""
    kinds = {handler.status_code: answered(handler)}
    kinds |= {status: spec.data_container for status, spec in (handler.responses or {}).items()}
    return {str(status): kind if _is_struct(kind) else None for status, kind in kinds.items()}


def _is_struct(kind: Any) -> bool:
    plain = get_origin(kind) or kind
    return isinstance(plain, type) and issubclass(plain, Struct)


def _describe(
    operation: dict[str, Any], handler: HTTPRouteHandler, references: dict[Any, Schema], schemas: dict[str, Schema]
) -> None:
    if "deprecation" in handler.opt:
        operation["deprecated"] = True
    else:
        operation.pop("deprecated")
    _add_permission(operation, handler.opt.get("permission", ANYBODY))
    for parameter in operation.get("parameters", []):
        _describe_parameter(parameter)
    if "requestBody" in operation:
        schema = references[_body(handler)]
        operation["requestBody"]["content"] = {_JSON: {"schema": schema, "example": example_of(schema, schemas)}}
    kinds, links = _answers(handler), example_links(operation["operationId"])
    for status, answer in operation["responses"].items():
        answer["headers"] = headers_of_success(int(status), operation)
        shown = references.get(kinds.get(status))
        if shown is not None:
            answer["content"] = {_JSON: {"schema": shown, "example": example_of(shown, schemas) | links}}
            answer["content"] |= SECOND_FORMS.get(shown["$ref"].removeprefix(PREFIX), {})
        elif content := TEXTS.keys() & answer.get("content", {}):
            answer["content"] = {media_type: TEXTS[media_type] for media_type in content}


def _add_permission(operation: dict[str, Any], permission: str) -> None:
    if permission != ANYBODY:
        operation["x-permission"] = permission
        about = operation.get("description", "")
        operation["description"] = f"{about}\n\nTakes the permission `{permission}`.".strip()


def _describe_parameter(parameter: dict[str, Any]) -> None:
    parameter["schema"] = of_parameter(parameter["schema"])
    for noise in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(noise, None)
    example = example_of_parameter(parameter)
    if example is not None:
        parameter["example"] = example


def _tags(operations: Iterable[dict[str, Any]], handlers: dict[str, HTTPRouteHandler]) -> list[dict[str, str]]:
    """Each tag in the words of the module that first uses it."""
    found = {"Webhooks": "What subscribers are sent. `POST /api/v1/webhook-endpoints` subscribes."}
    for operation in operations:
        module = sys.modules[unwrap_partial(handlers[operation["operationId"]].fn).__module__]
        for tag in operation.get("tags", []):
            found.setdefault(tag, (inspect.getdoc(module) or "").partition("\n")[0])
    return [{"name": name, "description": about} for name, about in sorted(found.items())]
