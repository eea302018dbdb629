"""What JSON allows is taken and nothing else (RFC 8259; cases in the manner of Nicolas Seriot's "Parsing JSON is a
Minefield"), and no spelling of a body shows two readers two different things."""

import itertools
from typing import Any

import pytest

from tests.integration.api.shop import Customer, error_of, fields_of

PRODUCT = b'{"sku": "%s", "name": "%s", "price": %s, "stock": %s}'

#: Numbers, as JSON has them and as it has not.
NO_NUMBERS = [
    *(b"01 -01 00 -00 +1 .5 -.5 1. -1. 1.e3 1e 1e+ 1eE2 1e1.5 --1 1-2 - + 0x1F 0b1 1_000 1,5 1/2 1e999 -1e999".split()),
    *(b"NaN -NaN Infinity -Infinity Inf nan inf True None undefined 12n 1L 1f \\u0031".split()),
    "\u0661".encode(),
    "\uff11".encode(),
    "\u2212\u0031".encode(),
    b"(1)",
    b"1 2",
    b"",
]
#: Between the quotes of a string.
NO_STRINGS = {
    **{f"a raw U+{code:04X}": bytes([code]) for code in range(0x20)},
    **{
        f"the escape {escape.decode()}": escape
        for escape in (rb"\x41", rb"\0", rb"\a", rb"\v", rb"\'", rb"\U0041", rb"\u", rb"\u00", rb"\u00g0", rb"\u{41}")
    },
    "a backslash at the end": b"\\",
    "a quote inside": b'a"b',
    **{
        f"the lone surrogate {escape.decode()}": escape
        for escape in (rb"\ud800", rb"\udfff", rb"\ud800\u0041", rb"\ud800\ud800", rb"\udc00\ud800", rb"a\udbffb")
    },
    **{
        f"the bytes {raw.hex(' ')}": raw
        for raw in (
            b"\x80",  # continues nothing
            b"\xc3",  # continued by nothing
            b"\xe2\x82",
            b"\xf0\x9f\x98",
            b"\xc0\x80",  # U+0000, overlong
            b"\xc1\xbf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xed\xa0\xbd\xed\xb8\x80",  # CESU-8
            b"\xf4\x90\x80\x80",  # beyond U+10FFFF
            b"\xf8\x88\x80\x80\x80",
            b"\xfe\xff",
            b"\xe9",  # Latin-1
        )
    },
}
WHOLE = b'{"sku": "CUP", "name": "Cup", "price": 3.5}'
NO_DOCUMENTS = {
    "no braces": WHOLE[1:-1],
    "a brace too many": WHOLE + b"}",
    "two commas": WHOLE.replace(b", ", b",, ", 1),
    "a comma in front": WHOLE.replace(b"{", b"{,"),
    "a comma behind": WHOLE.replace(b"}", b",}"),
    "no comma": WHOLE.replace(b",", b""),
    "no colon": WHOLE.replace(b":", b""),
    "an equals sign": WHOLE.replace(b": ", b" = "),
    "names without quotes": WHOLE.replace(b'"sku"', b"sku"),
    "a number for a name": WHOLE.replace(b'"sku"', b"1"),
    "null for a name": WHOLE.replace(b'"sku"', b"null"),
    "a line comment": WHOLE + b" // the end",
    "a block comment": b"/* the start */" + WHOLE,
    "a hash comment": b"# the start\n" + WHOLE,
    "a guard against script": b")]}',\n" + WHOLE,
    "a callback": b"answer(" + WHOLE + b")",
    "an HTML page": b"<!DOCTYPE html><html></html>",
    "XML with an entity": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "YAML": b"sku: CUP\nname: Cup\n",
    "a form": b"sku=CUP&name=Cup&price=3.5",
    "two documents": WHOLE + b"\n" + WHOLE,
    "U+0000 behind": WHOLE + b"\x00",
    "a form feed in front": b"\x0c" + WHOLE,
    "a no-break space in front": b"\xc2\xa0" + WHOLE,
    "a separator of records": b"\x1e" + WHOLE + b"\n",
    "the mark of UTF-8": b"\xef\xbb\xbf" + WHOLE,
    **{f"{name} with its mark": WHOLE.decode().encode(name) for name in ("utf-16", "utf-32")},
    **{name: WHOLE.decode().encode(name) for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")},
    "gzip": bytes.fromhex("1f8b0800000000000003ab5652aac8492d0100"),
    "arrays and objects, 100,000 deep": b'[{"a":' * 50_000 + b"1" + b"}]" * 50_000,
    "100,000 objects in a known field": b'{"name":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "100,000 arrays in an unknown field": WHOLE[:-1] + b', "x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
TWINS = {
    "the same twice": WHOLE.replace(b"}", b', "sku": "CUP"}'),
    "two prices": WHOLE.replace(b"}", b', "price": 0}'),
    "one of them in escapes": WHOLE.replace(b"}", rb', "\u0070rice": 0}'),
    "an unknown one twice": WHOLE.replace(b"}", b', "x": 1, "x": 2}'),
}


@pytest.fixture(scope="module")
def customer(shop: Any) -> Customer:
    """One for the file: nothing of what is refused leaves a trace."""
    made: Customer = shop.customer()
    return made


@pytest.fixture(autouse=True)
def nothing_is_left(customer: Customer, request: pytest.FixtureRequest) -> Any:
    before = customer.rows()
    yield
    if "refused" in request.node.name:
        assert customer.rows() == before


def _is_malformed(customer: Customer, raw: bytes) -> None:
    assert error_of(customer.post("/products", raw=raw), 400, "MALFORMED_JSON")["details"] == []


@pytest.mark.parametrize("number", NO_NUMBERS, ids=ascii)
def test_what_is_no_number_of_json_is_refused(customer: Customer, number: bytes) -> None:
    _is_malformed(customer, PRODUCT % (b"CUP", b"Cup", number, b"1"))


@pytest.mark.parametrize("text", NO_STRINGS.values(), ids=NO_STRINGS)
def test_what_is_no_string_of_json_is_refused(customer: Customer, text: bytes) -> None:
    _is_malformed(customer, PRODUCT % (b"CUP", text, b"1", b"1"))
    _is_malformed(customer, b'{"%s": 1}' % text)


@pytest.mark.parametrize("raw", NO_DOCUMENTS.values(), ids=NO_DOCUMENTS)
def test_what_is_no_document_of_json_is_refused(customer: Customer, raw: bytes) -> None:
    _is_malformed(customer, raw)


def test_a_document_that_is_cut_off_anywhere_is_refused(customer: Customer) -> None:
    for length in range(len(WHOLE)):
        _is_malformed(customer, WHOLE[:length])


@pytest.mark.parametrize("raw", list(TWINS.values())[:3], ids=list(TWINS)[:3])
def test_an_object_with_two_members_of_one_name_is_refused(customer: Customer, raw: bytes) -> None:
    _is_malformed(customer, raw)


def test_what_is_wrong_with_a_document_is_said(customer: Customer) -> None:
    raw = b'{"sku": "A", "sku": "B", "name": "Mug", "price": 1}'
    twins = error_of(customer.post("/products", raw=raw), 400, "MALFORMED_JSON")
    assert "two members of the name 'sku'" in twins["message"]
    broken = error_of(customer.post("/products", raw=b'{"sku": "A" "name"}'), 400, "MALFORMED_JSON")
    assert "byte 12" in broken["message"]


def test_two_members_of_an_unknown_name_are_refused_as_unknown(customer: Customer) -> None:
    assert fields_of(
        error_of(customer.post("/products", raw=TWINS["an unknown one twice"]), 422, "VALIDATION_ERROR")
    ) == ["x"]


def test_two_members_of_one_name_deep_inside_are_refused(customer: Customer) -> None:
    line = b'{"sku": "MUG", "quantity": 1, "quantity": 1000000}'
    raw = b'{"customerEmail": "ada@example.com", "currency": "USD", "lines": [%s]}' % line
    error_of(customer.post("/orders", raw=raw, Idempotency_Key="k"), 400, "MALFORMED_JSON")


_skus = (b"S-%d" % number for number in itertools.count())


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (rb"\u0041\u00e9\/\"\\\n\r\t.", 'A\u00e9/"\\\n\r\t.'),
        (rb"\ud83d\ude00 \uD83D\uDE00", "\U0001f600 \U0001f600"),
        (b"\xf0\x9f\x98\x80", "\U0001f600"),
        (b"\xf4\x8f\xbf\xbf \xef\xbf\xbf", "\U0010ffff \uffff"),  # the last ones, which mean nothing
        (rb"a\u2028\u2029b", "a\u2028\u2029b"),
        (b"\xef\xbb\xbf", "\ufeff"),
    ],
    ids=ascii,
)
def test_any_spelling_of_a_string_is_stored_as_what_it_means(customer: Customer, text: bytes, read: str) -> None:
    response = customer.post("/products", raw=PRODUCT % (next(_skus), text, b"1", b"1"))
    assert response.status_code == 201, response.text
    made = response.json()["data"]
    assert made["name"] == customer.get(f"/products/{made['id']}").json()["data"]["name"] == read


