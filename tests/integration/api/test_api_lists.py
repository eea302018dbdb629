"""Lists as callers shape them: sorted, searched, by cursor or by number, with the fields that they want."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from httpx import Response

from tests.integration.api.shop import V1, Customer, error_of, fields_of, ids_of, walk
from tests.integration.api.test_api_tenancy import LISTS, _counted, _one_of_each


@pytest.fixture
def owner(customer: Customer) -> Customer:
    customer.stocked("MUG", stock=1000)
    return customer


def links(response: Response) -> dict[str, str]:
    """The targets of the Link header by their relation (RFC 8288)."""
    return {rel: path for path, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers.get("Link", ""))}


@pytest.mark.parametrize("path", LISTS)
def test_every_list_is_sorted_both_ways_and_walked_by_its_links(owner: Customer, path: str) -> None:
    for _ in range(3):
        _one_of_each(owner)
    newest = ids_of(owner.get(path))
    assert ids_of(owner.get(f"{path}?sort=-createdAt")) == newest
    assert [id_ for page in walk(owner, f"{path}?sort=createdAt", 2) for id_ in page] == newest[::-1]
    met, at = [], f"{V1}{path}?limit=2&sort=createdAt"
    while at:
        page = owner.send("GET", at)
        met += ids_of(page)
        assert links(page)["first"] == f"{V1}{path}?limit=2&sort=createdAt"
        at = links(page).get("next", "")
    assert met == newest[::-1]


@pytest.mark.parametrize("path", LISTS)
def test_every_list_shows_the_fields_that_were_asked_for(owner: Customer, path: str) -> None:
    _one_of_each(owner)
    whole = owner.get(path).json()["data"]
    few = owner.get(f"{path}?fields=id,{min(whole[0])}").json()
    names = {"id", min(whole[0])}
    assert few["data"] == [{name: item[name] for name in names} for item in whole]
    assert set(few["pagination"]) == {"nextCursor", "hasMore"}


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "query",
    ["fields=id,secret", "fields=", "fields=id,", "fields=tenantId", "sort=password", "sort=-id", "sort=", "filter=x"],
)
def test_what_a_list_does_not_know_is_400(owner: Customer, path: str, query: str) -> None:
    error = error_of(owner.get(f"{path}?{query}"), 400, "VALIDATION_ERROR")
    assert fields_of(error) == [query.partition("=")[0]]


def test_a_cursor_is_good_for_its_own_order_only(owner: Customer) -> None:
    for _ in range(3):
        owner.ordered()
    cursor = owner.get("/orders?limit=1&sort=createdAt").json()["pagination"]["nextCursor"]
    assert len(ids_of(owner.get(f"/orders?limit=2&fields=id&sort=createdAt&cursor={cursor}"))) == 2
    for query in ("sort=-createdAt&", "", "status=accepted&sort=createdAt&"):
        error_of(owner.get(f"/orders?{query}cursor={cursor}"), 400, "INVALID_CURSOR")


class TestProducts:
    def test_150_products_are_8_pages_of_20(self, customer: Customer) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: customer.stocked(f"SKU-{number}"), range(150)))
        first, middle, last, beyond = (customer.get(f"/products?page={page}") for page in (1, 4, 8, 9))
        assert first.json()["pagination"] == {
            "nextCursor": None,
            "hasMore": True,
            "page": 1,
            "limit": 20,
            "total": 150,
            "totalPages": 8,
            "hasNext": True,
            "hasPrev": False,
        }
        assert set(links(first)) == {"next", "last"}
        assert links(middle) == {
            rel: f"{V1}/products?page={page}" for rel, page in (("first", 1), ("prev", 3), ("next", 5), ("last", 8))
        }
        told = last.json()["pagination"]
        assert (told["hasNext"], told["hasPrev"], len(ids_of(last))) == (False, True, 10)
        assert (ids_of(beyond), beyond.json()["pagination"]["hasPrev"]) == ([], True)
        assert links(beyond)["prev"].endswith("page=8")
        numbered = [id_ for page in range(1, 9) for id_ in ids_of(customer.get(f"/products?page={page}"))]
        assert numbered == [id_ for page in walk(customer, "/products", 100) for id_ in page]
        assert ids_of(customer.get("/products?page=2&limit=100&sort=createdAt")) == numbered[:50][::-1]

    @pytest.mark.parametrize("query", ["page=0", "page=-1", "page=x", "page=1&limit=0", "page=1&limit=101", "page="])
    def test_pages_out_of_bounds_are_400(self, customer: Customer, query: str) -> None:
        error_of(customer.get(f"/products?{query}"), 400, "VALIDATION_ERROR")

    def test_a_number_and_a_cursor_are_two_ways(self, owner: Customer) -> None:
        owner.stocked("CUP")
        cursor = owner.get("/products?limit=1").json()["pagination"]["nextCursor"]
        assert fields_of(error_of(owner.get(f"/products?page=1&cursor={cursor}"), 400, "VALIDATION_ERROR")) == ["page"]

    @pytest.mark.parametrize("path", ["/orders", "/jobs", "/reports", "/webhook-endpoints", "/admin/dead-letters"])
    def test_lists_that_grow_without_end_have_no_numbers(self, owner: Customer, path: str) -> None:
        error_of(owner.get(f"{path}?page=1"), 400, "VALIDATION_ERROR")

    def test_people_have_numbered_pages_too(self, customer: Customer) -> None:
        known = [str(customer.employed()) for _ in range(3)]
        pages = [customer.get(f"/users?page={number}&limit=2&sort=createdAt") for number in (1, 2)]
        assert [ids_of(page) for page in pages] == [known[:2], known[2:]]
        assert pages[1].json()["pagination"]["total"] == 3

    def test_a_search_finds_a_part_of_the_name_as_it_is_written(self, customer: Customer, other: Customer) -> None:
        names = ["Blue Mug", "mugger", "100% wool", "1000 wool", "a_b", "aXb", "it's /", "back\\slash"]
        ids = {name: str(customer.stocked(f"SKU-{at}", name=name)) for at, name in enumerate(names)}
        other.stocked("THEIRS", name="Mug")
        searches = {
            "MUG": ["mugger", "Blue Mug"],
            "0% w": ["100% wool"],
            "_": ["a_b"],
            "'": ["it's /"],
            "/": ["it's /"],
            "\\": ["back\\slash"],
            "'; drop table orders--": [],
        }
        for search, found in searches.items():
            for more in ({}, {"page": 1}):
                response = customer.get("/products", params={"search": search, **more})
                assert ids_of(response) == [ids[name] for name in found], search
        told = customer.get("/products", params={"search": "wool", "page": 2, "limit": 1})
        assert told.json()["pagination"]["total"] == 2
        assert links(told)["first"] == f"{V1}/products?search=wool&limit=1&page=1"

    def test_a_numbered_page_takes_one_statement_more(self, owner: Customer) -> None:
        assert _counted(owner, "/products?page=1&search=m") == LISTS["/products"] + 1
