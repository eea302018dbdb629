"""Links (OpenAPI 3.1, 4.8.20): which ids of an answer are good for which operations, so that sequences can be walked.

Read off names alone: `order_id` in a path is what an answer calls `orderId`, `order: {id}`, or the `id` of what reading
`/orders/{order_id}` shows; a list gives the id of its first item.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from api.openapi.schemas import Schema, resolve

Operations = Mapping[tuple[str, str], dict[str, Any]]

_PARAMETER = re.compile(r"{(\w+)_id}")


def add_links(operations: Operations, components: dict[str, Schema]) -> None:
    """Every 2xx with a JSON body links to the operations that its ids are good for."""
    nouns = _nouns(operations, components)
    takes = {key: _PARAMETER.findall(key[0]) for key in operations}
    for (path, _), operation in operations.items():
        for status, answer in operation["responses"].items():
            data, at = _data(answer, components) if status < "300" else ({}, "")
            known = dict(_ids(data, at, nouns.get(data.get("title", "")) or nouns.get(path), components))
            links = {
                taker["operationId"]: _link(taker, takes[key][0], known[takes[key][0]])
                for key, taker in operations.items()
                if len(takes[key]) == 1 and takes[key][0] in known and taker is not operation
            }
            if links:
                answer["links"] = links


def _link(taker: dict[str, Any], noun: str, pointer: str) -> dict[str, Any]:
    return {
        "operationId": taker["operationId"],
        "parameters": {f"{noun}_id": f"$response.body#{pointer}"},
        "description": taker["summary"],
    }


def _nouns(operations: Operations, components: dict[str, Schema]) -> dict[str, str]:
    """Of which noun an `id` is: by the name of the schema that shows it, and by the path of the list that it is in."""
    found = {}
    for (path, method), operation in operations.items():
        if method == "get" and (noun := re.search(r"/{(\w+)_id}$", path)):
            found[path[: noun.start()]] = noun[1]
            data, _ = _data(operation["responses"]["200"], components)
            found[data.get("title", "")] = noun[1]
    return found


def _data(answer: dict[str, Any], components: dict[str, Schema]) -> tuple[Schema, str]:
    """The schema of an answer's data, or of the first item in it, and where that is."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    found = resolve(resolve(schema, components).get("properties", {}).get("data", {}), components)
    if found.get("type") == "array":
        return resolve(found["items"], components), "/data/0"
    return found, "/data"


def _ids(data: Schema, at: str, noun: str | None, components: dict[str, Schema]) -> Iterator[tuple[str, str]]:
    """The nouns whose ids are in this data, each with where. `noun` is that of its own `id`."""
    if noun and "id" in data.get("properties", {}):
        yield noun, f"{at}/id"
    for name, member in data.get("properties", {}).items():
        if re.fullmatch(r"[a-z]+([A-Z][a-z]+)*Id", name) and member.get("format") == "uuid":
            yield re.sub(r"([A-Z])", r"_\1", name.removesuffix("Id")).lower(), f"{at}/{name}"
        elif "id" in resolve(member, components).get("properties", {}):
            yield name, f"{at}/{name}/id"