@pytest.mark.parametrize(
    ("number", "read"),
    [(b"12.0", 12), (b"12.00e0", 12), (b"1.2e1", 12), (b"120E-1", 12), (b"0.0", 0), (b"-0", 0), (b"-0.0", 0)],
)
def test_any_spelling_of_a_whole_number_is_that_number(customer: Customer, number: bytes, read: int) -> None:
    response = customer.post("/products", raw=PRODUCT % (next(_skus), b"Cup", number, number))
    assert response.status_code == 201, response.text
    made = response.json()["data"]
    assert (made["stock"]["onHand"], made["price"]) == (read, read)
    assert "-0" not in response.text.partition('"price"')[2].partition(",")[0]


def test_an_order_is_the_same_however_its_numbers_are_spelled(customer: Customer) -> None:
    customer.stocked("MUG")
    raw = b'{"customerEmail": "ada@example.com", "currency": "USD", "lines": [{"sku": "MUG", "quantity": %s}]}'
    first, second = (customer.post("/orders", raw=raw % number, Idempotency_Key="k") for number in (b"2", b"2.0"))
    assert (first.status_code, second.headers["Idempotent-Replayed"]) == (202, "true")
    assert first.content == second.content


@pytest.mark.parametrize(
    "number", [b"1.5", b"-1", b"1e10", b"9007199254740993", b"9223372036854775808", b"1e300", b"1e-1", b'"1"', b"[1]"]
)
def test_a_number_that_is_not_whole_or_out_of_bounds_is_refused_by_name(customer: Customer, number: bytes) -> None:
    response = customer.post("/products", raw=PRODUCT % (b"CUP", b"Cup", b"1", number))
    assert fields_of(error_of(response, 422, "VALIDATION_ERROR")) == ["stock"]


def test_white_space_is_that_of_json(customer: Customer) -> None:
    raw = b" \t\r\n" + (PRODUCT % (next(_skus), b"Cup", b"1", b"1")).replace(b":", b"\n\t:\r ") + b"\n" * 100_000
    assert customer.post("/products", raw=raw).status_code == 201
