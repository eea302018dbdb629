"""What is wrong with a body is refused with the right status, names the field, and leaves nothing behind."""

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest

import api.violations
from domain.errors import Violation
from tests.integration.api.shop import Customer, error_of, fields_of

LINE: dict[str, Any] = {"sku": "MUG", "quantity": 1}
ORDER: dict[str, Any] = {"customerEmail": "ada@example.com", "currency": "USD", "lines": [LINE]}
PRODUCT: dict[str, Any] = {"sku": "CUP", "name": "Cup", "price": 3.5}
REPORT: dict[str, Any] = {"type": "orders", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
ENDPOINT: dict[str, Any] = {"url": "https://example.com/hook", "eventTypes": ["order.confirmed"]}
RETRY: dict[str, Any] = {"maxAttempts": 5, "baseSeconds": 2.0}

NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "blank": b"  \n",
    "cut off": b'{"customerEmail": "ada@exa',
    "single quotes": b"{'customerEmail': 1}",
    "a trailing comma": b'{"currency": "USD",}',
    "a comment": b'{"currency": "USD" /* dollars */}',
    "two documents": b"{}{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "bad UTF-8": b'{"currency": "\xff\xfe"}',
    "overlong UTF-8": b'{"currency": "\xc0\xaf"}',
    "an encoded surrogate": b'{"currency": "\xed\xa0\x80"}',
    "half a surrogate pair": b'{"currency": "\\ud800"}',
    "UTF-16": '{"currency": "USD"}'.encode("utf-16"),
    "a raw control character": b'{"currency": "U\x01D"}',
    "NaN": b'{"lines": NaN}',
    "infinity": b'{"lines": -Infinity}',
    "a number beyond all doubles": b'{"currency": "USD", "lines": 1e400}',
    "100,000 arrays": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "100,000 arrays, closed": b"[" * 100_000 + b"]" * 100_000,
    "100,000 arrays inside": b'{"lines":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
POSTS = {
    "/orders": ORDER,
    "/products": PRODUCT,
    "/reports": REPORT,
    "/webhook-endpoints": ENDPOINT,
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_malformed_on_every_route(customer: Customer, raw: bytes) -> None:
    before = customer.rows()
    for path in POSTS:
        error = error_of(customer.post(path, raw=raw, Idempotency_Key="key-1"), 400, "MALFORMED_JSON")
        assert error["details"] == []
    assert customer.rows() == before


Wrong = tuple[str, dict[str, Any], list[str]]

ORDERS: list[Wrong] = [
    ("nothing", {}, ["customerEmail", "currency", "lines"]),
    (
        "an empty SKU, no units and nothing else",
        {"lines": [{"sku": "", "quantity": 0}]},
        ["customerEmail", "currency", "lines[0].sku", "lines[0].quantity"],
    ),
    ("no lines", {**ORDER, "lines": []}, ["lines"]),
    ("101 lines", {**ORDER, "lines": [{"sku": f"S{n}", "quantity": 1} for n in range(101)]}, ["lines"]),
    ("lines that are an object", {**ORDER, "lines": {"sku": "MUG", "quantity": 1}}, ["lines"]),
    ("a line that is text", {**ORDER, "lines": ["MUG"]}, ["lines[0]"]),
    ("a line that is null", {**ORDER, "lines": [LINE, None]}, ["lines[1]"]),
    ("a line without units", {**ORDER, "lines": [{"sku": "MUG"}]}, ["lines[0].quantity"]),
    ("units below zero", {**ORDER, "lines": [{**LINE, "quantity": -1}]}, ["lines[0].quantity"]),
    ("half a unit", {**ORDER, "lines": [{**LINE, "quantity": 0.5}]}, ["lines[0].quantity"]),
    ("units that are true", {**ORDER, "lines": [{**LINE, "quantity": True}]}, ["lines[0].quantity"]),
    ("units in text", {**ORDER, "lines": [{**LINE, "quantity": "1"}]}, ["lines[0].quantity"]),
    ("units that are null", {**ORDER, "lines": [{**LINE, "quantity": None}]}, ["lines[0].quantity"]),
    ("a million and one units", {**ORDER, "lines": [{**LINE, "quantity": 1_000_001}]}, ["lines[0].quantity"]),
    ("2**63 units", {**ORDER, "lines": [{**LINE, "quantity": 2**63}]}, ["lines[0].quantity"]),
    ("10**40 units", {**ORDER, "lines": [{**LINE, "quantity": 10**40}]}, ["lines[0].quantity"]),
    ("1e300 units", {**ORDER, "lines": [{**LINE, "quantity": 1e300}]}, ["lines[0].quantity"]),
    (
        "a SKU in two lines",
        {**ORDER, "lines": [LINE, {"sku": "X", "quantity": 1}, LINE]},
        ["lines[0].sku", "lines[2].sku"],
    ),
    ("a SKU that is a number", {**ORDER, "lines": [{**LINE, "sku": 7}]}, ["lines[0].sku"]),
    ("a SKU with U+0000", {**ORDER, "lines": [{**LINE, "sku": "MUG\0"}]}, ["lines[0].sku"]),
    ("a SKU with a newline behind it", {**ORDER, "lines": [{**LINE, "sku": "MUG\n"}]}, ["lines[0].sku"]),
    ("a SKU of 65 characters", {**ORDER, "lines": [{**LINE, "sku": "M" * 65}]}, ["lines[0].sku"]),
    ("an address with U+0000", {**ORDER, "customerEmail": "a\0@example.com"}, ["customerEmail"]),
    ("an address with a newline behind it", {**ORDER, "customerEmail": "ada@example.com\n"}, ["customerEmail"]),
    ("a header in the address", {**ORDER, "customerEmail": "ada@example.com\r\nBcc: x@y.z"}, ["customerEmail"]),
    ("two addresses", {**ORDER, "customerEmail": "ada@example.com,bob@example.com"}, ["customerEmail"]),
    ("an address without a domain", {**ORDER, "customerEmail": "ada"}, ["customerEmail"]),
    ("an address of 255 characters", {**ORDER, "customerEmail": "a@" + "b" * 249 + ".com"}, ["customerEmail"]),
    ("an address that is a list", {**ORDER, "customerEmail": ["ada@example.com"]}, ["customerEmail"]),
    ("a small currency", {**ORDER, "currency": "usd"}, ["currency"]),
    ("a long currency", {**ORDER, "currency": "USDT"}, ["currency"]),
    ("a currency with a newline behind it", {**ORDER, "currency": "USD\n"}, ["currency"]),
    ("a foreign currency", {**ORDER, "currency": "EUR"}, ["currency"]),
    ("an unknown SKU", {**ORDER, "lines": [LINE, {"sku": "NO-SUCH", "quantity": 1}]}, ["lines[1].sku"]),
    ("a total", {**ORDER, "total": 0}, ["total"]),
    ("a tenant", {**ORDER, "tenantId": "01a1fc33-5efc-7084-a313-92be393c2278"}, ["tenantId"]),
    ("a status", {**ORDER, "status": "confirmed"}, ["status"]),
    ("an id", {**ORDER, "id": "01a1fc33-5efc-7084-a313-92be393c2278"}, ["id"]),
    ("a member of JavaScript", {**ORDER, "__proto__": {"admin": True}}, ["__proto__"]),
    ("snake case", {**ORDER, "customer_email": "ada@example.com"}, ["customer_email"]),
    ("an unknown name with U+0000", {**ORDER, "a\0b": 1}, ["a\0b"]),
    ("a price in a line", {**ORDER, "lines": [{**LINE, "unitPrice": 0.01}]}, ["lines[0].unitPrice"]),
]
OTHERS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("/products", "nothing", {}, ["sku", "name", "price"]),
    ("/products", "a price in text", {**PRODUCT, "price": "3.5"}, ["price"]),
    ("/products", "a price that is true", {**PRODUCT, "price": True}, ["price"]),
    ("/products", "a price below zero", {**PRODUCT, "price": -0.01}, ["price"]),
    ("/products", "a tenth of a cent", {**PRODUCT, "price": 3.505}, ["price"]),
    ("/products", "half a yen", {**PRODUCT, "price": 3.5, "currency": "JPY"}, ["price"]),
    ("/products", "a price of 1e40", {**PRODUCT, "price": 1e40}, ["price"]),
    ("/products", "10**40 units", {**PRODUCT, "stock": 10**40}, ["stock"]),
    ("/products", "half a unit", {**PRODUCT, "stock": 1.5}, ["stock"]),
    ("/products", "units below zero", {**PRODUCT, "stock": -1}, ["stock"]),
    ("/products", "a name that cannot be seen", {**PRODUCT, "name": " \t\0\x7f"}, ["name"]),
    ("/products", "no name", {**PRODUCT, "name": ""}, ["name"]),
    ("/products", "a name of 201 characters", {**PRODUCT, "name": "c" * 201}, ["name"]),
    ("/products", "reserved units", {**PRODUCT, "reserved": 5}, ["reserved"]),
    ("/products", "another tenant", {**PRODUCT, "tenantId": "01a1fc33-5efc-7084-a313-92be393c2278"}, ["tenantId"]),
    ("/reports", "nothing", {}, ["type", "from", "to"]),
    ("/reports", "an unknown type", {**REPORT, "type": "secrets"}, ["type"]),
    ("/reports", "an unknown format", {**REPORT, "format": "exe"}, ["format"]),
    ("/reports", "naive times", {**REPORT, "from": "2026-01-01T00:00:00", "to": "2026-02-01"}, ["to"]),
    ("/reports", "a naive start", {**REPORT, "from": "2026-01-01T00:00:00"}, ["from"]),
    ("/reports", "naive both", {**REPORT, "from": "2026-01-01T00:00:00", "to": "2026-02-01T00:00:00"}, ["from", "to"]),
    ("/reports", "a start in seconds", {**REPORT, "from": 1_767_225_600}, ["from"]),
    ("/reports", "an end before the start", {**REPORT, "to": "2025-01-01T00:00:00Z"}, ["to"]),
    ("/reports", "no time between", {**REPORT, "to": REPORT["from"]}, ["to"]),
    ("/reports", "a start before all time", {**REPORT, "from": "0001-01-01T00:00:00+14:00"}, ["from"]),
    ("/reports", "an end after all time", {**REPORT, "to": "9999-12-31T23:59:59-14:00"}, ["to"]),
    ("/reports", "a leap day in 2026", {**REPORT, "to": "2026-02-29T00:00:00Z"}, ["to"]),
    ("/reports", "a path", {**REPORT, "objectKey": "../../etc/passwd"}, ["objectKey"]),
    ("/webhook-endpoints", "nothing", {}, ["url", "eventTypes"]),
    ("/webhook-endpoints", "no event types", {**ENDPOINT, "eventTypes": []}, ["eventTypes"]),
    ("/webhook-endpoints", "a number for a type", {**ENDPOINT, "eventTypes": [1]}, ["eventTypes[0]"]),
    ("/webhook-endpoints", "51 types", {**ENDPOINT, "eventTypes": ["*"] * 51}, ["eventTypes"]),
    ("/webhook-endpoints", "an unknown type", {**ENDPOINT, "eventTypes": ["*", "order.eaten"]}, ["eventTypes[1]"]),
    ("/webhook-endpoints", "a type with U+0000", {**ENDPOINT, "eventTypes": ["order.confirmed\0"]}, ["eventTypes[0]"]),
    ("/webhook-endpoints", "a URL with U+0000", {**ENDPOINT, "url": "https://example.com/\0"}, ["url"]),
    ("/webhook-endpoints", "a long URL", {**ENDPOINT, "url": "https://example.com/" + "a" * 2048}, ["url"]),
    ("/webhook-endpoints", "a secret of one's own", {**ENDPOINT, "secret": "whsec_x"}, ["secret"]),
    ("/webhook-endpoints", "no attempts", {**ENDPOINT, "retry": {**RETRY, "maxAttempts": 0}}, ["retry"]),
    ("/webhook-endpoints", "attempts in text", {**ENDPOINT, "retry": {**RETRY, "maxAttempts": "5"}}, ["retry"]),
    ("/webhook-endpoints", "an unknown field within", {**ENDPOINT, "retry": {**RETRY, "jitter": 1}}, ["retry"]),
]


@pytest.fixture
def stocked(customer: Customer) -> Customer:
    customer.stocked("MUG")
    return customer


@pytest.mark.parametrize(("why", "body", "fields"), ORDERS, ids=[why for why, _, _ in ORDERS])
def test_an_order_with_wrong_fields_is_refused_and_they_are_named(
    stocked: Customer, why: str, body: dict[str, Any], fields: list[str]
) -> None:
    _refused(stocked, "/orders", body, fields)


@pytest.mark.parametrize(("path", "why", "body", "fields"), OTHERS, ids=[f"{p} {why}" for p, why, _, _ in OTHERS])
def test_other_bodies_with_wrong_fields_are_refused_and_they_are_named(
    stocked: Customer, path: str, why: str, body: dict[str, Any], fields: list[str]
) -> None:
    _refused(stocked, path, body, fields)


@pytest.mark.parametrize("delta", ["1", 1.5, True, None, 10**40, 2_000_000_000])
def test_an_adjustment_that_is_no_whole_number_is_refused(stocked: Customer, delta: object) -> None:
    (row,) = stocked.get("/products").json()["data"]
    before = stocked.rows()
    error = error_of(
        stocked.post(f"/products/{row['id']}/stock-adjustments", {"delta": delta}), 422, "VALIDATION_ERROR"
    )
    assert fields_of(error) == ["delta"]
    assert stocked.rows() == before
    assert stocked.get("/products").json()["data"] == [row]


@pytest.mark.parametrize("body", [None, [], [ORDER], "order", 1, True])
def test_a_body_that_is_not_an_object_is_refused_as_a_whole(stocked: Customer, body: object) -> None:
    before = stocked.rows()
    for path in POSTS:
        raw = json.dumps(body).encode()
        error = error_of(stocked.post(path, raw=raw, Idempotency_Key="key-1"), 422, "VALIDATION_ERROR")
        assert [detail["pointer"] for detail in error["details"]] == ["#"]
    assert stocked.rows() == before


def _refused(customer: Customer, path: str, body: dict[str, Any], fields: list[str]) -> None:
    before = customer.rows()
    error = error_of(customer.post(path, body, Idempotency_Key="key-1"), 422, "VALIDATION_ERROR")
    # Unknown fields come first, then the others in the order of the schema.
    assert sorted(set(fields_of(error))) == sorted(fields)
    for detail in error["details"]:
        assert detail["in"] == "body"
        assert detail["pointer"] == "#/" + detail["field"].replace("[", "/").replace("]", "").replace(".", "/")
    assert customer.rows() == before


MEDIA_TYPES: list[dict[str, str]] = [
    {},
    {"Content-Type": ""},
    {"Content-Type": "text/plain"},
    {"Content-Type": "text/json"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "application/vnd.api+json"},
    {"Content-Type": "application/jsonp"},
    {"Content-Type": "application/msgpack"},
    {"Content-Type": "application/json; charset=utf-16"},
    {"Content-Type": 'application/json;charset="ISO-8859-1"'},
    {"Content-Type": "application/json, text/plain"},
    {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    {"Content-Type": "application/json", "Content-Encoding": "br"},
]


@pytest.mark.parametrize("headers", MEDIA_TYPES, ids=str)
def test_a_body_of_another_media_type_or_encoding_is_415(stocked: Customer, headers: dict[str, str]) -> None:
    before = stocked.rows()
    for path, body in POSTS.items():
        content = json.dumps(body).encode()
        response = stocked.send("POST", f"/api/v1{path}", content=content, headers={"Idempotency-Key": "k", **headers})
        error_of(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert stocked.rows() == before


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        'application/json ; Charset="UTF-8"',
        "application/json; v=1; charset=us-ascii",
    ],
)
def test_json_is_json_in_any_spelling_of_its_media_type(stocked: Customer, media_type: str) -> None:
    assert stocked.post("/orders", ORDER, Idempotency_Key="k", Content_Type=media_type).status_code == 202


def test_a_body_beyond_the_bound_is_413_whether_or_not_it_says_its_size(stocked: Customer) -> None:
    before = stocked.rows()
    huge = json.dumps({**ORDER, "customerEmail": "a" * 10_000_000}).encode()
    for content in (huge, iter([huge[:600_000], huge[600_000:1_200_000]])):
        headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
        response = stocked.send("POST", "/api/v1/orders", content=content, headers=headers)
        error_of(response, 413, "PAYLOAD_TOO_LARGE")
    assert stocked.rows() == before


NAUGHTY = [
    "\ufeff",
    "\u200b",
    "\u202e\u0631\u0645",
    "\u2066isolated\u2069",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f1fa\U0001f1f3",
    "e\u0301" * 50,
    "Z\u0351\u036b\u0343\u036a\u0302\u036b",
    "\ufdfd",
    "\uffff",
    "\U0010ffff",
    "\x7f",
    "\x85",
    "\u2028\u2029",
    "\xa0",
    "\u3000",
    "\u0130\u0131\xdf\u1e9e",
    "\u03a9\u2126\u212b\xc5",
    "undefined",
    "null",
    "NaN",
    "0x1F",
    "1e1000",
    "-0",
    "' OR '1'='1",
    "'; DROP TABLE orders; --",
    "%s%n%p%x",
    "%(name)s {0} {name} ${HOME}",
    "{{7*7}} <%= 7*7 %> #{7*7}",
    "$(sleep 9) `id` | cat",
    "../../../../etc/passwd",
    "C:\\CON\\NUL",
    "<script>alert(1)</script>",
    "javascript:alert(1)",
    "=HYPERLINK(0)",
    "\\x00\\u0000",
    "\\",
    '"',
    "\t\n\r",
    "${jndi:ldap://x}",
    "<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///'>]>",
]


HUGE: dict[str, tuple[Any, list[str]]] = {
    "far too many lines": ({**ORDER, "lines": [{}] * 10_000}, ["lines"]),
    "lines of unknown members": ({**ORDER, "lines": [{"a": 1, "b": 1}] * 100}, ["lines[0].a", "lines[0].b"]),
    "unknown members": ({f"{number:x}": 1 for number in range(10_000)}, ["0", "1"]),
}


@pytest.mark.parametrize(("body", "first"), HUGE.values(), ids=HUGE)
def test_of_a_hundred_thousand_mistakes_no_more_are_looked_for_than_are_told(
    customer: Customer, monkeypatch: pytest.MonkeyPatch, body: Any, first: list[str]
) -> None:
    made = 0

    def counted(*parts: str) -> Violation:
        nonlocal made
        made += 1
        return Violation(*parts)

    monkeypatch.setattr(api.violations, "Violation", counted)
    fields = fields_of(error_of(customer.post("/orders", body, Idempotency_Key="k"), 422, "VALIDATION_ERROR"))
    assert fields[:2] == first
    assert len(fields) == made <= 100


def test_of_ten_thousand_unknown_parameters_a_hundred_are_told(customer: Customer) -> None:
    query = "&".join(f"{number:x}" for number in range(10_000))
    assert len(fields_of(error_of(customer.get(f"/orders?{query}"), 400, "VALIDATION_ERROR"))) == 100


@pytest.mark.parametrize("text", NAUGHTY, ids=ascii)
def test_naughty_strings_come_back_without_what_nobody_sees_or_are_refused(stocked: Customer, text: str) -> None:
    name = "".join(one for one in text if unicodedata.category(one) != "Cc" or one in "\t\n\r").strip()
    created = stocked.post("/products", {**PRODUCT, "name": text})
    if name:
        assert (created.status_code, created.json()["data"]["name"]) == (201, name)
    else:
        assert fields_of(error_of(created, 422, "VALIDATION_ERROR")) == ["name"]
    assert {row["name"] for row in stocked.get("/products").json()["data"]} == {name, "Mug"} - {""}
    for field, body in (
        ("lines[0].sku", {**ORDER, "lines": [{"sku": text + "\0", "quantity": 1}]}),
        ("currency", {**ORDER, "currency": text}),
        ("customerEmail", {**ORDER, "customerEmail": text}),
    ):
        assert fields_of(error_of(stocked.post("/orders", body, Idempotency_Key="k"), 422, "VALIDATION_ERROR")) == [
            field
        ]
    for path in ("/jobs?kind=", "/admin/dead-letters?kind=", "/orders?status=", "/orders?cursor=", "/products?sort="):
        response = stocked.send("GET", f"/api/v1{path.partition('?')[0]}", params=[(path.partition("?")[2][:-1], text)])
        assert response.status_code in {200, 400}, path
        assert response.status_code == 400 or response.json()["data"] == []
    assert stocked.send("GET", "/api/v1/orders", headers={"X-Request-ID": ascii(text)}).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "sort=password",
        "limit=500",
        "limit=0",
        "limit=-1",
        "limit=ten",
        "limit=1.5",
        "limit=",
        "limit=9999999999999999999999",
        "limit=1_0",
        "limit=%2B5",
        "limit=05",
        "limit=5.0",
        "limit=0x5",
        "limit=%205",
        "limit=%EF%BC%95",  # a digit in full width
        "limit=%D9%A5",  # a digit in Arabic
        "limit=null",
        "limit=true",
        "limit=5&limit=6",
        "limit=5&limit=5",
        "limit[]=5",
        "cursor=a&cursor=b",
        "bogus=1",
        "limit=5&tenantId=1",
        "Limit=5",
        "cursor=%00",
        "cursor=%ff",
    ],
)
def test_parameters_that_a_list_does_not_know_or_take_are_refused(customer: Customer, query: str) -> None:
    lists = ("orders", "jobs", "products", "reports", "webhook-endpoints", "admin/dead-letters")
    for name in lists:
        response = customer.get(f"/{name}?{query}")
        error_of(response, 400, "INVALID_CURSOR" if query == "cursor=%ff" else "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/orders?status=bogus", "status"),
        ("/orders?status=null", "status"),
        ("/orders?status=", "status"),
        ("/orders?status=accepted&status=rejected", "status"),
        ("/jobs?state=NULL", "state"),
        ("/jobs?parentId=null", "parentId"),
        ("/jobs?parentId=019aa3f16c007b1e9d3a5f6c8e2a4b10", "parentId"),
        ("/admin/dead-letters?resolved=null", "resolved"),
        ("/admin/dead-letters?resolved=1", "resolved"),
        ("/admin/dead-letters?resolved=True", "resolved"),
        ("/jobs?state=bogus", "state"),
        ("/jobs?kind=%00", "kind"),
        ("/jobs?kind=" + "a" * 101, "kind"),
        ("/admin/dead-letters?resolved=perhaps", "resolved"),
        ("/orders/not-a-uuid", "order_id"),
        ("/orders?orders=1&order_by=total", "order_by"),
    ],
)
def test_the_parameter_that_is_wrong_is_named(customer: Customer, path: str, field: str) -> None:
    error = error_of(customer.get(path), 400, "VALIDATION_ERROR")
    assert field in fields_of(error)
    assert {detail["in"] for detail in error["details"]} == {"parameter"}


def test_the_last_moment_of_the_calendar_is_a_moment(customer: Customer) -> None:
    body = {**REPORT, "from": "0001-01-01T00:00:00Z", "to": datetime.max.replace(tzinfo=UTC).isoformat()}
    response = customer.post("/reports", body)
    assert response.status_code == 202, response.text
    assert response.json()["data"]["from"] == "0001-01-01T00:00:00Z"
