"""What all reading has in common: an ETag and 304 (`api/freshness.py`), and lists of the fields that are wanted."""

import copy
from typing import Any

from api.openapi.schemas import PREFIX, Schema, resolve

_SEEN = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` last seen: 304 if it still holds",
    "schema": {"type": "string"},
}


def add_freshness(method: str, operation: dict[str, Any]) -> None:
    """Every GET of a caller's that answers in JSON takes If-None-Match and may answer 304."""
    content = operation["responses"].get("200", {}).get("content", {})
    if method != "get" or "security" not in operation or "application/json" not in content:
        return
    parameters = operation.setdefault("parameters", [])
    if not any(one["name"] == _SEEN["name"] for one in parameters):
        parameters.append(dict(_SEEN))
    operation["responses"].setdefault("304", {"description": "It has not changed"})


def add_parts(operation: dict[str, Any], schemas: dict[str, Schema]) -> None:
    """A list that takes `fields` answers items, or the parts of items that were asked for."""
    fields = next((one for one in operation.get("parameters", []) if one["name"] == "fields"), None)
    if fields is None:
        return
    page = resolve(operation["responses"]["200"]["content"]["application/json"]["schema"], schemas)
    data = page["properties"]["data"]
    item = data["items"]["anyOf"][0] if "anyOf" in data["items"] else data["items"]  # another list shows them too
    name = f"Part_{item['$ref'].removeprefix(PREFIX)}_"
    schemas[name] = _part(resolve(item, schemas))
    data["items"] = {"anyOf": [item, {"$ref": PREFIX + name}]}
    names = "|".join(schemas[name]["properties"])
    fields["schema"]["pattern"] = f"^({names})(,({names}))*$"


def _part(whole: Schema) -> Schema:
    part = copy.deepcopy({name: value for name, value in whole.items() if name != "required"})
    about = {"title": f"Part[{whole['title']}]", "description": "The fields that were asked for."}
    return part | about | {"minProperties": 1}
